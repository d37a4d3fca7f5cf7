//! What the running kernel, or the one a bundle is from, asks of a kernel file.

use std::fs::Metadata;
use std::path::Path;

use identmap_audit::{Finding, of_kernel_file};
use identmap_linux::signature::{FileSignature, Guard, of_config, of_file, of_lockdown};
use identmap_machine::Machine;
use identmap_machine::bundle::{Bundle, Extra};
use identmap_machine::live::Content;

use crate::live;

/// What to say of the signature of a kernel file, if the file can be read, again: what is no regular file holds
/// nothing any more, or makes whoever opens it wait.
pub(crate) fn of_kernel(
    path: &Path,
    source: &str,
    machine: &Machine,
    bundle: Option<&Bundle>,
) -> Option<Finding> {
    path.metadata().ok().filter(Metadata::is_file)?;
    let file = of_file(live::content_up_to(path, LARGEST).bytes()?);
    Some(of_signature(&file, source, machine, bundle))
}

/// What to say of a signature.
pub(crate) fn of_signature(
    file: &FileSignature,
    source: &str,
    machine: &Machine,
    bundle: Option<&Bundle>,
) -> Finding {
    of_kernel_file(file, &of(source, machine, bundle))
}

/// Of a kernel file.
const LARGEST: u64 = 4 << 30;

/// By a SOURCE; a text tells what its log says, and no more.
fn of(source: &str, machine: &Machine, bundle: Option<&Bundle>) -> Guard {
    let mut guard = match bundle {
        Some(bundle) => of_extra(&bundle.extra),
        None if source == "live" => {
            Guard { ima: ima_policy(), ..of_extra(&live::extra(&live::inputs())) }
        }
        None => Guard::default(),
    };
    guard.lockdown = guard.lockdown.or(machine.lockdown);
    guard.secure_boot = machine.secure_boot;
    if source == "live" {
        guard.secure_boot = guard.secure_boot.or_else(secure_boot);
    }
    let cmdline = machine.cmdline.as_deref().unwrap_or_default();
    let value =
        |key| cmdline.split_ascii_whitespace().rev().find_map(|w: &str| w.strip_prefix(key));
    // `secure_boot_rules` of security/integrity/ima/ima_policy.c appraise kernels by signature.
    if value("ima_policy=").is_some_and(|list: &str| list.split('|').any(|p| p == "secure_boot")) {
        guard.ima = Some(true);
    }
    guard
}

fn text(content: &Content) -> Option<String> {
    content.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

fn of_extra(extra: &Extra) -> Guard {
    let config = text(&extra.kernel_config).map_or(Guard::default(), |config| of_config(&config));
    let lockdown = match &extra.lockdown {
        // Without the module for it nothing locks down; without securityfs it is not known.
        Content::Absent
            if text(&extra.kernel_config).is_some_and(|config| no_lockdown(&config)) =>
        {
            Some(false)
        }
        content => text(content).and_then(|text| of_lockdown(&text)),
    };
    Guard { lockdown, ..config }
}

fn no_lockdown(config: &str) -> bool {
    config.contains("CONFIG_KEXEC") && !config.contains("CONFIG_SECURITY_LOCKDOWN_LSM=y")
}

/// The last byte of EFI's variable, behind four of attributes (UEFI 2.10, 3.3).
fn secure_boot() -> Option<bool> {
    const VARIABLE: &str =
        "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
    match live::content_up_to(VARIABLE, 16) {
        Content::Bytes(bytes) => bytes.get(4).map(|&on| on == 1),
        _ => None,
    }
}

/// Whether a rule appraises kernels. Not known where the policy cannot be read: it takes `CONFIG_IMA_READ_POLICY`
/// and root.
fn ima_policy() -> Option<bool> {
    let policy = text(&live::content("/sys/kernel/security/ima/policy"))?;
    let appraises =
        |line: &str| line.starts_with("appraise") && line.contains("func=KEXEC_KERNEL_CHECK");
    Some(policy.lines().any(appraises))
}
