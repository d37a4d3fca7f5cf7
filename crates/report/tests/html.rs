//! The report is well-formed, whole, the same each time, and nothing in a machine's texts gets out of it.

use std::path::Path;

use identmap_audit::{Audit, Candidate, ImageTables, Matrix, Question, check, matrix};
use identmap_linux::{Consumer, KernelVersion, Kind, Producer};
use identmap_machine::{Machine, parse, samples};
use identmap_report::{Hex, HexRange, HtmlReport, RunRow, TouchedRow};
use roxmltree::{Document, Node, ParsingOptions};

struct Case {
    machine: Machine,
    producer: Producer,
    consumer: Consumer,
    audit: Audit,
    matrix: Matrix,
}

impl Case {
    fn of(machine: Machine) -> Case {
        let version = KernelVersion::of(&machine).and_then(Result::ok);
        let (producer, consumer) = (Producer::of(version), Consumer::default());
        let audit = check(&Question {
            machine: &machine,
            producer: producer.clone(),
            consumer: consumer.clone(),
            kind: Kind::Kexec,
            tables: ImageTables::NotRead("a test".to_owned()),
            entries: &[],
            seen: None,
        });
        let matrix = matrix(&machine, &Candidate::defaults(&machine), Kind::Kexec, &[]);
        Case { machine, producer, consumer, audit, matrix }
    }

    fn report(&self) -> HtmlReport<'_> {
        HtmlReport {
            title: None,
            machine: &self.machine,
            redacted: true,
            producer: &self.producer,
            consumer: &self.consumer,
            audit: &self.audit,
            matrix: &self.matrix,
            runs: &[],
            assumptions: &[],
            date: None,
        }
    }
}

fn cases() -> Vec<(String, Case)> {
    let mut all: Vec<(String, Machine)> = samples()
        .iter()
        .map(|sample| (sample.name.to_owned(), parse::machine(sample.name, sample.bytes).unwrap()))
        .collect();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/machines");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    // Each fifth: a tree of each costs time.
    for path in files.iter().step_by(5) {
        let name = path.display().to_string();
        if let Ok(machine) = parse::machine(&name, &std::fs::read(path).unwrap()) {
            all.push((name, machine));
        }
    }
    assert!(all.len() > 30);
    all.into_iter().map(|(name, machine)| (name, Case::of(machine))).collect()
}

fn parsed(html: &str) -> Document<'_> {
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    Document::parse_with_options(html, options).expect("well-formed")
}

fn class<'a>(node: Node<'a, '_>) -> &'a str {
    node.attribute("class").unwrap_or_default()
}

#[test]
fn every_report_is_well_formed_and_whole() {
    for (name, case) in cases() {
        let html = case.report().html();
        assert_eq!(html, case.report().html(), "{name}: not the same twice");
        let document = parsed(&html);
        let all: Vec<Node<'_, '_>> = document.descendants().filter(Node::is_element).collect();
        for id in ["findings", "pictures", "hand-over", "policies", "matrix", "tables", "facts"] {
            let count = all.iter().filter(|node| node.attribute("id") == Some(id)).count();
            assert_eq!(count, 1, "{name}: {id}");
        }
        // A link leads somewhere, and ids are unique.
        let mut ids: Vec<&str> = all.iter().filter_map(|node| node.attribute("id")).collect();
        let many = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), many, "{name}");
        for target in all.iter().filter_map(|node| node.attribute("href")) {
            let inside = target.strip_prefix('#').is_some_and(|id| ids.contains(&id));
            assert!(inside || target.starts_with("https://"), "{name}: {target}");
        }
        for node in &all {
            for fill in node.attribute("fill").iter().filter_map(|fill| fill.strip_prefix("url(#"))
            {
                assert!(ids.contains(&fill.trim_end_matches(')')), "{name}: {fill}");
            }
        }
        // A table beside every picture, a name on every picture.
        let figures = all.iter().filter(|node| node.has_tag_name("figure"));
        for figure in figures {
            let has = |tag: &str| figure.descendants().any(|node| node.has_tag_name(tag));
            assert!(has("table") && has("svg") && has("figcaption"), "{name}");
            let pictures = figure.children().filter(|node| node.has_tag_name("svg"));
            for picture in pictures {
                assert!(["wide", "narrow"].contains(&class(picture)), "{name}");
                assert!(picture.attribute("aria-label").is_some_and(|label| label.len() > 10));
            }
        }
        // Block elements are not inside paragraphs, where HTML would end the paragraph.
        for paragraph in all.iter().filter(|node| node.has_tag_name("p")) {
            let inner = paragraph.descendants().skip(1).filter(Node::is_element);
            for node in inner {
                let tag = node.tag_name().name();
                assert!(["a", "strong", "span", "code"].contains(&tag), "{name}: {tag} in p");
            }
        }
    }
}

