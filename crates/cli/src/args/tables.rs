//! `identmap tables`.

use std::path::PathBuf;

use clap::Args;
use identmap::PhysAddr;

use super::ListArgs;
use super::values::{address, number};

#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("from").args(["file", "live", "piece"]))]
pub(crate) struct Tables {
    /// An ELF core file, or a raw image of memory
    pub(crate) file: Option<PathBuf>,

    /// The image that is loaded now (what is done without FILE)
    #[arg(long)]
    pub(crate) live: bool,

    /// A piece of memory whose first byte is at ADDR, as QEMU's pmemsave writes (repeatable)
    #[arg(long, value_name = "FILE@ADDR", value_parser = piece)]
    pub(crate) piece: Vec<Piece>,

    /// With a loaded image: the crash kernel's (kexec -p)
    #[arg(short = 'p', long = "panic", visible_alias = "crash", conflicts_with = "piece")]
    pub(crate) crash: bool,

    /// Read the image that is loaded in a core file: /proc/kallsyms of the kernel in it
    #[arg(long, value_name = "FILE", requires = "file", requires = "btf")]
    pub(crate) kallsyms: Option<PathBuf>,

    /// And its /sys/kernel/btf/vmlinux
    #[arg(long, value_name = "FILE", requires = "kallsyms")]
    pub(crate) btf: Option<PathBuf>,

    /// Physical address of the top table (CR3; its flag bits are passed over)
    #[arg(long, value_name = "ADDR", value_parser = number)]
    pub(crate) cr3: Option<u64>,

    /// Physical address of the first byte of a raw image
    #[arg(long, value_name = "ADDR", value_parser = address, requires = "file")]
    pub(crate) base: Option<PhysAddr>,

    /// Whose CR3 to take, where a core file has several processors'
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "cr3")]
    pub(crate) cpu: usize,

    /// Paging levels [default: what the source tells, or 4]
    #[arg(long, value_parser = ["4", "5"])]
    pub(crate) levels: Option<String>,

    /// Bits of a physical address (MAXPHYADDR) [default: this processor's with --live, or 52]
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(32..=52))]
    pub(crate) maxphyaddr: Option<u8>,

    /// The bit of an entry that marks encrypted memory (C-bit) [default: what the source tells, or none]
    #[arg(long, value_name = "BIT", value_parser = clap::value_parser!(u8).range(32..=51))]
    pub(crate) encryption_bit: Option<u8>,

    /// Walk this virtual address too, level by level
    #[arg(long, value_name = "ADDR", value_parser = number)]
    pub(crate) at: Option<u64>,

    #[command(flatten)]
    pub(crate) list: ListArgs,
}

/// `FILE@ADDR`.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub(crate) file: PathBuf,
    pub(crate) base: PhysAddr,
}

fn piece(text: &str) -> Result<Piece, String> {
    let (file, base) = text.rsplit_once('@').ok_or("expected FILE@ADDR")?;
    if file.is_empty() {
        return Err("expected FILE@ADDR".to_owned());
    }
    Ok(Piece { file: file.into(), base: address(base)? })
}
