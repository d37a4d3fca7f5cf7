//! What several modules need: the command, a folder, a machine without anything special.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

/// A whole memory map, and nothing else.
const MAP: &str = "BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable\n\
                   BIOS-e820: [mem 0x0000000000100000-0x000000007fffffff] usable\n";

pub(crate) fn identmap(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_identmap")).args(args).output().expect("the binary runs")
}

/// What `check` says of a machine with a small memory map and these lines. The name is this call's own.
pub(crate) fn check_log(name: &str, log: &str, args: &[&str]) -> Value {
    let file = format!("{}/{name}.txt", env!("CARGO_TARGET_TMPDIR"));
    fs::write(&file, format!("{MAP}{log}")).unwrap();
    let run = identmap(&[&["check", "--json", &file], args].concat());
    serde_json::from_slice(&run.stdout)
        .unwrap_or_else(|_| panic!("{name}: {}", String::from_utf8_lossy(&run.stderr)))
}

/// A directory of this test's own, gone when it ends.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("identmap-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary directory");
        Folder(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> String {
        let file = self.0.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, content).unwrap();
        self.file(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
