//! What a processor's registers were when a kernel gave up: dumps in serial logs and consoles.
//!
//! Understood are the exception handler of kexec's own code (`CONFIG_KEXEC_DEBUG`, Linux 6.15 and later), oopses,
//! early exceptions, the page faults of the boot decompressor, and lines with control registers as QEMU and others
//! print them. Where a line is cut or damaged, what is left of it counts; what is missing stays unknown.

mod bits;
mod reader;

pub use bits::{
    Bit, ENTRY_ADDRESS, control_bits, entry_bits, error_bits, unknown_error_bits, vector,
};
pub use reader::read;

/// Most dumps that are read of one text.
pub const MAX_DUMPS: usize = 256;

/// Who printed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// `exc_handler` in Linux `arch/x86/kernel/relocate_kernel_64.S`: between two kernels, under the identity map.
    KexecDebug,
    /// `do_boot_page_fault()` in Linux `arch/x86/boot/compressed/ident_map_64.c`: before the next kernel is
    /// unpacked, under its own identity map.
    Decompressor,
    /// `fixup_exception()` in Linux `arch/x86/mm/extable.c` ("PANIC: early exception"): on the kernel's first tables.
    EarlyException,
    /// `show_fault_oops()` in Linux `arch/x86/mm/fault.c`, `die()` and others: a running kernel.
    Oops,
    /// Registers by themselves.
    Registers,
}

/// One dump. What the text does not tell is `None`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dump {
    /// Who printed it.
    pub origin: Origin,
    /// Line on which it begins, counted from 1.
    pub line: usize,
    /// The exception.
    pub vector: Option<u8>,
    /// Its error code.
    pub error: Option<u64>,
    /// The address whose access failed: CR2, or as an oops names it.
    pub address: Option<u64>,
    /// Where, as printed: an address, or a symbol with an offset.
    pub place: Option<String>,
    /// All registers with a value, in the order of the text, by upper-case name.
    pub registers: Vec<(&'static str, u64)>,
    /// Page-table entries on the way to the address (`PGD … P4D …`), from the root down.
    pub entries: Vec<(&'static str, u64)>,
}

impl Dump {
    fn new(origin: Origin, line: usize) -> Dump {
        Dump {
            origin,
            line,
            vector: None,
            error: None,
            address: None,
            place: None,
            registers: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// The value of a register, by upper-case name.
    #[must_use]
    pub fn register(&self, name: &str) -> Option<u64> {
        self.registers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// Whether addresses in it are physical ones, because it happened under an identity map.
    #[must_use]
    pub fn is_identity_mapped(&self) -> bool {
        matches!(self.origin, Origin::KexecDebug | Origin::Decompressor)
    }
}