#[test]
fn nothing_is_loaded_and_nothing_runs() {
    for (name, case) in cases() {
        let html = case.report().html();
        let document = parsed(&html);
        for node in document.descendants().filter(Node::is_element) {
            let tag = node.tag_name().name();
            let passive = !["script", "link", "img", "iframe", "object", "embed", "use", "image"]
                .contains(&tag);
            assert!(passive, "{name}: {tag}");
            for attribute in node.attributes() {
                assert!(!attribute.name().starts_with("on"), "{name}: {}", attribute.name());
                assert!(!["src", "srcset", "style"].contains(&attribute.name()), "{name}");
            }
        }
        assert!(!html.contains("@import") && !html.contains("url(http"));
    }
}

/// Texts that try to be something else.
const HOSTILE: [&str; 12] = [
    "<script>alert(1)</script>",
    "</td></table><h1>SAFE</h1>",
    "\"><img src=x onerror=alert(1)>",
    "' onload='alert(1)",
    "</title></style><style>*{display:none}",
    "<!-- ",
    "]]>",
    "<![CDATA[",
    "&#60;script&#62;&lt;b&gt;&amp",
    "\u{202e}EFAS\u{2066}\u{0}\u{b}\u{1b}[31m\u{7f}\u{85}",
    "javascript:alert(1)",
    "\u{fffe}\u{ffff}\u{10ffff}\u{feff}",
];

#[test]
fn hostile_texts_stay_texts() {
    let bytes = samples().iter().find(|sample| sample.name == "uv-2019").unwrap().bytes;
    let plain = Case::of(parse::machine("x", bytes).unwrap());
    let names = |html: &str| -> Vec<String> {
        let document = parsed(html);
        let elements = document.descendants().filter(Node::is_element);
        elements.map(|node| node.tag_name().name().to_owned()).collect()
    };
    let kept = {
        let mut machine = plain.machine.clone();
        everywhere(&mut machine, "x");
        let case = Case::of(machine);
        names(&with_texts(&case, "x"))
    };
    for hostile in HOSTILE {
        let mut machine = plain.machine.clone();
        everywhere(&mut machine, hostile);
        let case = Case::of(machine);
        let html = with_texts(&case, hostile);
        // The same elements as with a harmless text, in the same order: nothing was added or ended.
        assert_eq!(names(&html), kept, "{hostile:?}");
        let odd = |c: char| {
            c.is_control() && !matches!(c, '\n' | '\t') || ('\u{202a}'..='\u{202e}').contains(&c)
        };
        assert!(!html.contains(odd), "{hostile:?}");
        let document = parsed(&html);
        for link in document.descendants().filter_map(|node| node.attribute("href")) {
            assert!(link.starts_with('#') || link.starts_with("https://"), "{link}");
        }
    }
}

/// A report with a text in everything that is not the machine's.
fn with_texts(case: &Case, text: &str) -> String {
    let runs = [ended(text)];
    let assumptions = [text.to_owned()];
    HtmlReport {
        title: Some(text),
        date: Some(text),
        runs: &runs,
        assumptions: &assumptions,
        ..case.report()
    }
    .html()
}

fn ended(text: &str) -> RunRow {
    let range = HexRange { start: Hex(0x1000), end: Hex(0x1fff) };
    RunRow {
        producer: text.to_owned(),
        outcome: "fault",
        sentence: text.to_owned(),
        instructions: 12,
        touched: vec![TouchedRow { range, what: text.to_owned() }],
    }
}

/// Puts a text wherever a machine's text can hold one.
fn everywhere(machine: &mut Machine, text: &str) {
    let some = || Some(text.to_owned());
    text.clone_into(&mut machine.source);
    (machine.hardware, machine.firmware, machine.cmdline) = (some(), some(), some());
    (machine.kernel, machine.kernel_banner) = (some(), some());
    (machine.cpu.model, machine.efi.version) = (some(), some());
    for entry in &mut machine.iomem {
        text.clone_into(&mut entry.name);
    }
    let note = identmap_machine::Note { line: 1, text: text.to_owned(), unreadable: true };
    machine.notes.push(note);
    let range = identmap::PhysRange::new(0x1000, 0x2000).unwrap();
    machine.iomem.push(identmap_machine::IomemEntry {
        range,
        depth: 40,
        name: text.to_owned(),
        line: 1,
    });
    machine.acpi_tables.push(identmap_machine::AcpiTable { signature: text.to_owned(), range });
    machine
        .efi
        .tables
        .push(identmap_machine::EfiTable { name: text.to_owned(), address: range.start() });
}

#[test]
fn a_machine_of_which_nothing_is_known_has_a_report_too() {
    let case = Case::of(Machine::default());
    let html = case.report().html();
    parsed(&html);
    assert!(html.contains("A machine without a name") && html.contains("UNKNOWN"));
}

#[test]
fn where_a_preflight_ended_is_in_the_time_line() {
    let case = Case::of(Machine::default());
    let runs = [ended("#PF at 0xc7a01000")];
    let html = HtmlReport { runs: &runs, ..case.report() }.html();
    assert!(html.contains("it ends here") && html.contains("#PF at 0xc7a01000."), "{html}");
    assert!(html.contains("Not reached.") && html.contains("12 instructions"));
    assert!(!case.report().html().contains("emulator"));
}
