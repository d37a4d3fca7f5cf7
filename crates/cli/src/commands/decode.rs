//! `identmap decode`.

use identmap_linux::Kind;
use identmap_machine::dump;
use identmap_report::DecodeReport;

use super::judging::judge;
use crate::args::{Decode, Output};
use crate::output::{Failure, Status};
use crate::source;

pub(crate) fn run(args: &Decode, output: &Output) -> Result<Status, Failure> {
    if args.file == "-" && args.machine.as_deref() == Some("-") {
        return Err(Failure("standard input cannot be both the log and the machine".to_owned()));
    }
    let (name, bytes) = source::bytes(&args.file)?;
    let dumps = dump::read(&bytes);
    if dumps.is_empty() {
        return Err(Failure(format!(
            "{name}: no register dump in it; expected the lines of kexec's debug handler (Exc:, Err:, … cr2:), an \
             oops (BUG: unable to handle page fault …) or \"PANIC: early exception\""
        )));
    }
    let kind = if args.crash { Kind::Kdump } else { Kind::Kexec };
    let judged = match &args.machine {
        Some(source) => Some(judge(source, &args.facts, kind)?),
        None => None,
    };
    let on = judged.as_ref().map(|judged| (&judged.machine, &judged.audit));
    let report = DecodeReport::new(&name, &dumps, on);
    output.print(&report, |style| report.text(style))?;
    Ok(Status::Safe)
}
