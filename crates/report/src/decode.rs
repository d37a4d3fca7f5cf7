//! `identmap decode`: what registers say, and what the addresses in them are on a machine.

use std::fmt::Write;

use identmap::{PhysAddr, PhysRange};
use identmap_audit::Audit;
use identmap_linux::Place;
use identmap_machine::Machine;
use identmap_machine::dump::{
    Bit, Dump, ENTRY_ADDRESS, Origin, control_bits, entry_bits, error_bits, unknown_error_bits,
    vector,
};
use serde::Serialize;

use crate::hex::{Hex, HexRange};
use crate::load_error::LoadError;
use crate::text::{Style, Tone};
use crate::wrap::wrapped;

/// The schema `identmap.decode/1`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct DecodeReport {
    schema: &'static str,
    source: String,
    /// The machine that addresses were looked up on.
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<String>,
    dumps: Vec<DumpRow>,
    /// Why images were not loaded, in the order of the log.
    errors: Vec<LoadError>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct DumpRow {
    origin: &'static str,
    line: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    exception: Option<ExceptionRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    addresses: Vec<AddressRow>,
    registers: Vec<RegisterRow>,
    entries: Vec<EntryRow>,
    /// What it comes to, for people.
    notes: Vec<String>,
    #[serde(skip)]
    heading: &'static str,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct ExceptionRow {
    vector: u8,
    name: &'static str,
    what: &'static str,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct ErrorRow {
    code: Hex,
    bits: Vec<BitRow>,
    /// Bits that no manual names.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<Hex>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct BitRow {
    bit: u8,
    name: &'static str,
    what: &'static str,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct RegisterRow {
    name: &'static str,
    value: Hex,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bits: Vec<&'static str>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct EntryRow {
    level: &'static str,
    entry: Hex,
    address: Hex,
    bits: Vec<&'static str>,
}

/// An address and what it is on the machine, supposing that it is a physical one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct AddressRow {
    /// `fault` or `rip`.
    what: &'static str,
    address: Hex,
    /// Whether this was surely under an identity map.
    identity: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<MemoryRow>,
    /// What the next kernel needs and lies there, or may.
    needed: Vec<String>,
    /// Why nothing had better be mapped there.
    hazards: Vec<String>,
    /// In which segment of the image that is loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<HexRange>,
    maps: Vec<MapRow>,
    #[serde(skip)]
    looked_up: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct MemoryRow {
    kind: String,
    #[serde(flatten)]
    range: HexRange,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct MapRow {
    /// By which producers.
    under: String,
    /// `requested`, `over-reach` or `not-mapped`.
    why: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    page: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest_below: Option<Hex>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nearest_above: Option<Hex>,
}

impl DecodeReport {
    /// Explains dumps; with a machine, also what the addresses are there.
    #[must_use]
    pub fn new(source: &str, dumps: &[Dump], on: Option<(&Machine, &Audit)>) -> DecodeReport {
        DecodeReport {
            schema: "identmap.decode/1",
            source: source.to_owned(),
            machine: on.map(|(machine, _)| {
                machine.hardware.clone().unwrap_or_else(|| machine.source.clone())
            }),
            dumps: dumps.iter().map(|dump| dump_row(dump, on)).collect(),
            errors: Vec::new(),
        }
    }

    /// With what says why an image was not loaded.
    #[must_use]
    pub fn with_errors(self, errors: Vec<LoadError>) -> DecodeReport {
        DecodeReport { errors, ..self }
    }

    /// As text, a block for each dump and each error.
    #[must_use]
    pub fn text(&self, style: Style) -> String {
        let dumps = self.dumps.iter().map(|dump| {
            let mut out = String::new();
            dump.write(&mut out, style);
            out
        });
        let errors = self.errors.iter().map(|error| error.text(style));
        dumps.chain(errors).collect::<Vec<String>>().join("\n")
    }
}

fn dump_row(dump: &Dump, on: Option<(&Machine, &Audit)>) -> DumpRow {
    let (origin, heading) = match dump.origin {
        Origin::KexecDebug => ("kexec-debug", "between two kernels (kexec's debug handler)"),
        Origin::Decompressor => ("decompressor", "in the next kernel, before it is unpacked"),
        Origin::EarlyException => ("early-exception", "early in a kernel"),
        Origin::Oops => ("oops", "in a running kernel"),
        Origin::Registers => ("registers", "registers by themselves"),
    };
    let mut addresses = Vec::new();
    let pairs = [("fault", dump.address), ("rip", dump.register("RIP"))];
    for (what, address) in pairs {
        if let Some(address) = address.filter(|_| dump.origin != Origin::Oops) {
            addresses.extend(physical(address).map(|phys| address_row(what, phys, dump, on)));
        }
    }
    DumpRow {
        origin,
        line: dump.line,
        exception: dump.vector.map(|number| {
            let (name, what) = vector(number);
            ExceptionRow { vector: number, name, what }
        }),
        error: dump.error.map(|code| {
            let unknown = unknown_error_bits(dump.vector, code);
            ErrorRow {
                code: Hex(code),
                bits: error_bits(dump.vector, code).iter().map(bit_row).collect(),
                unknown: (unknown != 0).then_some(Hex(unknown)),
            }
        }),
        place: dump.place.clone(),
        notes: notes(dump, &addresses),
        addresses,
        registers: dump
            .registers
            .iter()
            .map(|&(name, value)| RegisterRow {
                name,
                value: Hex(value),
                bits: names(&control_bits(name, value)),
            })
            .collect(),
        entries: dump
            .entries
            .iter()
            .map(|&(level, entry)| EntryRow {
                level,
                entry: Hex(entry),
                address: Hex(entry & ENTRY_ADDRESS),
                bits: names(&entry_bits(entry)),
            })
            .collect(),
        heading,
    }
}

fn bit_row(bit: &Bit) -> BitRow {
    BitRow { bit: bit.bit, name: bit.name, what: bit.what }
}

fn names(bits: &[Bit]) -> Vec<&'static str> {
    bits.iter().map(|bit| bit.name).collect()
}

