//! The verdict against a judge that knows nothing of how it comes about.
//!
//! A small world: some RAM and reserved memory in cells of 1 MiB, firmware's tables somewhere, and any of the
//! facts not known. The judge tries every way in which what is not known may be, each frame of 2 MiB by itself:
//! `safe` may only be said where every way ends well, `unsafe` only where none does, and where
//! everything is known the verdict has to be the judge's own.

use identmap::{PhysAddr, PhysRange};
use identmap_audit::{ImageTables, Question, Verdict, check};
use identmap_linux::{Consumer, KernelVersion, Kind, Producer};
use identmap_machine::{ConfigTable, CpuVendor, Machine, MapEntry, MapOrigin, MemMap, MemType, Uv};

const MIB: u64 = 1 << 20;
/// Cells of 1 MiB from here on: the last GiB below 4 GiB, and three above.
const BASE: u64 = 3 << 30;
const CELLS: usize = 4096;
/// The first cell above 4 GiB.
const HIGH: usize = 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cell {
    Nothing,
    Ram,
    Reserved,
}

/// A producer's two choices, and a release that makes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Class {
    exact: bool,
    config_table: bool,
    release: &'static str,
}

const CLASSES: [Class; 4] = [
    Class { exact: false, config_table: false, release: "6.1.60" },
    Class { exact: true, config_table: false, release: "6.1.80" },
    Class { exact: false, config_table: true, release: "6.1.150" },
    Class { exact: true, config_table: true, release: "6.12.30" },
];

/// Which consumers read firmware's tables early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reads {
    Never,
    OnAnyCpu,
    WithSev,
}

const CONSUMERS: [(Reads, &str); 3] =
    [(Reads::Never, "5.10.200"), (Reads::OnAnyCpu, "6.1.30"), (Reads::WithSev, "6.12.30")];

/// Everything about a world; `None` is not known.
#[derive(Clone, Debug)]
struct World {
    cells: Vec<Cell>,
    uv: bool,
    /// Cells of the RMP table: the first, and how many.
    rmp: Option<(usize, usize)>,
    snp_host: bool,
    class: Option<Class>,
    gbpages: Option<bool>,
    sev: Option<bool>,
    consumer: Option<(Reads, &'static str)>,
    efi: Option<bool>,
    /// Where the system table lies, and the configuration table with its length.
    system_table: Option<u64>,
    config_table: Option<(u64, u64)>,
}

impl World {
    fn cell(&self, address: u64) -> Cell {
        let at = address.checked_sub(BASE).map(|offset| (offset / MIB) as usize);
        at.and_then(|at| self.cells.get(at)).copied().unwrap_or(Cell::Nothing)
    }

    fn is_ram(&self, at: usize) -> bool {
        self.cells.get(at) == Some(&Cell::Ram)
    }

    /// Whether a byte is mapped.
    fn is_mapped(&self, address: u64, class: Class, gbpages: bool) -> bool {
        let size = if gbpages && !class.exact { 1 << 30 } else { 2 * MIB };
        let (start, end) = (address & !(size - 1), (address & !(size - 1)) + size);
        // Low memory is RAM up to 512 MiB.
        let asked = |from: u64, to: u64| from < end && start < to;
        let mut cells = (start.max(BASE)..end.min(BASE + CELLS as u64 * MIB)).step_by(MIB as usize);
        asked(0, 512 * MIB)
            || cells.any(|address| self.cell(address) == Cell::Ram)
            || self.efi == Some(true)
                && (self.system_table.is_some_and(|at| asked(at, at + 120))
                    || class.config_table
                        && self.config_table.is_some_and(|(at, len)| asked(at, at + len)))
    }

    /// Whether the jump ends well if things are so.
    fn ends_well(&self, way: (Class, bool, bool, Reads), forbidden: &[usize]) -> bool {
        let (known, efi) = (self, self.efi == Some(true));
        let (class, gbpages, sev, reads) = way;
        let reads = efi && (reads == Reads::OnAnyCpu || reads == Reads::WithSev && sev);
        // Nothing of it is longer than a frame, so its ends lie in all the frames that it touches.
        let bytes = |(at, len): (u64, u64)| {
            [at, at + len - 1].iter().all(|&address| known.is_mapped(address, class, gbpages))
        };
        // What has no known place may be anywhere: only who asks for it by name has it for sure.
        let config = known.config_table.map_or(class.config_table, bytes);
        let system = known.system_table.is_none_or(|at| bytes((at, 120)));
        let halts =
            forbidden.iter().any(|&at| known.is_mapped(BASE + at as u64 * MIB, class, gbpages));
        (!reads || config && system) && !halts
    }

