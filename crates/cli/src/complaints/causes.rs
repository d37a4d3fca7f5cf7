//! Why the kernel refuses to load an image, and why kexec(8) does before it asks: causes, how to tell them
//! apart, what to do.
//!
//! Read in Linux 7.2.13 and 7.3.4 (`kernel/kexec.c`, `kernel/kexec_core.c`, `kernel/kexec_file.c`,
//! `arch/x86/kernel/kexec-bzimage64.c`, `crypto/asymmetric_keys/`, `fs/kernel_read_file.c`, `security/`) and in
//! kexec-tools (`kexec/kexec.c`).

use identmap_kexec::Call;
use identmap_report::LoadCause;

const fn cause(
    cause: &'static str,
    tell: &'static str,
    next: &'static str,
    source: &'static str,
) -> LoadCause {
    LoadCause { cause, tell, next, source }
}

const NOT_ROOT: LoadCause = cause(
    "the process has no CAP_SYS_BOOT: it is not root, or it is in a container",
    "grep CapEff /proc/self/status: bit 22 (0x400000) is not set",
    "run it as root on the host itself",
    "kexec_load_permitted() in kernel/kexec_core.c",
);
const DISABLED: LoadCause = cause(
    "kernel.kexec_load_disabled is 1, and stays so until the next boot",
    "sysctl kernel.kexec_load_disabled",
    "find out who sets it (/etc/sysctl.d, sysctl.* on the kernel's command line), and boot without",
    "kexec_load_permitted() in kernel/kexec_core.c",
);
const LIMIT: LoadCause = cause(
    "kernel.kexec_load_limit_reboot, or _panic for -p, has reached 0 (Linux 6.3 and later)",
    "sysctl kernel.kexec_load_limit_reboot kernel.kexec_load_limit_panic",
    "find out who sets it; the next boot allows loading again",
    "kexec_load_permitted() in kernel/kexec_core.c",
);
const LOCKED: LoadCause = cause(
    "the kernel is locked down (Secure Boot), and kexec_load takes files without a signature",
    "cat /sys/kernel/security/lockdown; in the log: Lockdown: kexec: kexec of unsigned images is restricted",
    "kexec -s, with a kernel that is signed by a key this one knows",
    "security_locked_down(LOCKDOWN_KEXEC) in kernel/kexec.c",
);
const LOCKED_FILE: LoadCause = cause(
    "the kernel is locked down (Secure Boot) and the file has no signature that it accepts",
    "cat /sys/kernel/security/lockdown; pesign -S -i FILE or sbverify --list FILE",
    "load the distribution's signed kernel, or sign it with a key that is enrolled (mokutil --list-enrolled)",
    "kimage_validate_signature() in kernel/kexec_file.c",
);
const BUSY: LoadCause = cause(
    "another process is loading or unloading an image, or kexec is under way",
    "pgrep -a kexec; systemctl status kdump kexec-load",
    "wait for it and try again",
    "kexec_trylock() in kernel/kexec_core.c",
);
const NO_MEMORY: LoadCause = cause(
    "not enough free memory: the pages of the image are copied, and wait in RAM until the jump",
    "free -m against the sizes of kernel and initrd, twice; swap does not count",
    "stop something, or take a smaller initrd",
    "kimage_alloc_page(), kimage_alloc_control_pages() in kernel/kexec_core.c",
);
const FAULT: LoadCause = cause(
    "the loader gave the kernel memory that it cannot read",
    "",
    "this is a mistake of the loader: update kexec-tools",
    "copy_from_user() in kernel/kexec.c and kernel/kexec_core.c",
);
const SIGN: &str = "load the distribution's signed kernel, or sign it (sbsign) with a key that is enrolled (mokutil --import); \
                    where the kernel is not locked down, kexec -c asks for no signature";
const CRASH_SPACE: LoadCause = cause(
    "with -p: what is loaded does not lie in the memory reserved for a crash kernel, or none is reserved",
    "cat /sys/kernel/kexec_crash_size; grep -i crash /proc/iomem (as root)",
    "boot with crashkernel=SIZE, or a larger one",
    "sanity_check_segment_list() in kernel/kexec_core.c, kimage_alloc_init() in kernel/kexec.c",
);

