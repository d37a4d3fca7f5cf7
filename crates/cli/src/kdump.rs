//! What files tell of this system's kdump service: read-only, nothing is asked of a service manager.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use identmap_audit::{Dumps, KdumpState, Since};
use identmap_machine::bundle::Bundle;
use identmap_machine::diff;
use identmap_machine::live::Content;
use identmap_machine::parse::MAX_INPUT;
use identmap_machine::redact::{Names, redact};

use crate::live::content_up_to;

/// Units that load a crash image at boot: kdump-utils (Fedora, RHEL, SUSE), kdump-tools (Debian, Ubuntu).
const UNITS: [&str; 2] = ["kdump.service", "kdump-tools.service"];

/// What an administrator touches when kdump works: a bundle of that moment, or an empty file.
const TESTED: &str = "var/lib/identmap/kdump-tested";

/// What decides how kdump works: settings (kdump-utils, kdump-tools), and what the crash kernel boots with;
/// `{}` stands for the running kernel's release.
const FILES: [&str; 5] = [
    "etc/kdump.conf",
    "etc/sysconfig/kdump",
    "etc/default/kdump-tools",
    "boot/initramfs-{}kdump.img",
    "var/lib/kdump/initrd.img-{}",
];

/// Facts that differ only if something was changed: addresses may be others after each boot.
const LASTING: [&str; 12] = [
    "hardware",
    "firmware",
    "kernel",
    "command line",
    "efi boot",
    "cpu model",
    "5-level paging in use",
    "SME active",
    "encrypted guest",
    "SNP host",
    "nogbpages",
    "crash kernel size",
];

/// Most files that are looked at in the directory of dumps.
const MOST_FILES: usize = 10_000;

/// How much of a configuration file is read.
const MOST_CONFIG: u64 = 64 << 10;

/// The state of the system whose files lie below `root`, with this running kernel.
pub(crate) fn state(root: &Path, release: Option<&str>) -> KdumpState {
    let seconds = |path: String| modified(&fs::metadata(root.join(path)).ok()?);
    let release = release.filter(|release| !release.contains('/'));
    let files = FILES.iter().filter_map(|file| match (file.contains("{}"), release) {
        (false, _) => Some((*file).to_owned()),
        (true, Some(release)) => Some(file.replace("{}", release)),
        (true, None) => None,
    });
    KdumpState {
        services: services(root),
        dumps: dumps(root),
        tested: seconds(TESTED.to_owned()),
        files: files.filter_map(|file| Some((format!("/{file}"), seconds(file)?))).collect(),
        since: Since::NotKept,
        kernel_installed: release.and_then(|release| {
            let places =
                [format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz")];
            places.into_iter().find_map(seconds)
        }),
    }
}

/// What differs between the bundle that was kept at the test, below `root`, and this machine as it is `now`. Both
/// are compared without what identifies a machine, as bundles are written.
pub(crate) fn since(root: &Path, now: impl FnOnce() -> (Bundle, Names)) -> Since {
    let bytes = match content_up_to(root.join(TESTED), MAX_INPUT as u64) {
        Content::Bytes(bytes) => bytes,
        Content::Absent | Content::NotRead => return Since::NotKept,
        Content::Unreadable(why) => return Since::Unreadable(why),
    };
    if !Bundle::is_in(&bytes) {
        // A file that was touched.
        return Since::NotKept;
    }
    let (now, names) = now();
    let machine = |bundle: &Bundle| redact(bundle, &names).machine("live");
    let before = Bundle::read(TESTED, &bytes).and_then(|bundle| machine(&bundle));
    let (before, after) = match (before, machine(&now)) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(error), _) | (_, Err(error)) => return Since::Unreadable(error.to_string()),
    };
    let difference = diff(&before, &after);
    let lasting = difference.facts.iter().filter(|fact| LASTING.contains(&fact.name.as_str()));
    let mut changes: Vec<String> =
        lasting.map(|fact| format!("{}: {}, was {}", fact.name, fact.after, fact.before)).collect();
    match difference.layout.as_deref() {
        Some([]) => {}
        Some([_]) => changes.push("the memory map differs in one range".to_owned()),
        Some(many) => changes.push(format!("the memory map differs in {} ranges", many.len())),
        None if changes.is_empty() => {
            let why = "it and this machine have no memory map to compare (was it made by root?)";
            return Since::Unreadable(why.to_owned());
        }
        None => {}
    }
    Since::Changes(changes)
}

fn modified(metadata: &Metadata) -> Option<u64> {
    u64::try_from(metadata.mtime()).ok()
}

