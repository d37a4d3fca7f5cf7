//! `docs/bundle.schema.json` describes what is written: every field, and no other.

use std::path::{Path, PathBuf};

use identmap::{PhysAddr, PhysRange};
use identmap_machine::bundle::{
    Blob, BlobKind, Bundle, Extra, Facts, Image, LeafRun, ReadTables, Tables, TablesState,
};
use identmap_machine::live::{Content, CpuidLeaf, Directory, Inputs};
use identmap_machine::samples;
use serde_json::{Map, Value};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn schema() -> Value {
    let text = std::fs::read_to_string(root().join("docs/bundle.schema.json")).expect("the schema");
    serde_json::from_str(&text).expect("JSON")
}

/// The keywords of JSON Schema 2020-12 that the schema uses; any other is a mistake of this test.
struct Validator {
    schema: Value,
}

impl Validator {
    fn check(&self, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
        let wrong = |what: String| Err(format!("{at}: {what}"));
        let rules = schema.as_object().expect("a schema");
        for (keyword, rule) in rules {
            match keyword.as_str() {
                "$ref" => {
                    let pointer =
                        rule.as_str().and_then(|r| r.strip_prefix('#')).expect("a pointer");
                    self.check(self.schema.pointer(pointer).expect(pointer), value, at)?;
                }
                "const" if value != rule => return wrong(format!("{value} is not {rule}")),
                "enum" if !rule.as_array().expect("a list").contains(value) => {
                    return wrong(format!("{value} is none of {rule}"));
                }
                "type" if !is_a(value, rule.as_str().expect("a type")) => {
                    return wrong(format!("{value:.80} is no {rule}"));
                }
                "minimum" if value.as_u64() < rule.as_u64() => {
                    return wrong(format!("{value} is too small"));
                }
                "pattern"
                    if !matches(
                        value.as_str().unwrap_or(""),
                        rule.as_str().expect("a pattern"),
                    ) =>
                {
                    return wrong(format!("{value} does not match {rule}"));
                }
                "required" => {
                    let names = rule.as_array().expect("a list");
                    if let Some(missing) =
                        names.iter().find(|n| value.get(n.as_str().expect("a name")).is_none())
                    {
                        return wrong(format!("{missing} is missing"));
                    }
                }
                "properties" => {
                    for (name, schema) in rule.as_object().expect("properties") {
                        if let Some(value) = value.get(name) {
                            self.check(schema, value, &format!("{at}.{name}"))?;
                        }
                    }
                }
                "additionalProperties" => {
                    let none = Map::new();
                    let named = rules.get("properties").and_then(Value::as_object).unwrap_or(&none);
                    for (name, value) in value.as_object().unwrap_or(&none) {
                        match rule {
                            _ if named.contains_key(name) => {}
                            Value::Bool(false) => return wrong(format!("{name:?} is not known")),
                            schema => self.check(schema, value, &format!("{at}.{name}"))?,
                        }
                    }
                }
                "items" => {
                    for (number, item) in value.as_array().into_iter().flatten().enumerate() {
                        self.check(rule, item, &format!("{at}[{number}]"))?;
                    }
                }
                "anyOf" | "oneOf" => {
                    let all = rule.as_array().expect("schemas");
                    let fit = all.iter().filter(|s| self.check(s, value, at).is_ok()).count();
                    if fit == 0 || keyword == "oneOf" && fit > 1 {
                        return wrong(format!("{fit} of {} forms fit", all.len()));
                    }
                }
                // The last five have passed.
                "$schema" | "$defs" | "title" | "description" | "const" | "enum" | "type"
                | "minimum" | "pattern" => {}
                other => panic!("the test does not know {other}"),
            }
        }
        Ok(())
    }

    fn file(&self, text: &str) -> Result<(), String> {
        self.check(&self.schema, &serde_json::from_str(text).expect("JSON"), "")
    }
}

fn is_a(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_u64(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the test does not know {other}"),
    }
}

/// `^WORD[0-9a-f]+$` and `^WORD[0-9a-f]{N}$`.
fn matches(text: &str, pattern: &str) -> bool {
    let (word, rest) = pattern[1..].split_once("[0-9a-f]").expect("a pattern of these");
    let count = rest.trim_end_matches('$').trim_matches(['{', '}']);
    text.strip_prefix(word).is_some_and(|digits| {
        let hex = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        hex && if count == "+" { !digits.is_empty() } else { digits.len().to_string() == count }
    })
}

