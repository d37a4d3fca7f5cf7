//! What was found in a file, as JSON: `null` for a file that does not exist, a string or an array of
//! lines for text, an object for everything else.

use serde_json::{Map, Value, json};

use super::json as form;
use crate::live::{Content, Directory};
use crate::parse::{LEFT_OUT, MAX_INPUT};

/// Bytes of zeros that are counted, not written.
const MANY_ZEROS: usize = 64;

/// What may still be expanded: a few bytes of JSON can stand for many.
pub(super) struct Budget(usize);

impl Budget {
    pub(super) fn new() -> Budget {
        Budget(MAX_INPUT)
    }

    fn take(&mut self, bytes: usize) -> Result<(), String> {
        self.0 = self.0.checked_sub(bytes).ok_or("it stands for more than 64 MiB")?;
        Ok(())
    }
}

/// `None` for what nobody tried to read.
pub(super) fn write(content: &Content) -> Option<Value> {
    Some(match content {
        Content::NotRead => return None,
        Content::Absent => Value::Null,
        Content::Unreadable(why) => json!({ "unreadable": why }),
        Content::Bytes(bytes) => bytes_value(bytes),
    })
}

pub(super) fn read(value: &Value, budget: &mut Budget) -> Result<Content, String> {
    Ok(match value {
        Value::Null => Content::Absent,
        Value::String(text) => {
            budget.take(text.len())?;
            Content::Bytes(text.clone().into_bytes())
        }
        Value::Array(lines) => Content::Bytes(read_lines(lines, budget)?),
        Value::Object(map) => read_object(map, budget)?,
        _ => return Err("expected null, a string, an array of lines or an object".to_owned()),
    })
}

pub(super) fn write_directory(directory: &Directory) -> Option<Value> {
    Some(match directory {
        Directory::NotRead => return None,
        Directory::Absent => Value::Null,
        Directory::Unreadable(why) => json!({ "unreadable": why }),
        Directory::Files(files) => {
            let mut out = Map::new();
            for (path, content) in files {
                let Some(value) = write(content) else { continue };
                match tail(path) {
                    (None, name) => drop(out.insert(name.to_owned(), value)),
                    (Some(number), name) => {
                        let folder = out.entry(number).or_insert_with(|| Map::new().into());
                        if let Value::Object(folder) = folder {
                            folder.insert(name.to_owned(), value);
                        }
                    }
                }
            }
            json!({ "files": out })
        }
    })
}

pub(super) fn read_directory(value: &Value, budget: &mut Budget) -> Result<Directory, String> {
    let Value::Object(map) = value else {
        return match value {
            Value::Null => Ok(Directory::Absent),
            _ => Err("expected null or an object".to_owned()),
        };
    };
    match only(map) {
        Some(("unreadable", Value::String(why))) => Ok(Directory::Unreadable(why.clone())),
        Some(("files", Value::Object(files))) => {
            let mut list = Vec::new();
            // Other names would be written as another file's, or not be read again.
            if let Some(name) = files.keys().find(|name| name.contains('/')) {
                return Err(format!("{name:.60?} is no name of a file"));
            }
            for (name, value) in files {
                match value {
                    Value::Object(folder) if is_number(name) => {
                        for (field, value) in folder {
                            if field.contains('/') {
                                return Err(format!("{field:.60?} is no name of a file"));
                            }
                            list.push((format!("{name}/{field}"), read(value, budget)?));
                        }
                    }
                    _ if is_number(name) => {
                        return Err(format!("{name:.60?} is the name of a folder"));
                    }
                    value => list.push((name.clone(), read(value, budget)?)),
                }
            }
            list.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(Directory::Files(list))
        }
        _ => Err("expected an object with \"files\" or \"unreadable\"".to_owned()),
    }
}

/// What tells the files of a directory apart: the number of the folder if it has one, and the name.
fn tail(path: &str) -> (Option<&str>, &str) {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let folder = folder.rsplit('/').next().unwrap_or(folder);
    (Some(folder).filter(|folder| is_number(folder)), name)
}

/// A name of digits alone.
pub(super) fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit())
}

fn bytes_value(bytes: &[u8]) -> Value {
    if bytes.len() > MANY_ZEROS && bytes.iter().all(|&b| b == 0) {
        return json!({ "zeros": bytes.len() });
    }
    let plain = |c: char| !c.is_control() || c == '\n' || c == '\t' || c == '\u{1b}' || c == '\r';
    let Some(text) = core::str::from_utf8(bytes).ok().filter(|t| t.chars().all(plain)) else {
        return json!({ "base64": form::base64(bytes) });
    };
    match text.strip_suffix('\n') {
        Some(body) if body.contains('\n') => write_lines(body),
        _ => Value::from(text),
    }
}

/// One string a line; a number for that many lines that were left out.
fn write_lines(body: &str) -> Value {
    let mut items: Vec<Value> = Vec::new();
    let mut left_out = 0u64;
    for line in body.split('\n') {
        if line == LEFT_OUT {
            if left_out > 0 {
                items.push(left_out.into());
            }
            left_out = 1;
        } else if left_out > 0 && line.is_empty() {
            left_out += 1;
        } else {
            if left_out > 0 {
                items.push(left_out.into());
                left_out = 0;
            }
            items.push(line.into());
        }
    }
    if left_out > 0 {
        items.push(left_out.into());
    }
    Value::Array(items)
}

