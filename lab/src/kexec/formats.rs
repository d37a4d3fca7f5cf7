//! Kernels in other files than a bzImage: an ELF `vmlinux` without the decompressor, and a UKI.

use std::fs;
use std::path::PathBuf;

use identmap_linux::boot::BzImage;

use super::cells::{CONSUMER, exec_line, facts, jump};
use super::machine::Trouble;
use super::uki::unified;
use super::{Lab, OURS, Row, media};
use crate::cells::Firmware;
use crate::guest::Failure;

/// The part's name.
pub const PART: &str = "formats";

/// What the UKIs have in them for a command line.
const IN_UKI: &str = "console=ttyS0 quiet panic=-1 no_timer_check lab.in=uki";

/// A file in the producer's `/formats`, and how it is loaded.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    consumer: &'static str,
    uki: bool,
    /// The producer uses 5 levels.
    five: bool,
}

/// Debian's 5.10 and 6.1 have their `vmlinux` packed with LZ4, which is not read.
const CASES: &[Case] = &[
    Case { name: "vmlinux-6.12.zst", consumer: "6.12", uki: false, five: false },
    Case { name: "vmlinux-7.x.zst", consumer: "7.x", uki: false, five: false },
    Case { name: "uki-6.1.efi", consumer: "6.1", uki: true, five: false },
    Case { name: "uki-7.x.efi", consumer: "7.x", uki: true, five: false },
    Case { name: "vmlinux-6.12.zst", consumer: "6.12", uki: false, five: true },
    Case { name: "uki-7.x.efi", consumer: "7.x", uki: true, five: true },
];

impl Case {
    fn name(&self) -> String {
        format!("6.12-{}-to-{}", if self.five { "5level" } else { "ovmf" }, self.name)
    }
}

/// Runs all cases; stock kexec-tools read neither of these files.
#[must_use]
pub fn run(lab: &Lab) -> Vec<Row> {
    let cases: Vec<Case> = CASES.iter().filter(|c| lab.wanted(&c.name())).copied().collect();
    if lab.own.is_none() || cases.is_empty() {
        return Vec::new();
    }
    let initrd = lab.dir().join(format!("initrd-formats-{}", std::process::id()));
    let made = files(lab)
        .and_then(|files| media::producer_with(&lab.cache, lab.own.as_deref(), "formats", &files))
        .and_then(|archive| Ok(fs::write(&initrd, archive)?));
    if let Err(error) = made {
        return vec![lab.row(PART, "files", OURS, || Err(error.to_string().into()))];
    }
    let sample = &cases[..if lab.sample { 3.min(cases.len()) } else { cases.len() }];
    let rows = lab
        .each(sample, |case| lab.row(PART, &case.name(), OURS, || one(lab, *case, initrd.clone())));
    let _ = fs::remove_file(&initrd);
    rows
}

fn one(lab: &Lab, case: Case, initrd: PathBuf) -> Result<String, Trouble> {
    let mut spec = lab.spec("6.12", Firmware::Ovmf);
    spec.initrd = initrd;
    spec.la57 = case.five;
    let log = lab.log(&format!("{PART}-{}", case.name()));
    let mut guest = super::Guest::boot(&spec, &log, lab.patience)?;
    let before = facts(&mut guest, "6.12", lab)?;
    let told = format!("{CONSUMER} lab.cell={}", case.name());
    let line = if case.uki {
        format!("identmap load /formats/{}", case.name)
    } else {
        format!(
            "identmap load /formats/{} --initrd=/consumer --command-line='{told}' --consumer {}",
            case.name,
            case.consumer.replace('x', "3")
        )
    };
    let load = guest.run(&line, lab.patience)?;
    if case.five && !case.uki {
        // Nothing in the file says that it can be entered so.
        let loaded = guest.must("cat /sys/kernel/kexec_loaded", lab.patience)?;
        return if load.status == 2 && loaded == "0" && load.text().contains("5 levels") {
            Ok(format!("refused: {}", load.text()))
        } else {
            Err(format!("not refused, but {}: {}", load.status, load.text()).into())
        };
    }
    if load.status != 0 {
        return Err(format!("{line} ended with {}: {}", load.status, load.text()).into());
    }
    let release = jump(lab, &mut guest, exec_line(OURS))?;
    let after = facts(&mut guest, case.consumer, lab)?;
    let get = |key: &str| after.get(key).cloned().unwrap_or_default();
    let expected = if case.uki { IN_UKI } else { &told };
    if !release.starts_with(case.consumer.trim_end_matches('x')) || get("cmdline") != expected {
        return Err(format!("{release} came up, told {:?}", get("cmdline")).into());
    }
    let (variables, seeds) = (get("variables"), get("setup-data"));
    if before.get("variables") != Some(&variables) || !seeds.contains("0x9:0 ") {
        return Err(format!("{release} up with {variables} variables, setup_data {seeds:?}").into());
    }
    let how = if case.uki { "with its own initrd and command line" } else { "entered in vmlinux" };
    Ok(format!("{release} up {how}, EFI alive ({variables} variables)"))
}

/// Names and bytes.
fn files(lab: &Lab) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let stub = lab.cache.join("stub/linuxx64.efi.stub");
    let stub = fs::read(&stub).map_err(|e| format!("{}: {e}; run lab/fetch.sh", stub.display()))?;
    let initrd = media::consumer(&lab.cache)?;
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for case in CASES {
        if all.iter().any(|(name, _)| name == case.name) {
            continue;
        }
        let kernel = fs::read(lab.cache.join("kernels").join(case.consumer).join("vmlinuz"))?;
        let bytes = if case.uki {
            let sections =
                [(".cmdline", IN_UKI.as_bytes()), (".initrd", &initrd), (".linux", &kernel)];
            unified(&stub, &sections)?
        } else {
            let image = BzImage::parse(&kernel).map_err(|error| error.to_string())?;
            let (start, len) = image.payload().ok_or("no payload in the bzImage")?;
            // The last four bytes are its length unpacked (`size_append` in `scripts/Makefile.lib`).
            let range = start as usize..(start + len).saturating_sub(4) as usize;
            image.protected().get(range).ok_or("the payload is cut short")?.to_vec()
        };
        all.push((case.name.to_owned(), bytes));
    }
    Ok(all)
}
