//! How a bundle is written: keys in one order, short values on one line; and what its checksum covers.

use std::fmt::Write;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::content::is_number;

/// The key of the checksum.
pub(super) const INTEGRITY: &str = "integrity";
/// What its value begins with.
pub(super) const ALGORITHM: &str = "sha256:";

/// Width that a value on one line may end at.
const WIDTH: usize = 120;

/// The checksum of everything else: SHA-256 of the compact JSON with sorted keys, so that white space
/// and the order of keys do not count, and every value does.
pub(super) fn integrity(content: &Map<String, Value>) -> String {
    let mut text = String::new();
    let rest: Map<String, Value> = content
        .iter()
        .filter(|(k, _)| *k != INTEGRITY)
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    compact(&Value::Object(rest), &mut text);
    let mut checksum = ALGORITHM.to_owned();
    for byte in Sha256::digest(text.as_bytes()) {
        let _ = write!(checksum, "{byte:02x}");
    }
    checksum
}

/// Base64 (RFC 4648, section 4) with padding.
pub(super) fn base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// `None` if it is not what [`base64`] writes: one text for each byte string.
pub(super) fn from_base64(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok()
}

/// Whether this begins with the checksum's key and its algorithm.
pub(super) fn is_integrity(bytes: &[u8]) -> bool {
    let value = || {
        let after_key = bytes.strip_prefix(b"\"")?.strip_prefix(INTEGRITY.as_bytes())?;
        let after_colon = after_key.strip_prefix(b"\"")?.trim_ascii_start().strip_prefix(b":")?;
        after_colon.trim_ascii_start().strip_prefix(b"\"")
    };
    value().is_some_and(|value| value.starts_with(ALGORITHM.as_bytes()))
}

/// The file: `schema` first, the checksum last.
pub(super) fn pretty(content: &Map<String, Value>) -> String {
    let mut out = String::new();
    object(content, 0, &mut out);
    out.push('\n');
    out
}

fn compact(value: &Value, out: &mut String) {
    match value {
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                compact(item, out);
            }
            out.push(']');
        }
        Value::Object(map) => {
            out.push('{');
            for (at, (key, item)) in sorted(map).into_iter().enumerate() {
                out.push_str(if at == 0 { "" } else { "," });
                let _ = write!(out, "{}:", Value::from(key));
                compact(item, out);
            }
            out.push('}');
        }
        scalar => {
            let _ = write!(out, "{scalar}");
        }
    }
}

fn spread(value: &Value, indent: usize, before: usize, out: &mut String) {
    let line = one_line(value);
    if indent + before + line.len() <= WIDTH {
        out.push_str(&line);
        return;
    }
    match value {
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at == 0 { "\n" } else { ",\n" });
                out.push_str(&" ".repeat(indent + 2));
                spread(item, indent + 2, 1, out);
            }
            let _ = write!(out, "\n{}]", " ".repeat(indent));
        }
        Value::Object(map) => object(map, indent, out),
        _ => out.push_str(&line),
    }
}

fn object(map: &Map<String, Value>, indent: usize, out: &mut String) {
    out.push('{');
    for (at, (key, item)) in sorted(map).into_iter().enumerate() {
        out.push_str(if at == 0 { "\n" } else { ",\n" });
        let name = format!("{}: ", Value::from(key));
        let _ = write!(out, "{}{name}", " ".repeat(indent + 2));
        spread(item, indent + 2, name.len() + 1, out);
    }
    let _ = write!(out, "\n{}}}", " ".repeat(indent));
}

fn one_line(value: &Value) -> String {
    match value {
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(one_line).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Object(map) if !map.is_empty() => {
            let items: Vec<String> = sorted(map)
                .into_iter()
                .map(|(key, item)| format!("{}: {}", Value::from(key), one_line(item)))
                .collect();
            format!("{{ {} }}", items.join(", "))
        }
        scalar => scalar.to_string(),
    }
}

/// By key, except that the schema comes first and the checksum last, and numbers go by value.
fn sorted(map: &Map<String, Value>) -> Vec<(&str, &Value)> {
    let mut items: Vec<(&str, &Value)> = map.iter().map(|(k, v)| (k.as_str(), v)).collect();
    let rank = |key: &str| match key {
        "schema" => 0,
        INTEGRITY => 2,
        _ => 1,
    };
    let digits = |key: &str| if is_number(key) { key.len() } else { 0 };
    items.sort_by_key(|(key, _)| (rank(key), digits(key), *key));
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn order_and_white_space_do_not_count_and_values_do() {
        let one = map(r#"{"schema":"s","b":[1,null,{"y":"\u0041","x":true}],"a":"z"}"#);
        let two = map(
            "{\"a\": \"z\",\n\"b\": [1, null, {\"x\": true, \"y\": \"A\"}], \"schema\": \"s\", \"integrity\": 7}",
        );
        assert_eq!(integrity(&one), integrity(&two));
        for other in [
            r#"{"schema":"s","b":[1,null,{"y":"A","x":true}],"a":"Z"}"#,
            r#"{"schema":"s","b":[1,null,{"y":"A","x":1}],"a":"z"}"#,
            r#"{"schema":"s","b":[null,1,{"y":"A","x":true}],"a":"z"}"#,
            r#"{"schema":"s","b":[1.0,null,{"y":"A","x":true}],"a":"z"}"#,
            r#"{"schema":"s","b":[1,null,{"y":"A"}],"a":"z"}"#,
        ] {
            assert_ne!(integrity(&one), integrity(&map(other)), "{other}");
        }
    }

    #[test]
    fn what_is_written_is_the_same_value_again() {
        let long = "x".repeat(200);
        let text = format!(
            r#"{{"integrity":"i","schema":"s","b":["{long}",1,[],{{}}],"a":{{"k":"{long}","c":"\" \n"}}}}"#
        );
        let shown = pretty(&map(&text));
        assert_eq!(map(&shown), map(&text));
        assert!(shown.starts_with("{\n  \"schema\": \"s\",\n  \"a\": {\n"), "{shown}");
        assert!(shown.ends_with("\n  \"integrity\": \"i\"\n}\n"), "{shown}");
    }
}