static LOAD_EPERM: [LoadCause; 4] = [NOT_ROOT, DISABLED, LIMIT, LOCKED];
static FILE_EPERM: [LoadCause; 4] = [NOT_ROOT, DISABLED, LIMIT, LOCKED_FILE];
static LOAD_EACCES: [LoadCause; 1] = [cause(
    "Secure Boot or a policy of IMA wants to see a file with a signature, and kexec_load gives it none",
    "in the log: impossible to appraise a kernel image without a file descriptor",
    "kexec -s",
    "ima_load_data() in security/integrity/ima/ima_main.c",
)];
static FILE_EACCES: [LoadCause; 1] = [cause(
    "a policy of IMA or of another security module refuses this file",
    "journalctl -k | grep -E 'ima|audit'; cat /sys/kernel/security/ima/policy",
    "sign the file as the policy asks (evmctl ima_sign), or ask who made the policy",
    "kernel_read_file_from_fd(…, READING_KEXEC_IMAGE): security/integrity/ima/ima_main.c",
)];
static LOAD_ENOSYS: [LoadCause; 1] = [cause(
    "the running kernel was built without CONFIG_KEXEC",
    "grep KEXEC /boot/config-$(uname -r)",
    "kexec -s, if it has CONFIG_KEXEC_FILE",
    "kernel/Kconfig.kexec",
)];
static FILE_ENOSYS: [LoadCause; 1] = [cause(
    "the running kernel was built without CONFIG_KEXEC_FILE, or kexec(8) without the call",
    "grep KEXEC /boot/config-$(uname -r)",
    "kexec -c, or -a, which tries that by itself",
    "kernel/Kconfig.kexec; do_kexec_file_load() in kexec-tools",
)];
static LOAD_EINVAL: [LoadCause; 3] = [
    cause(
        "the image takes more than half of the RAM",
        "free -m against the sum of memsz of all segments",
        "take a smaller initrd, or a machine with more RAM; swap does not count",
        "sanity_check_segment_list() in kernel/kexec_core.c",
    ),
    cause(
        "segments overlap, there are more than 16, or one holds more than it is long",
        "the list of segments that kexec(8) prints with the error",
        "leave out --mem-min and --mem-max; else report it to kexec-tools with the output of kexec -d",
        "sanity_check_segment_list() in kernel/kexec_core.c, kexec_load_check() in kernel/kexec.c",
    ),
    cause(
        "the kernel does not know a flag of the call, or the loader is for another architecture (a 32-bit kexec)",
        "the flags that kexec(8) prints with the error: 0x3e0000 is x86-64; file $(command -v kexec)",
        "use a kexec of the kernel's own architecture, without --load-preserve-context or --hotplug",
        "kexec_load_check() in kernel/kexec.c",
    ),
];
static FILE_EINVAL: [LoadCause; 3] = [
    cause(
        "the command line is longer than the new kernel takes, by up to 30 bytes less with what is appended",
        "in the log: Kernel command line too long, or Appending elfcorehdr=<addr> …",
        "shorten --append, --command-line or --reuse-cmdline",
        "bzImage64_load() in arch/x86/kernel/kexec-bzimage64.c",
    ),
    cause(
        "the kernel or the initrd is empty, or no regular file",
        "ls -l FILE",
        "give the file itself; copy it to a local file system",
        "kernel_read_file() in fs/kernel_read_file.c",
    ),
    cause(
        "the running kernel does not know a flag that kexec(8) passed",
        "",
        "kexec -c, or -a, which tries that by itself",
        "kexec_file_load() in kernel/kexec_file.c",
    ),
];
static LOAD_EADDRNOTAVAIL: [LoadCause; 2] = [
    CRASH_SPACE,
    cause(
        "a segment does not begin and end on a page, or lies past what the kernel can copy to",
        "the list of segments that kexec(8) prints with the error",
        "leave out --mem-min and --mem-max; else report it to kexec-tools with the output of kexec -d",
        "sanity_check_segment_list() in kernel/kexec_core.c",
    ),
];
static FILE_EADDRNOTAVAIL: [LoadCause; 2] = [
    cause(
        "the kernel found no hole in RAM that is large enough for a segment",
        "ls -l of kernel and initrd against System RAM in /proc/iomem (as root)",
        "take a smaller initrd; kexec -c places segments by itself, and may find room",
        "kexec_locate_mem_hole() in kernel/kexec_file.c",
    ),
    cause(
        "with -p: the memory reserved for a crash kernel is too small, or there is none",
        "cat /sys/kernel/kexec_crash_size",
        "boot with a larger crashkernel=SIZE, or take a smaller initrd",
        "kexec_locate_mem_hole() in kernel/kexec_file.c",
    ),
];
static FILE_ENOEXEC: [LoadCause; 3] = [
    cause(
        "the file is no bzImage: kexec_file_load takes nothing else on x86-64",
        "file FILE; in the log: Not a bzImage, File is too short to be a bzImage, bzImage truncated",
        "give the bzImage; unpack what is compressed; of a UKI take the kernel out (objcopy -O binary -j .linux FILE OUT); \
         kexec -c takes ELF and multiboot too",
        "bzImage64_probe() in arch/x86/kernel/kexec-bzimage64.c",
    ),
    cause(
        "the running kernel uses 5-level paging, and the new one cannot be entered with it",
        "in the log: bzImage cannot handle 5-level paging mode; grep -c la57 /proc/cpuinfo",
        "boot the running kernel with no5lvl",
        "bzImage64_probe(): XLF_5LEVEL",
    ),
    cause(
        "the kernel is too old, 32-bit, or built without CONFIG_RELOCATABLE or CONFIG_X86_64",
        "in the log: Must be at least protocol version 2.12, XLF_KERNEL_64 …, XLF_CAN_BE_LOADED_ABOVE_4G …",
        "kexec -c",
        "bzImage64_probe() in arch/x86/kernel/kexec-bzimage64.c",
    ),
];
static FILE_ENOKEY: [LoadCause; 1] = [cause(
    "the kernel is signed with a key that the running one does not know",
    "pesign -S -i FILE against mokutil --list-enrolled and keyctl list %:.secondary_trusted_keys; a key in the \
     firmware's db counts only with CONFIG_INTEGRITY_PLATFORM_KEYRING",
    SIGN,
    "kexec_kernel_verify_pe_sig() in kernel/kexec_file.c; crypto/asymmetric_keys/pkcs7_trust.c",
)];
static FILE_EKEYREJECTED: [LoadCause; 1] = [cause(
    "the signature does not fit the file or the key, or the running kernel cannot verify this format",
    "sbverify --cert CERT FILE; mokutil --list-enrolled and --dbx: the key may have been revoked",
    SIGN,
    "kexec_image_verify_sig() in kernel/kexec_file.c; crypto/asymmetric_keys/",
)];
static FILE_ENODATA: [LoadCause; 1] = [cause(
    "the kernel has no signature, and the running one wants one",
    "in the log: PEFILE: Unsigned PE binary",
    SIGN,
    "pefile_parse_binary() in crypto/asymmetric_keys/verify_pefile.c",
)];
static FILE_DAMAGED: [LoadCause; 1] = [cause(
    "the PE headers of the file or its signature are damaged, or no PKCS#7",
    "sbverify --list FILE; the log says which",
    "install the kernel anew; sign it with sbsign or pesign",
    "crypto/asymmetric_keys/verify_pefile.c, mscode_parser.c, pkcs7_verify.c",
)];
static FILE_ENOPKG: [LoadCause; 1] = [cause(
    "the running kernel lacks an algorithm of the signature, or every key in it is one it does not support",
    "pesign -S -i FILE; grep -E 'sha(256|384|512)' /proc/crypto",
    "sign with RSA and SHA-256, or load the module of the algorithm",
    "crypto/asymmetric_keys/mscode_parser.c, pkcs7_trust.c, pkcs7_verify.c",
)];
static FILE_ENOTSUPP: [LoadCause; 1] = [cause(
    "the file's signature is of a kind that the kernel does not take (not PKCS#7, or another revision)",
    "sbverify --list FILE",
    "sign it with sbsign or pesign; kexec -a falls back to kexec_load by itself where that is allowed",
    "pefile_strip_sig_wrapper() in crypto/asymmetric_keys/verify_pefile.c",
)];
static FILE_READ: [LoadCause; 1] = [cause(
    "the kernel could not read the file",
    "cat FILE > /dev/null",
    "copy it to a local file system and try again",
    "kernel_read_file() in fs/kernel_read_file.c",
)];
static FILE_EFBIG: [LoadCause; 1] = [cause(
    "the kernel or the initrd is larger than the kernel reads (4 GiB)",
    "ls -l FILE",
    "take a smaller initrd",
    "KEXEC_FILE_SIZE_MAX in kernel/kexec_file.c; kernel_read_file()",
)];
static FILE_ETXTBSY: [LoadCause; 1] = [cause(
    "somebody has the file open for writing",
    "fuser -v FILE",
    "wait until it is written",
    "deny_write_access() in fs/kernel_read_file.c",
)];
static NOT_LOADED: [LoadCause; 1] = [cause(
    "no image is loaded",
    "cat /sys/kernel/kexec_loaded",
    "load one first: kexec -l, or identmap load",
    "kernel_kexec() in kernel/kexec_core.c",
)];
static REBOOT_EPERM: [LoadCause; 1] = [NOT_ROOT];
static REBOOT_ENOSYS: [LoadCause; 1] = [cause(
    "the running kernel was built without kexec",
    "grep KEXEC /boot/config-$(uname -r)",
    "reboot in the usual way",
    "kernel/Kconfig.kexec",
)];
static BUSY_ALONE: [LoadCause; 1] = [BUSY];
static NO_MEMORY_ALONE: [LoadCause; 1] = [NO_MEMORY];
static FAULT_ALONE: [LoadCause; 1] = [FAULT];

