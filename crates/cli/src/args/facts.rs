//! Facts that are added to a machine.

use clap::Args;
use identmap::{PhysAddr, PhysRange};

use super::values::{address, range};

/// What the machine's texts may not tell, or what to suppose instead.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Facts to add or to suppose")]
pub(crate) struct Facts {
    /// The kernel you kexec from, as uname -r prints it
    #[arg(long, value_name = "VERSION")]
    pub(crate) producer: Option<String>,

    /// The kernel you kexec to [default: any kernel since 5.10]
    #[arg(long, value_name = "VERSION")]
    pub(crate) consumer: Option<String>,

    /// Suppose nogbpages on the producer's command line
    #[arg(long)]
    pub(crate) nogbpages: bool,

    /// Whether this is an HPE UV system
    #[arg(long, value_parser = ["on", "off"])]
    pub(crate) uv: Option<String>,

    /// Whether CPUID 0x8000001F.EAX[1] (SEV) is set
    #[arg(long, value_parser = ["on", "off"])]
    pub(crate) sev: Option<String>,

    /// Whether the processor can run with 5 paging levels (CPUID 7.ECX[16], la57)
    #[arg(long, value_parser = ["on", "off"])]
    pub(crate) la57: Option<String>,

    /// Suppose that the producer requests this range too, as if firmware had described it (repeatable)
    #[arg(long, value_name = "RANGE", value_parser = range)]
    pub(crate) map: Vec<PhysRange>,

    /// Where the EFI system table lies
    #[arg(long, value_name = "ADDR", value_parser = address)]
    pub(crate) system_table: Option<PhysAddr>,

    /// Where the EFI configuration-table array lies (ADDR, or a range)
    #[arg(long, value_name = "RANGE", value_parser = range)]
    pub(crate) config_table: Option<PhysRange>,
}
