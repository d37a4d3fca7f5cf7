//! A kernel's command line: words about memory, paging, EFI and consoles stay, of all others only the name.

use super::scrub::{Looks, Names, REDACTED, scrub};

/// Parameters that stay with their values, if the value has the characters of a number, a size, an
/// address or a name of a driver. Meaning: Linux `Documentation/admin-guide/kernel-parameters.txt`.
const KEPT: [&str; 107] = [
    "acpi",
    "acpi_rsdp",
    "add_efi_memmap",
    "amd_iommu",
    "clearcpuid",
    "cma",
    "console",
    "crash_kexec_post_notifiers",
    "crashkernel",
    "debug_pagealloc",
    "default_hugepagesz",
    "disable_mtrr_cleanup",
    "disable_mtrr_trim",
    "e820_all",
    "earlycon",
    "earlyprintk",
    "edd",
    "efi",
    "efi_fake_mem",
    "efi_no_storage_paranoia",
    "efivar_ssdt",
    "elfcorehdr",
    "erst_disable",
    "gbpages",
    "hest_disable",
    "highmem",
    "hpet",
    "hugepages",
    "hugepagesz",
    "hugetlb_cma",
    "ignore_loglevel",
    "init_on_alloc",
    "init_on_free",
    "intel_iommu",
    "intremap",
    "iomem",
    "iommu",
    "irqpoll",
    "kaslr",
    "keep_bootcon",
    "kernelcore",
    "kexec_load_disabled",
    "kho",
    "kho_scratch",
    "kmemleak",
    "la57",
    "lapic",
    "loglevel",
    "maxcpus",
    "mce",
    "mem",
    "mem_encrypt",
    "mem_sleep_default",
    "memblock",
    "memhp_default_state",
    "memmap",
    "memory_hotplug.memmap_on_memory",
    "mitigations",
    "mminit_loglevel",
    "movable_node",
    "movablecore",
    "mtrr_chunk_size",
    "mtrr_gran_size",
    "no5lvl",
    "noacpi",
    "noapic",
    "noefi",
    "noexec",
    "nogbpages",
    "nohugeiomap",
    "nohugevmalloc",
    "nokaslr",
    "nolapic",
    "nomodeset",
    "nopat",
    "nopti",
    "noresume",
    "nosgx",
    "nosmp",
    "nosmt",
    "nox2apic",
    "nr_cpus",
    "numa",
    "numa_balancing",
    "page_owner",
    "page_poison",
    "panic",
    "pci",
    "pcie_aspm",
    "pti",
    "quiet",
    "reboot",
    "reserve",
    "reset_devices",
    "resource_alignment",
    "rodata",
    "sev",
    "sgx",
    "spec_store_bypass_disable",
    "swiotlb",
    "tdx",
    "tsc",
    "vga",
    "vm_debug",
    "vmalloc",
    "x2apic_phys",
    "xen_emul_unplug",
];

/// Parameters of these modules stay.
const KEPT_MODULES: [&str; 6] =
    ["efi_pstore.", "kvm_amd.", "kvm-amd.", "kvm_intel.", "kvm-intel.", "hyperv_fb."];

/// Words without `=` that stay beyond those.
const KEPT_WORDS: [&str; 7] = ["debug", "ro", "rw", "single", "splash", "nofb", "1"];

/// Longest value that stays.
const LONGEST: usize = 256;

/// The command line with the values of all other parameters left out, and how many words were changed.
pub(super) fn redact(line: &str, names: &Names) -> (String, usize) {
    let mut changed = 0;
    let mut past_end = false;
    let words: Vec<String> = split(line)
        .into_iter()
        .map(|word| {
            // What follows `--` is for init.
            let kept = if past_end { None } else { keep(word, names) };
            past_end |= word == "--";
            let kept = kept.unwrap_or_else(|| REDACTED.to_owned());
            changed += usize::from(kept != word);
            kept
        })
        .collect();
    (words.join(" "), changed)
}

fn keep(word: &str, names: &Names) -> Option<String> {
    if word == "--" {
        return Some(word.to_owned());
    }
    let (name, value) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    let is_name = !name.is_empty() && name.len() <= 64 && name.chars().all(plain);
    if !is_name || scrub(name, names, Looks::All) != name {
        return None;
    }
    // The kernel takes dashes for underscores (`parameq()` in kernel/params.c).
    let canonical = name.replace('-', "_");
    let kept = KEPT.contains(&canonical.as_str())
        || KEPT_MODULES.iter().any(|m| name.starts_with(m) && name.len() > m.len());
    match value {
        None if kept || KEPT_WORDS.contains(&name) => Some(word.to_owned()),
        None => None,
        Some(value) if kept && is_harmless(value, names) => Some(word.to_owned()),
        Some(_) => Some(format!("{name}={REDACTED}")),
    }
}

