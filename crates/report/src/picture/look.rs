//! What a band stands for, and the marks by which it is told apart: never by colour alone.

use identmap::PageSize;
use identmap_machine::MemType;

use crate::text::Tone;

/// What a band stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Look {
    Usable,
    Reserved,
    AcpiData,
    AcpiNvs,
    /// Persistent, or soft reserved.
    Special,
    /// Unusable, or of a type nobody knows.
    OtherMemory,
    Request,
    Leaf1G,
    Leaf2M,
    Leaf4K,
    OverReach,
    Caution,
    Hazard,
    NeedMaybe,
    Need,
    /// Forbidden in a weaker sense, and mapped.
    Unwise,
    Luck,
    GapIf,
    Exposure,
    Gap,
}

/// How a look is filled, beside its colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pattern {
    Plain,
    Diagonal,
    Back,
    Cross,
    Dots,
    Vertical,
    Horizontal,
}

/// The patterns that must be defined in a document, with the name of each.
pub(crate) const PATTERNS: [(Pattern, &str); 6] = [
    (Pattern::Diagonal, "diagonal"),
    (Pattern::Back, "back"),
    (Pattern::Cross, "cross"),
    (Pattern::Dots, "dots"),
    (Pattern::Vertical, "vertical"),
    (Pattern::Horizontal, "horizontal"),
];

impl Look {
    /// All, the least important first.
    pub(crate) const ALL: [Look; 20] = [
        Look::Usable,
        Look::Reserved,
        Look::AcpiData,
        Look::AcpiNvs,
        Look::Special,
        Look::OtherMemory,
        Look::Request,
        Look::Leaf1G,
        Look::Leaf2M,
        Look::Leaf4K,
        Look::OverReach,
        Look::Caution,
        Look::Hazard,
        Look::NeedMaybe,
        Look::Need,
        Look::Unwise,
        Look::Luck,
        Look::GapIf,
        Look::Exposure,
        Look::Gap,
    ];

    pub(crate) fn of_memory(kind: MemType) -> Look {
        match kind {
            MemType::Usable => Look::Usable,
            MemType::Reserved => Look::Reserved,
            MemType::AcpiData => Look::AcpiData,
            MemType::AcpiNvs => Look::AcpiNvs,
            MemType::Persistent | MemType::PersistentLegacy | MemType::SoftReserved => {
                Look::Special
            }
            MemType::Unusable | MemType::Other(_) => Look::OtherMemory,
        }
    }

    pub(crate) fn of_leaf(size: PageSize) -> Look {
        match size {
            PageSize::Size4K => Look::Leaf4K,
            PageSize::Size2M => Look::Leaf2M,
            PageSize::Size1G => Look::Leaf1G,
        }
    }

    /// The size of the leaves it stands for.
    pub(crate) fn leaf(self) -> Option<PageSize> {
        match self {
            Look::Leaf4K => Some(PageSize::Size4K),
            Look::Leaf2M => Some(PageSize::Size2M),
            Look::Leaf1G => Some(PageSize::Size1G),
            _ => None,
        }
    }

