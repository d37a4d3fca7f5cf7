//! What an errno of the system calls means here, and what to do.

use core::fmt;

use identmap_linux::Kind;

/// Which system call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// `kexec_load(2)`: segments and map are ours.
    Load,
    /// `kexec_file_load(2)`: segments and map are the running kernel's.
    FileLoad,
    /// `reboot(2)` with `LINUX_REBOOT_CMD_KEXEC`.
    Reboot,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Call::Load => "kexec_load",
            Call::FileLoad => "kexec_file_load",
            Call::Reboot => "reboot",
        })
    }
}

/// What the running kernel allows, as far as it tells.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Rules {
    /// This process is root.
    pub root: bool,
    /// `/sys/kernel/security/lockdown` is not `none`.
    pub lockdown: bool,
    /// `/proc/sys/kernel/kexec_load_disabled` is 1.
    pub disabled: bool,
    /// `/proc/sys/kernel/kexec_load_limit_{reboot,panic}` is 0: no more loads of that kind.
    pub limit_reached: bool,
    /// Memory is reserved for a crash kernel.
    pub reserved: bool,
}

/// Cause and next step of a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// Why the kernel says so.
    pub cause: &'static str,
    /// What to do.
    pub next: &'static str,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.cause, self.next)
    }
}

/// Which system call to use, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// The call.
    pub call: Call,
    /// Why it.
    pub why: &'static str,
}

impl Rules {
    /// What the rules leave: our own map where they allow it.
    #[must_use]
    pub fn choose(&self) -> Choice {
        if self.lockdown {
            return Choice {
                call: Call::FileLoad,
                why: "the kernel is locked down, and takes signed files only: the map will be the \
                      kernel's own, not ours",
            };
        }
        Choice { call: Call::Load, why: "nothing forbids it: the map is ours" }
    }
}

/// Explains an errno. Codes: `kernel/kexec.c`, `kernel/kexec_core.c`, `kernel/kexec_file.c`,
/// `arch/x86/kernel/kexec-bzimage64.c`, `security/integrity/ima/ima_main.c` (Linux 7.2); `kexec_load(2)`.
#[must_use]
pub fn explain(call: Call, errno: i32, kind: Kind, rules: Rules) -> Option<Explanation> {
    let say = |cause, next| Some(Explanation { cause, next });
    match (call, errno) {
        (_, libc::EPERM) => Some(permission(call, rules)),
        (_, libc::ENOSYS) => match call {
            Call::Load => say(
                "the running kernel was built without CONFIG_KEXEC",
                "use kexec_file_load: identmap load -s (the map is then the kernel's)",
            ),
            Call::FileLoad => say(
                "the running kernel was built without CONFIG_KEXEC_FILE",
                "use kexec_load: identmap load -c",
            ),
            Call::Reboot => {
                say("the running kernel was built without kexec", "use a normal reboot")
            }
        },
        (Call::Reboot, libc::EINVAL) => {
            say("no image is loaded", "load one first: identmap load KERNEL")
        }
        (_, libc::EBUSY) => say(
            "another process is loading an image, or a crash image is in the way of this",
            "wait for it, then try again",
        ),
        (Call::Load, libc::EADDRNOTAVAIL) if kind == Kind::Kdump && !rules.reserved => say(
            "no memory is reserved for a crash kernel",
            "boot with crashkernel=SIZE; /sys/kernel/kexec_crash_size says how much there is",
        ),
        (Call::Load, libc::EADDRNOTAVAIL) if kind == Kind::Kdump => say(
            "a segment lies outside the reservation for crash kernels, which has changed since it was read",
            "read /proc/iomem again: run the command once more",
        ),
        (Call::Load, libc::EADDRNOTAVAIL) => say(
            "a segment is not on page boundaries, or past what the kernel can copy to",
            "this is a mistake of identmap's: please report it with --dry-run's output",
        ),
        (Call::FileLoad, libc::EADDRNOTAVAIL) => say(
            "the kernel found no room for the image",
            "free memory, enlarge crashkernel= for -p, or take a smaller initrd",
        ),
        (Call::Load, libc::EINVAL) => say(
            "segments overlap or take more than half of the RAM, or the kernel does not know a flag of the call",
            "take a smaller initrd, or free memory; else report it with --dry-run's output",
        ),
        (Call::FileLoad, libc::EINVAL) => say(
            "the command line is too long or not ended, or the kernel could not take the image",
            "see the kernel's log (dmesg) for its reason",
        ),
        (_, libc::ENOMEM) => say(
            "not enough free memory for the image and its copy, or more than half of the RAM is asked for",
            "stop something, or take a smaller initrd; swap does not count",
        ),
        (Call::Load, libc::EACCES) => say(
            "a policy of IMA wants to see a file with a signature",
            "use kexec_file_load: identmap load -s (the map is then the kernel's)",
        ),
        (Call::FileLoad, libc::EACCES) => say(
            "a policy of IMA or of another security module refuses this file",
            "sign it, or see the audit log for the rule",
        ),
        (Call::FileLoad, libc::ENOEXEC) => say(
            "the kernel does not know the format of the file, or cannot be entered with 5-level paging, which is in use",
            "give a bzImage; kexec_load takes more formats: identmap load -c",
        ),
        (Call::FileLoad, libc::ENODATA) => say(
            "the file has no signature, and the kernel wants one",
            "sign it with a key that the kernel knows (mokutil, sbsign)",
        ),
        (Call::FileLoad, libc::EKEYREJECTED | libc::ENOKEY | libc::EBADMSG | libc::ENOPKG) => say(
            "the file's signature is not one that the kernel takes: an unknown key, a damaged file, or a \
             hash it does not have",
            "sign it with a key that the kernel knows (mokutil, sbsign)",
        ),
        (Call::FileLoad, libc::EBADF | libc::EIO | libc::EFBIG | libc::ETXTBSY) => say(
            "the kernel could not read the file",
            "copy it to a local file system and try again",
        ),
        (Call::FileLoad, libc::EOPNOTSUPP) => say(
            "the file system, or the kernel, does not support it for this file",
            "use kexec_load: identmap load -c",
        ),
        (_, libc::EFAULT) => say(
            "the kernel could not read our memory",
            "this is a mistake of identmap's: please report it",
        ),
        _ => None,
    }
}

