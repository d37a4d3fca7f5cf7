//! `identmap capture`.

use std::io::{self, IsTerminal};
use std::path::Path;

use identmap_audit::{Question, check};
use identmap_linux::{Consumer, Kind};
use identmap_machine::bundle::{Bundle, Facts};
use identmap_machine::redact::{Names, redact};
use identmap_report::{CaptureReport, CheckReport};

use crate::args::{Capture, Output};
use crate::output::{self, Failure, Status};
use crate::{firmware, image, live, source};

/// Whose tables a bundle keeps.
const KINDS: [Kind; 2] = [Kind::Kexec, Kind::Kdump];

/// The owner alone may read a bundle, until he decides otherwise.
const MODE: u32 = 0o600;

pub(crate) fn run(args: &Capture, output: &Output) -> Result<Status, Failure> {
    let to_file = args.file.as_deref().filter(|file| *file != Path::new("-"));
    if args.file.is_none() && !args.show && io::stdout().is_terminal() {
        return Err(Failure::new("name a file for the bundle: -o FILE (-o - for the terminal)"));
    }
    let (name, raw, names) = facts(&args.source)?;
    // A text that cannot be read is refused here, not by whoever gets the bundle.
    raw.machine(&name).map_err(Failure::new)?;
    let bundle = if args.full { raw.clone() } else { redact(&raw, &names) };
    let text = bundle.write().map_err(Failure::new)?;
    let doubt = changes_the_answer(&name, &raw, &text)?;
    if !args.show {
        match to_file {
            Some(file) => output::write_file(file, text.as_bytes(), MODE)?,
            None => output::write_out(text.as_bytes())?,
        }
    }
    let report = CaptureReport::new(&name, &bundle, text.len());
    if args.show {
        output.print(&report, |style| report.text(style))?;
    } else if !output.quiet {
        eprint!("{}", report.text(output.style_of(io::stderr().is_terminal())));
    }
    if doubt {
        eprintln!(
            "identmap: warning: from this bundle `check` answers something else than from {name}: \
             unless a name of this machine is a word of its hardware, please report it"
        );
    }
    Ok(Status::Safe)
}

/// The facts in full, and the words that must not be in what is handed on.
pub(super) fn facts(source: &str) -> Result<(String, Bundle, Names), Failure> {
    if source == "live" {
        let inputs = live::inputs();
        let names = live::names(&inputs);
        let extra = live::extra(&inputs);
        let mut bundle = Bundle { extra, ..Bundle::new(Facts::Live(Box::new(inputs))) };
        let machine = bundle.machine(source).map_err(Failure::new)?;
        bundle.memory = firmware::live(&machine);
        bundle.tables = KINDS.map(|kind| image::packed(kind, image::live(&machine, kind))).to_vec();
        return Ok((source.to_owned(), bundle, names));
    }
    let (name, bytes) = source::content(source)?;
    let bundle = if Bundle::is_in(&bytes) {
        Bundle::read(&name, &bytes).map_err(Failure::new)?
    } else {
        Bundle::new(Facts::Text(bytes.into_owned()))
    };
    let names: Vec<String> = match &bundle.facts {
        Facts::Live(inputs) => Names::in_dmi(inputs).collect(),
        Facts::Text(_) => Vec::new(),
    };
    Ok((name, bundle, Names::new(names.iter().map(String::as_str))))
}

/// Whether `check` says another thing of what was written than of what was read.
fn changes_the_answer(name: &str, raw: &Bundle, written: &str) -> Result<bool, Failure> {
    let again = Bundle::read(name, written.as_bytes()).map_err(Failure::new)?;
    Ok(answer(name, raw)? != answer(name, &again)?)
}

fn answer(name: &str, bundle: &Bundle) -> Result<serde_json::Value, Failure> {
    let mut machine = bundle.machine(name).map_err(Failure::new)?;
    let producer = source::producer(&machine);
    let consumer = Consumer::default();
    let image = image::bundled(&bundle.tables, Kind::Kexec);
    if let Ok(image) = &image {
        image.tell(&mut machine);
    }
    let tables = image::for_audit(&image);
    let (kind, entries, seen) = (Kind::Kexec, &[][..], None);
    let question = Question { machine: &machine, producer, consumer, kind, tables, entries, seen };
    let audit = check(&question);
    let report = CheckReport::new(&machine, &question.producer, &question.consumer, &audit);
    serde_json::to_value(report).map_err(Failure::new)
}