/// Every cause that an errno of a call can have; none if this call does not return it.
pub(crate) fn of_errno(call: Call, name: &str) -> &'static [LoadCause] {
    match (call, name) {
        (Call::Load, "EPERM") => &LOAD_EPERM,
        (Call::FileLoad, "EPERM") => &FILE_EPERM,
        (Call::Reboot, "EPERM") => &REBOOT_EPERM,
        (Call::Load, "EACCES") => &LOAD_EACCES,
        (Call::FileLoad, "EACCES") => &FILE_EACCES,
        (Call::Load, "ENOSYS") => &LOAD_ENOSYS,
        (Call::FileLoad, "ENOSYS") => &FILE_ENOSYS,
        (Call::Reboot, "ENOSYS") => &REBOOT_ENOSYS,
        (Call::Load, "EINVAL") => &LOAD_EINVAL,
        (Call::FileLoad, "EINVAL") => &FILE_EINVAL,
        (Call::Reboot, "EINVAL") => &NOT_LOADED,
        (Call::Load, "EADDRNOTAVAIL") => &LOAD_EADDRNOTAVAIL,
        (Call::FileLoad, "EADDRNOTAVAIL") => &FILE_EADDRNOTAVAIL,
        (_, "EBUSY") => &BUSY_ALONE,
        (_, "ENOMEM") => &NO_MEMORY_ALONE,
        (_, "EFAULT") => &FAULT_ALONE,
        (Call::FileLoad, "ENOEXEC") => &FILE_ENOEXEC,
        (Call::FileLoad, "ENOKEY") => &FILE_ENOKEY,
        (Call::FileLoad, "EKEYREJECTED") => &FILE_EKEYREJECTED,
        (Call::FileLoad, "ENODATA") => &FILE_ENODATA,
        (Call::FileLoad, "ELIBBAD" | "EBADMSG" | "EMSGSIZE") => &FILE_DAMAGED,
        (Call::FileLoad, "ENOPKG") => &FILE_ENOPKG,
        (Call::FileLoad, "EOPNOTSUPP" | "ENOTSUPP") => &FILE_ENOTSUPP,
        (Call::FileLoad, "EBADF" | "EIO") => &FILE_READ,
        (Call::FileLoad, "EFBIG") => &FILE_EFBIG,
        (Call::FileLoad, "ETXTBSY") => &FILE_ETXTBSY,
        _ => &[],
    }
}

