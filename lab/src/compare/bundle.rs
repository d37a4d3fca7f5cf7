//! The bundle that `identmap capture` wrote in a guest: small, without what identifies the guest, and
//! of the same answer on the host as in there.

use std::path::Path;
use std::process::Command;
use std::{fs, io};

use serde_json::Value;

use crate::guest::{Failure, identity};

/// What a guest's bundle may have, in bytes: less than this.
const BYTES_MAX: usize = 200_000;

/// A bundle that was looked at.
#[derive(Clone, Debug)]
pub struct Looked {
    /// Its size.
    pub bytes: usize,
    /// What `identmap check` says of the machine: its verdict, and how many findings.
    pub answer: Option<String>,
    /// What is wrong, in words.
    pub wrong: Vec<String>,
}

/// Looks at the bundle in a cell's results; `None` if there is none. With our `binary`, the host's
/// answer is compared too.
///
/// # Errors
/// When a file cannot be read, or the binary cannot be run.
pub fn look(results: &Path, binary: Option<&Path>) -> Result<Option<Looked>, Failure> {
    let path = results.join("guest/capture.json");
    let bundle = match fs::read(&path) {
        Ok(bundle) => bundle,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut wrong = Vec::new();
    if bundle.len() >= BYTES_MAX {
        wrong.push(format!("the bundle has {} bytes", bundle.len()));
    }
    for name in identifying(&bundle)? {
        wrong.push(format!("the bundle has the guest's {name}"));
    }
    // The search has to be able to find: what is kept in full has them.
    let full = fs::read(results.join("guest/capture-full.json"))?;
    let found = identifying(&full)?;
    for name in ["serial number", "UUID"] {
        if !found.contains(&name) {
            wrong.push(format!("the search does not find the {name} in a bundle that has it"));
        }
    }
    let mut answer = None;
    if let Some(binary) = binary {
        let inside = read_answer(&fs::read(results.join("guest/check.out"))?, "in the guest")?;
        let mut command = Command::new(binary);
        command.args(["check", "--json"]).arg(&path);
        if results.to_string_lossy().contains("-kdump") {
            command.arg("--panic");
        }
        let output = command.output().map_err(|error| format!("{}: {error}", binary.display()))?;
        let outside = read_answer(&output.stdout, "on the host").map_err(|error| {
            format!("{error}; {}", String::from_utf8_lossy(&output.stderr).trim())
        })?;
        wrong.extend(
            differing(&inside, &outside, "")
                .into_iter()
                .map(|place| format!("check differs inside and on the host: {place}")),
        );
        let findings = inside["findings"].as_array().map_or(0, Vec::len);
        let verdict = inside["verdict"].as_str().unwrap_or("?");
        let noun = if findings == 1 { "finding" } else { "findings" };
        answer = Some(format!("{verdict}, {findings} {noun}"));
    }
    Ok(Some(Looked { bytes: bundle.len(), answer, wrong }))
}

/// An answer of `check --json` without what it may differ in: the name of the source, and the state of the kdump
/// service, which bundles of version 1 have no place for (docs/capture.md).
fn read_answer(text: &[u8], place: &str) -> Result<Value, Failure> {
    let mut answer: Value =
        serde_json::from_slice(text).map_err(|error| format!("check {place}: {error}"))?;
    if let Some(object) = answer.as_object_mut() {
        object.remove("source");
        if let Some(machine) = object.get_mut("machine").and_then(Value::as_object_mut) {
            machine.remove("source");
        }
        if let Some(findings) = object.get_mut("findings").and_then(Value::as_array_mut) {
            findings.retain(|found| found["id"] != "kdump-service" && found["id"] != "kdump-test");
        }
    }
    Ok(answer)
}

/// Paths at which two values differ.
fn differing(a: &Value, b: &Value, path: &str) -> Vec<String> {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort_unstable();
            keys.dedup();
            let pair = |key: &str| (a.get(key).cloned(), b.get(key).cloned());
            keys.into_iter()
                .flat_map(|key| {
                    let (a, b) = pair(key);
                    let path = format!("{path}/{key}");
                    differing(&a.unwrap_or(Value::Null), &b.unwrap_or(Value::Null), &path)
                })
                .collect()
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .flat_map(|(index, (a, b))| differing(a, b, &format!("{path}/{index}")))
            .collect(),
        _ if a == b => Vec::new(),
        _ => vec![format!("{path}: {a} and {b}")],
    }
}

