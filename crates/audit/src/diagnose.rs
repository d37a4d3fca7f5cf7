//! The least set of synthetic entries that makes a jump safe, proved by trying without each.
//!
//! Whatever can say how a jump ends under a map with some entries added is an [`Oracle`]: a run of the
//! next kernel's first instructions, or the rules. Nothing here knows which.

use identmap::{PageSize, PhysAddr, PhysRange};

/// How a jump ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trial {
    /// Nothing that is needed is missing.
    Safe,
    /// This byte is needed, and is not mapped.
    Missing(PhysAddr),
    /// It fails for a reason that no entry mends; which, in one sentence without a full stop.
    Fails(String),
    /// It cannot be told; why, in one sentence without a full stop.
    Unknown(String),
}

/// Answers how a jump ends.
pub trait Oracle {
    /// The end with these entries requested in addition, in this order.
    fn trial(&mut self, entries: &[PhysRange]) -> Trial;

    /// What the map with these entries reaches and must not, if that without them does not.
    fn conflict(&mut self, entries: &[PhysRange]) -> Option<String>;
}

/// One synthetic entry, and what happens without it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// One 4 KiB page.
    pub page: PhysRange,
    /// The end with all the other entries and without this one: the proof that it is needed. Never
    /// [`Trial::Safe`]; [`Trial::Unknown`] is no proof.
    pub without: Trial,
}

/// What came of a diagnosis.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The jump is safe with the entries.
    Safe,
    /// The next entry would make the map reach something forbidden: it was not added.
    Conflict {
        /// The entry.
        page: PhysRange,
        /// What it would reach.
        why: String,
    },
    /// It fails all the same, for a reason that no entry mends.
    Fails(String),
    /// It cannot be told.
    Unknown(String),
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnosis {
    /// The entries, in the order in which the need for them was met; the least set if
    /// [`is_proved`](Self::is_proved), what was found on the way if it did not end as safe.
    pub entries: Vec<Entry>,
    /// With all of them.
    pub ended: Ended,
    /// How often the oracle was asked for an end.
    pub trials: u32,
}

/// More entries than this are no diagnosis: then the map is not one that was made for this machine.
pub const MOST_ENTRIES: usize = 64;

impl Diagnosis {
    /// Whether the jump is safe with the entries, and is not without any one of them.
    #[must_use]
    pub fn is_proved(&self) -> bool {
        let proof = |entry: &Entry| matches!(entry.without, Trial::Missing(_) | Trial::Fails(_));
        self.ended == Ended::Safe && self.entries.iter().all(proof)
    }

    /// The entries as ranges.
    #[must_use]
    pub fn ranges(&self) -> Vec<PhysRange> {
        self.entries.iter().map(|entry| entry.page).collect()
    }
}

/// Adds the page of each byte that is found missing until nothing is, then takes away what is not
/// needed, until every entry has been seen to be.
///
/// Ends after [`MOST_ENTRIES`] entries: each step either adds a page that was not there, or takes one away for
/// good. A page that is asked for and still missing is a failure, not asked for again.
///
/// Where more entries never hurt and each maps whole pages of one size, as in Linux's maps, the set is of
/// the least size too: every entry is in a large page that nothing else reaches.
pub fn diagnose(oracle: &mut impl Oracle) -> Diagnosis {
    let mut trials = 0;
    let mut entries: Vec<PhysRange> = Vec::new();
    let ended = loop {
        trials += 1;
        let missing = match oracle.trial(&entries) {
            Trial::Safe => break Ended::Safe,
            Trial::Fails(why) => break Ended::Fails(why),
            Trial::Unknown(why) => break Ended::Unknown(why),
            Trial::Missing(missing) => missing,
        };
        let Some(page) = page_of(missing) else {
            break Ended::Fails(format!("no page can be requested at {missing}"));
        };
        if entries.contains(&page) {
            break Ended::Fails(format!("{missing} is missing though {page} is requested"));
        }
        if entries.len() >= MOST_ENTRIES {
            break Ended::Unknown(format!("more than {MOST_ENTRIES} entries are missing"));
        }
        entries.push(page);
        if let Some(why) = oracle.conflict(&entries) {
            entries.pop();
            break Ended::Conflict { page, why };
        }
    };
    if ended != Ended::Safe {
        let without = || Trial::Unknown("the diagnosis did not come to an end".to_owned());
        let entries = entries.into_iter().map(|page| Entry { page, without: without() }).collect();
        return Diagnosis { entries, ended, trials };
    }
    let entries = least(oracle, entries, &mut trials);
    Diagnosis { entries, ended, trials }
}