/// Errnos as programs print them: name, number on x86-64 (Linux `include/uapi/asm-generic/errno*.h`,
/// `include/linux/errno.h`), the text of glibc, and that of musl where it is another.
pub(crate) const ERRNOS: [(&str, i32, &str, &str); 24] = [
    ("EPERM", 1, "Operation not permitted", ""),
    ("ENOENT", 2, "No such file or directory", ""),
    ("EIO", 5, "Input/output error", "I/O error"),
    ("ENOEXEC", 8, "Exec format error", ""),
    ("EBADF", 9, "Bad file descriptor", ""),
    ("ENOMEM", 12, "Cannot allocate memory", "Out of memory"),
    ("EACCES", 13, "Permission denied", ""),
    ("EFAULT", 14, "Bad address", ""),
    ("EBUSY", 16, "Device or resource busy", "Resource busy"),
    ("EINVAL", 22, "Invalid argument", ""),
    ("ETXTBSY", 26, "Text file busy", ""),
    ("EFBIG", 27, "File too large", ""),
    ("ENOSYS", 38, "Function not implemented", ""),
    ("ENODATA", 61, "No data available", ""),
    ("ENOPKG", 65, "Package not installed", ""),
    ("EBADMSG", 74, "Bad message", ""),
    ("ELIBBAD", 80, "Accessing a corrupted shared library", ""),
    ("EMSGSIZE", 90, "Message too long", "Message too large"),
    ("EOPNOTSUPP", 95, "Operation not supported", "Not supported"),
    ("EADDRNOTAVAIL", 99, "Cannot assign requested address", "Address not available"),
    ("ENOKEY", 126, "Required key not available", ""),
    ("EKEYEXPIRED", 127, "Key has expired", ""),
    ("EKEYREJECTED", 129, "Key was rejected by service", ""),
    ("ENOTSUPP", 524, "Unknown error 524", ""),
];