/// An address that can be a physical one, in the lower half of the address space.
fn physical(address: u64) -> Option<PhysAddr> {
    PhysAddr::new(address)
}

fn address_row(
    what: &'static str,
    phys: PhysAddr,
    dump: &Dump,
    on: Option<(&Machine, &Audit)>,
) -> AddressRow {
    let mut row = AddressRow {
        what,
        address: phys.into(),
        identity: dump.is_identity_mapped(),
        memory: None,
        needed: Vec::new(),
        hazards: Vec::new(),
        segment: None,
        maps: Vec::new(),
        looked_up: on.is_some_and(|(_, audit)| audit.layout.is_some()),
    };
    let Some((machine, audit)) = on else { return row };
    row.memory = audit
        .layout
        .as_ref()
        .and_then(|layout| layout.at(phys))
        .map(|region| MemoryRow { kind: region.kind.to_string(), range: region.range.into() });
    for need in &audit.needs {
        let text = match &need.place {
            Place::Known(range) if range.contains(phys) => need.what.clone(),
            Place::Within { ranges, .. } if ranges.iter().any(|range| range.contains(phys)) => {
                format!("{}{MAY_LIE_HERE}", need.what)
            }
            _ => continue,
        };
        if !row.needed.contains(&text) {
            row.needed.push(text);
        }
    }
    let hazards = audit.hazards.iter().filter(|hazard| hazard.range.contains(phys));
    row.hazards = hazards.map(|hazard| hazard.rule.title.to_owned()).collect();
    row.hazards.dedup();
    row.segment = machine
        .segments
        .iter()
        .find(|segment| segment.range.contains(phys))
        .map(|segment| segment.range.into());
    // Both have tables of their own by then: the producer's map is not to blame.
    if matches!(dump.origin, Origin::Decompressor | Origin::EarlyException) {
        return row;
    }
    let Ok(byte) = PhysRange::from_len(phys.get(), 1) else { return row };
    row.maps = audit
        .scenes
        .iter()
        .map(|scene| {
            let under = scene.labels.join("; or ");
            let Some(run) = scene.coverage.at(phys) else {
                let (below, above) = scene.coverage.neighbours(phys);
                return MapRow {
                    under,
                    why: "not-mapped",
                    page: None,
                    nearest_below: below.map(|range| range.last().into()),
                    nearest_above: above.map(|range| range.start().into()),
                };
            };
            let lucky = !scene.coverage.luck(&[byte]).is_empty();
            MapRow {
                under,
                why: if lucky { "over-reach" } else { "requested" },
                page: Some(run.size().name()),
                nearest_below: None,
                nearest_above: None,
            }
        })
        .collect();
    row
}

/// Behind what is needed, where only its surroundings are known.
const MAY_LIE_HERE: &str = " (it may lie here)";

