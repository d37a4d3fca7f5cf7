//! Names and places of the facts in the file: schema 1, described in `docs/bundle.schema.json`.

use identmap::{PhysAddr, PhysRange};
use serde_json::{Map, Value, json};

use super::content::{self, Budget};
use super::json as form;
use super::{
    Blob, BlobKind, Bundle, Extra, Facts, Image, LeafRun, Part, PartState, ReadTables, SCHEMA,
    Tables, TablesState, VERSION,
};
use crate::live::{Content, CpuidLeaf, Directory, Inputs};

/// `EFI` as a whole: whether the directory exists.
const EFI: &str = "/sys/firmware/efi";

/// Where a content stands in the file, by the name of what it was read from.
fn contents<'a>(
    inputs: &'a mut Inputs,
    extra: &'a mut Extra,
) -> [(&'static str, &'a mut Content); 20] {
    [
        ("dmesg", &mut inputs.dmesg),
        ("/proc/iomem", &mut inputs.iomem),
        ("/proc/cmdline", &mut inputs.cmdline),
        ("/proc/cpuinfo", &mut inputs.cpuinfo),
        ("/proc/meminfo", &mut inputs.meminfo),
        ("/proc/version", &mut inputs.version),
        ("/proc/sys/kernel/osrelease", &mut inputs.osrelease),
        ("/sys/firmware/efi/systab", &mut inputs.efi_systab),
        ("/sys/firmware/efi/config_table", &mut inputs.efi_config_table),
        ("/sys/firmware/efi/fw_vendor", &mut inputs.efi_fw_vendor),
        ("/sys/firmware/efi/runtime", &mut inputs.efi_runtime),
        ("/sys/firmware/efi/fw_platform_size", &mut inputs.efi_fw_platform_size),
        ("/sys/kernel/boot_params/data", &mut inputs.boot_params),
        ("/sys/firmware/acpi/tables/APIC", &mut inputs.acpi_madt),
        ("/sys/kernel/kexec_loaded", &mut inputs.kexec_loaded),
        ("/sys/kernel/kexec_crash_loaded", &mut inputs.kexec_crash_loaded),
        ("/sys/kernel/kexec_crash_size", &mut extra.kexec_crash_size),
        ("/proc/sys/kernel/kexec_load_disabled", &mut extra.kexec_load_disabled),
        ("/sys/kernel/security/lockdown", &mut extra.lockdown),
        ("kernel config", &mut extra.kernel_config),
    ]
}