/// Lines of kexec(8) and of the kernel's log that have one meaning, each by words in it.
pub(crate) static LINES: [(&str, LoadCause); 19] = [
    (
        "Could not find a free area of memory",
        cause(
            "kexec(8) found no hole that is large enough in the RAM it knows of: below 4 GiB for older kernels; with -p \
             in the memory reserved for the crash kernel",
            "grep -E 'System RAM|Crash kernel' /proc/iomem (as root) against the size printed",
            "with -p: a larger crashkernel=; else a smaller initrd, no --mem-min or --mem-max, or kexec -s",
            "locate_hole() in kexec-tools' kexec/kexec.c",
        ),
    ),
    (
        "locate_hole failed",
        cause(
            "kexec(8) found no place for a segment; the line before says how large it is",
            "grep -E 'System RAM|Crash kernel' /proc/iomem (as root)",
            "with -p: a larger crashkernel=; else a smaller initrd, or kexec -s",
            "add_buffer_phys_virt() in kexec-tools' kexec/kexec.c",
        ),
    ),
    (
        "Cannot determine the file type of",
        cause(
            "the file is in no format that kexec(8) takes: bzImage, ELF vmlinux, multiboot, NBI, plain or gzip (xz if built so)",
            "file FILE",
            "give the bzImage; unpack what is compressed (unxz, zstd -d); of a UKI take the kernel out: \
             objcopy -O binary -j .linux FILE OUT; identmap load takes UKI, gzip, zstd and xz",
            "my_load() in kexec-tools' kexec/kexec.c",
        ),
    ),
    (
        "Could not get memory layout",
        cause(
            "kexec(8) could read neither /sys/firmware/memmap nor /proc/iomem",
            "ls /sys/firmware/memmap; head /proc/iomem (as root: not all zero)",
            "mount /sys and /proc; or kexec -s, which needs neither",
            "my_load() in kexec-tools' kexec/kexec.c",
        ),
    ),
    (
        "Invalid memory segment",
        cause(
            "a segment lies outside of the RAM that kexec(8) knows of",
            "the range printed against /proc/iomem (as root)",
            "leave out --mem-min and --mem-max; or kexec -s",
            "add_segment_phys_virt() in kexec-tools' kexec/kexec.c",
        ),
    ),
    (
        "Overlapping memory segments",
        cause(
            "two segments were given the same place",
            "the list of kexec -d",
            "leave out --mem-min and --mem-max; else report it to kexec-tools with the output of kexec -d",
            "sort_segments() in kexec-tools' kexec/kexec.c",
        ),
    ),
    ("Memory for crashkernel is not reserved", NO_CRASH_MEMORY),
    ("No crash kernel segment found in /proc/iomem", NO_CRASH_MEMORY),
    (
        "syscall kexec_file_load not available",
        cause(
            "kexec(8) was built without this call",
            "kexec -v",
            "kexec -c, or -a, which tries that by itself",
            "do_kexec_file_load() in kexec-tools' kexec/kexec.c",
        ),
    ),
    (
        "Nothing has been loaded",
        cause(
            "kexec -e, or -f, found no image loaded",
            "cat /sys/kernel/kexec_loaded",
            "load one first: kexec -l",
            "main() in kexec-tools' kexec/kexec.c",
        ),
    ),
    (
        "kernel segment limit reached",
        cause(
            "there are more segments than the kernel takes (16)",
            "the list of kexec -d",
            "give fewer modules; or kexec -s",
            "add_segment_phys_virt() in kexec-tools' kexec/kexec.c",
        ),
    ),
    (
        "didn't retain the initrd",
        cause(
            "--reuseinitrd takes the initrd of this boot, and it was thrown away",
            "grep retain_initrd /proc/cmdline",
            "give --initrd FILE",
            "check_reuse_initrd() in kexec-tools' kexec/kexec.c",
        ),
    ),
    (
        "kexec of unsigned images is restricted",
        cause(
            "the kernel is locked down (Secure Boot): it wants a file with a signature",
            "cat /sys/kernel/security/lockdown",
            "kexec -s, with a signed kernel",
            "lockdown_is_locked_down() in security/lockdown/lockdown.c",
        ),
    ),
    (
        "impossible to appraise a kernel image without a file descriptor",
        cause(
            "Secure Boot or a policy of IMA wants to see a file with a signature",
            "",
            "kexec -s",
            "ima_load_data() in security/integrity/ima/ima_main.c",
        ),
    ),
    (
        "bzImage cannot handle 5-level paging mode",
        cause(
            "the running kernel uses 5-level paging, and the new one cannot be entered with it",
            "",
            "boot the running kernel with no5lvl",
            "bzImage64_probe() in arch/x86/kernel/kexec-bzimage64.c",
        ),
    ),
    (
        "Kernel command line too long",
        cause(
            "the command line is longer than the new kernel takes",
            "",
            "shorten --append, --command-line or --reuse-cmdline",
            "bzImage64_load() in arch/x86/kernel/kexec-bzimage64.c",
        ),
    ),
    (
        "Unsigned PE binary",
        cause("the kernel has no signature", "", SIGN, "crypto/asymmetric_keys/verify_pefile.c"),
    ),
    (
        "Enforced kernel signature verification failed",
        cause(
            "the running kernel loads nothing without a signature that it accepts; the number is the errno",
            "mokutil --list-enrolled; pesign -S -i FILE",
            "load the distribution's signed kernel, or sign it with a key that is enrolled",
            "kimage_validate_signature() in kernel/kexec_file.c",
        ),
    ),
    (
        "Could not allocate control_code_buffer",
        cause(
            "no free pages for the code that does the jump; of a crash kernel: the reservation is too small",
            "free -m; cat /sys/kernel/kexec_crash_size",
            "free memory; with -p a larger crashkernel=",
            "kimage_alloc_init() in kernel/kexec.c",
        ),
    ),
];

const NO_CRASH_MEMORY: LoadCause = cause(
    "no memory is reserved for a crash kernel",
    "cat /sys/kernel/kexec_crash_size; grep crashkernel /proc/cmdline",
    "boot with crashkernel=SIZE; identmap check -p says how much this machine needs",
    "main() and my_load() in kexec-tools' kexec/kexec.c",
);
