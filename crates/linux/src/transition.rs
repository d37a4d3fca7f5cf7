//! The transition page: the control code, mapped where the producer runs it when it loads the new
//! tables into CR3 (`init_transition_pgtable()` in `arch/x86/kernel/machine_kexec_64.c`, read in
//! 5.10.262, 6.1.187, 6.12.117 and 7.3.4).

use identmap::{Flags, PageSize, PhysAddr, VirtAddr};

use crate::producer::{Traits, TransitionPage};

/// What the transition page depends on and no version tells: chosen at boot and when an image is loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlCode {
    /// The first of the two control pages (`image->control_code_page`).
    pub page: PhysAddr,
    /// Address of `relocate_kernel` in the running kernel.
    pub relocate_kernel: VirtAddr,
    /// Start of the running kernel's direct map (`page_offset_base`).
    pub page_offset: VirtAddr,
}

/// The one 4 KiB leaf beside the identity map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TransitionLeaf {
    /// Where the producer runs, rounded down to a page.
    pub virt: VirtAddr,
    /// The control code's page.
    pub phys: PhysAddr,
}

impl TransitionLeaf {
    /// Flags of the leaf: `PAGE_KERNEL_EXEC_NOENC` (P, RW, A, D, G).
    pub const LEAF_FLAGS: Flags = Self::TABLE_FLAGS.with(Flags::GLOBAL);
    /// Flags of every entry above it: `_KERNPG_TABLE` (P, RW, A, D), never `_PAGE_NOPTISHADOW`, and
    /// on a host with memory encryption the C-bit, which is not among them.
    pub const TABLE_FLAGS: Flags =
        Flags::PRESENT.with(Flags::WRITABLE).with(Flags::ACCESSED).with(Flags::DIRTY);
}

impl Traits {
    /// The transition page of this producer; `None` where the addresses are none a kernel has.
    ///
    /// The code is copied behind the PGD, into the second control page, unless the PGD is
    /// allocated apart ([`Traits::separate_pgd`]): then it is in the first.
    #[must_use]
    pub fn transition_leaf(&self, code: &ControlCode) -> Option<TransitionLeaf> {
        let behind_root = if self.separate_pgd { 0 } else { PageSize::Size4K.bytes() };
        let virt = match self.transition {
            TransitionPage::RelocateKernel => code.relocate_kernel.get(),
            TransitionPage::ControlPage => code.page_offset.get().checked_add(code.page.get())?,
        };
        Some(TransitionLeaf {
            virt: VirtAddr::new(virt & !(PageSize::Size4K.bytes() - 1)),
            phys: code.page.checked_add(behind_root)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KernelVersion, Producer};

    fn leaf(release: &str) -> (u64, u64) {
        let version = KernelVersion::parse(release, None).expect("a release");
        let producer = Producer::of(Some(version));
        let traits = producer.traits().certain().expect("certain");
        let code = ControlCode {
            page: PhysAddr::new(0x1_0000_4000).expect("below 52 bits"),
            relocate_kernel: VirtAddr::new(0xffff_ffff_8106_4000),
            page_offset: VirtAddr::new(0xffff_8880_0000_0000),
        };
        let leaf = traits.transition_leaf(&code).expect("addresses of a kernel");
        (leaf.virt.get(), leaf.phys.get())
    }

    #[test]
    fn it_moved_twice() {
        assert_eq!(leaf("5.10.251"), (0xffff_ffff_8106_4000, 0x1_0000_5000));
        assert_eq!(leaf("6.1.192"), (0xffff_ffff_8106_4000, 0x1_0000_5000));
        assert_eq!(leaf("6.12.117"), (0xffff_ffff_8106_4000, 0x1_0000_4000));
        assert_eq!(leaf("7.2.13"), (0xffff_8881_0000_4000, 0x1_0000_4000));
    }
}
