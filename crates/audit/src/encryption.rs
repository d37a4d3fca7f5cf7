//! What encrypted memory adds to a jump: guests, hosts of such guests, and SME.

use identmap_linux::history::{self, Behaviour};
use identmap_linux::{Consumer, Kind, Known, Producer};
use identmap_machine::{GuestEncryption, Machine, TdxHost};

use crate::{Confidence, Finding, Severity};

/// `EfiUnacceptedMemoryType` (UEFI 2.10, table 7.10).
const EFI_UNACCEPTED: u32 = 15;

/// All of it.
pub(crate) fn of_machine(
    machine: &Machine,
    producer: &Producer,
    consumer: &Consumer,
    kind: Kind,
) -> Vec<Finding> {
    let mut found = Vec::new();
    if machine.cpu.encrypted_guest == Some(true) {
        found.push(guest(machine.cpu.guest_encryption));
        found.extend(shared_memory(machine.cpu.guest_encryption, producer, kind));
    }
    if has_unaccepted(machine) {
        found.extend(unaccepted(producer, consumer));
    }
    found.extend(one_processor(machine));
    found.extend(tdx_host(machine, producer));
    found.extend(snp_host(machine));
    found.extend(sme(machine, kind));
    found
}

/// Whether a kernel of this version does so; `None`: not known.
fn does(behaviour: &Behaviour, version: Option<&identmap_linux::KernelVersion>) -> Option<bool> {
    match behaviour.over(version?.releases()) {
        Known::Certain(answer) => Some(answer),
        Known::Uncertain { .. } => None,
    }
}

/// Where the oldest kernel is named that was read and does so.
fn where_read(behaviour: &Behaviour) -> &'static str {
    behaviour.spans.last().map_or("", |span| span.source)
}

fn unknown(id: &'static str, what: impl Into<String>, why: impl Into<String>) -> Finding {
    Finding::new(id, Severity::Warning, Confidence::Unknown, what, why)
}

/// What is not modelled of any guest, or of this kind.
fn guest(kind: Option<GuestEncryption>) -> Finding {
    let what = match kind {
        None => "an encrypted guest".to_owned(),
        Some(GuestEncryption::Tdx) => "a TDX guest".to_owned(),
        Some(kind) => format!("an {kind} guest"),
    };
    let why = match kind {
        Some(GuestEncryption::Tdx) => {
            "which of firmware's tables are shared with the hypervisor and which are private is not modelled"
        }
        Some(GuestEncryption::SevEs) => {
            "every entry carries the C-bit, and the firmware's tables may be encrypted: not modelled; and nothing in \
             the sources that were read (6.12.117) gives the other processors of such a guest back, so that the next \
             kernel may find one only"
        }
        _ => {
            "every entry carries the C-bit, and the firmware's tables may be encrypted: not modelled"
        }
    };
    unknown("encrypted-guest", what, why)
}

/// The next kernel takes all RAM for private. In SNP and TDX guests memory that is not, ends the guest when
/// it is touched as if it were; under SEV and SEV-ES the next kernel's own tables decide.
fn shared_memory(
    kind: Option<GuestEncryption>,
    producer: &Producer,
    image: Kind,
) -> Option<Finding> {
    let (behaviour, from) = match kind? {
        GuestEncryption::Tdx => (&history::TDX_GUEST, "6.12.117"),
        GuestEncryption::SevSnp => (&history::SNP_GUEST, "7.2.13"),
        GuestEncryption::Sev | GuestEncryption::SevEs => return None,
    };
    let (severity, confidence, how) = match does(behaviour, producer.version()) {
        Some(true) => return None,
        Some(false) => (Severity::Error, Confidence::Certain, "stays so over the jump"),
        None => (Severity::Warning, Confidence::Unknown, "may stay so over the jump"),
    };
    // A crash kernel lives in memory that was never shared, and meets the rest when it writes the dump.
    let (severity, then) = match image {
        Kind::Kexec => (severity, "the next kernel touches it as its own, which ends the guest"),
        Kind::Kdump => (Severity::Warning, "the dump may end where it reads such memory"),
    };
    let why = format!("memory shared with the hypervisor for devices {how}: {then}");
    let what = "shared memory is not made private again";
    Some(
        Finding::new("shared-memory", severity, confidence, what, why)
            .remedy(format!("kexec from {from} or later, which makes it private first"))
            .link(where_read(behaviour)),
    )
}

/// Unless the command line has all of it accepted at boot.
fn has_unaccepted(machine: &Machine) -> bool {
    let cmdline = machine.cmdline.as_deref().unwrap_or_default();
    if cmdline.split_ascii_whitespace().any(|word| word == "accept_memory=eager") {
        return false;
    }
    machine.efi.tables.iter().any(|table| table.name == "Unaccepted" && table.address.get() != 0)
        || machine.efi.memory_map.iter().any(|descriptor| descriptor.kind == EFI_UNACCEPTED)
}

