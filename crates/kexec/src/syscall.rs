//! The system calls: `kexec_load(2)`, `kexec_file_load(2)`, `reboot(2)`, and what a clean shutdown takes.
//!
//! The only file of this crate with `unsafe` code.
#![allow(unsafe_code, reason = "libc's system calls")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use identmap::PhysAddr;
use identmap_linux::Kind;

use crate::Segment;

/// `KEXEC_SEGMENT_MAX` (`include/uapi/linux/kexec.h`, Linux 6.12).
pub const SEGMENTS_MAX: usize = 16;

/// `KEXEC_ON_CRASH`.
const ON_CRASH: libc::c_ulong = 1;
/// `KEXEC_UPDATE_ELFCOREHDR`, since 6.6: the kernel may rewrite the ELF core header. Since 6.10 there is
/// `KEXEC_CRASH_HOTPLUG_SUPPORT` too, the same in the name that holds for every segment; x86 takes either
/// (`arch_crash_hotplug_support()` in `arch/x86/kernel/crash.c`, Linux 6.12 and 7.2).
const UPDATE_ELFCOREHDR: libc::c_ulong = 4;
/// `KEXEC_ARCH_X86_64`: `EM_X86_64` in the upper half.
const ARCH_X86_64: libc::c_ulong = 62 << 16;
/// `KEXEC_FILE_UNLOAD`, `KEXEC_FILE_ON_CRASH`, `KEXEC_FILE_NO_INITRAMFS`.
const FILE_UNLOAD: libc::c_ulong = 1;
const FILE_ON_CRASH: libc::c_ulong = 2;
const FILE_NO_INITRAMFS: libc::c_ulong = 4;

/// `struct kexec_segment` (`include/uapi/linux/kexec.h`).
#[repr(C)]
struct RawSegment {
    buf: *const libc::c_void,
    bufsz: libc::size_t,
    mem: libc::c_ulong,
    memsz: libc::size_t,
}

const _: () = assert!(size_of::<RawSegment>() == 32);

/// Loads segments with `kexec_load(2)`, in place of what was loaded of the same kind. No segments: unloads.
///
/// # Errors
/// As the kernel answers; what was loaded before stays. [`crate::explain`] explains.
pub fn kexec_load(
    entry: PhysAddr,
    segments: &[Segment],
    kind: Kind,
    update_elfcorehdr: bool,
) -> io::Result<()> {
    let raw: Vec<RawSegment> = segments
        .iter()
        .map(|segment| RawSegment {
            buf: segment.bytes.as_ptr().cast(),
            bufsz: segment.bytes.len(),
            mem: segment.range.start().get(),
            memsz: segment.range.len() as usize,
        })
        .collect();
    let flags = load_flags(kind, update_elfcorehdr);
    // SAFETY: the kernel reads `raw.len()` structures at `raw`, whose layout is the ABI's (asserted above),
    // and `bufsz` bytes at each `buf`; all of them live in `raw` and `segments` until the call returns. It
    // writes nothing to this process's memory.
    let result =
        unsafe { libc::syscall(libc::SYS_kexec_load, entry.get(), raw.len(), raw.as_ptr(), flags) };
    answer(result)
}

/// Such that every kernel takes them at once: one that refuses them has counted the call against
/// `kernel.kexec_load_limit_reboot` or `_panic` all the same (`kexec_load_check()` in `kernel/kexec.c`).
fn load_flags(kind: Kind, update_elfcorehdr: bool) -> libc::c_ulong {
    let crash = if kind == Kind::Kdump { ON_CRASH } else { 0 };
    // It is asked for only where the kernel has `crash_elfcorehdr_size`, which came with the flag.
    let update = if update_elfcorehdr { UPDATE_ELFCOREHDR } else { 0 };
    ARCH_X86_64 | crash | update
}

/// Fills `bytes` from the kernel's random numbers; does not wait where it has none yet.
///
/// # Errors
/// As `getrandom(2)` with `GRND_NONBLOCK`.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    // SAFETY: the kernel writes at most `bytes.len()` bytes at `bytes`.
    let got =
        unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    match usize::try_from(got) {
        Ok(got) if got == bytes.len() => Ok(()),
        // Up to 256 bytes come whole once the generator is initialised (getrandom(2)).
        Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

/// Loads a kernel with `kexec_file_load(2)`: the running kernel makes the segments and the map.
///
/// # Errors
/// As the kernel answers; what was loaded before stays.
pub fn kexec_file_load(
    kernel: &File,
    initrd: Option<&File>,
    cmdline: &str,
    kind: Kind,
) -> io::Result<()> {
    let line = CString::new(cmdline)?;
    let mut flags = 0;
    if kind == Kind::Kdump {
        flags |= FILE_ON_CRASH;
    }
    if initrd.is_none() {
        flags |= FILE_NO_INITRAMFS;
    }
    let initrd = initrd.map_or(-1, AsRawFd::as_raw_fd);
    // SAFETY: the kernel reads the command line with its terminating zero, whose length is given; `line` lives until
    // the call returns. The descriptors are open as long as the `File`s.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initrd,
            line.as_bytes_with_nul().len(),
            line.as_ptr(),
            flags,
        )
    };
    answer(result)
}

/// Unloads through `kexec_file_load(2)`, for kernels that refuse `kexec_load(2)`.
///
/// # Errors
/// As the kernel answers.
pub fn kexec_file_unload(kind: Kind) -> io::Result<()> {
    let crash = if kind == Kind::Kdump { FILE_ON_CRASH } else { 0 };
    let none = -1;
    // SAFETY: with KEXEC_FILE_UNLOAD the kernel looks at the flags only (kernel/kexec_file.c).
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            none,
            none,
            0usize,
            core::ptr::null::<libc::c_char>(),
            FILE_UNLOAD | crash,
        )
    };
    answer(result)
}

/// Writes back what file systems hold.
pub fn sync() {
    // SAFETY: takes nothing and gives nothing.
    unsafe { libc::sync() }
}

/// Makes the file system mounted at `path` read-only.
///
/// # Errors
/// As `mount(2)`.
pub fn remount_read_only(path: &str) -> io::Result<()> {
    let path = CString::new(path)?;
    let none = core::ptr::null();
    // SAFETY: the path is a C string that lives until the call returns; with MS_REMOUNT the kernel ignores
    // source and type, and null options are none.
    let result = unsafe {
        libc::mount(none, path.as_ptr(), none, libc::MS_REMOUNT | libc::MS_RDONLY, none.cast())
    };
    answer(libc::c_long::from(result))
}

/// Jumps into the loaded image: `reboot(LINUX_REBOOT_CMD_KEXEC)`. Does not come back, unless it fails.
#[must_use]
pub fn jump() -> io::Error {
    // SAFETY: the numbers are reboot(2)'s; the fourth argument is not looked at for this command.
    let _ = unsafe {
        libc::syscall(
            libc::SYS_reboot,
            libc::LINUX_REBOOT_MAGIC1,
            libc::LINUX_REBOOT_MAGIC2,
            libc::LINUX_REBOOT_CMD_KEXEC,
            0,
        )
    };
    io::Error::last_os_error()
}

fn answer(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No flag that came after the one that is needed: 6.6 to 6.9 refuse it, and a second call may be one too many.
    #[test]
    fn flags_that_every_kernel_knows_which_is_asked() {
        assert_eq!(load_flags(Kind::Kexec, false), 0x3e_0000);
        assert_eq!(load_flags(Kind::Kdump, false), 0x3e_0001);
        assert_eq!(load_flags(Kind::Kdump, true), 0x3e_0005);
    }
}
