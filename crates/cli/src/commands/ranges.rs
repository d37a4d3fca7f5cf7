//! `identmap ranges`.

use identmap_machine::Layout;
use identmap_report::{Form, RangesReport};

use crate::args::{Output, Ranges};
use crate::output::{Failure, Status};
use crate::source;

pub(crate) fn run(args: &Ranges, output: &Output) -> Result<Status, Failure> {
    let machine = source::machine(&args.source, &args.facts)?;
    let Some(layout) = Layout::of(&machine) else {
        return Err(Failure(format!("{}: no memory map in it", machine.source)));
    };
    let report = RangesReport::new(&machine.source, &layout);
    if args.list.is_wanted() {
        output.print_list(report.list(), &args.list)?;
    } else {
        output.print(&report, |style| report.list().text(Form::Aligned, true, style))?;
    }
    Ok(Status::Safe)
}