fn read_lines(lines: &[Value], budget: &mut Budget) -> Result<Vec<u8>, String> {
    let mut text = String::new();
    for line in lines {
        match line {
            Value::String(line) if !line.contains('\n') => {
                budget.take(line.len() + 1)?;
                text.push_str(line);
                text.push('\n');
            }
            Value::Number(_) => {
                let count = line.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n > 0);
                let count = count.ok_or("expected a number of lines")?;
                budget.take(count.saturating_add(LEFT_OUT.len()))?;
                text.push_str(LEFT_OUT);
                text.push_str(&"\n".repeat(count));
            }
            _ => return Err("expected lines: strings without line feeds, or numbers".to_owned()),
        }
    }
    Ok(text.into_bytes())
}

fn read_object(map: &Map<String, Value>, budget: &mut Budget) -> Result<Content, String> {
    match only(map) {
        Some(("unreadable", Value::String(why))) => Ok(Content::Unreadable(why.clone())),
        Some(("base64", Value::String(text))) => {
            budget.take(text.len())?;
            form::from_base64(text).map(Content::Bytes).ok_or_else(|| "expected base64".to_owned())
        }
        Some(("zeros", value)) => {
            let count = value.as_u64().and_then(|n| usize::try_from(n).ok());
            let count = count.ok_or("expected a number of bytes")?;
            budget.take(count)?;
            Ok(Content::Bytes(vec![0; count]))
        }
        _ => Err("expected one of \"unreadable\", \"base64\" and \"zeros\"".to_owned()),
    }
}

fn only(map: &Map<String, Value>) -> Option<(&str, &Value)> {
    let mut items = map.iter();
    let (key, value) = items.next()?;
    items.next().is_none().then_some((key.as_str(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(content: &Content) -> Content {
        write(content).map_or(Content::NotRead, |value| {
            read(&value, &mut Budget::new()).expect("what was written")
        })
    }

    #[test]
    fn every_content_comes_back_byte_for_byte() {
        let mut contents: Vec<Content> = vec![
            Content::NotRead,
            Content::Absent,
            Content::Unreadable("Permission denied (os error 13)".to_owned()),
            Content::Bytes((0..=255).collect()),
            Content::Bytes(vec![0; 70_000]),
            Content::Bytes(vec![0; 3]),
            Content::Bytes(b"\xff\xfe".to_vec()),
        ];
        // Every text of up to six of these: line feeds, the mark for lines left out, and a letter.
        let mut texts = vec![String::new()];
        for _ in 0..6 {
            let longer = |t: &String| ["\n", "~", "a"].map(|c| format!("{t}{c}"));
            texts.extend(texts.clone().iter().flat_map(longer));
            texts.sort();
            texts.dedup();
        }
        contents.extend(texts.into_iter().map(|t| Content::Bytes(t.into_bytes())));
        assert!(contents.len() > 1000);
        for content in contents {
            assert_eq!(again(&content), content);
        }
    }

    #[test]
    fn a_few_bytes_cannot_stand_for_much_memory() {
        let bombs = [
            json!({ "zeros": u64::MAX }),
            json!([u64::MAX]),
            json!([60_000_000, 60_000_000]),
            json!({ "zeros": MAX_INPUT + 1 }),
        ];
        for bomb in bombs {
            assert!(read(&bomb, &mut Budget::new()).is_err(), "{bomb}");
        }
        let files: Map<String, Value> =
            (0..100).map(|n| (n.to_string(), json!({ "zeros": MAX_INPUT / 50 }))).collect();
        assert!(read_directory(&json!({ "files": files }), &mut Budget::new()).is_err());
        for odd in [json!(true), json!({}), json!(["two\nlines"]), json!([0]), json!([1.5])] {
            assert!(read(&odd, &mut Budget::new()).is_err(), "{odd}");
        }
    }

    #[test]
    fn directories_come_back_with_short_paths() {
        let files = |paths: [&str; 5]| {
            let content = |path: &str| match path.len() {
                7 => Content::Unreadable("no".to_owned()),
                _ => Content::Bytes(path.rsplit('/').next().unwrap_or(path).into()),
            };
            let file =
                |path: &str| (path.to_owned(), content(path.rsplit('/').next().unwrap_or(path)));
            Directory::Files(paths.map(file).to_vec())
        };
        let long = files([
            "/sys/firmware/memmap/10/start",
            "/sys/firmware/memmap/3/subtype",
            "/sys/firmware/memmap/3/start",
            "/sys/class/dmi/id/bios_date",
            "7/end",
        ]);
        let short = files(["10/start", "3/start", "3/subtype", "7/end", "bios_date"]);
        let value = write_directory(&long).expect("files");
        assert_eq!(read_directory(&value, &mut Budget::new()), Ok(short.clone()));
        assert_eq!(write_directory(&short), Some(value));
        for other in
            [Directory::Absent, Directory::Unreadable("no".to_owned()), Directory::Files(vec![])]
        {
            let value = write_directory(&other).expect("a value");
            assert_eq!(read_directory(&value, &mut Budget::new()), Ok(other));
        }
        for odd in
            [json!(1), json!({}), json!({ "files": [] }), json!({ "files": { "x": { "y": "z" } } })]
        {
            assert!(read_directory(&odd, &mut Budget::new()).is_err(), "{odd}");
        }
    }
}
