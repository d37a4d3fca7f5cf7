//! `identmap unload`.

use identmap::PhysAddr;
use identmap_kexec::{Call, explain, syscall};
use identmap_linux::Kind;

use crate::args::Unload;
use crate::live;
use crate::loading;
use crate::output::{Failure, Status};
use crate::record;

pub(crate) fn run(args: &Unload) -> Result<Status, Failure> {
    let kind = if args.crash { Kind::Kdump } else { Kind::Kexec };
    let rules = loading::rules(&live::machine(), kind);
    // A locked-down kernel refuses the one call, a kernel without CONFIG_KEXEC has only the other.
    let first = syscall::kexec_load(PhysAddr::ZERO, &[], kind, false);
    let (call, result) = match first {
        Err(error)
            if matches!(error.raw_os_error(), Some(libc_errno::EPERM | libc_errno::ENOSYS)) =>
        {
            match syscall::kexec_file_unload(kind) {
                Ok(()) => (Call::FileLoad, Ok(())),
                Err(_) => (Call::Load, Err(error)),
            }
        }
        result => (Call::Load, result),
    };
    match result {
        Ok(()) => {
            record::forget(kind);
            Ok(Status::Safe)
        }
        Err(error) => {
            let why = explain(call, error.raw_os_error().unwrap_or(0), kind, rules);
            let why = why.map_or_else(String::new, |why| format!(": {why}"));
            Err(Failure(format!("{call}: {error}{why}")))
        }
    }
}

/// errno(3) on x86-64 (`include/uapi/asm-generic/errno-base.h`, `errno.h`).
pub(super) mod libc_errno {
    pub(crate) const EPERM: i32 = 1;
    pub(crate) const ENOSYS: i32 = 38;
}
