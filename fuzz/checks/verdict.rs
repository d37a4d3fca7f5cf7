//! From any text to a verdict and its report, for any pair of kernels.

use identmap_audit::{Candidate, ImageTables, Question, Verdict, check as audit, matrix};
use identmap_linux::{Consumer, KernelVersion, Kind, Producer};
use identmap_machine::{Layout, Machine, parse};
use identmap_report::{CheckReport, Glyphs, HtmlReport, MatrixReport, Picture, Style, Width};

/// One for each behaviour that differs (`facts`: who carries what).
const RELEASES: [Option<&str>; 8] = [
    None,
    Some("5.10.200"),
    Some("5.10.212"),
    Some("6.1.80"),
    Some("6.1.130"),
    Some("6.7.6"),
    Some("6.12.30"),
    Some("7.2.13"),
];

/// Three bytes for the kernels and the kind, then the text.
pub fn check(bytes: &[u8]) {
    let [producer, consumer, kind, text @ ..] = bytes else { return };
    let Ok(machine) = parse::machine("input", text) else { return };
    let version = |choice: u8| {
        RELEASES[usize::from(choice) % RELEASES.len()]
            .map(|release| KernelVersion::parse(release, None).unwrap())
    };
    let flag = |bit: u8| match kind >> bit & 3 {
        0 | 3 => None,
        1 => Some(false),
        _ => Some(true),
    };
    let producer = Producer::of(version(*producer));
    let consumer = Consumer { version: version(*consumer), efi_info: flag(1), sev_code: flag(3) };
    let kind = if kind & 1 == 0 { Kind::Kexec } else { Kind::Kdump };
    judge(&machine, producer, consumer, kind);
}

fn judge(machine: &Machine, producer: Producer, consumer: Consumer, kind: Kind) {
    let tables = ImageTables::NotRead("a text".to_owned());
    let question = Question { machine, producer, consumer, kind, tables, entries: &[], seen: None };
    let answer = audit(&question);
    assert_eq!(answer.verdict, Verdict::of(&answer.findings));
    // What users would never forgive: a false `safe`.
    if answer.verdict == Verdict::Safe {
        assert!(Layout::of(machine).is_some(), "safe, and not even the memory is known");
        assert!(!answer.scenes.is_empty(), "safe, without a map");
    }
    let report = CheckReport::new(machine, &question.producer, &question.consumer, &answer);
    check_text(&report.text(Style::default()));
    check_text(&report.line());
    serde_json::to_string(&report).expect("a report is JSON");

    let table = matrix(machine, &Candidate::defaults(machine), kind, &[]);
    let report = MatrixReport::new("input", &table);
    check_text(&report.text(Style::default()));
    let picture = Picture::of_audit(&answer);
    let (style, width) = (Style::default(), Width::default());
    check_text(&picture.terminal(&answer.findings, Glyphs::Unicode, style, width));
    let html = HtmlReport {
        title: None,
        machine,
        redacted: false,
        producer: &question.producer,
        consumer: &question.consumer,
        audit: &answer,
        matrix: &table,
        runs: &[],
        assumptions: &[],
        date: None,
    };
    let html = html.html();
    check_text(&html);
    assert!(!html.contains("<script") && html.ends_with("</html>"));
    serde_json::to_string(&report).expect("a report is JSON");
}

/// No terminal obeys what a pasted text smuggled in.
fn check_text(text: &str) {
    let control = text.chars().find(|&c| c.is_control() && c != '\n' && c != '\t');
    assert_eq!(control, None, "{text:?}");
}