/// Every entry that is left was seen to be needed with just the others that are left.
fn least(oracle: &mut impl Oracle, mut entries: Vec<PhysRange>, trials: &mut u32) -> Vec<Entry> {
    'again: loop {
        let mut proved = Vec::with_capacity(entries.len());
        for (index, &page) in entries.iter().enumerate() {
            let mut others = entries.clone();
            others.remove(index);
            *trials += 1;
            let without = oracle.trial(&others);
            if without == Trial::Safe && oracle.conflict(&others).is_none() {
                entries = others;
                continue 'again;
            }
            let without = match without {
                Trial::Safe => Trial::Fails("the map would reach what is forbidden".to_owned()),
                end => end,
            };
            proved.push(Entry { page, without });
        }
        return proved;
    }
}

fn page_of(addr: PhysAddr) -> Option<PhysRange> {
    PhysRange::from_len(addr.align_down(PageSize::Size4K).get(), PageSize::Size4K.bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A world of a few pages, in large pages of `frame` pages each; sets of pages are bits.
    struct World {
        frame: u32,
        base: u32,
        forbidden: u32,
        /// Pages in the order in which they are touched, each unless another one is mapped.
        touches: Vec<(u32, Option<u32>)>,
    }

    impl World {
        fn mapped(&self, entries: u32) -> u32 {
            let all = (1u32 << self.frame) - 1;
            let frames = (0..32 / self.frame).map(|n| all << (n * self.frame));
            frames.filter(|frame| (self.base | entries) & frame != 0).sum()
        }

        fn missing(&self, entries: u32) -> Option<u32> {
            let mapped = self.mapped(entries);
            let met = |unless: Option<u32>| unless.is_none_or(|page| mapped >> page & 1 == 0);
            let touched = self.touches.iter().filter(|(_, unless)| met(*unless));
            touched.map(|(page, _)| *page).find(|page| mapped >> page & 1 == 0)
        }

        fn exposed(&self, entries: u32) -> bool {
            self.mapped(entries) & !self.mapped(0) & self.forbidden != 0
        }
    }

    impl Oracle for World {
        fn trial(&mut self, entries: &[PhysRange]) -> Trial {
            self.missing(bits(entries)).map_or(Trial::Safe, |page| Trial::Missing(addr(page)))
        }

        fn conflict(&mut self, entries: &[PhysRange]) -> Option<String> {
            self.exposed(bits(entries)).then(|| "forbidden".to_owned())
        }
    }

    fn addr(page: u32) -> PhysAddr {
        // Any byte of it.
        PhysAddr::new(u64::from(page) << 12 | 0x123).unwrap()
    }

    fn bits(entries: &[PhysRange]) -> u32 {
        entries.iter().map(|entry| 1 << (entry.start().get() >> 12)).sum()
    }

    const PAGES: u32 = 5;

    /// Every sequence of at most three different touches.
    fn sequences() -> Vec<Vec<u32>> {
        let mut all = vec![Vec::new()];
        let mut from = 0;
        for _ in 0..3 {
            let to = all.len();
            for index in from..to {
                let longer = (0..PAGES).filter(|page| !all[index].contains(page));
                let longer: Vec<Vec<u32>> =
                    longer.map(|page| [all[index].as_slice(), &[page]].concat()).collect();
                all.extend(longer);
            }
            from = to;
        }
        all
    }

    /// The least size of a set of pages that makes it safe and reaches nothing forbidden.
    fn by_force(world: &World) -> Option<u32> {
        let sets = (0..1u32 << PAGES).filter(|&set| !world.exposed(set));
        sets.filter(|&set| world.missing(set).is_none()).map(u32::count_ones).min()
    }

    #[test]
    fn in_every_small_world_the_set_is_as_small_as_brute_force_finds() {
        let sequences = sequences();
        let (mut safe, mut conflicts) = (0, 0);
        for frame in [1, 2, 4] {
            for base in 0..1u32 << PAGES {
                for forbidden in core::iter::once(0).chain((0..PAGES).map(|page| 1 << page)) {
                    for touches in &sequences {
                        let touches = touches.iter().map(|&page| (page, None)).collect();
                        let mut world = World { frame, base, forbidden, touches };
                        let found = diagnose(&mut world);
                        let story = format!("{frame} {base:b} {forbidden:b} {:?}", world.touches);
                        let Some(least) = by_force(&world) else {
                            assert!(matches!(found.ended, Ended::Conflict { .. }), "{story}");
                            assert!(!world.exposed(bits(&found.ranges())), "{story}");
                            conflicts += 1;
                            continue;
                        };
                        assert!(found.is_proved(), "{story} {found:?}");
                        assert_eq!(found.entries.len() as u32, least, "{story}");
                        assert_eq!(world.missing(bits(&found.ranges())), None, "{story}");
                        assert!(!world.exposed(bits(&found.ranges())), "{story}");
                        safe += u32::from(least > 0);
                    }
                }
            }
        }
        assert!(safe > 10_000 && conflicts > 1_000, "{safe} {conflicts}");
    }

    /// Entries may make others needless, as a handler may that only exists once something is mapped.
    #[test]
    fn where_entries_depend_on_each_other_each_is_still_needed() {
        let touch = |n: u32| (n / 6, (n % 6).checked_sub(1));
        let mut dropped = 0;
        for frame in [1, 2, 4] {
            for base in 0..1u32 << 5 {
                for pair in 0..30 * 30 {
                    let touches = vec![touch(pair / 30), touch(pair % 30)];
                    let mut world = World { frame, base, forbidden: 0, touches };
                    let found = diagnose(&mut world);
                    let story = format!("{frame} {base:b} {:?} {found:?}", world.touches);
                    assert!(found.is_proved(), "{story}");
                    let all = bits(&found.ranges());
                    assert_eq!(world.missing(all), None, "{story}");
                    for entry in &found.entries {
                        let without = world.missing(all & !bits(&[entry.page])).map(addr);
                        assert_eq!(entry.without, Trial::Missing(without.unwrap()), "{story}");
                    }
                    let met = found.trials as usize - 2 * found.entries.len() - 1;
                    dropped += met;
                }
            }
        }
        assert!(dropped > 100, "{dropped}: no world in which something is taken away again");
    }

    struct Script(Vec<Trial>);

    impl Oracle for Script {
        fn trial(&mut self, entries: &[PhysRange]) -> Trial {
            self.0[entries.len().min(self.0.len() - 1)].clone()
        }
        fn conflict(&mut self, _: &[PhysRange]) -> Option<String> {
            None
        }
    }

    #[test]
    fn what_no_entry_mends_ends_it() {
        let one = Trial::Missing(addr(1));
        for (trials, ended, entries) in [
            (vec![Trial::Fails("#GP".to_owned())], Ended::Fails("#GP".to_owned()), 0),
            (
                vec![one.clone(), Trial::Unknown("it".to_owned())],
                Ended::Unknown("it".to_owned()),
                1,
            ),
        ] {
            let found = diagnose(&mut Script(trials));
            assert_eq!((found.ended.clone(), found.entries.len()), (ended, entries));
            assert!(!found.is_proved());
        }
        // Requested, and missing all the same: a write to what is read-only, say.
        let found = diagnose(&mut Script(vec![one.clone(), one]));
        assert!(matches!(found.ended, Ended::Fails(_)) && found.trials == 2, "{found:?}");
    }

    #[test]
    fn a_proof_that_cannot_be_told_is_none() {
        struct Doubt;
        impl Oracle for Doubt {
            fn trial(&mut self, entries: &[PhysRange]) -> Trial {
                match bits(entries) {
                    0 => Trial::Missing(addr(0)),
                    1 => Trial::Missing(addr(1)),
                    2 => Trial::Unknown("not run".to_owned()),
                    _ => Trial::Safe,
                }
            }
            fn conflict(&mut self, _: &[PhysRange]) -> Option<String> {
                None
            }
        }
        let found = diagnose(&mut Doubt);
        assert_eq!((&found.ended, found.entries.len()), (&Ended::Safe, 2));
        assert!(!found.is_proved());
    }

    #[test]
    fn a_world_without_end_ends() {
        struct Endless;
        impl Oracle for Endless {
            fn trial(&mut self, entries: &[PhysRange]) -> Trial {
                Trial::Missing(addr(entries.len() as u32))
            }
            fn conflict(&mut self, _: &[PhysRange]) -> Option<String> {
                None
            }
        }
        let found = diagnose(&mut Endless);
        assert!(matches!(found.ended, Ended::Unknown(_)));
        assert_eq!((found.entries.len(), found.trials as usize), (MOST_ENTRIES, MOST_ENTRIES + 1));
    }
}
