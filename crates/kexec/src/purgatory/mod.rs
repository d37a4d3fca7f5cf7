//! The purgatory: what runs between two kernels.
//!
//! The running kernel jumps to it with its own tables still in use, in 64-bit mode, with
//! interrupts off and without an IDT (`relocate_kernel` in Linux
//! `arch/x86/kernel/relocate_kernel_64.S`). It verifies what was loaded, switches to
//! our tables, and enters the next kernel as the 64-bit boot protocol asks
//! (`Documentation/arch/x86/boot.rst`, "64-bit Boot Protocol"): flat `__BOOT_CS` (0x10) and
//! `__BOOT_DS` (0x18), RSI = `boot_params`, interrupts off. All other registers are zero, and RSP is
//! the end of a small stack of its own.
//!
//! Order, and why:
//! 1. Its own code and the list of checks, so that the list can be trusted.
//! 2. The page tables, still under the producer's tables: walking them sets accessed and dirty
//!    bits, and with them changes what would be summed.
//! 3. CR3.
//! 4. Everything else, under the tables that the next kernel begins with.
//!
//! Where a sum is wrong it prints one line and halts for ever. The serial line comes first and is
//! waited for a bounded time, then the text screen. With an MMIO port or the screen, our
//! tables have to map those; for damage found in steps 1 and 2 the producer's have to, or the
//! message becomes a reset: the damaged image does not run then either.
//!
//! Damaged code may run into an exception before the damage is found. From the sixteenth instruction on it has an IDT
//! whose gates say where that was, and halt; an NMI is passed over. The next kernel is entered without an IDT, as
//! from `relocate_kernel`.
//!
//! The code uses general registers alone, and addresses its own bytes relative to RIP.
//!
//! ```
//! use identmap::{PhysAddr, PhysRange};
//! use identmap_kexec::purgatory::{Check, Purgatory, Serial, crc32c};
//!
//! let kernel = vec![0x90; 5000];
//! let memory = PhysRange::from_len(0x100_0000, 0x80_0000)?;
//! let checks = [Check {
//!     range: memory,
//!     crc32c: crc32c(&kernel, memory.len() - kernel.len() as u64),
//!     name: "kernel",
//!     tables: false,
//! }];
//! let purgatory = Purgatory {
//!     address: PhysAddr::new(0x9_0000).unwrap(),
//!     root: 0x8_0000,
//!     entry: 0x100_0200,
//!     rsi: 0x7_0000,
//!     checks: &checks,
//!     verify: true,
//!     serial: Some(Serial::Port(0x3f8)),
//!     vga: false,
//!     crc_instruction: true,
//! };
//! let built = purgatory.build()?;
//! assert_eq!(built.bytes.len() as u64, purgatory.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod code;
mod crc32c;
mod message;

use core::fmt;

use identmap::{PHYS_LIMIT, PageSize, PhysAddr, PhysRange};

pub use crc32c::crc32c;

/// A purgatory holds at most so many checks. `kexec_load(2)` takes 16 segments
/// (`KEXEC_SEGMENT_MAX` in Linux `include/uapi/linux/kexec.h`).
pub const MOST_CHECKS: usize = 64;

/// As much of a name is printed.
pub const LONGEST_NAME: usize = 32;

/// What the purgatory is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Purgatory<'a> {
    /// Where it is loaded: a page. The producer's tables and ours both have to map it.
    pub address: PhysAddr,
    /// What goes into CR3: the address of the top table, with the C-bit on a machine that uses it.
    pub root: u64,
    /// Where the next kernel is entered.
    pub entry: u64,
    /// RSI on entry: the address of `boot_params`.
    pub rsi: u64,
    /// What is verified, and in which order (after those that are `tables`).
    pub checks: &'a [Check<'a>],
    /// Whether it is.
    pub verify: bool,
    /// A 16550 that was set up before; nothing is set up here.
    pub serial: Option<Serial>,
    /// Whether there is a VGA text screen at 0xb8000.
    pub vga: bool,
    /// Whether the CPU has the `CRC32` instruction: SSE4.2, CPUID.1:ECX bit 20.
    pub crc_instruction: bool,
}

/// A part of memory that has to be as it was loaded.
///
/// Nobody may change it between the load and the jump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Check<'a> {
    /// The segment as it lies in memory, zeros behind its bytes included.
    pub range: PhysRange,
    /// Its sum: [`crc32c()`].
    pub crc32c: u32,
    /// What the message calls it: printable ASCII, up to [`LONGEST_NAME`] bytes; the
    /// rest is cut, other characters become `?`.
    pub name: &'a str,
    /// Whether page tables of ours lie in it: it is verified before they are switched to.
    pub tables: bool,
}

