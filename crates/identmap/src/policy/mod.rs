//! Which leaf sizes cover the requests. This folder alone chooses page sizes.

mod guarded;
mod linux;

use core::fmt;

use crate::addr::{PageSize, PhysRange};
use crate::config::Config;
use crate::plan_error::PlanError;
use crate::slots::Slot;

/// The rule that picks leaf sizes around the requests.
///
/// The first three reproduce Linux's `kernel_ident_mapping_init()`
/// (`arch/x86/mm/ident_map.c`), order of requests included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy<'a> {
    /// With 1 GiB leaves allowed, every GiB touched becomes one; else 2 MiB leaves.
    /// Linux from 4.12 on, and again after the revert of 2024; 6.1 to 6.1.187 but for 6.1.79-84.
    RoundOut,
    /// A 1 GiB leaf only where the first request that touches the GiB covers all of it;
    /// else 2 MiB leaves. Linux 6.11.3, 6.12 and later (commit cc31744a2945), 6.6.78 and 6.1.188 and
    /// later; for some weeks of 2024 also 6.8.0-6.8.4, 6.7.6-6.7.12, 6.6.18-25, 6.1.79-84, 5.10.210-214.
    Exact,
    /// [`Exact`](Policy::Exact) on HPE UV systems, round-out elsewhere: the patch "use full
    /// gbpages in identity maps except on UV platform" (March 2024, never merged), with the
    /// address aligned down before the leaf is stored, which the posted patch forgot.
    ExactOnUv {
        /// What `is_uv_system()` of the running kernel says.
        uv: bool,
    },
    /// The largest leaf that touches no forbidden byte, down to 4 KiB.
    Guarded(Guard<'a>),
}

/// What [`Policy::Guarded`] must not touch, and how far it may reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Guard<'a> {
    /// No leaf may reach a byte of these. Any order, overlaps allowed.
    pub forbidden: &'a [PhysRange],
    /// How far a leaf may reach beyond the requests.
    pub slack: Slack<'a>,
}

/// How far leaves may reach beyond the 4 KiB pages that requests touch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slack<'a> {
    /// Not at all.
    None,
    /// Over whole 4 KiB pages of these ranges (the machine's usable RAM). Any order, overlaps allowed.
    Ram(&'a [PhysRange]),
    /// Over anything that is not forbidden.
    Any,
}

/// What becomes of a leaf that is to be added where a table already stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum OnTable {
    /// It is left out: the old rule took any present entry for done.
    Skip,
    /// Its memory is filled in through that table, with smaller leaves.
    Descend,
}

impl Policy<'_> {
    /// The word for it on the command line and in reports.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Policy::RoundOut => "round-out",
            Policy::Exact => "exact",
            Policy::ExactOnUv { .. } => "exact-on-uv",
            Policy::Guarded(_) => "guarded",
        }
    }

    /// Upper bound of the slots that choosing leaves for `requests` requests takes.
    pub(crate) fn slots_needed(&self, requests: usize) -> usize {
        match self {
            Policy::RoundOut | Policy::ExactOnUv { uv: false } => requests,
            Policy::Exact | Policy::ExactOnUv { uv: true } => linux::exact_slots(requests),
            Policy::Guarded(guard) => guarded::slots(guard, requests),
        }
    }

    /// Chooses the leaves: ascending runs at the front of what is returned.
    pub(crate) fn choose<'s>(
        &self,
        config: &Config,
        requests: &[PhysRange],
        slots: &'s mut [Slot],
    ) -> Result<&'s [Slot], PlanError> {
        match self {
            Policy::RoundOut | Policy::ExactOnUv { uv: false } => {
                Ok(linux::round_out(config, requests, slots))
            }
            Policy::Exact | Policy::ExactOnUv { uv: true } => linux::exact(config, requests, slots),
            Policy::Guarded(guard) => guarded::choose(config, guard, requests, slots),
        }
    }

    /// What to do where a leaf of `size` meets a table in tables built before.
    pub(crate) fn on_table(&self, size: PageSize) -> OnTable {
        match (self, size) {
            // 6.12 ident_pud_init() skips only a leaf and fills a table; our own rule always fills.
            (Policy::Exact | Policy::ExactOnUv { .. }, PageSize::Size1G)
            | (Policy::Guarded(_), _) => OnTable::Descend,
            // 5.10 ident_pud_init(): with gbpages, a present PUD entry is skipped, leaf or not.
            // Every version's ident_pmd_init(): a present PMD entry is skipped, leaf or not.
            (Policy::RoundOut | Policy::Exact | Policy::ExactOnUv { .. }, _) => OnTable::Skip,
        }
    }
}

impl fmt::Display for Policy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