fn is_harmless(value: &str, names: &Names) -> bool {
    let technical = |c: char| c.is_ascii_alphanumeric() || ",:=@!$#%+._/-^&*~()".contains(c);
    value.len() <= LONGEST
        && (value.chars().all(technical) || value == REDACTED)
        && scrub(value, names, Looks::All) == value
}

/// At spaces outside of double quotes, as `next_arg()` in `lib/cmdline.c` does.
fn split(line: &str) -> Vec<&str> {
    let mut quoted = false;
    line.split(move |c: char| {
        quoted ^= c == '"';
        !quoted && c.is_whitespace()
    })
    .filter(|word| !word.is_empty())
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(line: &str) -> String {
        let (out, changed) = redact(line, &Names::default());
        assert_eq!(changed == 0, out == line, "{line}");
        assert_eq!(redact(&out, &Names::default()).0, out, "twice is once");
        out
    }

    #[test]
    fn words_about_memory_stay() {
        for line in [
            "mem=4G memmap=64M@0x1000000 memmap=2M!4G memmap=1M%0x9000-1+2 memmap=exactmap",
            "crashkernel=1G-64G:128M,64G-:256M crashkernel=512M,high crashkernel=72M,low",
            "nogbpages gbpages nokaslr no5lvl nopti efi=noruntime,debug noefi numa=off",
            "console=ttyS0,115200n8 console=tty0 earlyprintk=pciserial,force,00:16.3,115200 earlycon=uart8250,mmio32,0xfedc9000",
            "hugepagesz=1G hugepages=4 default_hugepagesz=1G swiotlb=65536,force pci=nommconf,realloc=off",
            "intel_iommu=on amd_iommu=off iommu=pt mem_encrypt=on kvm_amd.sev=1 elfcorehdr=0x103f000000 nr_cpus=1",
            "ro quiet splash debug acpi_rsdp=0x7f77e014 reset_devices",
            "",
        ] {
            assert_eq!(kept(line), line);
        }
    }

    #[test]
    fn the_values_of_all_others_go() {
        for (line, left) in [
            (
                "BOOT_IMAGE=(hd0,gpt2)/vmlinuz-6.1.0-18-amd64 root=UUID=0a3407de-014b-458b-b5c1-848e92a327a3 ro",
                "BOOT_IMAGE=[redacted] root=[redacted] ro",
            ),
            (
                "rd.luks.uuid=luks-0a3407de-014b-458b-b5c1-848e92a327a3 rd.luks.name=x rd.luks.key=/key:UUID=1",
                "rd.luks.uuid=[redacted] rd.luks.name=[redacted] rd.luks.key=[redacted]",
            ),
            (
                "ip=192.168.1.2::192.168.1.1:255.255.255.0:alice-box:eth0:none nfsroot=10.0.0.1:/srv",
                "ip=[redacted] nfsroot=[redacted]",
            ),
            (
                "systemd.hostname=alice-box cryptdevice=/dev/disk/by-id/nvme-Samsung_S4EWNX0N:root hostname=x",
                "systemd.hostname=[redacted] cryptdevice=[redacted] hostname=[redacted]",
            ),
            (
                "netconsole=6665@10.0.0.2/eth0,6666@10.0.0.1/52:54:00:ab:cd:ef ifname=bootnet:52:54:00:ab:cd:ef",
                "netconsole=[redacted] ifname=[redacted]",
            ),
            (
                "talos.config=https://host/c?uuid=1 ds=nocloud;s=http://10.1.1.1/ password=hunter2 token:abc",
                "talos.config=[redacted] ds=[redacted] password=[redacted] [redacted]",
            ),
            (
                "init=/bin/sh -- --key hunter2 ro",
                "init=[redacted] -- [redacted] [redacted] [redacted]",
            ),
            ("dyndbg=\"file alice.c +p\" ro", "dyndbg=[redacted] ro"),
            ("\"secret words\" ro", "[redacted] ro"),
            ("alice mem=4G", "[redacted] mem=4G"),
            // A kept name with a value that is none of its kind.
            ("console=52:54:00:ab:cd:ef pci=192.168.0.1", "console=[redacted] pci=[redacted]"),
            ("efi=caf\u{e9} mem=\"4 G\"", "efi=[redacted] mem=[redacted]"),
            ("0a3407de-014b-458b-b5c1-848e92a327a3=1", "[redacted]"),
            ("\u{e9}=1 a b=", "[redacted] [redacted] b=[redacted]"),
        ] {
            assert_eq!(kept(line), left);
        }
        let names = Names::new(["ttyhost"]);
        assert_eq!(redact("console=ttyhost ttyhost=1", &names).0, "console=[redacted] [redacted]");
    }

    #[test]
    fn the_list_is_sorted_so_that_a_missing_word_is_seen() {
        assert!(KEPT.is_sorted());
    }
}