/// Where a message goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Serial {
    /// I/O ports, the first of eight: 0x3f8 is COM1.
    Port(u16),
    /// Registers in memory.
    Mmio {
        /// The first register.
        address: u64,
        /// Bytes from one register to the next, and of an access: 1, 2 or 4.
        stride: u8,
    },
}

/// A purgatory as it is loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Built {
    /// Its bytes, stack included.
    pub bytes: Vec<u8>,
    /// Where the producer has to jump to.
    pub entry: u64,
    /// Its stack. The bytes in it change; everything else stays as it is.
    pub stack: PhysRange,
}

/// Why there is no purgatory.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PurgatoryError {
    /// It does not begin on a page, or reaches past the end of physical memory.
    Address(PhysAddr),
    /// That is no value for CR3: not a page, or not in physical memory.
    Root(u64),
    /// An entry or an argument outside physical memory.
    Target(u64),
    /// More checks than [`MOST_CHECKS`].
    Checks(usize),
    /// A check covers bytes of the purgatory, whose stack changes; it verifies itself.
    Overlap(PhysRange),
    /// Ports past 0xffff, or registers that are not aligned, past the end of memory, or at a distance
    /// that is none.
    Serial(Serial),
    /// The assembler refused an instruction, or the code grew past its room: a mistake of ours.
    Code(String),
}

impl fmt::Display for PurgatoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PurgatoryError::Address(at) => write!(f, "a purgatory cannot lie at {at}"),
            PurgatoryError::Root(root) => write!(f, "{root:#x} is no value for CR3"),
            PurgatoryError::Target(at) => write!(f, "{at:#x} is outside physical memory"),
            PurgatoryError::Checks(count) => {
                write!(f, "{count} segments to verify; the purgatory takes {MOST_CHECKS}")
            }
            PurgatoryError::Overlap(range) => {
                write!(f, "the segment {range} to verify overlaps the purgatory")
            }
            PurgatoryError::Serial(Serial::Port(port)) => {
                write!(f, "no serial port can lie at I/O port {port:#x}")
            }
            PurgatoryError::Serial(Serial::Mmio { address, stride }) => {
                write!(f, "no serial port can lie at {address:#x} with {stride} bytes a register")
            }
            PurgatoryError::Code(why) => write!(f, "the purgatory's code cannot be made: {why}"),
        }
    }
}

impl core::error::Error for PurgatoryError {}

impl Purgatory<'_> {
    /// How many bytes [`build`](Self::build) makes. They depend on the number of checks, on `verify` and on
    /// `crc_instruction`, but on no address and no sum.
    #[must_use]
    pub fn len(&self) -> u64 {
        code::Layout::new(self).end as u64
    }

    /// Never.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Makes the code.
    ///
    /// # Errors
    /// [`PurgatoryError`], a variant for each thing that can be wrong.
    pub fn build(&self) -> Result<Built, PurgatoryError> {
        if self.checks.len() > MOST_CHECKS {
            return Err(PurgatoryError::Checks(self.checks.len()));
        }
        let layout = code::Layout::new(self);
        let at = PurgatoryError::Address(self.address);
        if !self.address.is_aligned(PageSize::Size4K) {
            return Err(at);
        }
        let range = PhysRange::from_len(self.address.get(), layout.end as u64);
        let range = range.map_err(|_| at.clone())?;
        let stack_start = self.address.checked_add(layout.stack as u64).ok_or(at.clone())?;
        let stack = PhysRange::between(stack_start, range.end()).ok_or(at)?;
        // Bits 3 and 4 are PWT and PCD (SDM vol. 3A, table 4-12).
        if self.root & 0xfe7 != 0 || !(1 << 12..PHYS_LIMIT).contains(&self.root) {
            return Err(PurgatoryError::Root(self.root));
        }
        if let Some(&target) = [self.entry, self.rsi].iter().find(|&&target| target >= PHYS_LIMIT) {
            return Err(PurgatoryError::Target(target));
        }
        if let Some(check) = self.checks.iter().find(|check| check.range.intersects(range)) {
            return Err(PurgatoryError::Overlap(check.range));
        }
        if let Some(serial) = self.serial.filter(|serial| !serial.is_sound()) {
            return Err(PurgatoryError::Serial(serial));
        }
        let bytes = code::build(self, &layout).map_err(PurgatoryError::Code)?;
        Ok(Built { bytes, entry: self.address.get(), stack })
    }
}

