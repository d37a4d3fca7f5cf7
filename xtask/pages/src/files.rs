//! Generated files that are committed: written, or compared with what is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// File names, and what each shall hold.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Mode {
    /// Write nothing; fail if the committed files are stale
    #[arg(long)]
    pub(crate) check: bool,
}

/// Makes `folder` hold exactly `files`, or says how it differs.
pub(crate) fn settle(files: &Files, folder_path: &Path, mode: Mode) -> Result<(), String> {
    let differences = differences(files, folder_path)?;
    let folder = folder_path.file_name().unwrap_or_default().display();
    if !mode.check {
        write(files, folder_path, &differences)
            .map_err(|error| format!("{}: {error}", folder_path.display()))?;
        println!("{folder}: {} files, {} changed", files.len(), differences.len());
        return Ok(());
    }
    if differences.is_empty() {
        println!("{folder}: {} files, up to date", files.len());
        return Ok(());
    }
    let list: Vec<String> =
        differences.iter().map(|(name, what)| format!("{folder}/{name} ({what})")).collect();
    Err(format!(
        "{}: remake them with `cargo xtask man` and `cargo xtask completions`",
        list.join(", ")
    ))
}

type Differences = BTreeMap<String, &'static str>;

fn differences(files: &Files, folder: &Path) -> Result<Differences, String> {
    let mut differences = Differences::new();
    for (name, wanted) in files {
        match fs::read(folder.join(name)) {
            Ok(found) if found == *wanted => {}
            Ok(_) => drop(differences.insert(name.clone(), "stale")),
            Err(_) => drop(differences.insert(name.clone(), "missing")),
        }
    }
    if !folder.exists() {
        return Ok(differences);
    }
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for entry in entries {
        let entry = entry.map_err(|e| format!("{}: {e}", folder.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !files.contains_key(&name) {
            differences.insert(name, "not generated");
        }
    }
    Ok(differences)
}

fn write(files: &Files, folder: &Path, differences: &Differences) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for name in differences.keys() {
        match files.get(name) {
            Some(wanted) => fs::write(folder.join(name), wanted)?,
            None => fs::remove_file(folder.join(name))?,
        }
    }
    Ok(())
}