    /// The cells that must not be mapped.
    fn forbidden(&self) -> Vec<usize> {
        // RAM in a frame with an end of the RMP table, wherever a request or a leaf reaches it.
        let inside =
            |cell| self.rmp.is_some_and(|(first, count)| (first..first + count).contains(&cell));
        let rmp = |at: usize| self.is_ram(at) && !inside(at) && inside(at ^ 1);
        let top = (0..CELLS).rev().find(|&at| self.is_ram(at)).unwrap_or(0);
        let mut after_ram = false;
        let mut found = Vec::new();
        for at in 0..CELLS {
            // A reserved stretch that begins above 4 GiB, where RAM ends.
            match self.cells[at] {
                Cell::Reserved if at > 0 && self.cells[at - 1] == Cell::Reserved => {}
                Cell::Reserved => after_ram = at >= HIGH && self.is_ram(at - 1),
                _ => after_ram = false,
            }
            let undescribed = at >= HIGH && at < top && self.cells[at] == Cell::Nothing;
            if rmp(at) || self.uv && (after_ram || undescribed) {
                found.push(at);
            }
        }
        found
    }

    /// Every way in which it may be: whether it ends well.
    fn ways(&self) -> Vec<bool> {
        let either = |fact: Option<bool>| fact.map_or(vec![true, false], |fact| vec![fact]);
        let classes = self.class.map_or(CLASSES.to_vec(), |class| vec![class]);
        let consumers = self.consumer.map_or(CONSUMERS.to_vec(), |consumer| vec![consumer]);
        let forbidden = self.forbidden();
        let mut ways = Vec::new();
        for efi in either(self.efi) {
            let world = World { efi: Some(efi), ..self.clone() };
            for &class in &classes {
                for gbpages in either(self.gbpages) {
                    for sev in either(self.sev) {
                        for &(reads, _) in &consumers {
                            ways.push(world.ends_well((class, gbpages, sev, reads), &forbidden));
                        }
                    }
                }
            }
        }
        ways
    }

    fn is_all_known(&self) -> bool {
        let facts = self.class.is_some() && self.gbpages.is_some() && self.sev.is_some();
        let places = self.efi == Some(false)
            || self.efi == Some(true) && self.system_table.is_some() && self.config_table.is_some();
        facts && places && self.consumer.is_some() && !self.is_rmp_lost()
    }

    fn is_rmp_lost(&self) -> bool {
        self.snp_host && self.rmp.is_none()
    }

    fn machine(&self) -> Machine {
        let entry = |start: u64, end: u64, kind| MapEntry { start, last: end - 1, kind, line: 0 };
        let mut entries =
            vec![entry(0, 0xa0000, MemType::Usable), entry(MIB, 512 * MIB, MemType::Usable)];
        let mut at = 0;
        while at < CELLS {
            let end = (at..CELLS).find(|&next| self.cells[next] != self.cells[at]).unwrap_or(CELLS);
            let place = |cell: usize| BASE + cell as u64 * MIB;
            match self.cells[at] {
                Cell::Nothing => {}
                Cell::Ram => entries.push(entry(place(at), place(end), MemType::Usable)),
                Cell::Reserved => entries.push(entry(place(at), place(end), MemType::Reserved)),
            }
            at = end;
        }
        let mut machine = Machine {
            kernel: self.class.map(|class| class.release.to_owned()),
            maps: vec![MemMap { origin: MapOrigin::BiosE820, entries }],
            uv: Some(if self.uv { Uv::Hubbed } else { Uv::No }),
            direct_gbpages: self.gbpages,
            rmp: self.rmp.and_then(|(first, count)| {
                PhysRange::from_len(BASE + first as u64 * MIB, count as u64 * MIB).ok()
            }),
            ..Machine::default()
        };
        machine.cpu.vendor = Some(CpuVendor::Amd);
        machine.cpu.hypervisor = Some(false);
        machine.cpu.la57 = Some(false);
        machine.cpu.sev = self.sev;
        machine.cpu.snp_host = Some(self.snp_host);
        // Of firmware that stands a kexec: another matter than the map.
        machine.cpu.snp_api = self.snp_host.then_some((1, 55));
        machine.efi.booted = self.efi;
        machine.efi.system_table = self.system_table.and_then(PhysAddr::new);
        machine.efi.config_table = self.config_table.and_then(|(at, len)| {
            Some(ConfigTable { address: PhysAddr::new(at)?, entries: Some(len / 24) })
        });
        machine
    }