/// Everything that can be in a bundle.
fn everything() -> Bundle {
    let text = || Content::Bytes(b"one\n~\n\nmore\n".to_vec());
    let blob = || Content::Bytes(vec![0xff, 0]);
    let files = || {
        let list = [
            ("0/data", blob()),
            ("0/type", text()),
            ("name", Content::Unreadable("no".to_owned())),
        ];
        Directory::Files(list.map(|(path, content)| (path.to_owned(), content)).to_vec())
    };
    let inputs = Inputs {
        source: String::new(),
        dmesg: text(),
        iomem: Content::Unreadable("Permission denied".to_owned()),
        cmdline: Content::Bytes(b"ro".to_vec()),
        cpuinfo: text(),
        meminfo: text(),
        version: text(),
        osrelease: text(),
        firmware_memmap: files(),
        efi_exists: Some(false),
        efi_systab: Content::Absent,
        efi_config_table: text(),
        efi_fw_vendor: text(),
        efi_runtime: text(),
        efi_fw_platform_size: text(),
        runtime_map: Directory::Unreadable("no".to_owned()),
        boot_params: blob(),
        setup_data: files(),
        dmi: Directory::Absent,
        sgi_uv: files(),
        proc_sgi_uv: files(),
        acpi_madt: Content::Bytes(vec![0; 100]),
        kexec_loaded: text(),
        kexec_crash_loaded: text(),
        cpuid: vec![CpuidLeaf { leaf: 0x8000_0000, subleaf: 0, eax: 1, ebx: 2, ecx: 3, edx: 4 }],
    };
    let extra = Extra {
        kernel_config: text(),
        kexec_crash_size: text(),
        kexec_load_disabled: text(),
        lockdown: text(),
    };
    let kinds = [
        BlobKind::EfiSystemTable,
        BlobKind::EfiConfigTable,
        BlobKind::AcpiRsdp,
        BlobKind::AcpiTable,
        BlobKind::SetupDataHeader,
        BlobKind::PageTable,
    ];
    let rights = [true, false, true];
    let run = |page| LeafRun { virt: 0, phys: PhysAddr::ZERO, page, count: 1, flags: 0x63, rights };
    let tables = |image, levels| {
        let state = TablesState::Read(ReadTables {
            root: PhysAddr::ZERO,
            levels,
            maxphyaddr: 46,
            pdpe1gb: true,
            encryption_mask: 0,
            counts: [1, 2, 3, 4, 0],
            segments: vec![PhysRange::new(0x1000, 0x2000).expect("a range")],
            leaves: [1 << 12, 1 << 21, 1 << 30].map(run).to_vec(),
        });
        Tables { image, state }
    };
    let not_read = TablesState::NotRead("no image is loaded".to_owned());
    let not_read = Tables { image: Image::Crash, state: not_read };
    Bundle {
        extra,
        left_out: vec!["something".to_owned()],
        memory: kinds.map(|kind| Blob { kind, start: PhysAddr::ZERO, bytes: vec![0] }).to_vec(),
        tables: vec![tables(Image::Kexec, 4), tables(Image::Crash, 5), not_read],
        ..Bundle::new(Facts::Live(Box::new(inputs)))
    }
}

#[test]
fn what_is_written_is_as_the_schema_says() {
    let validator = Validator { schema: schema() };
    let full = everything().write().expect("small");
    assert_eq!(validator.file(&full), Ok(()));
    assert_eq!(Bundle::read("b", full.as_bytes()), Ok(everything()));
    for sample in samples() {
        let text = Bundle::new(Facts::Text(sample.bytes.to_vec())).write().expect(sample.name);
        assert_eq!(validator.file(&text), Ok(()), "{}", sample.name);
    }
    for name in ["v1-live.json", "v1-text.json"] {
        let file = std::fs::read_to_string(root().join("testdata/bundles").join(name)).expect(name);
        assert_eq!(validator.file(&file), Ok(()), "{name}");
    }
}

#[test]
fn the_schema_names_every_field_and_no_other() {
    let schema = schema();
    let full: Value = serde_json::from_str(&everything().write().expect("small")).expect("JSON");
    let names = |value: &Value| -> Vec<String> {
        let mut names: Vec<String> =
            value.as_object().expect("an object").keys().cloned().collect();
        names.sort();
        names
    };
    let mut top = names(&full);
    top.push("text".to_owned());
    top.sort();
    assert_eq!(names(&schema["properties"]), top);
    for (described, written) in [
        (&schema["properties"]["live"], &full["live"]),
        (&schema["$defs"]["cpuid"], &full["cpuid"][0]),
        (&schema["$defs"]["memory"], &full["memory"][0]),
        (&schema["$defs"]["tables"], &full["tables"][0]),
        (&schema["$defs"]["tables_not_read"], &full["tables"][2]),
        (&schema["$defs"]["leaves"], &full["tables"][0]["leaves"][0]),
    ] {
        assert_eq!(names(&described["properties"]), names(written));
    }
}

/// Each value of a bundle, one after the other, becomes something that it cannot be.
#[test]
fn what_is_not_written_does_not_fit_the_schema() {
    let validator = Validator { schema: schema() };
    let full: Value = serde_json::from_str(&everything().write().expect("small")).expect("JSON");
    let mut places = Vec::new();
    pointers(&full, "", &mut places);
    let mut refused = 0;
    for place in &places {
        let mut odd = full.clone();
        *odd.pointer_mut(place).expect("a place") = Value::from(-1.5);
        assert!(validator.check(&validator.schema, &odd, "").is_err(), "{place}");
        refused += 1;
        let mut more = full.clone();
        // Files of a directory may have any name.
        let names_are_free = place.ends_with("/files") || place.contains("/files/");
        if let Some(Value::Object(map)) = more.pointer_mut(place)
            && !names_are_free
        {
            map.insert("surprise".to_owned(), Value::from(1));
            assert!(validator.check(&validator.schema, &more, "").is_err(), "{place}");
            refused += 1;
        }
    }
    println!("{refused} changes refused");
    assert!(refused > 150);
}

fn pointers(value: &Value, at: &str, places: &mut Vec<String>) {
    let mut below = |name: &str, value: &Value| {
        let place = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        places.push(place.clone());
        pointers(value, &place, places);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| below(name, value)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(number, value)| below(&number.to_string(), value));
        }
        _ => {}
    }
}
