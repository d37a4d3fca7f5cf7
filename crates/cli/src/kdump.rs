//! What files tell of this system's kdump service: read-only, nothing is asked of a service manager.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use identmap_audit::{Dumps, KdumpState};

use crate::live::content_up_to;

/// Units that load a crash image at boot: kdump-utils (Fedora, RHEL, SUSE), kdump-tools (Debian, Ubuntu).
const UNITS: [&str; 2] = ["kdump.service", "kdump-tools.service"];

/// Most files that are looked at in the directory of dumps.
const MOST_FILES: usize = 10_000;

/// How much of a configuration file is read.
const MOST_CONFIG: u64 = 64 << 10;

/// The state of the system whose files lie below `root`, with this running kernel.
pub(crate) fn state(root: &Path, release: Option<&str>) -> KdumpState {
    let seconds = |path: String| modified(&fs::metadata(root.join(path)).ok()?);
    KdumpState {
        services: services(root),
        dumps: dumps(root),
        tested: seconds("var/lib/identmap/kdump-tested".to_owned()),
        kernel_installed: release.filter(|release| !release.contains('/')).and_then(|release| {
            let places =
                [format!("boot/vmlinuz-{release}"), format!("usr/lib/modules/{release}/vmlinuz")];
            places.into_iter().find_map(seconds)
        }),
    }
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
