//! The processor: CPUID and `/proc/cpuinfo`.

use super::Inputs;
use crate::model::{Cpu, CpuVendor, GuestEncryption, Machine, TdxHost};

/// What CPUID answered for one leaf.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuidLeaf {
    /// EAX as asked.
    pub leaf: u32,
    /// ECX as asked.
    pub subleaf: u32,
    /// EAX as answered.
    pub eax: u32,
    /// EBX as answered.
    pub ebx: u32,
    /// ECX as answered.
    pub ecx: u32,
    /// EDX as answered.
    pub edx: u32,
}

/// Highest extended leaf: Intel SDM vol. 2A, CPUID; AMD APM vol. 3, E.4.
const EXT_MAX: u32 = 0x8000_0000;
/// EDX[26]: 1 GiB pages.
const EXT_FEATURES: u32 = 0x8000_0001;
/// EAX[7:0]: bits of a physical address.
const EXT_ADDRESS_SIZES: u32 = 0x8000_0008;
/// EAX\[1\]: SEV. AMD APM vol. 3, E.4.17.
const EXT_ENCRYPTION: u32 = 0x8000_001f;
/// `IntelTDX    `: TDX module specification, "TDX enumeration".
const TDX: u32 = 0x21;

/// Facts that CPUID states; leaves that are missing leave them as they are.
pub(super) fn from_cpuid(leaves: &[CpuidLeaf], cpu: &mut Cpu) {
    let get = |leaf: u32| leaves.iter().find(|l| l.leaf == leaf && l.subleaf == 0);
    if let Some(l) = get(0) {
        let name = registers(&[l.ebx, l.edx, l.ecx]);
        cpu.vendor = Some(vendor_of_id(&name));
        if l.eax < 7 {
            cpu.la57 = Some(false);
        }
    }
    if let Some(l) = get(1) {
        cpu.hypervisor = Some(l.ecx >> 31 & 1 == 1);
    }
    if let Some(l) = get(7).filter(|_| get(0).is_none_or(|max| max.eax >= 7)) {
        cpu.la57 = Some(l.ecx >> 16 & 1 == 1);
    }
    let extended = get(EXT_MAX).map(|l| l.eax);
    let within = |leaf: u32| extended.is_none_or(|max| max >= leaf);
    if let Some(l) = get(EXT_FEATURES).filter(|_| within(EXT_FEATURES)) {
        cpu.pdpe1gb = Some(l.edx >> 26 & 1 == 1);
    }
    if let Some(l) = get(EXT_ADDRESS_SIZES).filter(|_| within(EXT_ADDRESS_SIZES)) {
        cpu.maxphyaddr = u8::try_from(l.eax & 0xff).ok().filter(|bits| (32..=52).contains(bits));
    }
    if extended.is_some() && !within(EXT_ENCRYPTION) {
        cpu.sev = Some(false);
    } else if let Some(l) = get(EXT_ENCRYPTION) {
        cpu.sev = Some(l.eax >> 1 & 1 == 1);
    }
    let brand: Vec<u32> = (0x8000_0002..=0x8000_0004)
        .filter_map(get)
        .flat_map(|l| [l.eax, l.ebx, l.ecx, l.edx])
        .collect();
    let brand = registers(&brand);
    if !brand.trim().is_empty() {
        cpu.model = Some(brand.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    if let Some(l) = get(TDX)
        && registers(&[l.ebx, l.edx, l.ecx]) == "IntelTDX    "
    {
        cpu.encrypted_guest = Some(true);
        cpu.guest_encryption = Some(GuestEncryption::Tdx);
    }
    if cpu.hypervisor == Some(false) {
        cpu.encrypted_guest = Some(false);
    }
}

/// Facts of `/proc/cpuinfo`'s first processor, for those that CPUID did not give.
///
/// `sev` there is cleared where firmware has not enabled it, `la57` where it is not in use
/// (`early_detect_mem_encrypt()`, `identify_cpu()`): absence of the former says nothing about CPUID.
pub(super) fn from_cpuinfo(inputs: &Inputs, machine: &mut Machine) {
    let Some(text) = inputs.cpuinfo.text() else { return };
    let value = |key: &str| {
        text.lines()
            .take_while(|l| !l.trim().is_empty())
            .filter_map(|l| l.split_once(':'))
            .find(|(k, _)| k.trim() == key)
            .map(|(_, v)| v.trim())
    };
    let cpu = &mut machine.cpu;
    if let Some(id) = value("vendor_id") {
        cpu.vendor = Some(vendor_of_id(id));
    }
    if let Some(model) = value("model name") {
        cpu.model = Some(model.to_owned());
    }
    if let Some(sizes) = value("address sizes") {
        let bits = sizes.split(' ').next().and_then(|n| n.parse().ok());
        cpu.maxphyaddr = bits.filter(|bits| (32..=52).contains(bits));
    }
    if let Some(bugs) = value("bugs") {
        cpu.tdx_pw_mce = Some(bugs.split_ascii_whitespace().any(|bug| bug == "tdx_pw_mce"));
    }
    let Some(flags) = value("flags") else { return };
    let has = |flag: &str| flags.split_ascii_whitespace().any(|f| f == flag);
    cpu.pdpe1gb = Some(has("pdpe1gb"));
    cpu.la57_active = Some(has("la57"));
    if has("la57") {
        cpu.la57 = Some(true);
    }
    if has("sev") {
        cpu.sev = Some(true);
    } else if matches!(cpu.vendor, Some(CpuVendor::Intel | CpuVendor::Other)) {
        // Leaf 0x8000001f is AMD's and Hygon's.
        cpu.sev = Some(false);
    }
    if has("hypervisor") {
        cpu.hypervisor = Some(true);
    } else {
        cpu.hypervisor = Some(false);
        cpu.encrypted_guest = Some(false);
    }
    for (flag, kind) in
        [("sev_snp_guest", GuestEncryption::SevSnp), ("tdx_guest", GuestEncryption::Tdx)]
    {
        if has(flag) {
            cpu.encrypted_guest = Some(true);
            cpu.guest_encryption = Some(kind);
        }
    }
    if has("tdx_host_platform") {
        cpu.tdx_host = cpu.tdx_host.max(Some(TdxHost::Platform));
    }
}

fn vendor_of_id(id: &str) -> CpuVendor {
    match id {
        "AuthenticAMD" => CpuVendor::Amd,
        "HygonGenuine" => CpuVendor::Hygon,
        "GenuineIntel" => CpuVendor::Intel,
        _ => CpuVendor::Other,
    }
}

/// The characters that CPUID returns in registers.
fn registers(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).filter(|&b| b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::super::{Content, assemble};
    use super::*;

    fn leaf(leaf: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> CpuidLeaf {
        CpuidLeaf { leaf, subleaf: 0, eax, ebx, ecx, edx }
    }

    fn word(text: &str) -> u32 {
        u32::from_le_bytes(text.as_bytes().try_into().expect("four characters"))
    }

    #[test]
    fn cpuid_of_an_epyc() {
        let leaves = [
            leaf(0, [0x10, word("Auth"), word("cAMD"), word("enti")]),
            leaf(1, [0, 0, 1 << 31, 0]),
            leaf(7, [0, 0, 1 << 16, 0]),
            leaf(EXT_MAX, [0x8000_0028, 0, 0, 0]),
            leaf(EXT_FEATURES, [0, 0, 0, 1 << 26]),
            leaf(EXT_ADDRESS_SIZES, [0x3930, 0, 0, 0]),
            leaf(EXT_ENCRYPTION, [0b11, 0, 0, 0]),
        ];
        let mut cpu = Cpu::default();
        from_cpuid(&leaves, &mut cpu);
        assert_eq!(cpu.vendor, Some(CpuVendor::Amd));
        assert_eq!((cpu.hypervisor, cpu.la57, cpu.pdpe1gb), (Some(true), Some(true), Some(true)));
        assert_eq!((cpu.maxphyaddr, cpu.sev), (Some(48), Some(true)));
        assert_eq!(cpu.encrypted_guest, None);
    }

    #[test]
    fn leaves_past_the_highest_are_not_believed() {
        let leaves = [
            leaf(0, [6, word("Genu"), word("ntel"), word("ineI")]),
            leaf(7, [0, 0, u32::MAX, 0]),
            leaf(EXT_MAX, [0x8000_0008, 0, 0, 0]),
            leaf(EXT_ENCRYPTION, [u32::MAX, 0, 0, 0]),
            leaf(EXT_ADDRESS_SIZES, [0xff, 0, 0, 0]),
        ];
        let mut cpu = Cpu::default();
        from_cpuid(&leaves, &mut cpu);
        assert_eq!((cpu.la57, cpu.sev), (Some(false), Some(false)));
        assert_eq!(cpu.maxphyaddr, None, "255 bits are not an answer");
        let mut unknown = Cpu::default();
        from_cpuid(&[], &mut unknown);
        assert_eq!(unknown, Cpu::default());
    }

    #[test]
    fn cpuinfo_is_the_fallback() {
        let text = "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9654\n\
                    flags\t\t: fpu pdpe1gb nopl\naddress sizes\t: 52 bits physical, 57 bits virtual\n\n\
                    processor\t: 1\nflags\t\t: la57 sev\n";
        let inputs = Inputs { cpuinfo: Content::Bytes(text.into()), ..Inputs::default() };
        let cpu = assemble(&inputs).cpu;
        assert_eq!((cpu.pdpe1gb, cpu.maxphyaddr), (Some(true), Some(52)));
        assert_eq!((cpu.la57, cpu.la57_active), (None, Some(false)));
        assert_eq!(
            cpu.sev, None,
            "the flag is missing where firmware has SEV off; CPUID may still show it"
        );
        assert_eq!(cpu.hypervisor, Some(false));
    }
}