/// Installed units, and whether a target wants them.
fn services(root: &Path) -> Vec<(String, bool)> {
    let installed = |unit: &&&str| {
        ["lib", "usr/lib", "etc"]
            .iter()
            .any(|place| root.join(place).join("systemd/system").join(unit).exists())
    };
    let enabled = |unit: &str| {
        let Ok(entries) = fs::read_dir(root.join("etc/systemd/system")) else { return false };
        let mut wants = entries.flatten().map(|entry| entry.path()).filter(|path| {
            path.extension().is_some_and(|kind| kind == "wants" || kind == "requires")
        });
        // A link, whose target may be seen from below `root` only.
        wants.any(|directory| directory.join(unit).symlink_metadata().is_ok())
    };
    UNITS.iter().filter(installed).map(|unit| ((*unit).to_owned(), enabled(unit))).collect()
}

/// The newest dump where the configuration says that dumps go.
fn dumps(root: &Path) -> Dumps {
    let text = |path: &str| {
        let content = content_up_to(root.join(path), MOST_CONFIG);
        content.bytes().map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let mut directory = "/var/crash".to_owned();
    // kdump.conf(5).
    for line in text("etc/kdump.conf").iter().flat_map(|text| text.lines()) {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["nfs" | "ssh" | "raw" | "ext2" | "ext3" | "ext4" | "xfs" | "btrfs" | "minix", ..] => {
                return Dumps::Unknown(format!("/etc/kdump.conf sends dumps elsewhere: {line}"));
            }
            ["path", path, ..] => path.clone_into(&mut directory),
            _ => {}
        }
    }
    // kdump-tools(5).
    for line in text("etc/default/kdump-tools").iter().flat_map(|text| text.lines()) {
        let Some((name, value)) = line.trim().split_once('=') else { continue };
        let value = value.trim_matches(['"', '\'']);
        match name {
            "SSH" | "NFS" | "FTP" if !value.is_empty() => {
                return Dumps::Unknown(format!(
                    "/etc/default/kdump-tools sends dumps elsewhere: {name}"
                ));
            }
            "KDUMP_COREDIR" if !value.is_empty() => value.clone_into(&mut directory),
            _ => {}
        }
    }
    newest(root, &directory)
}

fn newest(root: &Path, directory: &str) -> Dumps {
    let top = root.join(directory.trim_start_matches('/'));
    let entries = match fs::read_dir(&top) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Dumps::None,
        Err(error) => return Dumps::Unknown(format!("{directory}: {error}")),
    };
    let mut files: Vec<PathBuf> = Vec::new();
    let mut lost = None;
    for entry in entries.flatten().take(MOST_FILES) {
        let path = entry.path();
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files.push(path);
            continue;
        }
        match fs::read_dir(&path) {
            Ok(below) => files.extend(below.flatten().take(MOST_FILES).map(|entry| entry.path())),
            Err(error) => lost = Some(format!("{}: {error}", path.display())),
        }
    }
    let dumps = files.into_iter().filter(|path| is_dump(path)).filter_map(|path| {
        let metadata = fs::symlink_metadata(&path).ok().filter(Metadata::is_file)?;
        Some((modified(&metadata)?, path))
    });
    match (dumps.max(), lost) {
        (Some((when, path)), _) => Dumps::Newest(path.to_string_lossy().into_owned(), when),
        (None, Some(why)) => Dumps::Unknown(why),
        (None, None) => Dumps::None,
    }
}

