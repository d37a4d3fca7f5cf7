//! The signature of a kernel file, as far as the running kernel will look for it, and what it will say.
//!
//! Whether a signature is *valid* is not found out here: that takes the digest of the file and the keys of the
//! running kernel.

use core::fmt;

/// What a kernel file is signed with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileSignature {
    /// The signature that `kexec_file_load` looks at.
    pub pe: Pe,
    /// A signature as modules have it is appended: IMA's policy can ask for one (`modsig`), kexec itself does not.
    pub appended: bool,
}

/// The attribute certificate table of a PE file (PE format, "The Attribute Certificate Table"): Authenticode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pe {
    /// The file is no PE file of 64 bits.
    No,
    /// It has no such table (`pefile_parse_binary()` in `crypto/asymmetric_keys/verify_pefile.c`: -ENODATA).
    Unsigned,
    /// Its header points to a table outside of the file (-ELIBBAD).
    Cut,
    /// It has one.
    Signed {
        /// Its length in bytes.
        bytes: u32,
        /// Who signed, by the certificate that is in it: the common name, or what there is of a name.
        signer: Option<String>,
    },
}

/// Behind an appended signature (`include/linux/module_signature.h`).
const APPENDED: &[u8] = b"~Module signature appended~\n";

/// Looks at a file's bytes.
#[must_use]
pub fn of_file(bytes: &[u8]) -> FileSignature {
    FileSignature { pe: pe(bytes), appended: bytes.ends_with(APPENDED) }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_le_bytes(bytes.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn pe(bytes: &[u8]) -> Pe {
    entry(bytes).map_or(Pe::No, |(start, len)| {
        if start == 0 || len == 0 {
            return Pe::Unsigned;
        }
        let (start, end) = (start as usize, (start as usize).checked_add(len as usize));
        match end.and_then(|end| bytes.get(start..end)) {
            // WIN_CERTIFICATE: length, revision, type; the PKCS #7 behind.
            Some(table) => Pe::Signed { bytes: len, signer: table.get(8..).and_then(signer) },
            None => Pe::Cut,
        }
    })
}

/// Offset and length of the certificate table: data directory 4 of a PE32+ header; `None`: no such file.
fn entry(bytes: &[u8]) -> Option<(u32, u32)> {
    const PE32_PLUS: u16 = 0x20b;
    /// Of the number of directories, and of the first, in the optional header.
    const DIRECTORIES: usize = 108;
    const CERTIFICATES: usize = 4;
    if !bytes.starts_with(b"MZ") {
        return None;
    }
    let header = u32_at(bytes, 0x3c)? as usize;
    if bytes.get(header..header.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    // The file header has 20 bytes behind the signature.
    let optional = header.checked_add(24)?;
    if u16_at(bytes, optional)? != PE32_PLUS {
        return None;
    }
    let directories = optional.checked_add(DIRECTORIES)?;
    if u32_at(bytes, directories)? as usize <= CERTIFICATES {
        return Some((0, 0));
    }
    let entry = directories.checked_add(4 + 8 * CERTIFICATES)?;
    Some((u32_at(bytes, entry)?, u32_at(bytes, entry.checked_add(4)?)?))
}

/// One value of DER (X.690): its tag, its content, what follows.
fn value(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let count = usize::from(first & 0x7f);
        if !(1..=4).contains(&count) {
            return None;
        }
        let (digits, rest) = rest.split_at_checked(count)?;
        (digits.iter().fold(0, |len, &digit| len << 8 | usize::from(digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

/// The content of a value with this tag, and what follows.
fn expect(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = value(der)?;
    (found == tag).then_some((content, rest))
}

const INTEGER: u8 = 0x02;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const CONTEXT_0: u8 = 0xa0;

/// The subject of the certificate that the first signature of a PKCS #7 `SignedData` names (RFC 2315, 9.1 and 9.2);
/// where that certificate is not in it, who issued it.
fn signer(der: &[u8]) -> Option<String> {
    let (content_info, _) = expect(der, SEQUENCE)?;
    let (_, rest) = expect(content_info, OID)?;
    let (explicit, _) = expect(rest, CONTEXT_0)?;
    let (signed, _) = expect(explicit, SEQUENCE)?;
    let (_, rest) = expect(signed, INTEGER)?;
    let (_, rest) = expect(rest, SET)?;
    let (_, mut rest) = expect(rest, SEQUENCE)?;
    let mut certificates: &[u8] = &[];
    let signers = loop {
        let (tag, content, behind) = value(rest)?;
        match tag {
            CONTEXT_0 => certificates = content,
            SET => break content,
            _ => {}
        }
        rest = behind;
    };
    let (first, _) = expect(signers, SEQUENCE)?;
    let (_, rest) = expect(first, INTEGER)?;
    let (issuer_and_serial, _) = expect(rest, SEQUENCE)?;
    let (issuer, rest) = expect(issuer_and_serial, SEQUENCE)?;
    let (serial, _) = expect(rest, INTEGER)?;
    while let Some((certificate, behind)) = expect(certificates, SEQUENCE) {
        if let Some((its_issuer, its_serial, subject)) = names(certificate)
            && (its_issuer, its_serial) == (issuer, serial)
        {
            return name(subject);
        }
        certificates = behind;
    }
    name(issuer).map(|name| format!("a certificate issued by {name}"))
}

/// Issuer, serial number and subject of a certificate (RFC 5280, 4.1).
fn names(certificate: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (body, _) = expect(certificate, SEQUENCE)?;
    let body = expect(body, CONTEXT_0).map_or(body, |(_, rest)| rest);
    let (serial, rest) = expect(body, INTEGER)?;
    let (_, rest) = expect(rest, SEQUENCE)?;
    let (issuer, rest) = expect(rest, SEQUENCE)?;
    let (_, rest) = expect(rest, SEQUENCE)?;
    let (subject, _) = expect(rest, SEQUENCE)?;
    Some((issuer, serial, subject))
}

/// The common name of a name, or the organization (`2.5.4.3`, `2.5.4.10`: X.520), without what a terminal might obey.
fn name(mut sets: &[u8]) -> Option<String> {
    const LONGEST: usize = 200;
    let mut best: Option<(u8, String)> = None;
    while let Some((set, behind)) = expect(sets, SET) {
        sets = behind;
        let Some((pair, _)) = expect(set, SEQUENCE) else { continue };
        let Some((oid, rest)) = expect(pair, OID) else { continue };
        let Some((_, text, _)) = value(rest) else { continue };
        let &[0x55, 4, kind @ (3 | 10)] = oid else { continue };
        if best.as_ref().is_none_or(|(known, _)| kind < *known) {
            let plain = |c: char| if c.is_control() { '\u{fffd}' } else { c };
            let text = String::from_utf8_lossy(text).chars().map(plain).take(LONGEST).collect();
            best = Some((kind, text));
        }
    }
    best.map(|(_, text)| text)
}

/// What the running kernel asks of a kernel file; `None`: not known.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Guard {
    /// It is locked down, for integrity or for confidentiality.
    pub lockdown: Option<bool>,
    /// It was started by Secure Boot.
    pub secure_boot: Option<bool>,
    /// `CONFIG_KEXEC_SIG`: `kexec_file_load` looks for a signature.
    pub looks: Option<bool>,
    /// `CONFIG_KEXEC_BZIMAGE_VERIFY_SIG`: it can check that of a bzImage.
    pub can_check: Option<bool>,
    /// `CONFIG_KEXEC_SIG_FORCE`: it takes no file without.
    pub forced: Option<bool>,
    /// IMA's policy asks for a signature of a kernel file (`appraise func=KEXEC_KERNEL_CHECK`).
    pub ima: Option<bool>,
}

/// What a system call will say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It takes the file.
    Taken(&'static str),
    /// It takes the file if the signature is valid and by a key that it knows; else the errno.
    IfValid(&'static str, &'static str),
    /// It refuses: the errno, and why.
    Refused(&'static str, &'static str),
    /// It depends on what is not known.
    Unknown(&'static str),
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Taken(why) => write!(f, "takes it: {why}"),
            Answer::IfValid(errno, why) => {
                write!(
                    f,
                    "takes it if the signature is valid and by a key it trusts, else {errno}: {why}"
                )
            }
            Answer::Refused(errno, why) => write!(f, "refuses it with {errno}: {why}"),
            Answer::Unknown(why) => write!(f, "cannot be foretold: {why}"),
        }
    }
}

impl Guard {
    /// `kexec_load(2)`: it sees no file (`kexec_load_check()` in `kernel/kexec.c`, `ima_load_data()` in
    /// `security/integrity/ima/ima_main.c`, 7.3.4).
    #[must_use]
    pub fn kexec_load(&self) -> Answer {
        if self.ima == Some(true) {
            return Answer::Refused("EACCES", "IMA's policy asks for a file with a signature");
        }
        match (self.lockdown, self.secure_boot, self.looks) {
            (Some(true), ..) => {
                Answer::Refused("EPERM", "the kernel is locked down, and this call shows no file")
            }
            (_, Some(true), Some(true)) => Answer::Unknown(
                "under Secure Boot a kernel with IMA refuses this call (EACCES); whether it has IMA is not known",
            ),
            (Some(false), ..) => Answer::Taken("the kernel is not locked down"),
            (None, ..) => Answer::Unknown("whether the kernel is locked down is not known"),
        }
    }

    /// `kexec_file_load(2)`: `kimage_validate_signature()` in `kernel/kexec_file.c`, the same in 5.10.262, 6.1.192,
    /// 6.12.117 and 7.3.4.
    #[must_use]
    pub fn kexec_file_load(&self, file: &FileSignature) -> Answer {
        if self.ima == Some(true) {
            return Answer::Unknown(
                "IMA's policy decides, by the file's attributes or an appended signature",
            );
        }
        match self.looks {
            Some(false) => return Answer::Taken("the kernel was built without CONFIG_KEXEC_SIG"),
            None => {
                return Answer::Unknown(
                    "whether the kernel looks at signatures (CONFIG_KEXEC_SIG) is not known",
                );
            }
            Some(true) => {}
        }
        let asks = self.forced == Some(true) || self.lockdown == Some(true);
        // Not EPERM, where both hold: the signature is looked at first.
        let errno = |of_check: &'static str| {
            if self.forced == Some(true) { of_check } else { "EPERM" }
        };
        let why = if self.forced == Some(true) {
            "CONFIG_KEXEC_SIG_FORCE"
        } else {
            "the kernel is locked down"
        };
        if !asks {
            return if self.forced == Some(false) && self.lockdown == Some(false) {
                if self.secure_boot == Some(true) {
                    // set_kexec_sig_enforced(), by IMA's policy of the architecture.
                    Answer::Unknown("under Secure Boot a policy of IMA may ask for signatures")
                } else {
                    Answer::Taken("it looks at the signature and asks for none")
                }
            } else {
                Answer::Unknown(
                    "whether the kernel is locked down, or signatures are forced, is not known",
                )
            };
        }
        match (&file.pe, self.can_check) {
            (_, Some(false)) => {
                Answer::Refused(errno("EKEYREJECTED"), "it cannot check a bzImage's signature")
            }
            (Pe::No | Pe::Cut, _) => Answer::Refused(errno("ELIBBAD"), why),
            (Pe::Unsigned, _) => Answer::Refused(errno("ENODATA"), why),
            (Pe::Signed { .. }, _) => Answer::IfValid(errno("ENOKEY or EKEYREJECTED"), why),
        }
    }
}

/// The options of a kernel's configuration that a [`Guard`] has.
#[must_use]
pub fn of_config(config: &str) -> Guard {
    // An option that is off is not always listed; one that is missing from a list with others is off.
    let listed = config.lines().any(|line| line.contains("CONFIG_KEXEC"));
    let on = |name: &str| {
        let set = format!("{name}=y");
        listed.then(|| config.lines().any(|line| line.trim() == set))
    };
    Guard {
        looks: on("CONFIG_KEXEC_SIG"),
        can_check: on("CONFIG_KEXEC_BZIMAGE_VERIFY_SIG"),
        forced: on("CONFIG_KEXEC_SIG_FORCE"),
        ..Guard::default()
    }
}

/// `/sys/kernel/security/lockdown`: `none [integrity] confidentiality`.
#[must_use]
pub fn of_lockdown(text: &str) -> Option<bool> {
    text.contains('[').then(|| !text.contains("[none]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match content.len() {
            len @ 0..0x80 => out.push(len as u8),
            len => out.extend([0x82, (len >> 8) as u8, len as u8]),
        }
        out.extend(content);
        out
    }

    fn named(kind: u8, text: &str) -> Vec<u8> {
        let pair = [tlv(OID, &[0x55, 4, kind]), tlv(0x0c, text.as_bytes())].concat();
        tlv(SET, &tlv(SEQUENCE, &pair))
    }

    /// PKCS #7 with a certificate of this serial number, signed by serial number 7.
    fn pkcs7(serial: u8) -> Vec<u8> {
        let issuer = tlv(SEQUENCE, &named(3, "Issuer"));
        let subject = tlv(SEQUENCE, &[named(10, "Company"), named(3, "Signer\u{1b}[31m")].concat());
        let body = [
            tlv(CONTEXT_0, &tlv(INTEGER, &[2])),
            tlv(INTEGER, &[serial]),
            tlv(SEQUENCE, &[]),
            issuer.clone(),
            tlv(SEQUENCE, &[]),
            subject,
        ]
        .concat();
        let certificate = tlv(SEQUENCE, &tlv(SEQUENCE, &body));
        let who = tlv(SEQUENCE, &[issuer, tlv(INTEGER, &[7])].concat());
        let info = tlv(SEQUENCE, &[tlv(INTEGER, &[1]), who].concat());
        let signed = [
            tlv(INTEGER, &[1]),
            tlv(SET, &[]),
            tlv(SEQUENCE, &[]),
            tlv(CONTEXT_0, &certificate),
            tlv(SET, &info),
        ]
        .concat();
        let explicit = tlv(CONTEXT_0, &tlv(SEQUENCE, &signed));
        tlv(SEQUENCE, &[tlv(OID, &[1, 2, 3]), explicit].concat())
    }

    /// A PE32+ file with this behind it, and a directory that points there.
    fn pe_file(certificate: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 0x200];
        file[..2].copy_from_slice(b"MZ");
        file[0x3c] = 0x40;
        file[0x40..0x44].copy_from_slice(b"PE\0\0");
        file[0x58..0x5a].copy_from_slice(&0x20b_u16.to_le_bytes());
        file[0x58 + 108] = 6;
        if !certificate.is_empty() {
            let entry = 0x58 + 112 + 32;
            file[entry..entry + 4].copy_from_slice(&0x200_u32.to_le_bytes());
            file[entry + 4..entry + 8].copy_from_slice(&(certificate.len() as u32).to_le_bytes());
            file.extend(certificate);
        }
        file
    }

    #[test]
    fn a_signature_is_found_with_who_made_it() {
        let signer = |serial| match of_file(&pe_file(&[&[0; 8][..], &pkcs7(serial)].concat())).pe {
            Pe::Signed { signer, .. } => signer,
            other => panic!("{other:?}"),
        };
        assert_eq!(signer(7).as_deref(), Some("Signer\u{fffd}[31m"));
        assert_eq!(signer(8).as_deref(), Some("a certificate issued by Issuer"));
        assert_eq!(of_file(&pe_file(&[])).pe, Pe::Unsigned);
        assert_eq!(of_file(b"\x7fELF").pe, Pe::No);
        assert!(of_file(b"kernel~Module signature appended~\n").appended);
        let garbage = of_file(&pe_file(&[0xff; 40])).pe;
        assert_eq!(garbage, Pe::Signed { bytes: 40, signer: None });
    }

    #[test]
    fn no_file_that_is_cut_or_changed_is_trusted() {
        let whole = pe_file(&[&[0; 8][..], &pkcs7(7)].concat());
        for len in 0..whole.len() {
            let found = of_file(&whole[..len]).pe;
            assert!(!matches!(found, Pe::Signed { .. }), "{len}: {found:?}");
        }
        for at in 0..whole.len() {
            for byte in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                let _ = of_file(&changed);
            }
        }
    }

    #[test]
    fn what_the_calls_will_say() {
        let file = |pe| FileSignature { pe, appended: false };
        let unsigned = file(Pe::Unsigned);
        let signed = file(Pe::Signed { bytes: 1, signer: None });
        let base = Guard {
            lockdown: Some(false),
            secure_boot: Some(false),
            looks: Some(true),
            can_check: Some(true),
            forced: Some(false),
            ima: None,
        };
        let locked = Guard { lockdown: Some(true), ..base };
        let forced = Guard { forced: Some(true), ..base };
        let errno = |answer: Answer| match answer {
            Answer::Refused(errno, _) => errno,
            Answer::IfValid(..) => "if valid",
            Answer::Taken(_) => "taken",
            Answer::Unknown(_) => "unknown",
        };
        assert_eq!(errno(base.kexec_load()), "taken");
        assert_eq!(errno(base.kexec_file_load(&unsigned)), "taken");
        assert_eq!(errno(locked.kexec_load()), "EPERM");
        assert_eq!(errno(locked.kexec_file_load(&unsigned)), "EPERM");
        assert_eq!(errno(locked.kexec_file_load(&signed)), "if valid");
        assert_eq!(errno(forced.kexec_load()), "taken", "it sees no file");
        assert_eq!(errno(forced.kexec_file_load(&unsigned)), "ENODATA");
        assert_eq!(errno(forced.kexec_file_load(&signed)), "if valid");
        let cannot = Guard { can_check: Some(false), ..forced };
        assert_eq!(errno(cannot.kexec_file_load(&signed)), "EKEYREJECTED");
        let blind = Guard { looks: Some(false), ..locked };
        assert_eq!(errno(blind.kexec_file_load(&unsigned)), "taken");
        let ima = Guard { ima: Some(true), ..base };
        assert_eq!(
            (errno(ima.kexec_load()), errno(ima.kexec_file_load(&signed))),
            ("EACCES", "unknown")
        );
        let nothing = Guard::default();
        assert_eq!(errno(nothing.kexec_load()), "unknown");
        assert_eq!(errno(nothing.kexec_file_load(&unsigned)), "unknown");
        assert_eq!(errno(Guard { lockdown: None, ..base }.kexec_file_load(&unsigned)), "unknown");
    }

    #[test]
    fn options_that_are_not_listed_are_off_if_others_are() {
        let guard = of_config("CONFIG_KEXEC_SIG=y\n# CONFIG_KEXEC_SIG_FORCE is not set\n");
        assert_eq!(
            (guard.looks, guard.can_check, guard.forced),
            (Some(true), Some(false), Some(false))
        );
        assert_eq!(of_config(""), Guard::default());
        assert_eq!(of_lockdown("none [integrity] confidentiality"), Some(true));
        assert_eq!(of_lockdown("[none] integrity confidentiality"), Some(false));
        assert_eq!(of_lockdown(""), None);
    }
}
