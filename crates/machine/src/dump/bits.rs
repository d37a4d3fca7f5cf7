//! Names of vectors and bits.

/// A bit that is set, or not set and telling by that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bit {
    /// Its number.
    pub bit: u8,
    /// Its name in the manuals.
    pub name: &'static str,
    /// What it says.
    pub what: &'static str,
}

const fn bit(bit: u8, name: &'static str, what: &'static str) -> Bit {
    Bit { bit, name, what }
}

/// Mnemonic and name of an exception.
///
/// Intel SDM volume 3A, table 7-1; AMD APM volume 2, table 8-1 (#HV, #VC, #SX); Linux
/// `arch/x86/include/asm/trapnr.h`.
#[must_use]
pub fn vector(number: u8) -> (&'static str, &'static str) {
    match number {
        0 => ("#DE", "divide error"),
        1 => ("#DB", "debug"),
        2 => ("NMI", "non-maskable interrupt"),
        3 => ("#BP", "breakpoint"),
        4 => ("#OF", "overflow"),
        5 => ("#BR", "bound range exceeded"),
        6 => ("#UD", "invalid opcode"),
        7 => ("#NM", "device not available"),
        8 => ("#DF", "double fault"),
        9 => ("", "coprocessor segment overrun"),
        10 => ("#TS", "invalid TSS"),
        11 => ("#NP", "segment not present"),
        12 => ("#SS", "stack fault"),
        13 => ("#GP", "general protection"),
        14 => ("#PF", "page fault"),
        16 => ("#MF", "x87 floating-point error"),
        17 => ("#AC", "alignment check"),
        18 => ("#MC", "machine check"),
        19 => ("#XM", "SIMD floating-point"),
        20 => ("#VE", "virtualization exception"),
        21 => ("#CP", "control protection"),
        28 => ("#HV", "hypervisor injection"),
        29 => ("#VC", "VMM communication"),
        30 => ("#SX", "security exception"),
        _ => ("", "reserved vector"),
    }
}

/// Page fault: Intel SDM volume 3A, 5.7 and figure 5-12; AMD APM volume 2, 8.4.2 and 15.36.10 (RMP);
/// Linux `arch/x86/include/asm/trap_pf.h`.
const PAGE_FAULT: [Bit; 10] = [
    bit(0, "P", "the page is present: the access was not allowed"),
    bit(1, "W", "a write"),
    bit(2, "U", "in user mode"),
    bit(3, "RSVD", "an entry on the way has reserved bits set"),
    bit(4, "I", "an instruction fetch"),
    bit(5, "PK", "refused by a protection key"),
    bit(6, "SS", "a shadow-stack access"),
    bit(7, "HLAT", "during hypervisor-managed linear-address translation"),
    bit(15, "SGX", "refused by SGX, not by the page tables"),
    bit(31, "RMP", "refused by the reverse map table of SEV-SNP, not by the page tables"),
];

const NOT_PRESENT: Bit = bit(0, "!P", "nothing is mapped there");
const READ: Bit = bit(1, "!W", "a read");

/// Errors of segments: Intel SDM volume 3A, 7.13.
const SELECTOR: [Bit; 2] = [
    bit(0, "EXT", "during delivery of an event from outside the program"),
    bit(1, "IDT", "about a gate of the IDT"),
];

/// What an error code says. Of a page fault also what bits that are not set say.
#[must_use]
pub fn error_bits(vector: Option<u8>, code: u64) -> Vec<Bit> {
    let set = |all: &[Bit]| -> Vec<Bit> {
        all.iter().filter(|bit| code >> bit.bit & 1 != 0).copied().collect()
    };
    match vector {
        Some(14) => {
            let mut bits = set(&PAGE_FAULT);
            if code & 1 == 0 {
                bits.insert(0, NOT_PRESENT);
            }
            if code & 0x12 == 0 {
                bits.insert(1, READ);
            }
            bits
        }
        Some(10..=13) => set(&SELECTOR),
        _ => Vec::new(),
    }
}

/// Bits of an error code that no manual gives a meaning.
#[must_use]
pub fn unknown_error_bits(vector: Option<u8>, code: u64) -> u64 {
    match vector {
        Some(14) => PAGE_FAULT.iter().fold(code, |rest, bit| rest & !(1 << bit.bit)),
        // The rest is the index of a selector.
        Some(10..=13) => code & !0xffff,
        _ => 0,
    }
}

/// Intel SDM volume 3A, 2.5; AMD APM volume 2, 3.1.1.
const CR0: [Bit; 11] = [
    bit(0, "PE", "protected mode"),
    bit(1, "MP", "monitor coprocessor"),
    bit(2, "EM", "emulation"),
    bit(3, "TS", "task switched"),
    bit(4, "ET", "extension type"),
    bit(5, "NE", "numeric error"),
    bit(16, "WP", "write protect"),
    bit(18, "AM", "alignment mask"),
    bit(29, "NW", "not write-through"),
    bit(30, "CD", "caches off"),
    bit(31, "PG", "paging"),
];