fn unaccepted(producer: &Producer, consumer: &Consumer) -> Vec<Finding> {
    let mut found = Vec::new();
    let what = "unaccepted memory";
    if does(&history::ACCEPTS, producer.version()) != Some(true) {
        let why = "firmware left memory unaccepted, and the running kernel does not accept the image's places when \
                   it is loaded (or it is not known whether it does): if they are still unaccepted at the jump, the \
                   first write to them ends the guest";
        found.push(
            unknown("unaccepted-memory", what, why)
                .remedy(
                    "boot the running kernel with accept_memory=eager, or one that does: 7.2.13 or later",
                )
                .link(where_read(&history::ACCEPTS)),
        );
    }
    match does(&history::UNACCEPTED, consumer.version.as_ref()) {
        Some(true) => {}
        Some(false) => {
            let why = "the next kernel knows nothing of unaccepted memory and takes all of it for RAM: what is still \
                       unaccepted ends the guest when it is touched";
            found.push(
                unknown("unaccepted-memory", what, why)
                    .remedy(
                        "boot the running kernel with accept_memory=eager, or kexec to a later one",
                    )
                    .link(where_read(&history::UNACCEPTED)),
            );
        }
        None => {
            let why = "whether the next kernel knows of unaccepted memory is not known: one that does not takes all of \
                       it for RAM";
            found.push(
                unknown("unaccepted-memory", what, why)
                    .remedy("say which kernel follows: --consumer VERSION (6.12.117 or later does)")
                    .link(where_read(&history::UNACCEPTED)),
            );
        }
    }
    found
}

/// Firmware that cannot take processors back.
fn one_processor(machine: &Machine) -> Option<Finding> {
    let wakeup = machine.mp_wakeup.filter(|wakeup| wakeup.version == 0 || wakeup.mailbox == 0)?;
    let why = if wakeup.version == 0 {
        "firmware starts processors by a mailbox and cannot take them back (MADT wakeup structure, version 0)"
    } else {
        "the mailbox by which firmware starts processors has been taken out of the MADT"
    };
    let what = "the next kernel will run on one processor";
    Some(Finding::new("one-processor", Severity::Warning, Confidence::Certain, what, why).link(
        "Linux arch/x86/kernel/acpi/madt_wakeup.c, acpi_mp_disable_offlining(), 6.12.117 and 7.3.4",
    ))
}

fn tdx_host(machine: &Machine, producer: &Producer) -> Option<Finding> {
    let cpu = &machine.cpu;
    let state = cpu.tdx_host?;
    let source = where_read(&history::TDX_HOST);
    let ends_it = does(&history::TDX_HOST, producer.version());
    if (state, ends_it) == (TdxHost::Platform, Some(false)) {
        let why = "without its module no memory is private, and kernels up to 6.12 that can kexec are built without it";
        let what = "TDX is enabled in firmware";
        return Some(
            Finding::new("tdx-host", Severity::Info, Confidence::Certain, what, why).link(source),
        );
    }
    // A log that ends early, or has rolled over, does not say that the module is not running.
    let what = match state {
        TdxHost::Platform => "a TDX host whose module may be running",
        TdxHost::Module => "a TDX host whose module is running",
    };
    let text = match (ends_it, cpu.tdx_pw_mce) {
        (Some(true), Some(false)) => {
            let why = "the running kernel disables it and flushes the caches before the jump";
            return Some(
                Finding::new("tdx-host", Severity::Info, Confidence::Certain, what, why)
                    .link(source),
            );
        }
        (Some(true), Some(true)) => {
            "the running kernel disables it before the jump (TDH.SYS.DISABLE); whether this module can be disabled is not \
             known, and on this processor (tdx_pw_mce) a partial write to memory that stays private raises a machine \
             check later"
        }
        (Some(true), None) => {
            "the running kernel disables it before the jump (TDH.SYS.DISABLE); whether this module can be disabled, and \
             whether the processor has the erratum tdx_pw_mce (Sapphire Rapids and Emerald Rapids have), is not known"
        }
        (Some(false), _) => {
            "kernels up to 6.12 are built with TDX or with kexec, not with both; this one is patched, and whether it \
             ends TDX before the jump is not known: with the erratum tdx_pw_mce a partial write to memory that stays \
             private raises a machine check later"
        }
        (None, _) => {
            "whether the running kernel disables the module before the jump is not known; some refuse to load an image \
             where the processor has the erratum tdx_pw_mce (\"Not allowed on platform with tdx_pw_mce bug\")"
        }
    };
    Some(
        unknown("tdx-host", what, text)
            .remedy("reboot by firmware, or turn TDX off in its setup")
            .link(format!(
                "{source}; https://lore.kernel.org/all/20250901160930.1785244-5-pbonzini@redhat.com/"
            )),
    )
}

/// The first interface version of AMD's firmware that leaves memory so that a kernel can be kexec'ed, says
/// `__sev_snp_shutdown_locked()` in `drivers/crypto/ccp/sev-dev.c` (6.12.117, 7.3.4).
const SNP_API_FOR_KEXEC: (u8, u8) = (1, 53);

