//! The manual holds together: links lead somewhere, commands and options that it names exist, code that
//! it shows is code that is tested. (What commands print is `documents.rs`.)

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn links_between_documents_lead_somewhere() {
    let documents = documents();
    let mut broken = Vec::new();
    let mut checked = 0;
    for (path, text) in &documents {
        for target in links(text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            checked += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let to = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap_or(path).join(file)
            };
            let Ok(to) = to.canonicalize() else {
                broken.push(format!("{}: {target}", path.display()));
                continue;
            };
            let known = anchor.is_empty()
                || documents.get(&to).is_some_and(|text| anchors(text).contains(anchor));
            if !known {
                broken.push(format!("{}: {target}: no such heading", path.display()));
            }
        }
    }
    assert!(checked > 50, "{checked} links");
    assert_eq!(broken, Vec::<String>::new());
}

#[test]
fn every_page_of_the_manual_is_in_its_index() {
    let documents = documents();
    let docs = root().join("docs");
    let index = &documents[&docs.join("README.md")];
    let listed: BTreeSet<PathBuf> = links(index)
        .filter_map(|target| docs.join(target.split('#').next()?).canonicalize().ok())
        .collect();
    let missing: Vec<&PathBuf> = documents
        .keys()
        .filter(|path| path.parent() == Some(&docs) && !path.ends_with("README.md"))
        .filter(|path| !listed.contains(*path))
        .collect();
    assert_eq!(missing, Vec::<&PathBuf>::new());
}

#[test]
fn commands_and_options_that_documents_name_exist() {
    let mut command = identmap_cli::command();
    command.build();
    let mut unknown = Vec::new();
    let mut checked = 0;
    for (path, text) in &documents() {
        for line in invocations(text) {
            let mut words = line.split_whitespace().skip(1).peekable();
            let Some(name) = words.next_if(|word| word.chars().all(|c| c.is_ascii_lowercase()))
            else {
                continue;
            };
            let Some(sub) = command.find_subcommand(name) else {
                // `preflight` is not in every build.
                if !["preflight", "help"].contains(&name) {
                    unknown.push(format!("{}: {line}: no command {name}", path.display()));
                }
                continue;
            };
            checked += 1;
            let arguments = words.take_while(|word| !["&&", "||", "|", ";", "#"].contains(word));
            for word in arguments.filter(|word| word.starts_with('-') && *word != "-") {
                let known = match word.strip_prefix("--") {
                    Some(long) => {
                        let long = long.split('=').next().unwrap_or(long);
                        has_long(sub, long.trim_end_matches([',', '.', ')', ']']))
                    }
                    None => word.chars().skip(1).take(1).all(|short| has_short(sub, short)),
                };
                if !known {
                    unknown.push(format!("{}: {line}: no option {word}", path.display()));
                }
            }
        }
    }
    assert!(checked > 100, "{checked} invocations");
    assert_eq!(unknown, Vec::<String>::new());
}

#[test]
fn the_librarys_page_shows_the_example_that_is_tested() {
    let example = fs::read_to_string(root().join("crates/identmap/examples/entry_map.rs")).unwrap();
    let code = example.split("// begin\n").nth(1).and_then(|rest| rest.split("// end\n").next());
    let page = fs::read_to_string(root().join("docs/library.md")).unwrap();
    let shown = page.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next());
    assert_eq!(shown.expect("a block"), code.expect("its marks"));
}

#[test]
fn every_wish_has_a_row_and_its_command_prints_the_line() {
    let page = fs::read_to_string(root().join("docs/features.md")).unwrap();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
        .map(|line| line.split(" | ").map(|cell| cell.trim_matches(['|', ' '])).collect())
        .collect();
    let numbers: Vec<usize> = rows.iter().map(|row| row[0].parse().expect(row[0])).collect();
    assert_eq!(numbers, (1..=25).collect::<Vec<_>>());
    let mut run = 0;
    for row in rows {
        let [number, _, _, command, line] = row[..] else { panic!("{row:?}") };
        let Some(line) = line.strip_prefix('`').and_then(|line| line.strip_suffix('`')) else {
            continue;
        };
        let words = command.trim_matches('`').split_whitespace().skip(1);
        let output = Command::new(env!("CARGO_BIN_EXE_identmap"))
            .args(words)
            .current_dir(root())
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains(line), "{number}: {command} does not print {line}:\n{text}");
        run += 1;
    }
    assert!(run >= 15, "{run} commands");
}

/// Every document of the repository by its path.
fn documents() -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                // What is built and fetched is not ours.
                if !name.starts_with('.') && name != "target" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.insert(path.clone(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    assert!(found.len() > 20, "{} documents", found.len());
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// The targets of a document's links, outside of code.
fn links(text: &str) -> impl Iterator<Item = &str> {
    prose(text).flat_map(|line| {
        line.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|target| {
            // Rust's documentation resolves names by itself.
            !target.contains("::") || target.contains('/')
        })
    })
}

/// The anchors that a document's headings have.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// Lines outside of fenced blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

/// Command lines that begin with `identmap`: in code spans, in blocks after a prompt or at the
/// beginning of a line.
fn invocations(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced || line.starts_with("    ") {
            let line = line.trim_start().trim_start_matches("$ ").trim_start_matches("sudo ");
            if line.starts_with("identmap ") {
                // Text behind a wide gap says what the command is for.
                found.push(line.split("   ").next().unwrap_or(line).to_owned());
            }
            continue;
        }
        for span in line.split('`').skip(1).step_by(2) {
            let span = span.trim_start_matches("sudo ");
            if span.starts_with("identmap ") {
                found.push(span.replace("\\|", "|"));
            }
        }
    }
    found
}

fn has_long(command: &clap::Command, long: &str) -> bool {
    command.get_arguments().any(|argument| {
        argument.get_long() == Some(long)
            || argument.get_all_aliases().unwrap_or_default().contains(&long)
    })
}

fn has_short(command: &clap::Command, short: char) -> bool {
    command.get_arguments().any(|argument| argument.get_short() == Some(short))
}
