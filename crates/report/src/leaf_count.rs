//! How many leaves of each size, as every report counts them.

use identmap::PageSize;
use serde::Serialize;

#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct LeafCount {
    #[serde(rename = "4K")]
    pub(crate) small: u64,
    #[serde(rename = "2M")]
    pub(crate) large: u64,
    #[serde(rename = "1G")]
    pub(crate) huge: u64,
}

impl LeafCount {
    /// By asking for each size.
    pub(crate) fn of(leaves: impl Fn(PageSize) -> u64) -> LeafCount {
        LeafCount {
            small: leaves(PageSize::Size4K),
            large: leaves(PageSize::Size2M),
            huge: leaves(PageSize::Size1G),
        }
    }
}
