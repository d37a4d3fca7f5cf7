//! Models made wrong on purpose: what shows that the comparison can fail, and which rule of the model
//! which cells would miss.

use std::fmt;

use identmap::{Config, Flags, Level, Levels};
use identmap_linux::{PolicyKind, RequestList, RequestSource, Traits, TransitionPage};

use super::tree::Place;

/// One way to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// The other policy.
    Policy,
    /// 1G leaves where there are none, and the other way round.
    Gbpages,
    /// The other number of levels.
    Levels,
    /// Bit 58 where it is not, and the other way round.
    Noptishadow,
    /// Leaves without G.
    LeafFlags,
    /// Entries that point to tables without D.
    TableFlags,
    /// Requests in reverse order.
    Order,
    /// Not the last range of RAM.
    Ram,
    /// Not the first range of RAM, with the ISA range in it.
    Isa,
    /// No segments.
    Segments,
    /// No EFI system table.
    SystemTable,
    /// No configuration-table array.
    ConfigTable,
    /// Neither of the EFI tables.
    EfiTables,
    /// No ACPI tables.
    AcpiTables,
    /// No ACPI non-volatile storage.
    AcpiNvs,
    /// The transition page where other versions have it in virtual memory.
    TransitionAddress,
    /// The code of the transition page in the other of the two control pages.
    TransitionCode,
    /// Bit 58 in the transition page's top entry.
    TransitionFlags,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::Policy,
        Self::Gbpages,
        Self::Levels,
        Self::Noptishadow,
        Self::LeafFlags,
        Self::TableFlags,
        Self::Order,
        Self::Ram,
        Self::Isa,
        Self::Segments,
        Self::SystemTable,
        Self::ConfigTable,
        Self::EfiTables,
        Self::AcpiTables,
        Self::AcpiNvs,
        Self::TransitionAddress,
        Self::TransitionCode,
        Self::TransitionFlags,
    ];

    /// As on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Gbpages => "gbpages",
            Self::Levels => "levels",
            Self::Noptishadow => "noptishadow",
            Self::LeafFlags => "leaf-flags",
            Self::TableFlags => "table-flags",
            Self::Order => "order",
            Self::Ram => "ram",
            Self::Isa => "isa",
            Self::Segments => "segments",
            Self::SystemTable => "system-table",
            Self::ConfigTable => "config-table",
            Self::EfiTables => "efi-tables",
            Self::AcpiTables => "acpi-tables",
            Self::AcpiNvs => "acpi-nvs",
            Self::TransitionAddress => "transition-address",
            Self::TransitionCode => "transition-code",
            Self::TransitionFlags => "transition-flags",
        }
    }

    /// What the model has, then.
    #[must_use]
    pub const fn about(self) -> &'static str {
        match self {
            Self::Policy => "the other policy",
            Self::Gbpages => "1G pages where there are none, none where there are",
            Self::Levels => "the other number of levels",
            Self::Noptishadow => "bit 58 in upper entries where it is not, and the reverse",
            Self::LeafFlags => "leaves without G",
            Self::TableFlags => "entries that point to tables without D",
            Self::Order => "requests in reverse order",
            Self::Ram => "not the last range of RAM",
            Self::Isa => "not the first range of RAM, with the ISA range in it",
            Self::Segments => "no segments",
            Self::SystemTable => "no EFI system table",
            Self::ConfigTable => "no EFI configuration table",
            Self::EfiTables => "neither EFI table",
            Self::AcpiTables => "no ACPI tables",
            Self::AcpiNvs => "no ACPI non-volatile storage",
            Self::TransitionAddress => "the transition page at the address of other versions",
            Self::TransitionCode => "the transition page's code in the other control page",
            Self::TransitionFlags => "bit 58 in the transition page's upper entries",
        }
    }

    pub(super) fn of_traits(self, traits: &mut Traits, gbpages: &mut bool) {
        match self {
            Self::Policy => {
                traits.policy = match traits.policy {
                    PolicyKind::RoundOut => PolicyKind::Exact,
                    PolicyKind::Exact => PolicyKind::RoundOut,
                }
            }
            Self::Gbpages => *gbpages = !*gbpages,
            Self::Noptishadow => traits.noptishadow = !traits.noptishadow,
            Self::TransitionCode => traits.separate_pgd = !traits.separate_pgd,
            Self::TransitionAddress => {
                traits.transition = match traits.transition {
                    TransitionPage::RelocateKernel => TransitionPage::ControlPage,
                    TransitionPage::ControlPage => TransitionPage::RelocateKernel,
                }
            }
            _ => {}
        }
    }

    pub(super) fn of_requests(self, list: &mut RequestList) {
        use RequestSource as From;
        let ram = |request: &identmap_linux::Request| request.source == From::DirectMap;
        let requests = &mut list.requests;
        match self {
            Self::Order => requests.reverse(),
            Self::Isa => {
                requests.remove(0);
            }
            Self::Ram => {
                if let Some(last) = requests.iter().rposition(ram) {
                    requests.remove(last);
                }
            }
            Self::Segments => requests.retain(|r| !matches!(r.source, From::Segment(_))),
            Self::SystemTable => requests.retain(|r| r.source != From::EfiSystemTable),
            Self::ConfigTable => requests.retain(|r| r.source != From::EfiConfigTable),
            Self::EfiTables => requests
                .retain(|r| !matches!(r.source, From::EfiSystemTable | From::EfiConfigTable)),
            Self::AcpiTables => requests.retain(|r| r.source != From::AcpiTables),
            Self::AcpiNvs => requests.retain(|r| r.source != From::AcpiNvs),
            _ => {}
        }
    }

    pub(super) fn of_config(self, config: &mut Config) {
        match self {
            Self::Levels => {
                config.levels = match config.levels {
                    Levels::Four => Levels::Five,
                    Levels::Five => Levels::Four,
                }
            }
            Self::LeafFlags => config.leaf_flags = config.leaf_flags & !Flags::GLOBAL,
            Self::TableFlags => config.table_flags = config.table_flags & !Flags::DIRTY,
            _ => {}
        }
    }

    pub(super) fn of_bits(self, place: Place, bits: u64) -> u64 {
        let top = place.level.0 >= Level::Pml4;
        if self == Self::TransitionFlags && top { bits ^ Flags::NOPTISHADOW.bits() } else { bits }
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