/// Intel SDM volume 3A, 2.5; AMD APM volume 2, 3.1.3; Linux `arch/x86/include/uapi/asm/processor-flags.h`.
const CR4: [Bit; 26] = [
    bit(0, "VME", "virtual-8086 extensions"),
    bit(1, "PVI", "protected-mode virtual interrupts"),
    bit(2, "TSD", "time stamp disable"),
    bit(3, "DE", "debugging extensions"),
    bit(4, "PSE", "page size extensions"),
    bit(5, "PAE", "physical address extension"),
    bit(6, "MCE", "machine checks"),
    bit(7, "PGE", "global pages"),
    bit(8, "PCE", "performance counters"),
    bit(9, "OSFXSR", "FXSAVE"),
    bit(10, "OSXMMEXCPT", "SIMD exceptions"),
    bit(11, "UMIP", "user-mode instruction prevention"),
    bit(12, "LA57", "5-level paging"),
    bit(13, "VMXE", "VMX"),
    bit(14, "SMXE", "SMX"),
    bit(16, "FSGSBASE", "FSGSBASE"),
    bit(17, "PCIDE", "process-context identifiers"),
    bit(18, "OSXSAVE", "XSAVE"),
    bit(19, "KL", "key locker"),
    bit(20, "SMEP", "supervisor-mode execution prevention"),
    bit(21, "SMAP", "supervisor-mode access prevention"),
    bit(22, "PKE", "protection keys, user pages"),
    bit(23, "CET", "control-flow enforcement"),
    bit(24, "PKS", "protection keys, supervisor pages"),
    bit(28, "LAM_SUP", "linear-address masking, supervisor"),
    bit(32, "FRED", "flexible return and event delivery"),
];

/// AMD APM volume 2, 3.1.7; Intel SDM volume 3A, 2.2.1.
const EFER: [Bit; 8] = [
    bit(0, "SCE", "SYSCALL"),
    bit(8, "LME", "long mode enabled"),
    bit(10, "LMA", "long mode active"),
    bit(11, "NXE", "no-execute pages"),
    bit(12, "SVME", "SVM"),
    bit(13, "LMSLE", "long mode segment limits"),
    bit(14, "FFXSR", "fast FXSAVE"),
    bit(15, "TCE", "translation cache extension"),
];

/// An entry of a page table: Intel SDM volume 3A, 5.5; AMD APM volume 2, 5.4.1.
const ENTRY: [Bit; 9] = [
    bit(0, "P", "present"),
    bit(1, "W", "writable"),
    bit(2, "U", "user"),
    bit(3, "PWT", "write-through"),
    bit(4, "PCD", "not cached"),
    bit(5, "A", "accessed"),
    bit(6, "D", "dirty"),
    bit(7, "PS", "a leaf; in a page table's entry: PAT"),
    bit(63, "NX", "no execute"),
];

/// The address in an entry of a page table (the encryption bit, if there is one, among them).
pub const ENTRY_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

fn all_set(all: &[Bit], value: u64) -> Vec<Bit> {
    all.iter().filter(|bit| value >> bit.bit & 1 != 0).copied().collect()
}

/// The bits that are set in a control register, by upper-case name; none for registers without bits.
#[must_use]
pub fn control_bits(register: &str, value: u64) -> Vec<Bit> {
    match register {
        "CR0" => all_set(&CR0, value),
        "CR4" => all_set(&CR4, value),
        "EFER" => all_set(&EFER, value),
        _ => Vec::new(),
    }
}

/// The bits that are set in an entry of a page table.
#[must_use]
pub fn entry_bits(entry: u64) -> Vec<Bit> {
    all_set(&ENTRY, entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(bits: &[Bit]) -> Vec<&'static str> {
        bits.iter().map(|bit| bit.name).collect()
    }

    #[test]
    fn page_fault_codes() {
        assert_eq!(names(&error_bits(Some(14), 0)), ["!P", "!W"]);
        assert_eq!(names(&error_bits(Some(14), 2)), ["!P", "W"]);
        assert_eq!(names(&error_bits(Some(14), 0x10)), ["!P", "I"]);
        assert_eq!(names(&error_bits(Some(14), 0x8000_0003)), ["P", "W", "RMP"]);
        assert_eq!(names(&error_bits(Some(14), 0x29)), ["P", "!W", "RSVD", "PK"]);
        assert_eq!(unknown_error_bits(Some(14), 0x8000_8fff), 0xf00);
    }

    #[test]
    fn other_codes() {
        assert_eq!(names(&error_bits(Some(13), 0x1a)), ["IDT"]);
        assert!(error_bits(Some(8), 0).is_empty() && error_bits(None, 7).is_empty());
    }

    #[test]
    fn control_registers() {
        let of = |name, value| names(&control_bits(name, value)).join(" ");
        assert_eq!(of("CR0", 0x8005_0033), "PE MP ET NE WP AM PG");
        assert_eq!(of("CR4", 0x0017_10b0), "PSE PAE PGE LA57 FSGSBASE PCIDE OSXSAVE SMEP");
        assert_eq!(of("EFER", 0xd01), "SCE LME LMA NXE");
        assert_eq!(of("CR3", 0x1000), "");
    }
}