fn directories(inputs: &mut Inputs) -> [(&'static str, &mut Directory); 6] {
    [
        ("/sys/firmware/memmap", &mut inputs.firmware_memmap),
        ("/sys/firmware/efi/runtime-map", &mut inputs.runtime_map),
        ("/sys/kernel/boot_params/setup_data", &mut inputs.setup_data),
        ("/sys/class/dmi/id", &mut inputs.dmi),
        ("/sys/firmware/sgi_uv", &mut inputs.sgi_uv),
        ("/proc/sgi_uv", &mut inputs.proc_sgi_uv),
    ]
}

/// Everything but the checksum.
pub(super) fn write(bundle: &Bundle) -> Map<String, Value> {
    let mut out = Map::new();
    out.insert("schema".to_owned(), format!("{SCHEMA}{VERSION}").into());
    out.insert("made_by".to_owned(), bundle.made_by.as_str().into());
    out.insert("redacted".to_owned(), bundle.redacted.into());
    out.insert("left_out".to_owned(), bundle.left_out.clone().into());
    match &bundle.facts {
        Facts::Live(inputs) => {
            out.insert("live".to_owned(), write_live(inputs, &bundle.extra).into());
            let leaves: Vec<Value> = inputs.cpuid.iter().map(write_cpuid).collect();
            out.insert("cpuid".to_owned(), leaves.into());
        }
        Facts::Text(bytes) => {
            let text = content::write(&Content::Bytes(bytes.clone()));
            out.insert("text".to_owned(), text.unwrap_or_default());
        }
    }
    let memory: Vec<Value> = bundle.memory.iter().map(write_blob).collect();
    let tables: Vec<Value> = bundle.tables.iter().map(write_tables).collect();
    out.insert("memory".to_owned(), memory.into());
    out.insert("tables".to_owned(), tables.into());
    out
}

/// See [`Bundle::parts`].
pub(super) fn parts(bundle: &Bundle) -> Vec<Part> {
    let mut parts = Vec::new();
    let held =
        |name: &str, bytes: usize| Part { name: name.to_owned(), state: PartState::Held { bytes } };
    let state = |content: &Content| match content {
        Content::NotRead => None,
        Content::Absent => Some(PartState::Absent),
        Content::Unreadable(why) => Some(PartState::Unreadable { why: why.clone() }),
        Content::Bytes(bytes) => Some(PartState::Held { bytes: bytes.len() }),
    };
    match &bundle.facts {
        Facts::Text(bytes) => parts.push(held("text", bytes.len())),
        Facts::Live(inputs) => {
            let (mut inputs, mut extra) = (inputs.clone(), bundle.extra.clone());
            for (name, directory) in directories(&mut inputs) {
                let state = match directory {
                    Directory::NotRead => None,
                    Directory::Absent => Some(PartState::Absent),
                    Directory::Unreadable(why) => Some(PartState::Unreadable { why: why.clone() }),
                    Directory::Files(files) => {
                        let bytes =
                            files.iter().filter_map(|(_, c)| c.bytes()).map(<[u8]>::len).sum();
                        let unreadable = files.iter().find_map(|(_, c)| match c {
                            Content::Unreadable(why) => Some(why.clone()),
                            _ => None,
                        });
                        Some(match unreadable {
                            Some(why) if bytes == 0 => PartState::Unreadable { why },
                            _ => PartState::Held { bytes },
                        })
                    }
                };
                parts.extend(state.map(|state| Part { name: name.to_owned(), state }));
            }
            for (name, content) in contents(&mut inputs, &mut extra) {
                parts.extend(state(content).map(|state| Part { name: name.to_owned(), state }));
            }
            parts.sort_by(|a, b| a.name.cmp(&b.name));
            if !inputs.cpuid.is_empty() {
                parts.push(held("cpuid", inputs.cpuid.len() * size_of::<CpuidLeaf>()));
            }
        }
    }
    for blob in &bundle.memory {
        let kind = BLOBS.iter().find(|(_, kind)| *kind == blob.kind).map_or("", |(name, _)| name);
        parts.push(held(&format!("memory at {}: {kind}", hex(blob.start.get())), blob.bytes.len()));
    }
    for tables in &bundle.tables {
        let image =
            IMAGES.iter().find(|(_, image)| *image == tables.image).map_or("", |(name, _)| name);
        let what = format!("tables of the {image} image");
        match &tables.state {
            TablesState::Read(read) => {
                parts.push(held(&what, size_of_val(read.leaves.as_slice())));
            }
            TablesState::NotRead(why) => {
                let state = PartState::Unreadable { why: why.clone() };
                parts.push(Part { name: what, state });
            }
        }
    }
    parts
}

fn write_live(inputs: &Inputs, extra: &Extra) -> Map<String, Value> {
    let (mut inputs, mut extra) = (inputs.clone(), extra.clone());
    let mut live = Map::new();
    if let Some(exists) = inputs.efi_exists {
        live.insert(EFI.to_owned(), exists.into());
    }
    for (name, directory) in directories(&mut inputs) {
        if let Some(value) = content::write_directory(directory) {
            live.insert(name.to_owned(), value);
        }
    }
    for (name, content) in contents(&mut inputs, &mut extra) {
        if let Some(value) = content::write(content) {
            live.insert(name.to_owned(), value);
        }
    }
    live
}

/// `registers`: EAX, EBX, ECX, EDX.
fn write_cpuid(leaf: &CpuidLeaf) -> Value {
    let registers = [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx].map(|r| format!("{r:#010x}"));
    json!({
        "leaf": format!("{:#x}", leaf.leaf),
        "subleaf": format!("{:#x}", leaf.subleaf),
        "registers": registers,
    })
}

fn write_blob(blob: &Blob) -> Value {
    let kind = BLOBS.iter().find(|(_, kind)| *kind == blob.kind).map_or("", |(name, _)| name);
    json!({
        "what": kind,
        "start": hex(blob.start.get()),
        "base64": form::base64(&blob.bytes),
    })
}

const BLOBS: [(&str, BlobKind); 6] = [
    ("efi-system-table", BlobKind::EfiSystemTable),
    ("efi-config-table", BlobKind::EfiConfigTable),
    ("acpi-rsdp", BlobKind::AcpiRsdp),
    ("acpi-table", BlobKind::AcpiTable),
    ("setup-data-header", BlobKind::SetupDataHeader),
    ("page-table", BlobKind::PageTable),
];

const IMAGES: [(&str, Image); 2] = [("kexec", Image::Kexec), ("crash", Image::Crash)];

const PAGES: [(&str, u64); 3] = [("4K", 1 << 12), ("2M", 1 << 21), ("1G", 1 << 30)];

fn write_tables(tables: &Tables) -> Value {
    let image =
        IMAGES.iter().find(|(_, image)| *image == tables.image).map_or("", |(name, _)| name);
    let read = match &tables.state {
        TablesState::NotRead(why) => return json!({ "image": image, "not_read": why }),
        TablesState::Read(read) => read,
    };
    let leaves: Vec<Value> = read.leaves.iter().map(write_leaves).collect();
    let segment = |range: &PhysRange| json!([hex(range.start().get()), hex(range.last().get())]);
    let segments: Vec<Value> = read.segments.iter().map(segment).collect();
    json!({
        "image": image, "root": hex(read.root.get()), "levels": read.levels,
        "maxphyaddr": read.maxphyaddr, "pdpe1gb": read.pdpe1gb,
        "encryption_mask": hex(read.encryption_mask), "counts": read.counts,
        "segments": segments, "leaves": leaves,
    })
}

fn write_leaves(run: &LeafRun) -> Value {
    let page = PAGES.iter().find(|(_, size)| *size == run.page).map_or("", |(name, _)| name);
    json!({
        "virt": hex(run.virt), "phys": hex(run.phys.get()), "page": page,
        "count": run.count, "flags": hex(run.flags), "rights": run.rights,
    })
}

/// As the kernel prints addresses.
fn hex(value: u64) -> String {
    format!("{value:#018x}")
}

/// Reads schema 1, after its checksum was found right.
pub(super) fn read(content: &Map<String, Value>) -> Result<Bundle, String> {
    let mut fields = Fields::of(content, "");
    let _ = fields.take("schema")?;
    let _ = fields.take(super::json::INTEGRITY)?;
    let made_by = text(fields.take("made_by")?, "made_by")?;
    let redacted = boolean(fields.take("redacted")?, "redacted")?;
    let left_out = list(fields.take("left_out")?, "left_out", |v| text(v, "left_out"))?;
    let memory = list(fields.take("memory")?, "memory", read_blob)?;
    let tables = list(fields.take("tables")?, "tables", read_tables)?;
    let mut extra = Extra::default();
    let mut budget = Budget::new();
    let facts = match fields.optional("live") {
        Some(Value::Object(live)) => {
            let mut inputs = read_live(live, &mut extra, &mut budget)?;
            inputs.cpuid = list(fields.take("cpuid")?, "cpuid", read_cpuid)?;
            Facts::Live(Box::new(inputs))
        }
        Some(_) => return Err("live: expected an object".to_owned()),
        None => match content::read(fields.take("text")?, &mut budget)? {
            Content::Bytes(bytes) => Facts::Text(bytes),
            _ => return Err("text: expected lines".to_owned()),
        },
    };
    fields.end()?;
    Ok(Bundle { made_by, redacted, left_out, facts, extra, memory, tables })
}

fn read_live(
    live: &Map<String, Value>,
    extra: &mut Extra,
    budget: &mut Budget,
) -> Result<Inputs, String> {
    let mut fields = Fields::of(live, "live");
    let mut inputs = Inputs::default();
    if let Some(exists) = fields.optional(EFI) {
        inputs.efi_exists = Some(boolean(exists, EFI)?);
    }
    for (name, directory) in directories(&mut inputs) {
        if let Some(value) = fields.optional(name) {
            *directory =
                content::read_directory(value, budget).map_err(|why| format!("{name}: {why}"))?;
        }
    }
    for (name, content) in contents(&mut inputs, extra) {
        if let Some(value) = fields.optional(name) {
            *content = content::read(value, budget).map_err(|why| format!("{name}: {why}"))?;
        }
    }
    fields.end()?;
    Ok(inputs)
}

fn read_cpuid(value: &Value) -> Result<CpuidLeaf, String> {
    let word = |value: &Value| {
        let value = number(value, "cpuid")?;
        u32::try_from(value).map_err(|_| "cpuid: more than 32 bits".to_owned())
    };
    let mut fields = Fields::of_value(value, "cpuid")?;
    let leaf = word(fields.take("leaf")?)?;
    let subleaf = word(fields.take("subleaf")?)?;
    let registers = list(fields.take("registers")?, "registers", word)?;
    fields.end()?;
    match registers[..] {
        [eax, ebx, ecx, edx] => Ok(CpuidLeaf { leaf, subleaf, eax, ebx, ecx, edx }),
        _ => Err("cpuid: expected four registers".to_owned()),
    }
}

fn read_blob(value: &Value) -> Result<Blob, String> {
    let mut fields = Fields::of_value(value, "memory")?;
    let kind = named(fields.take("what")?, "what", &BLOBS)?;
    let start = address(fields.take("start")?, "start")?;
    let bytes = form::from_base64(&text(fields.take("base64")?, "base64")?);
    fields.end()?;
    let blob = Blob { kind, start, bytes: bytes.ok_or("memory: expected base64")? };
    blob.range().map_err(|error| format!("memory: {error}"))?;
    Ok(blob)
}

fn read_tables(value: &Value) -> Result<Tables, String> {
    let mut fields = Fields::of_value(value, "tables")?;
    let image = named(fields.take("image")?, "image", &IMAGES)?;
    if let Some(why) = fields.optional("not_read") {
        let why = text(why, "not_read")?;
        fields.end()?;
        return Ok(Tables { image, state: TablesState::NotRead(why) });
    }
    let root = address(fields.take("root")?, "root")?;
    let levels = match fields.take("levels")?.as_u64() {
        Some(4) => 4,
        Some(5) => 5,
        _ => return Err("levels: expected 4 or 5".to_owned()),
    };
    let maxphyaddr = fields.take("maxphyaddr")?.as_u64().filter(|bits| (32..=52).contains(bits));
    let maxphyaddr = maxphyaddr.and_then(|bits| u8::try_from(bits).ok());
    let maxphyaddr = maxphyaddr.ok_or("maxphyaddr: expected 32 to 52")?;
    let pdpe1gb = fields.take("pdpe1gb")?.as_bool().ok_or("pdpe1gb: expected true or false")?;
    let encryption_mask = number(fields.take("encryption_mask")?, "encryption_mask")?;
    let counts = list(fields.take("counts")?, "counts", |value| {
        value.as_u64().ok_or_else(|| "counts: expected numbers".to_owned())
    })?;
    let counts = counts.try_into().map_err(|_| "counts: expected five")?;
    let segments = list(fields.take("segments")?, "segments", read_segment)?;
    let leaves = list(fields.take("leaves")?, "leaves", read_leaves)?;
    fields.end()?;
    let read =
        ReadTables { root, levels, maxphyaddr, pdpe1gb, encryption_mask, counts, segments, leaves };
    Ok(Tables { image, state: TablesState::Read(read) })
}

fn read_segment(value: &Value) -> Result<PhysRange, String> {
    let ends = list(value, "segments", |end| number(end, "segments"))?;
    match ends[..] {
        [start, last] => {
            PhysRange::from_inclusive(start, last).map_err(|e| format!("segments: {e}"))
        }
        _ => Err("segments: expected a first and a last byte".to_owned()),
    }
}

fn read_rights(value: &Value) -> Result<[bool; 3], String> {
    let rights = list(value, "rights", |right| {
        right.as_bool().ok_or_else(|| "rights: expected true or false".to_owned())
    })?;
    rights.try_into().map_err(|_| "rights: expected three".to_owned())
}

fn read_leaves(value: &Value) -> Result<LeafRun, String> {
    let mut fields = Fields::of_value(value, "leaves")?;
    let run = LeafRun {
        virt: number(fields.take("virt")?, "virt")?,
        phys: address(fields.take("phys")?, "phys")?,
        page: named(fields.take("page")?, "page", &PAGES)?,
        count: fields.take("count")?.as_u64().ok_or("count: expected a number")?,
        flags: number(fields.take("flags")?, "flags")?,
        rights: read_rights(fields.take("rights")?)?,
    };
    fields.end()?;
    let bytes = run.count.checked_mul(run.page).filter(|len| *len > 0);
    let fits = bytes.is_some_and(|len| {
        run.virt.checked_add(len - 1).is_some()
            && identmap::PhysRange::from_len(run.phys.get(), len).is_ok()
    });
    if fits { Ok(run) } else { Err("leaves: a run that is no range".to_owned()) }
}

/// The fields of an object: every one must be asked for.
struct Fields<'a> {
    rest: Vec<(&'a str, &'a Value)>,
    of: &'a str,
}

