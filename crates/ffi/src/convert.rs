//! Between the core's types and C's. No pointer is followed here.

use core::fmt::{self, Display, Write};

use identmap::{BuildError, Flags, Levels, PhysRange, Plan, PlanError, RangeError, WalkEnd};

use crate::abi::{self, Status, TEXT_BYTES};
use crate::text::Text;

/// Which of the caller's lists an error speaks of.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    None = 0,
    Requests = 1,
    Forbidden = 2,
    Ram = 3,
}

/// Why a call failed.
pub(crate) enum Failure {
    /// A pointer of the caller's, by the name of the field or argument.
    Pointer {
        status: Status,
        name: &'static str,
    },
    Range {
        list: List,
        index: usize,
        error: RangeError,
    },
    Field {
        status: Status,
        text: &'static str,
    },
    Work {
        needed: usize,
        given: usize,
    },
    Runs {
        needed: usize,
        given: usize,
    },
    Plan(PlanError),
    Build(BuildError),
    Text {
        needed: usize,
        given: usize,
    },
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Failure {
        Failure::Plan(error)
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Failure {
        Failure::Build(error)
    }
}

impl Failure {
    pub(crate) fn status(&self) -> Status {
        match self {
            Failure::Pointer { status, .. } | Failure::Field { status, .. } => *status,
            Failure::Range { .. } => Status::Range,
            Failure::Work { .. } => Status::Work,
            Failure::Runs { .. } => Status::Runs,
            Failure::Text { .. } => Status::Cut,
            Failure::Plan(error) => match error {
                PlanError::Config(_) => Status::Config,
                PlanError::PastPhysLimit { .. } => Status::PastLimit,
                PlanError::NotCanonical { .. } => Status::NotCanonical,
                PlanError::BothHalves { .. } => Status::BothHalves,
                PlanError::Conflict { .. } => Status::Conflict,
                PlanError::Slots { .. } => Status::Work,
                _ => Status::Unknown,
            },
            Failure::Build(error) => match error {
                BuildError::Exhausted { .. } => Status::Exhausted,
                BuildError::Memory { .. } => Status::Memory,
                _ => Status::Unknown,
            },
        }
    }

    /// Which element of which list, and the number that belongs to the status.
    fn place(&self) -> (List, usize, u64) {
        match *self {
            Failure::Pointer { .. } | Failure::Field { .. } => (List::None, 0, 0),
            Failure::Range { list, index, error } => match error {
                RangeError::Empty { start, .. } | RangeError::PastLimit { start } => {
                    (list, index, start)
                }
                _ => (list, index, 0),
            },
            Failure::Work { needed, .. }
            | Failure::Runs { needed, .. }
            | Failure::Text { needed, .. } => (List::None, 0, needed as u64),
            Failure::Plan(error) => match error {
                PlanError::PastPhysLimit { request, index, .. }
                | PlanError::NotCanonical { request, index }
                | PlanError::BothHalves { request, index, .. } => {
                    (List::Requests, index, request.start().get())
                }
                PlanError::Conflict { index, page, .. } => (List::Requests, index, page.get()),
                _ => (List::None, 0, 0),
            },
            Failure::Build(error) => match error {
                BuildError::Exhausted { needed, .. } => (List::None, 0, needed),
                BuildError::Memory { table } => (List::None, 0, table.get()),
                _ => (List::None, 0, 0),
            },
        }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Pointer { status, name } => write!(f, "{name} {}", explain(*status)),
            Failure::Range { list, index, error } => {
                let list = match list {
                    List::Forbidden => "forbidden range",
                    List::Ram => "RAM range",
                    List::None | List::Requests => "request",
                };
                write!(f, "{list} {index}: {error}")
            }
            Failure::Field { text, .. } => f.write_str(text),
            Failure::Work { needed, given } => {
                write!(f, "work_words is {given}; this job takes {needed}")
            }
            Failure::Runs { needed, given } => {
                write!(f, "the plan has {needed} runs; there is room for {given}")
            }
            Failure::Text { needed, given } => {
                write!(f, "the text takes {needed} bytes; there is room for {given}")
            }
            Failure::Plan(error) => error.fmt(f),
            Failure::Build(error) => error.fmt(f),
        }
    }
}