/// What it comes to, as far as that can be said.
fn notes(dump: &Dump, addresses: &[AddressRow]) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |text: &str| notes.push(text.to_owned());
    let fault = addresses.iter().find(|row| row.what == "fault");
    let (vector, error) = (dump.vector, dump.error);
    if vector == Some(14)
        && let Some(error) = error
    {
        let is = |bit: u8| error >> bit & 1 != 0;
        if is(31) {
            note(
                "the page is mapped; SEV-SNP's reverse map table refuses it: it belongs to a guest or to \
                 firmware, or it is a part of a large page that does, or RMP and page tables disagree about \
                 the size",
            );
        } else if is(3) {
            note(
                "an entry of the page tables has a bit set that this processor reserves: an encryption bit \
                 where memory is not encrypted, a 1 GiB leaf on a processor without, or no table at all",
            );
        } else if is(4) && is(0) {
            note("the page is mapped, and may not be executed (NX, SMEP)");
        } else if !is(0) && dump.origin == Origin::KexecDebug {
            note("the identity map lacks this address: a gap");
        }
    }
    if dump.origin == Origin::Decompressor {
        note(
            "the next kernel's own first map was in use, not that of the kernel before: the jump itself went well",
        );
    }
    if vector == Some(8) {
        note(
            "a second exception while the first was being delivered: its cause is that of the first",
        );
    }
    if let Some(fault) = fault {
        let mapped = fault.maps.iter().any(|map| map.why != "not-mapped");
        let unmapped = fault.maps.iter().any(|map| map.why == "not-mapped");
        let absent = vector == Some(14) && error.is_some_and(|error| error & 1 == 0);
        match (mapped, unmapped) {
            (true, false) if absent => note(
                "every producer that this machine may run would map it: this was another map, another machine, \
                 or the kernel's own tables",
            ),
            (true, true) if absent => {
                note("only some of the producers that this machine may run leave it out");
            }
            (false, true) if absent => {
                note("no producer that this machine may run maps it, as identmap check says");
            }
            _ => {}
        }
        for needed in &fault.needed {
            note(&match needed.strip_suffix(MAY_LIE_HERE) {
                Some(what) => format!("the next kernel reads this, which may lie there: {what}"),
                None => format!("the next kernel reads there: {needed}"),
            });
        }
        if !fault.identity {
            note("what is said of the address holds if it was used as a physical one");
        }
    } else if let Some(address) = dump.address
        && (dump.origin == Origin::Oops || address >> 47 != 0)
    {
        note(
            "the address is a virtual one: which memory it is, that kernel's own page tables decide, not an \
             identity map",
        );
    }
    notes
}

impl DumpRow {
    fn write(&self, out: &mut String, style: Style) {
        let _ = writeln!(
            out,
            "{}",
            style.paint(Tone::Strong, &format!("line {}: {}", self.line, self.heading))
        );
        if let Some(exception) = &self.exception {
            let ExceptionRow { vector, name, what } = exception;
            let name = if name.is_empty() { String::new() } else { format!("{name} ") };
            let _ = writeln!(out, "  exception  {vector} {name}{what}");
        }
        if let Some(error) = &self.error {
            let _ = writeln!(out, "  error      {:#x}", error.code.0);
            for bit in &error.bits {
                let set = if bit.name.starts_with('!') { "not set" } else { "set" };
                let name = bit.name.trim_start_matches('!');
                let _ = writeln!(
                    out,
                    "             bit {:<2} {name:<5} {set:<8} {}",
                    bit.bit, bit.what
                );
            }
            if let Some(unknown) = error.unknown {
                let _ = writeln!(out, "             {:#x}: bits that no manual names", unknown.0);
            }
        }
        if let Some(place) = &self.place {
            let _ = writeln!(out, "  at         {place}");
        }
        for address in &self.addresses {
            address.write(out);
        }
        for note in &self.notes {
            out.push_str(&wrapped(&format!("=> {note}"), 2, "   "));
        }
        for register in &self.registers {
            let bits = register.bits.join(" ");
            let line = format!("  {:<9}  {:#018x}  {bits}", register.name, register.value.0);
            let _ = writeln!(out, "{}", line.trim_end());
        }
        for entry in &self.entries {
            let bits =
                if entry.bits.is_empty() { "not present".to_owned() } else { entry.bits.join(" ") };
            let _ = writeln!(
                out,
                "  {:<9}  {:#018x}  {:#x} {bits}",
                entry.level, entry.entry.0, entry.address.0
            );
        }
    }
}

impl AddressRow {
    fn write(&self, out: &mut String) {
        let _ = writeln!(out, "  {:<9}  {:#018x}", self.what, self.address.0);
        let mut line = |text: String| {
            let _ = writeln!(out, "             {text}");
        };
        if let Some(memory) = &self.memory {
            let MemoryRow { kind, range } = memory;
            line(format!("in {:#018x}-{:#018x} {kind}", range.start.0, range.end.0));
        } else if self.looked_up {
            line("no memory map describes it".to_owned());
        }
        if let Some(segment) = &self.segment {
            line(format!(
                "in the image's segment {:#018x}-{:#018x}",
                segment.start.0, segment.end.0
            ));
        }
        for needed in &self.needed {
            line(format!("needed: {needed}"));
        }
        for hazard in &self.hazards {
            line(format!("hazard: {hazard}"));
        }
        for map in &self.maps {
            let state = match (map.why, map.page) {
                ("over-reach", Some(page)) => format!("mapped by luck, in a {page} leaf"),
                (_, Some(page)) => format!("mapped, in a {page} leaf"),
                (_, None) => {
                    let near = [("below", map.nearest_below), ("above", map.nearest_above)];
                    let near = near.iter().filter_map(|(word, at)| Some((word, at.as_ref()?)));
                    let near: Vec<String> =
                        near.map(|(word, at)| format!("nearest {word} {:#x}", at.0)).collect();
                    format!("not mapped ({})", near.join(", "))
                }
            };
            line(format!("{state}: {}", map.under));
        }
    }
}