impl<'a> Fields<'a> {
    fn of(map: &'a Map<String, Value>, of: &'a str) -> Fields<'a> {
        Fields { rest: map.iter().map(|(k, v)| (k.as_str(), v)).collect(), of }
    }

    fn of_value(value: &'a Value, of: &'a str) -> Result<Fields<'a>, String> {
        let map = value.as_object().ok_or_else(|| format!("{of}: expected an object"))?;
        Ok(Fields::of(map, of))
    }

    fn optional(&mut self, name: &str) -> Option<&'a Value> {
        let at = self.rest.iter().position(|(key, _)| *key == name)?;
        Some(self.rest.swap_remove(at).1)
    }

    fn take(&mut self, name: &str) -> Result<&'a Value, String> {
        self.optional(name).ok_or_else(|| format!("{}: {name:?} is missing", self.of))
    }

    fn end(&self) -> Result<(), String> {
        match self.rest.first() {
            None => Ok(()),
            Some((name, _)) => Err(format!("{}: {name:.60?} is not known", self.of)),
        }
    }
}

fn text(value: &Value, name: &str) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| format!("{name}: expected a string"))
}

fn boolean(value: &Value, name: &str) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("{name}: expected true or false"))
}

fn number(value: &Value, name: &str) -> Result<u64, String> {
    let digits = value.as_str().and_then(|t| t.strip_prefix("0x"));
    let digits = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
    digits
        .and_then(|d| u64::from_str_radix(d, 16).ok())
        .ok_or_else(|| format!("{name}: expected a hexadecimal number, 0x..."))
}

fn address(value: &Value, name: &str) -> Result<PhysAddr, String> {
    PhysAddr::new(number(value, name)?).ok_or_else(|| format!("{name}: past 52 bits"))
}

fn named<T: Copy>(value: &Value, name: &str, words: &[(&str, T)]) -> Result<T, String> {
    let word = value.as_str().unwrap_or_default();
    words
        .iter()
        .find(|(known, _)| *known == word)
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| format!("{name}: {word:.40?} is not known"))
}

fn list<T>(
    value: &Value,
    name: &str,
    read: impl Fn(&Value) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let items = value.as_array().ok_or_else(|| format!("{name}: expected an array"))?;
    items.iter().map(read).collect()
}