    fn verdict(&self) -> Verdict {
        let machine = self.machine();
        let version = |release: &str| KernelVersion::parse(release, None).ok();
        let question = Question {
            machine: &machine,
            producer: Producer::of(self.class.and_then(|class| version(class.release))),
            consumer: Consumer {
                version: self.consumer.and_then(|(_, release)| version(release)),
                ..Consumer::default()
            },
            kind: Kind::Kexec,
            tables: ImageTables::NotRead("a small world".to_owned()),
            entries: &[],
            seen: None,
        };
        check(&question).verdict
    }
}

/// `SplitMix64`: the same worlds on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % end
    }

    /// Not known in one of `of` cases.
    fn known<T>(&mut self, of: u64, fact: impl FnOnce(&mut Random) -> T) -> Option<T> {
        let fact = fact(self);
        (self.below(of) != 0).then_some(fact)
    }

    fn yes(&mut self) -> bool {
        self.below(2) == 0
    }

    fn world(&mut self, doubts: u64) -> World {
        let mut cells = Vec::new();
        while cells.len() < CELLS {
            let kind = match self.below(5) {
                0 => Cell::Nothing,
                1 | 2 => Cell::Reserved,
                _ => Cell::Ram,
            };
            // Ends of every kind: inside a frame, at a frame's, at a GiB's.
            let len = match self.below(4) {
                0 => 1 + self.below(4),
                1 => 64 * (1 + self.below(8)),
                2 => 1024 - cells.len() as u64 % 1024,
                _ => 1 + self.below(900),
            };
            cells.extend(std::iter::repeat_n(kind, len as usize));
        }
        cells.truncate(CELLS);
        let place = |random: &mut Random| {
            let page = BASE + random.below(CELLS as u64 * 256) * 4096;
            // Often across a page, a frame, or the end of a cell.
            if random.yes() { page + 0x18 } else { page | 0xf_ff00 }
        };
        let uv = self.below(4) == 0;
        let rmp = self.below(6) == 0;
        let efi = self.known(doubts, |random| random.below(6) != 0);
        World {
            uv,
            rmp: rmp.then(|| (2 + self.below(4000) as usize, 1 + self.below(90) as usize)),
            snp_host: rmp || self.below(20) == 0,
            class: self.known(doubts, |random| CLASSES[random.below(4) as usize]),
            gbpages: self.known(doubts, Random::yes),
            sev: self.known(doubts, Random::yes),
            consumer: self.known(doubts, |random| CONSUMERS[random.below(3) as usize]),
            efi,
            system_table: self.known(doubts, place).filter(|_| efi == Some(true)),
            config_table: self
                .known(doubts, |random| (place(random), 24 * (1 + random.below(20))))
                .filter(|_| efi == Some(true)),
            cells,
        }
    }
}

#[test]
fn no_verdict_says_more_than_every_way_bears_out() {
    no_verdict_of_worlds_says_more(Random(20_240_520));
}

/// Other worlds, beside the first ones on another processor.
#[test]
fn nor_does_a_verdict_of_other_worlds() {
    no_verdict_of_worlds_says_more(Random(20_240_326));
}

fn no_verdict_of_worlds_says_more(mut random: Random) {
    // Of worlds without a doubt: safe, unsafe. Of the others where all ends well: called safe.
    let (mut known, mut well, mut called_safe) = ([0, 0], 0, 0);
    for round in 0..2000 {
        let world = random.world(if round % 3 == 0 { u64::MAX } else { 6 });
        let ways = world.ways();
        let verdict = world.verdict();
        let (all, none) = (ways.iter().all(|&well| well), !ways.contains(&true));
        let story = || {
            let facts = World { cells: Vec::new(), ..world.clone() };
            let cells: Vec<String> = world.machine().maps[0]
                .entries
                .iter()
                .map(|e| format!("{:#x}-{:#x} {}", e.start, e.last, e.kind))
                .collect();
            format!("round {round}: {verdict}, {facts:#x?}\n{}", cells.join("\n"))
        };
        match verdict {
            Verdict::Safe => assert!(all && !world.is_rmp_lost(), "false safe: {}", story()),
            Verdict::Unsafe => assert!(none, "false alarm: {}", story()),
            Verdict::Unknown => {}
        }
        if world.is_all_known() {
            let expected = if all { Verdict::Safe } else { Verdict::Unsafe };
            assert_eq!(verdict, expected, "{}", story());
            known[usize::from(!all)] += 1;
        } else if all && !world.is_rmp_lost() {
            well += 1;
            called_safe += usize::from(verdict == Verdict::Safe);
        }
    }
    assert!(known[0] > 75 && known[1] > 75, "{known:?}");
    assert!(well > 50 && called_safe * 10 > well * 8, "{called_safe} of {well}");
}