fn snp_host(machine: &Machine) -> Vec<Finding> {
    let source =
        "Linux drivers/crypto/ccp/sev-dev.c, __sev_snp_shutdown_locked(), 6.12.117 and 7.3.4";
    let Some(api) = machine.cpu.snp_api else {
        if machine.cpu.snp_host != Some(true) {
            return Vec::new();
        }
        let why = "the kernel has SEV-SNP enabled, and nothing tells whether it is started and which version its \
                   firmware has: before 1.53 the next kernel's writes fault";
        let remedy = "give the whole boot log: its line \"SEV-SNP API:\" has the version; or turn SEV-SNP off in \
                      firmware's setup";
        let what = "a host with SEV-SNP whose firmware is not known";
        return vec![unknown("snp-host", what, why).remedy(remedy).link(source)];
    };
    let (major, minor) = api;
    if api < SNP_API_FOR_KEXEC {
        let why = format!(
            "SEV-SNP was started with firmware of version {major}.{minor}, which leaves pages of the IOMMU in a state in \
             which the next kernel's writes fault (RMP); from 1.53 on it does not"
        );
        let what = "SEV-SNP firmware that does not stand a kexec";
        return vec![
            Finding::new("snp-host", Severity::Error, Confidence::Likely, what, why)
                .remedy("update AMD's SEV firmware (amd_sev_fam*.sbin, or the BIOS), or reboot by firmware")
                .link(source),
        ];
    }
    let why = format!(
        "SEV-SNP is started (firmware {major}.{minor}): the running kernel shuts it down before the jump, and flushes the \
         caches; if that fails, its log says \"SEV-SNP firmware shutdown failed\", and writes of the next kernel may fault"
    );
    let what = "a host with SEV-SNP started";
    vec![
        Finding::new("snp-host", Severity::Info, Confidence::Certain, what, why)
            .remedy("shut the guests down first")
            .link(source),
    ]
}

/// SME is over when the image runs: its pages are decrypted, the caches flushed (`arch_kexec_post_alloc_pages()`,
/// `relocate_kernel`, 5.10.262 to 7.3.4), and the next kernel encrypts itself anew. But what a crash kernel reads
/// of the one that crashed, it has to decrypt.
fn sme(machine: &Machine, kind: Kind) -> Option<Finding> {
    (machine.cpu.sme_active == Some(true) && kind == Kind::Kdump).then(|| {
        let why = "memory is encrypted (SME): a crash kernel without SME reads what it dumps, and the IOMMU's tables, \
                   encrypted";
        let what = "the crash kernel has to run with mem_encrypt=on, too";
        Finding::new("sme", Severity::Info, Confidence::Certain, what, why)
            .remedy("mem_encrypt=on on the crash kernel's command line, unless that is its default")
            .link("Linux drivers/iommu/amd/init.c, iommu_memremap(), 7.3.4")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap_linux::KernelVersion;
    use identmap_machine::MpWakeup;

    fn producer(version: &str) -> Producer {
        Producer::of(KernelVersion::parse(version, None).ok())
    }

    #[test]
    fn the_erratum_decides_where_the_module_is_disabled() {
        let of = |version: &str, tdx_pw_mce| {
            let mut machine = Machine::default();
            machine.cpu.tdx_host = Some(TdxHost::Module);
            machine.cpu.tdx_pw_mce = tdx_pw_mce;
            let found = tdx_host(&machine, &producer(version)).unwrap();
            (found.severity, found.confidence)
        };
        let doubt = (Severity::Warning, Confidence::Unknown);
        assert_eq!(of("7.3.4", Some(false)), (Severity::Info, Confidence::Certain));
        assert_eq!(of("7.3.4", Some(true)), doubt);
        assert_eq!(of("7.3.4", None), doubt);
        assert_eq!(of("6.12.117", Some(false)), doubt, "it cannot have both");
        assert_eq!(of("6.18.1", Some(false)), doubt, "not read");
        assert_eq!(tdx_host(&Machine::default(), &producer("7.3.4")), None);
        // A module that is not seen may run, unless the kernel is built without.
        let unseen = |version: &str, tdx_pw_mce| {
            let mut machine = Machine::default();
            machine.cpu.tdx_host = Some(TdxHost::Platform);
            machine.cpu.tdx_pw_mce = tdx_pw_mce;
            let found = tdx_host(&machine, &producer(version)).unwrap();
            (found.severity, found.confidence)
        };
        assert_eq!(unseen("6.12.117", Some(true)), (Severity::Info, Confidence::Certain));
        assert_eq!(unseen("7.3.4", Some(false)), (Severity::Info, Confidence::Certain));
        assert_eq!(unseen("7.3.4", Some(true)), doubt);
        assert_eq!(unseen("6.16.3", Some(false)), doubt, "not read");
    }

    #[test]
    fn processors_are_lost_where_firmware_cannot_take_them_back() {
        let lost = |version, mailbox| {
            let mp_wakeup = Some(MpWakeup { version, mailbox });
            one_processor(&Machine { mp_wakeup, ..Machine::default() }).is_some()
        };
        assert!(!lost(1, 0x7000));
        assert!(lost(0, 0x7000));
        assert!(lost(1, 0));
        assert_eq!(one_processor(&Machine::default()), None);
    }
}
