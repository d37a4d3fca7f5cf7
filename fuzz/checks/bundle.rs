//! A bundle, damaged in any way: an error that can be shown, or facts that are written and read
//! again as the same, whoever's name is taken out of them.

use std::collections::BTreeMap;
use std::fmt::Write;

use identmap_machine::bundle::{Bundle, MAX_BUNDLE};
use identmap_machine::parse::ParseError;
use identmap_machine::redact::{Names, redact};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The text of a bundle; once as it is, once with the checksum that it ought to have.
pub fn check(bytes: &[u8]) {
    read(bytes);
    if let Some(text) = sealed(bytes) {
        read(text.as_bytes());
    }
}

fn read(bytes: &[u8]) {
    let bundle = match Bundle::read("input", bytes) {
        Ok(bundle) => bundle,
        Err(error) => return check_error(&error),
    };
    // A bundle must never be taken for a text.
    assert!(Bundle::is_in(bytes));
    let _ = bundle.parts();
    if let Err(error) = bundle.machine("input") {
        check_error(&error);
    }
    check_same(&bundle);
    let without = redact(&bundle, &Names::new(["alice", "system"]));
    assert!(without.redacted);
    check_same(&without);
}

/// What is written is read as the same, and written as the same.
fn check_same(bundle: &Bundle) {
    let text = match bundle.write() {
        Ok(text) => text,
        Err(error) => return assert!(error.bytes > MAX_BUNDLE),
    };
    match Bundle::read("again", text.as_bytes()) {
        Ok(again) => {
            if again != *bundle {
                let (again, before) = (format!("{again:?}"), format!("{bundle:?}"));
                let at = again.bytes().zip(before.bytes()).take_while(|(a, b)| a == b).count();
                let excerpt = |text: &str| {
                    text.chars().skip(at.saturating_sub(80)).take(200).collect::<String>()
                };
                panic!("read again:\n{}\nbefore:\n{}", excerpt(&again), excerpt(&before));
            }
            assert_eq!(again.write().as_deref(), Ok(&*text));
        }
        Err(error) => panic!("{error}\n{text}"),
    }
}

/// With the checksum that `docs/bundle.schema.json` describes; `None` if it is no JSON.
pub fn sealed(bytes: &[u8]) -> Option<String> {
    let mut content: Map<String, Value> = serde_json::from_slice(bytes).ok()?;
    content.remove("integrity");
    let mut text = String::new();
    canonical(&Value::Object(content.clone()), &mut text);
    let mut sum = "sha256:".to_owned();
    for byte in Sha256::digest(text.as_bytes()) {
        write!(sum, "{byte:02x}").unwrap();
    }
    content.insert("integrity".to_owned(), sum.into());
    Some(Value::Object(content).to_string())
}

/// Compact JSON: `schema` first, then names, then numbers.
fn canonical(value: &Value, out: &mut String) {
    let place = |key: &str| {
        let is_number = !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
        (key != "schema", if is_number { key.len() } else { 0 })
    };
    match value {
        Value::Object(map) => {
            let mut before = '{';
            let sorted: BTreeMap<_, _> =
                map.iter().map(|(key, value)| ((place(key), key), value)).collect();
            for ((_, key), value) in sorted {
                write!(out, "{before}{}:", Value::from(key.as_str())).unwrap();
                canonical(value, out);
                before = ',';
            }
            out.push_str(if before == '{' { "{}" } else { "}" });
        }
        Value::Array(items) => {
            let mut before = '[';
            for item in items {
                out.push(before);
                canonical(item, out);
                before = ',';
            }
            out.push_str(if before == '[' { "[]" } else { "]" });
        }
        scalar => write!(out, "{scalar}").unwrap(),
    }
}

/// An error is of a size to be read, and no terminal obeys it.
fn check_error(error: &ParseError) {
    let shown = error.to_string();
    assert!(shown.len() < 4096, "{} bytes", shown.len());
    assert!(!shown.chars().any(|c| c.is_control() && c != '\n' && c != '\t'), "{shown:?}");
}
