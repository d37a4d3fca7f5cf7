//! What decides a map.

use clap::Args;
use identmap::{Levels, PhysRange};
use identmap_audit::{PolicyKind, SlackKind};

use super::values::range;

/// What decides a map.
#[derive(Args, Debug)]
#[command(next_help_heading = "The map")]
pub(crate) struct PlanArgs {
    /// Map this range (repeatable, order kept)
    #[arg(long, value_name = "RANGE", value_parser = range)]
    pub(crate) request: Vec<PhysRange>,

    /// Read requests from FILE, one range a line, # comments (- for standard input)
    #[arg(long, value_name = "FILE")]
    pub(crate) requests_file: Option<String>,

    /// Never reach a byte of this range (repeatable)
    #[arg(long, value_name = "RANGE", value_parser = range)]
    pub(crate) forbid: Vec<PhysRange>,

    /// The rule that picks leaf sizes [default: the producer's, or exact]
    #[arg(long, value_parser = policies())]
    pub(crate) policy: Option<String>,

    /// How far guarded may reach beyond the requests
    #[arg(long, value_parser = ["none", "ram", "any"])]
    pub(crate) slack: Option<String>,

    /// Paging levels [default: what the machine uses, or 4]
    #[arg(long, value_parser = ["4", "5"])]
    pub(crate) levels: Option<String>,

    /// Whether 1G leaves may be used [default: what the machine does, or on]
    #[arg(long, value_parser = ["on", "off"])]
    pub(crate) gbpages: Option<String>,

    /// Bits of a physical address (MAXPHYADDR) [default: the machine's, or 52]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(32..=52))]
    pub(crate) maxphyaddr: Option<u8>,
}

impl PlanArgs {
    /// Whether requests are given here, so that no machine is needed.
    pub(crate) fn has_requests(&self) -> bool {
        !self.request.is_empty() || self.requests_file.is_some()
    }

    pub(crate) fn policy(&self) -> Option<PolicyKind> {
        let name = self.policy.as_deref()?;
        PolicyKind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    pub(crate) fn slack(&self) -> Option<SlackKind> {
        match self.slack.as_deref()? {
            "none" => Some(SlackKind::None),
            "ram" => Some(SlackKind::Ram),
            _ => Some(SlackKind::Any),
        }
    }

    pub(crate) fn levels(&self) -> Option<Levels> {
        self.levels.as_deref().map(|text| if text == "5" { Levels::Five } else { Levels::Four })
    }

    pub(crate) fn gbpages(&self) -> Option<bool> {
        self.gbpages.as_deref().map(|text| text == "on")
    }
}

pub(super) fn policies() -> [&'static str; 4] {
    PolicyKind::ALL.map(PolicyKind::name)
}