/// What a caller's pointer did, for the text.
fn explain(status: Status) -> &'static str {
    match status {
        Status::Null => "is null",
        Status::Misaligned => "is not aligned",
        Status::Length => "has a length that no memory has",
        Status::Overlap => "overlaps other memory of the same call",
        _ => "cannot be used",
    }
}

/// The error for C; the first status if nothing failed.
pub(crate) fn report(result: &Result<(), Failure>) -> abi::Error {
    let mut error = abi::Error {
        status: Status::Ok as i32,
        index: 0,
        value: 0,
        list: 0,
        reserved: 0,
        text: [0; TEXT_BYTES],
    };
    if let Err(failure) = result {
        let (list, index, value) = failure.place();
        error.status = failure.status() as i32;
        error.index = u32::try_from(index).unwrap_or(u32::MAX);
        error.value = value;
        error.list = list as u32;
        // Writing to a `Text` never fails.
        let _ = write!(Text::new(&mut error.text), "{failure}");
    }
    error
}

pub(crate) fn config(config: &abi::Config) -> Result<identmap::Config, Failure> {
    let wrong = |text| Err(Failure::Field { status: Status::Config, text });
    let levels = match config.levels {
        4 => Levels::Four,
        5 => Levels::Five,
        _ => return wrong("levels is neither 4 nor 5"),
    };
    if config.gbpages > 1 {
        return wrong("gbpages is neither 0 nor 1");
    }
    if config.reserved != [0; 5] {
        return wrong("reserved bytes of the configuration are not zero");
    }
    let config = identmap::Config {
        levels,
        gbpages: config.gbpages == 1,
        leaf_flags: Flags::from_bits(config.leaf_flags),
        table_flags: Flags::from_bits(config.table_flags),
        upper_table_flags: Flags::from_bits(config.upper_table_flags),
        encryption_mask: config.encryption_mask,
        offset: config.offset,
        maxphyaddr: config.maxphyaddr,
    };
    config.check().map_err(PlanError::Config)?;
    Ok(config)
}

/// What `init_pgtable()` of Linux uses; `None` unless `levels` is 4 or 5.
pub(crate) fn kexec_config(levels: u32, gbpages: bool) -> Option<abi::Config> {
    let (kind, number) = match levels {
        4 => (Levels::Four, 4),
        5 => (Levels::Five, 5),
        _ => return None,
    };
    let config = identmap::Config::kexec(kind, gbpages);
    Some(abi::Config {
        leaf_flags: config.leaf_flags.bits(),
        table_flags: config.table_flags.bits(),
        upper_table_flags: config.upper_table_flags.bits(),
        encryption_mask: config.encryption_mask,
        offset: config.offset,
        levels: number,
        gbpages: u8::from(config.gbpages),
        maxphyaddr: config.maxphyaddr,
        reserved: [0; 5],
    })
}

/// The three policies that C can name, before their ranges are known.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    RoundOut,
    Exact,
    Guarded(Reach),
}

/// `identmap::Slack` without its ranges.
#[derive(Clone, Copy)]
pub(crate) enum Reach {
    None,
    Ram,
    Any,
}