    /// In the legend.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Look::Usable => "usable RAM",
            Look::Reserved => "reserved",
            Look::AcpiData => "ACPI data",
            Look::AcpiNvs => "ACPI NVS",
            Look::Special => "persistent or soft reserved",
            Look::OtherMemory => "unusable or unknown type",
            Look::Request => "requested",
            Look::Leaf1G => "1G leaves",
            Look::Leaf2M => "2M leaves",
            Look::Leaf4K => "4K leaves",
            Look::OverReach => "over-reach: mapped, not requested",
            Look::Caution => "better not mapped",
            Look::Hazard => "must not be mapped",
            Look::NeedMaybe => "read, if it lies there",
            Look::Need => "read by the next kernel",
            Look::Unwise => "mapped, better not",
            Look::Luck => "luck: mapped by over-reach only",
            Look::GapIf => "gap, if it is read there",
            Look::Exposure => "exposure: mapped, must not be",
            Look::Gap => "gap: needed, not mapped",
        }
    }

    /// The class in HTML and the start of its variables' names.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Look::Usable => "usable",
            Look::Reserved => "reserved",
            Look::AcpiData => "acpi",
            Look::AcpiNvs => "nvs",
            Look::Special => "special",
            Look::OtherMemory => "other",
            Look::Request => "request",
            Look::Leaf1G => "leaf1g",
            Look::Leaf2M => "leaf2m",
            Look::Leaf4K => "leaf4k",
            Look::OverReach => "over",
            Look::Caution => "caution",
            Look::Hazard => "hazard",
            Look::NeedMaybe => "maybe",
            Look::Need => "need",
            Look::Unwise => "unwise",
            Look::Luck => "luck",
            Look::GapIf => "gapif",
            Look::Exposure => "exposure",
            Look::Gap => "gap",
        }
    }

    pub(crate) fn pattern(self) -> Pattern {
        match self {
            Look::Usable | Look::Request | Look::Leaf1G | Look::Need | Look::Gap => Pattern::Plain,
            Look::Reserved | Look::OverReach | Look::NeedMaybe | Look::GapIf => Pattern::Diagonal,
            Look::AcpiData | Look::Leaf4K | Look::Caution | Look::Unwise => Pattern::Dots,
            Look::AcpiNvs | Look::Exposure | Look::Hazard => Pattern::Cross,
            Look::Special | Look::Leaf2M => Pattern::Vertical,
            Look::OtherMemory => Pattern::Back,
            Look::Luck => Pattern::Horizontal,
        }
    }

    /// In a terminal: a block, and a letter where blocks cannot be shown.
    pub(crate) fn glyphs(self) -> (char, char) {
        match self {
            Look::Usable => ('█', '#'),
            Look::Reserved => ('▒', 'r'),
            Look::AcpiData => ('▄', 'a'),
            Look::AcpiNvs => ('▀', 'n'),
            Look::Special => ('▌', 'p'),
            Look::OtherMemory => ('╳', 'u'),
            Look::Request => ('■', '+'),
            Look::Leaf1G => ('█', 'G'),
            Look::Leaf2M => ('▓', 'M'),
            Look::Leaf4K => ('░', 'k'),
            Look::OverReach => ('▞', 'o'),
            Look::Caution => ('◇', 'c'),
            Look::Hazard => ('◆', 'F'),
            Look::NeedMaybe => ('○', 'm'),
            Look::Need => ('●', 'N'),
            Look::Unwise => ('◈', 'x'),
            Look::Luck => ('≈', '~'),
            Look::GapIf => ('?', '?'),
            Look::Exposure => ('◆', 'X'),
            Look::Gap => ('✗', '!'),
        }
    }

    pub(crate) fn tone(self) -> Tone {
        match self {
            Look::Usable | Look::Request | Look::Leaf1G | Look::Leaf2M | Look::Leaf4K => Tone::Good,
            Look::Hazard | Look::Exposure | Look::Gap => Tone::Bad,
            Look::AcpiData
            | Look::AcpiNvs
            | Look::NeedMaybe
            | Look::Need
            | Look::Luck
            | Look::GapIf => Tone::Doubt,
            Look::Reserved
            | Look::Special
            | Look::OtherMemory
            | Look::OverReach
            | Look::Caution
            | Look::Unwise => Tone::Faint,
        }
    }

    /// Whether a picture is not stretched for its sake.
    pub(crate) fn is_background(self) -> bool {
        matches!(self, Look::Caution | Look::Unwise)
    }

    /// Whether it must be seen however small it is.
    pub(crate) fn is_mark(self) -> bool {
        self >= Look::NeedMaybe && self != Look::Unwise
    }

    /// Whether it has a label with a leader line above the picture.
    pub(crate) fn is_called_out(self) -> bool {
        matches!(self, Look::Luck | Look::GapIf | Look::Exposure | Look::Gap)
    }
}