impl Serial {
    fn is_sound(self) -> bool {
        match self {
            Serial::Port(port) => port <= 0xfff8,
            Serial::Mmio { address, stride } => {
                let registers = PhysRange::from_len(address, 8 * u64::from(stride));
                matches!(stride, 1 | 2 | 4)
                    && registers.is_ok()
                    && address.is_multiple_of(u64::from(stride))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(addr: u64) -> PhysAddr {
        PhysAddr::new(addr).unwrap()
    }

    fn sound() -> Purgatory<'static> {
        Purgatory {
            address: addr(0x9_0000),
            root: 0x8_0000,
            entry: 0x100_0200,
            rsi: 0x7_0000,
            checks: &[],
            verify: true,
            serial: None,
            vga: true,
            crc_instruction: true,
        }
    }

    fn check(start: u64, len: u64) -> Check<'static> {
        let range = PhysRange::from_len(start, len).unwrap();
        Check { range, crc32c: 0, name: "x", tables: false }
    }

    /// The room for code suffices whatever is asked for, and the length is as announced.
    #[test]
    fn every_variant_fits() {
        let many: Vec<Check<'_>> = (0..64).map(|i| check(0x1000_0000 + i * 4096, 97)).collect();
        let mmio = |stride| Some(Serial::Mmio { address: 0xffff_ffff_f000, stride });
        let top = Purgatory {
            address: addr(PHYS_LIMIT - (1 << 20)),
            root: PHYS_LIMIT - 0x1000 + 0x18,
            entry: PHYS_LIMIT - 1,
            rsi: PHYS_LIMIT - 1,
            ..sound()
        };
        for base in [sound(), top] {
            for serial in [None, Some(Serial::Port(0xfff8)), mmio(1), mmio(2), mmio(4)] {
                for bits in 0..8 {
                    for checks in [&many[..0], &many[..1], &many[..]] {
                        let [verify, vga, crc_instruction] = [1, 2, 4].map(|bit| bits & bit != 0);
                        let asked =
                            Purgatory { checks, verify, serial, vga, crc_instruction, ..base };
                        let built = asked.build().unwrap();
                        assert_eq!(built.bytes.len() as u64, asked.len());
                        let end = base.address.get() + asked.len();
                        assert_eq!(
                            (built.entry, built.stack.end().get()),
                            (base.address.get(), end)
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_code_does_not_depend_on_where_it_lies() {
        let checks = [check(0x100_0000, 4096)];
        let one = Purgatory { checks: &checks, ..sound() };
        let other = Purgatory { address: addr(0x12_3456_7000), ..one };
        let (one, other) = (one.build().unwrap(), other.build().unwrap());
        assert_eq!(one.bytes[..code::CODE], other.bytes[..code::CODE]);
        // What has the address in it: gates, the purgatory's own messages, and with them the sum.
        assert_ne!(one.bytes[code::CODE..], other.bytes[code::CODE..]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let error = |change: &dyn Fn(&mut Purgatory<'_>)| {
            let mut asked = sound();
            change(&mut asked);
            let error = asked.build().unwrap_err();
            assert!(!error.to_string().is_empty());
            error
        };
        for at in [0x9_0800, PHYS_LIMIT] {
            let refused = PurgatoryError::Address(addr(at));
            assert_eq!(error(&|asked| asked.address = addr(at)), refused);
        }
        for root in [0, 0x8_0001, 0xfff, PHYS_LIMIT, u64::MAX] {
            assert_eq!(error(&|asked| asked.root = root), PurgatoryError::Root(root));
        }
        for at in [PHYS_LIMIT, u64::MAX] {
            assert_eq!(error(&|asked| asked.entry = at), PurgatoryError::Target(at));
            assert_eq!(error(&|asked| asked.rsi = at), PurgatoryError::Target(at));
        }
        let bad = [
            Serial::Port(0xfff9),
            Serial::Mmio { address: 0xfe00_0000, stride: 0 },
            Serial::Mmio { address: 0xfe00_0000, stride: 3 },
            Serial::Mmio { address: 0xfe00_0002, stride: 4 },
            Serial::Mmio { address: PHYS_LIMIT - 7, stride: 1 },
        ];
        for serial in bad {
            assert_eq!(error(&|asked| asked.serial = Some(serial)), PurgatoryError::Serial(serial));
        }
        let many = [check(0x100_0000, 1); 65];
        let asked = Purgatory { checks: &many, ..sound() };
        assert_eq!(asked.build(), Err(PurgatoryError::Checks(65)));
        let last = 0x9_0000 + sound().len();
        for over in [check(0x8_0000, 0x1_0001), check(last, 1)] {
            let asked = Purgatory { checks: &[over], ..sound() };
            assert_eq!(asked.build(), Err(PurgatoryError::Overlap(over.range)));
        }
    }
}