/// `vmcore`, `vmcore.flat` (kdump-utils), `dump.202611230012` (kdump-tools). Not `vmcore-incomplete`, and not the
/// log alone.
fn is_dump(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let dated = |rest: &str| rest.len() >= 8 && rest.bytes().all(|byte| byte.is_ascii_digit());
    name == "vmcore" || name.starts_with("vmcore.") || name.strip_prefix("dump.").is_some_and(dated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap_machine::bundle::Facts;

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> Root {
            let path = std::env::temp_dir().join(format!("identmap-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).unwrap();
            Root(path)
        }

        fn file(&self, name: &str, content: &str) {
            let path = self.0.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_system_without_kdump() {
        let root = Root::new("kdump-none");
        assert_eq!(state(&root.0, Some("6.1.0-1-amd64")), KdumpState::default());
        assert_eq!(state(&root.0, Some("../../etc")), KdumpState::default());
    }

    #[test]
    fn a_debian_system() {
        let root = Root::new("kdump-debian");
        root.file("lib/systemd/system/kdump-tools.service", "");
        root.file("boot/vmlinuz-6.1.0-1-amd64", "");
        root.file("var/crash/202611230012/dmesg.202611230012", "");
        root.file("var/crash/kexec_cmd", "");
        let before = state(&root.0, Some("6.1.0-1-amd64"));
        assert_eq!(before.services, [("kdump-tools.service".to_owned(), false)]);
        assert_eq!(before.dumps, Dumps::None);
        assert!(before.kernel_installed.is_some() && before.tested.is_none());
        assert!(before.files.is_empty());
        root.file("var/lib/kdump/initrd.img-6.1.0-1-amd64", "");
        root.file("var/lib/kdump/initrd.img-6.1.0-2-amd64", "");
        let files = state(&root.0, Some("6.1.0-1-amd64")).files;
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].0, "/var/lib/kdump/initrd.img-6.1.0-1-amd64");

        let wants = root.0.join("etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants).unwrap();
        std::os::unix::fs::symlink("/nowhere", wants.join("kdump-tools.service")).unwrap();
        root.file("var/crash/202611230012/dump.202611230012", "");
        let after = state(&root.0, None);
        assert_eq!(after.services, [("kdump-tools.service".to_owned(), true)]);
        assert!(
            matches!(after.dumps, Dumps::Newest(ref path, _) if path.ends_with("/dump.202611230012"))
        );

        root.file("etc/default/kdump-tools", "# NFS=\"x\"\nSSH=\"root@there\"\n");
        assert!(matches!(state(&root.0, None).dumps, Dumps::Unknown(_)));
    }

    #[test]
    fn what_changed_since_a_bundle_was_kept() {
        let root = Root::new("kdump-since");
        let log = |kernel: &str, end: &str| {
            format!(
                "Linux version {kernel} (a@b) (gcc) #1 SMP\n\
                 Command line: crashkernel=256M\n\
                 BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable\n\
                 BIOS-e820: [mem 0x0000000000100000-{end}] usable\n"
            )
        };
        let bundle = |text: String| Bundle::new(Facts::Text(text.into_bytes()));
        let since = |now: String| since(&root.0, || (bundle(now), Names::new(std::iter::empty())));
        let (kernel, end) = ("6.1.0-1-amd64", "0x000000003fffffff");
        assert_eq!(since(log(kernel, end)), Since::NotKept);
        root.file(TESTED, "");
        assert_eq!(since(log(kernel, end)), Since::NotKept, "touched");
        root.file(TESTED, &bundle(log(kernel, end)).write().unwrap());
        assert_eq!(since(log(kernel, end)), Since::Changes(Vec::new()));
        let Since::Changes(changes) = since(log("6.1.0-2-amd64", "0x000000004fffffff")) else {
            panic!("compared");
        };
        assert_eq!(
            changes,
            ["kernel: 6.1.0-2-amd64, was 6.1.0-1-amd64", "the memory map differs in one range"]
        );
        // Another place after each boot is no change; another size is one, and so is the other side of 4 GiB.
        let reserved = |range: &str| {
            format!("{}crashkernel reserved: {range} (256 MB)\n", log(kernel, "0x4fffffffff"))
        };
        let first = reserved("0x000000001f000000 - 0x000000002f000000");
        root.file(TESTED, &bundle(first.clone()).write().unwrap());
        assert_eq!(since(first), Since::Changes(Vec::new()));
        let moved = reserved("0x000000002b000000 - 0x000000003b000000");
        assert_eq!(since(moved), Since::Changes(Vec::new()));
        for (range, now) in [
            ("0x000000001f000000 - 0x0000000027000000", "128 MiB below 4 GiB"),
            ("0x0000001000000000 - 0x0000001010000000", "256 MiB above 4 GiB"),
        ] {
            let expected = format!("crash kernel size: {now}, was 256 MiB below 4 GiB");
            assert_eq!(since(reserved(range)), Since::Changes(vec![expected]));
        }
        root.file(TESTED, &bundle(log(kernel, end)).write().unwrap());
        let whole = fs::read(root.0.join(TESTED)).unwrap();
        root.file(TESTED, &String::from_utf8_lossy(&whole[..whole.len() / 2]));
        assert!(!matches!(since(log(kernel, end)), Since::Changes(_)), "cut");
    }

    #[test]
    fn a_fedora_system() {
        let root = Root::new("kdump-fedora");
        root.file("usr/lib/systemd/system/kdump.service", "");
        root.file("etc/kdump.conf", "path /srv/dumps\ncore_collector makedumpfile\n");
        root.file("var/crash/a/vmcore", "");
        assert_eq!(state(&root.0, None).dumps, Dumps::None);
        root.file("srv/dumps/127.0.0.1-2026/vmcore-incomplete", "");
        assert_eq!(state(&root.0, None).dumps, Dumps::None);
        root.file("srv/dumps/127.0.0.1-2026/vmcore", "");
        assert!(matches!(state(&root.0, None).dumps, Dumps::Newest(..)));
    }
}
