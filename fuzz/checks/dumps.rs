//! Register dumps in any text.

use std::sync::OnceLock;

use identmap_audit::{Audit, ImageTables, Question, check as audit};
use identmap_linux::{Consumer, Kind, Producer};
use identmap_machine::dump::{self, MAX_DUMPS};
use identmap_machine::{Machine, parse, sample};
use identmap_report::{DecodeReport, Style};

/// What is read is of the text, and can be shown, with a machine and without.
pub fn check(bytes: &[u8]) {
    let dumps = dump::read(bytes);
    assert!(dumps.len() <= MAX_DUMPS);
    let lines = bytes.split(|&byte| byte == b'\n').count();
    assert!(dumps.is_sorted_by_key(|dump| dump.line));
    for dump in &dumps {
        assert!((1..=lines).contains(&dump.line));
        for (index, (name, value)) in dump.registers.iter().enumerate() {
            assert!(dump.registers[..index].iter().all(|(other, _)| other != name), "{name} twice");
            assert_eq!(dump.register(name), Some(*value));
        }
    }
    let (machine, answer) = on();
    for on in [None, Some((machine, answer))] {
        let report = DecodeReport::new("input", &dumps, on);
        let text = report.text(Style::default());
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert_eq!(text.is_empty(), dumps.is_empty());
        serde_json::to_string(&report).expect("a report is JSON");
    }
}

fn on() -> &'static (Machine, Audit) {
    static ON: OnceLock<(Machine, Audit)> = OnceLock::new();
    ON.get_or_init(|| {
        let sample = sample("laptop-2024").expect("a sample");
        let machine = parse::machine("sample", sample.bytes).expect("it can be read");
        let answer = audit(&Question {
            machine: &machine,
            producer: Producer::of(None),
            consumer: Consumer::default(),
            kind: Kind::Kexec,
            tables: ImageTables::NotRead("a text".to_owned()),
            entries: &[],
            seen: None,
        });
        (machine, answer)
    })
}