/// Which of a guest's marks are in a bundle: in its text, or in the bytes of its blobs, as text of one
/// or two bytes a character, or as numbers.
fn identifying(bundle: &[u8]) -> Result<Vec<&'static str>, Failure> {
    let value: Value =
        serde_json::from_slice(bundle).map_err(|error| format!("bundle: {error}"))?;
    let mut places = vec![bundle.to_vec()];
    blobs(&value, &mut places);
    for place in &mut places {
        place.make_ascii_lowercase();
    }
    let marks: [(&str, Vec<Vec<u8>>); 6] = [
        ("host name", text(identity::HOST_NAME)),
        ("serial number", text(identity::SERIAL)),
        ("chassis's serial number", text(identity::CHASSIS_SERIAL)),
        ("asset tag", text(identity::ASSET)),
        ("UUID", numbers(identity::UUID, '-', &[4, 2, 2])),
        ("MAC", numbers(identity::MAC, ':', &[])),
    ];
    let has = |mark: &[u8]| places.iter().any(|p| p.windows(mark.len()).any(|w| w == mark));
    Ok(marks
        .iter()
        .filter(|(_, forms)| forms.iter().any(|form| has(&form.to_ascii_lowercase())))
        .map(|(name, _)| *name)
        .collect())
}

/// A text in both widths.
fn text(mark: &str) -> Vec<Vec<u8>> {
    vec![mark.as_bytes().to_vec(), mark.encode_utf16().flat_map(u16::to_le_bytes).collect()]
}

/// A number in hexadecimal: as it is, without its separators, and as bytes; and as bytes in SMBIOS's
/// order, where the first `swapped` groups are little-endian.
fn numbers(mark: &str, separator: char, swapped: &[usize]) -> Vec<Vec<u8>> {
    let plain: String = mark.chars().filter(|&c| c != separator).collect();
    let bytes: Vec<u8> = (0..plain.len() / 2)
        .filter_map(|at| u8::from_str_radix(&plain[at * 2..at * 2 + 2], 16).ok())
        .collect();
    let mut little = bytes.clone();
    let mut at = 0;
    for &size in swapped {
        little[at..at + size].reverse();
        at += size;
    }
    let mut forms = text(mark);
    forms.extend(text(&plain));
    forms.extend([bytes, little]);
    forms
}

/// The bytes of every member `base64`.
fn blobs(value: &Value, into: &mut Vec<Vec<u8>>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if name == "base64" => into.push(from_base64(text)),
                    _ => blobs(member, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| blobs(item, into)),
        _ => {}
    }
}

/// RFC 4648, section 4; characters of no meaning are passed over.
fn from_base64(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for byte in text.bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        bits = (bits << 6 | u32::from(value)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_found_wherever_they_hide() {
        let clean = br#"{"a":"lab-guest","memory":[{"base64":"AAEC"}]}"#;
        assert_eq!(identifying(clean).unwrap(), Vec::<&str>::new());
        let plain = br#"{"a":"xx5D2C8E0A71B44F0E9A3D0C6B1F2E8D47","b":"52:54:00:4b:1d:e7"}"#;
        assert_eq!(identifying(plain).unwrap(), ["UUID", "MAC"]);
        // 0a8e2c5d b471 0e4f 9a3d 0c6b1f2e8d47 after two bytes, as SMBIOS has it
        let blob = br#"{"memory":[{"base64":"AAAKjixdtHEOT5o9DGsfLo1H"}]}"#;
        assert_eq!(identifying(blob).unwrap(), ["UUID"]);
        let wide = br#"{"x":{"base64":"UwBFAFIALQAyADAAMgA2ADAANAAxADcALQBMAEEAQgA="}}"#;
        assert_eq!(identifying(wide).unwrap(), ["serial number"]);
    }

    #[test]
    fn answers_differ_where_they_do() {
        let a = serde_json::json!({ "x": [1, { "y": 2 }], "z": null });
        let b = serde_json::json!({ "x": [1, { "y": 3 }], "w": true });
        let places = differing(&a, &b, "");
        assert_eq!(places, ["/w: null and true", "/x/1/y: 2 and 3"]);
    }
}
