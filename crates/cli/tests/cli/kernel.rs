//! Files with a kernel made by hand in them, for `identmap tables`.

#![allow(dead_code, reason = "each test uses what it needs")]

use std::fs;
use std::path::PathBuf;

use identmap::Levels;
use identmap_linux::Kind;

#[path = "../../../linux/tests/support/mod.rs"]
pub(crate) mod made;

use made::{FakeKernel, Made, core_file, note, put, registers};

/// A directory of its own, removed in the end.
pub(crate) struct Files {
    directory: PathBuf,
    pub(crate) kernel: FakeKernel,
}

impl Files {
    /// `dump.elf`, `kcore.elf` with `kallsyms` and `btf`; `user-mode.elf`, a dump of a processor in user
    /// mode; `odd.raw`, tables from 0x1000 on with one of each oddity.
    pub(crate) fn new(name: &str) -> Files {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let made = Made { levels: Levels::Four, own_page: true, kind: Kind::Kexec };
        let files = Files { directory, kernel: FakeKernel::new(made) };
        files.write("dump.elf", &files.kernel.dump());
        files.write("kcore.elf", &files.kernel.kcore());
        files.write("kallsyms", files.kernel.kallsyms.as_bytes());
        files.write("btf", &files.kernel.btf);
        let user = note("QEMU", 0, &registers(0x8000_0000, 0x60_1000, Levels::Four));
        files.write("user-mode.elf", &core_file(&[], &user));
        let mut odd = vec![0; 0x3000];
        let entries = [
            (0, 0x2063),
            (8, 0x2063),  // the same again
            (16, 0x9063), // not in the file
            (24, 0x20e3), // PS in a PML4
            (0x1000, 0x3063),
            (0x2000, 0x20_01e3),
        ];
        for (at, entry) in entries {
            put(&mut odd, at, entry);
        }
        files.write("odd.raw", &odd);
        files
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.directory.join(name), bytes).unwrap();
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}
