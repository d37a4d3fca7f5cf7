//! `identmap decode`.

use identmap_linux::Kind;
use identmap_machine::parse::MAX_INPUT;
use identmap_machine::{MemType, dump};
use identmap_report::DecodeReport;

use super::judging::judge;
use crate::args::{Decode, Output};
use crate::output::{Failure, Status};
use crate::{complaints, source};

pub(crate) fn run(args: &Decode, output: &Output) -> Result<Status, Failure> {
    if args.file == "-" && args.machine.as_deref() == Some("-") {
        return Err(Failure("standard input cannot be both the log and the machine".to_owned()));
    }
    let kind = if args.crash { Kind::Kdump } else { Kind::Kexec };
    let judged = match &args.machine {
        Some(source) => Some(judge(source, &args.facts, kind)?),
        None => None,
    };
    let ram = judged.as_ref().and_then(|judged| judged.audit.layout.as_ref()).map(|layout| {
        layout.of_kind(MemType::Usable).map(identmap::PhysRange::len).fold(0, u64::saturating_add)
    });
    let (name, dumps, errors) = if let Some(message) = &args.message {
        ("--message".to_owned(), Vec::new(), complaints::read_message(message, ram))
    } else {
        let (name, bytes) = source::bytes(&args.file)?;
        if bytes.len() > MAX_INPUT {
            let text = format!("{name}: more than {MAX_INPUT} bytes; give the piece that matters");
            return Err(Failure(text));
        }
        (name, dump::read(&bytes), complaints::read(&bytes, ram))
    };
    if dumps.is_empty() && errors.is_empty() {
        return Err(Failure(format!(
            "{name}: nothing in it that can be explained; expected what kexec(8) prints where it fails (kexec_load \
             failed: …), or a register dump: the lines of kexec's debug handler (Exc:, Err:, … cr2:), an oops (BUG: \
             unable to handle page fault …) or \"PANIC: early exception\""
        )));
    }
    let on = judged.as_ref().map(|judged| (&judged.machine, &judged.audit));
    let report = DecodeReport::new(&name, &dumps, on).with_errors(errors);
    output.print(&report, |style| report.text(style))?;
    Ok(Status::Safe)
}
