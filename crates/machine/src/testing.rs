//! What the unit tests of this crate share.

use crate::{Machine, MapEntry, MapOrigin, MemMap, MemType};

/// A small deterministic generator (`SplitMix64`): the same worlds on every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e3779b97f4a7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d049bb133111eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which must not be 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// A machine whose `BIOS-e820` map is `text`: lines `START-LAST TYPE` in hex.
pub(crate) fn machine_of(text: &str) -> Machine {
    let entries = text
        .lines()
        .enumerate()
        .map(|(index, line)| {
            let (numbers, kind) = line.trim().split_once(' ').expect("a type");
            let (start, last) = numbers.split_once('-').expect("a dash");
            let number = |s| u64::from_str_radix(s, 16).expect("a hex number");
            let kind = match kind {
                "usable" => MemType::Usable,
                "reserved" => MemType::Reserved,
                "ACPI data" => MemType::AcpiData,
                "ACPI NVS" => MemType::AcpiNvs,
                "unusable" => MemType::Unusable,
                "soft reserved" => MemType::SoftReserved,
                other => panic!("unknown type {other}"),
            };
            MapEntry { start: number(start), last: number(last), kind, line: index + 1 }
        })
        .collect();
    Machine { maps: vec![MemMap { origin: MapOrigin::BiosE820, entries }], ..Machine::default() }
}
