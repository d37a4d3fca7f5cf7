//! A kernel file's signature, and what the running kernel will make of it.

use identmap_linux::signature::{Answer, FileSignature, Guard, Pe};

use crate::{Confidence, Finding, Severity};

const SOURCE: &str = "Linux kernel/kexec_file.c, kimage_validate_signature(); kernel/kexec.c, kexec_load_check(); \
                      crypto/asymmetric_keys/verify_pefile.c, 5.10.262 to 7.3.4";

/// What to know before the file is loaded. None of it changes a verdict: a file that is refused is not jumped into.
#[must_use]
pub fn of_kernel_file(file: &FileSignature, guard: &Guard) -> Finding {
    let what = match &file.pe {
        Pe::Signed { signer: Some(name), .. } => format!("the kernel file is signed by {name}"),
        Pe::Signed { signer: None, .. } => "the kernel file is signed".to_owned(),
        Pe::Unsigned | Pe::No if file.appended => {
            "the kernel file has an appended signature only".to_owned()
        }
        Pe::Unsigned => "the kernel file is not signed".to_owned(),
        Pe::No => "the kernel file is no PE file, and so not signed".to_owned(),
        Pe::Cut => "the kernel file's signature is cut off".to_owned(),
    };
    let (by_file, by_segments) = (guard.kexec_file_load(file), guard.kexec_load());
    let unchecked = match file.pe {
        Pe::Signed { .. } => "whether the signature is valid is not checked here; ",
        _ => "",
    };
    let why = format!("{unchecked}kexec_file_load {by_file}; kexec_load {by_segments}");
    let refused = |answer: &Answer| matches!(answer, Answer::Refused(..));
    let both = refused(&by_file) && refused(&by_segments);
    let unsure = |answer: &Answer| matches!(answer, Answer::Unknown(_));
    let (severity, confidence) = if both {
        (Severity::Warning, Confidence::Certain)
    } else if unsure(&by_file) || unsure(&by_segments) {
        (Severity::Info, Confidence::Unknown)
    } else {
        (Severity::Info, Confidence::Certain)
    };
    let finding = Finding::new("signature", severity, confidence, what, why).link(SOURCE);
    if both {
        finding.remedy(
            "sign it with a key that the kernel knows (sbsign, mokutil), or take a signed kernel",
        )
    } else if refused(&by_file) || refused(&by_segments) {
        finding.remedy(if refused(&by_file) {
            "use kexec_load: kexec -c, identmap load -c"
        } else {
            "use kexec_file_load: kexec -s"
        })
    } else {
        finding
    }
}