pub(crate) fn kind(policy: &abi::Policy) -> Result<Kind, Failure> {
    let wrong = |text| Err(Failure::Field { status: Status::Policy, text });
    let kind = match (policy.kind, policy.slack) {
        (0, 0) => Kind::RoundOut,
        (1, 0) => Kind::Exact,
        (2, 0) => Kind::Guarded(Reach::None),
        (2, 1) => Kind::Guarded(Reach::Ram),
        (2, 2) => Kind::Guarded(Reach::Any),
        (0 | 1, _) => return wrong("a slack belongs to the policy guarded only"),
        (2, _) => return wrong("slack is none of those that exist"),
        _ => return wrong("kind is no policy that exists"),
    };
    // Never dropped in silence: the caller thinks that they are heeded.
    if !matches!(kind, Kind::Guarded(_)) && policy.forbidden_count != 0 {
        return wrong("forbidden ranges belong to the policy guarded only");
    }
    if !matches!(kind, Kind::Guarded(Reach::Ram)) && policy.ram_count != 0 {
        return wrong("RAM ranges belong to the policy guarded with slack RAM only");
    }
    Ok(kind)
}

pub(crate) fn range(list: List, index: usize, range: abi::Range) -> Result<PhysRange, Failure> {
    PhysRange::new(range.start, range.end).map_err(|error| Failure::Range { list, index, error })
}

pub(crate) fn run(run: identmap::Run) -> abi::Run {
    abi::Run {
        start: run.range().start().get(),
        end: run.range().end().get(),
        page_size: run.size().bytes(),
        count: run.count(),
    }
}

pub(crate) fn summary(plan: &Plan<'_>) -> abi::Summary {
    abi::Summary {
        runs: plan.runs().len() as u64,
        tables: plan.tables().total(),
        tables_by_level: identmap::Level::ALL.map(|level| plan.tables().of(level)),
        mapped_bytes: plan.mapped_bytes(),
    }
}

pub(crate) fn walk(walk: &identmap::Walk) -> abi::Walk {
    let (end, rights, value, size) = match walk.end() {
        WalkEnd::Mapped { phys, size, rights } => {
            let bits = u32::from(rights.write)
                | u32::from(rights.user) << 1
                | u32::from(rights.execute) << 2;
            (0, bits, phys.get(), size.bytes())
        }
        WalkEnd::NotPresent => (1, 0, 0, 0),
        WalkEnd::Reserved { bits } => (2, 0, bits, 0),
        WalkEnd::Unreadable { level, table } => (3, 0, table.get(), u64::from(level.number())),
        WalkEnd::NotCanonical => (4, 0, 0, 0),
    };
    let mut steps = [abi::Step { table: 0, entry: 0, level: 0, index: 0 }; 5];
    let mut step_count = 0;
    for (to, step) in steps.iter_mut().zip(walk.steps()) {
        *to = abi::Step {
            table: step.table.get(),
            entry: step.entry.bits(),
            level: u32::from(step.level.number()),
            index: u32::try_from(step.index).unwrap_or(u32::MAX),
        };
        step_count += 1;
    }
    abi::Walk { end, rights, value, size, step_count, steps }
}

/// One line a step, and one for the end.
pub(crate) fn write_walk(text: &mut Text<'_>, walk: &identmap::Walk) -> fmt::Result {
    writeln!(text, "{}", walk.virt())?;
    for step in walk.steps() {
        let flags = Flags::from_bits(step.entry.bits() & !0x000f_ffff_ffff_f000);
        writeln!(
            text,
            "{:<4} {}[{}] = {:#018x} {flags}",
            step.level,
            step.table,
            step.index,
            step.entry.bits()
        )?;
    }
    match walk.end() {
        WalkEnd::Mapped { phys, size, rights } => {
            writeln!(text, "leads to {phys}, a leaf of {size}, {rights}")
        }
        WalkEnd::NotPresent => writeln!(text, "is not mapped"),
        WalkEnd::Reserved { bits } => writeln!(text, "faults: reserved bits {bits:#x}"),
        WalkEnd::Unreadable { level, table } => {
            writeln!(text, "is not known: the {level} at {table} cannot be read")
        }
        WalkEnd::NotCanonical => writeln!(text, "is not canonical"),
    }
}