fn permission(call: Call, rules: Rules) -> Explanation {
    let (cause, next) = if !rules.root {
        ("it takes root (CAP_SYS_BOOT)", "run it with sudo; --dry-run works for everybody")
    } else if rules.disabled {
        (
            "kernel.kexec_load_disabled is 1, and stays so until the next boot",
            "find out who sets it (/etc/sysctl.d, the boot command line), and boot without",
        )
    } else if rules.limit_reached {
        (
            "kernel.kexec_load_limit_reboot or _panic has reached 0",
            "the next boot allows it again; find out who sets it (/etc/sysctl.d)",
        )
    } else if rules.lockdown && call == Call::Load {
        (
            "the kernel is locked down (Secure Boot)",
            "use kexec_file_load with a signed kernel: identmap load -s (the map is then the kernel's)",
        )
    } else if rules.lockdown {
        (
            "the kernel is locked down and does not take this file unsigned",
            "sign it with a key that the kernel knows (mokutil, sbsign)",
        )
    } else {
        (
            "this process has no CAP_SYS_BOOT (a container?), or a security module refuses",
            "run it on the host itself; see the audit log",
        )
    };
    Explanation { cause, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules {
        root: true,
        lockdown: false,
        disabled: false,
        limit_reached: false,
        reserved: true,
    };

    /// Every code that `kernel/kexec*.c` returns by name has a cause and a next step.
    #[test]
    fn every_errno_is_explained() {
        let load = [
            libc::EPERM,
            libc::ENOSYS,
            libc::EBUSY,
            libc::EADDRNOTAVAIL,
            libc::EINVAL,
            libc::ENOMEM,
            libc::EACCES,
            libc::EFAULT,
        ];
        let file =
            [libc::ENOEXEC, libc::ENODATA, libc::EKEYREJECTED, libc::EBADF, libc::EOPNOTSUPP];
        for kind in [Kind::Kexec, Kind::Kdump] {
            for errno in load {
                assert!(explain(Call::Load, errno, kind, RULES).is_some(), "{errno}");
                assert!(explain(Call::FileLoad, errno, kind, RULES).is_some(), "{errno}");
            }
            for errno in file {
                assert!(explain(Call::FileLoad, errno, kind, RULES).is_some(), "{errno}");
            }
        }
        assert!(explain(Call::Reboot, libc::EINVAL, Kind::Kexec, RULES).is_some());
        assert_eq!(explain(Call::Load, 9999, Kind::Kexec, RULES), None);
    }

    #[test]
    fn eperm_has_five_causes() {
        let cause = |call, rules| explain(call, libc::EPERM, Kind::Kexec, rules).unwrap().cause;
        let locked = Rules { lockdown: true, ..RULES };
        let mut causes = vec![
            cause(Call::Load, Rules::default()),
            cause(Call::Load, Rules { disabled: true, ..RULES }),
            cause(Call::Load, Rules { limit_reached: true, ..RULES }),
            cause(Call::Load, locked),
            cause(Call::FileLoad, locked),
            cause(Call::Load, RULES),
        ];
        causes.sort_unstable();
        causes.dedup();
        assert_eq!(causes.len(), 6);
        assert_eq!(locked.choose().call, Call::FileLoad);
        assert_eq!(RULES.choose().call, Call::Load);
    }
}
