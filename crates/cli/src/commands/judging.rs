//! One machine's audit, as `check` and `fleet` both make it.

use std::path::Path;

use identmap_audit::{Audit, ImageTables, Question, Severity, Verdict, check, kdump_of_system};
use identmap_linux::{Consumer, Kind, Producer};
use identmap_machine::Machine;
use identmap_machine::bundle::{self, Bundle};
use identmap_report::RunRow;

use crate::args::{Entry, Facts, FailOn, Limit};
use crate::guard;
use crate::image;
use crate::output::{Failure, Status};
use crate::{deadline, kdump, live, runs, source};

/// A machine, the kernels on both sides of the jump, and what follows.
pub(crate) struct Judged {
    pub(crate) machine: Machine,
    pub(crate) producer: Producer,
    pub(crate) consumer: Consumer,
    pub(crate) audit: Audit,
}

/// Reads a SOURCE and judges it.
///
/// # Errors
/// If it cannot be read, or a fact cannot.
pub(crate) fn judge(source: &str, facts: &Facts, kind: Kind) -> Result<Judged, Failure> {
    let (mut machine, bundle) = source::machine_and_bundle(source, facts)?;
    let producer = source::producer(&machine);
    let consumer = source::consumer(facts)?;
    let image = match &bundle {
        Some(bundle) => image::bundled(&bundle.tables, kind),
        None if source == "live" => image::live(&machine, kind),
        None => Err("only a running kernel's image can be read".to_owned()),
    };
    let image = image::on_machine(image, facts, &mut machine);
    let tables = image::for_audit(&image);
    let entries = &facts.map;
    let question =
        Question { machine: &machine, producer, consumer, kind, tables, entries, seen: None };
    let mut audit = check(&question);
    if source == "live" && kind == Kind::Kdump {
        let release = question.machine.kernel.as_deref();
        let mut state = kdump::state(Path::new("/"), release);
        state.since = kdump::since(Path::new("/"), || {
            let inputs = live::inputs();
            let names = live::names(&inputs);
            (Bundle::new(bundle::Facts::Live(Box::new(inputs))), names)
        });
        audit.add(kdump_of_system(&state));
    }
    let Question { producer, consumer, .. } = question;
    Ok(Judged { machine, producer, consumer, audit })
}

/// What runs of a kernel were, for the report.
pub(crate) struct Runs {
    pub(crate) rows: Vec<RunRow>,
    pub(crate) assumptions: Vec<String>,
}

/// Judges by runs of a kernel's first instructions, in place of the rules about kernels.
///
/// # Errors
/// As [`judge`]; and if the kernel cannot be run.
fn judge_kernel(
    kernel: &Path,
    entry: &Entry,
    source: &str,
    facts: &Facts,
) -> Result<(Judged, Runs), Failure> {
    let (mut machine, bundle) = source::machine_and_bundle(source, facts)?;
    let producer = source::producer(&machine);
    let mut consumer = source::consumer(facts)?;
    let entries = &facts.map;
    let bundle = bundle.as_ref();
    let sight = runs::check(kernel, entry, &mut machine, &producer, entries, source, bundle)?;
    consumer.version = sight.version;
    let tables = ImageTables::NotRead("as they would be made for this kernel".to_owned());
    let seen = Some(sight.seen.as_slice());
    let kind = Kind::Kexec;
    let question = Question { machine: &machine, producer, consumer, kind, tables, entries, seen };
    let mut audit = check(&question);
    audit.add(guard::of_kernel(kernel, source, &machine, bundle).into_iter().collect());
    let Question { producer, consumer, .. } = question;
    let runs = Runs { rows: sight.rows, assumptions: sight.assumptions };
    Ok((Judged { machine, producer, consumer, audit }, runs))
}

/// What `check` and `needs` rest on: [`judge`], or [`judge_kernel`] where there is a kernel, within the limit. `None`
/// if there was no answer in time, which was said.
///
/// # Errors
/// As these.
pub(crate) fn judge_within(
    limit: Limit,
    source: &str,
    facts: &Facts,
    kernel: Option<(&Path, &Entry)>,
    kind: Kind,
) -> Result<Option<(Judged, Option<Runs>)>, Failure> {
    let work = if kernel.is_some() { deadline::Kind::Runs } else { deadline::Kind::Rules };
    let limit = deadline::of(limit, source, work);
    let (name, facts) = (source.to_owned(), facts.clone());
    let kernel = kernel.map(|(path, entry)| (path.to_owned(), entry.clone()));
    let answer = deadline::within(limit, move || match kernel {
        Some((path, entry)) => {
            judge_kernel(&path, &entry, &name, &facts).map(|(judged, runs)| (judged, Some(runs)))
        }
        None => judge(&name, &facts, kind).map(|judged| (judged, None)),
    });
    if answer.is_none() {
        eprintln!("identmap: {source}: {}", deadline::message(limit));
    }
    answer.transpose()
}

/// The exit status that a verdict and its findings make.
pub(crate) fn status(audit: &Audit, fail_on: FailOn) -> Status {
    let worst = match fail_on {
        FailOn::Never => return Status::Safe,
        FailOn::Error => None,
        FailOn::Warning => Some(Severity::Warning),
        FailOn::Info => Some(Severity::Info),
    };
    match audit.verdict {
        Verdict::Unsafe => Status::Problem,
        _ if worst.is_some_and(|level| audit.findings.iter().any(|f| f.severity >= level)) => {
            Status::Problem
        }
        Verdict::Unknown => Status::Unknown,
        Verdict::Safe => Status::Safe,
    }
}
