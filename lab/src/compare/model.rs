//! What our own code says a guest's tables are, from the guest's own files.
//!
//! | input | from |
//! |---|---|
//! | version, memory map, EFI addresses, 1G pages, levels, which image is loaded | `root/`: what `identmap check` reads |
//! | segments of the loaded image | `struct kimage`, as `identmap tables --live` reads it |
//! | control page, `relocate_kernel`, start of the direct map: the transition page alone | the same |

use std::path::Path;

use identmap::{Arena, Config, Image, Level, Levels, PhysAddr, Plan, Policy, Slot, Table};
use identmap_linux::{
    ControlCode, KernelVersion, Kind, Producer, RequestList, Traits, TransitionLeaf, gbpages,
    pfn_mapped, requests,
};
use identmap_machine::live::assemble;
use identmap_machine::{Layout, Machine, Segment};

use super::mutate::Mutation;
use super::tree::{self, Entries, Place, Tree};
use crate::facts::Facts;
use crate::guest::Failure;
use crate::guest_files;

/// The model of one guest.
#[derive(Clone, Debug)]
pub struct Model {
    /// From the guest's files, with the segments of the loaded image.
    pub machine: Machine,
    /// Its memory, as its kernel sees it.
    pub layout: Layout,
    /// What its kernel does.
    pub traits: Traits,
    /// Which image is loaded.
    pub kind: Kind,
    /// What its kernel requests.
    pub list: RequestList,
    /// What the tables look like.
    pub config: Config,
    /// The identity map, built.
    pub identity: Tree,
    /// The entries of the transition page.
    pub transition: Entries,
    /// Tables that only the transition page needs.
    pub transition_tables: u64,
}

impl Model {
    /// Models the guest whose files are in `results`, made wrong by `mutation`.
    ///
    /// # Errors
    /// In words: the guest's files leave something open, or no map can be planned from them.
    pub fn of(results: &Path, facts: &Facts, mutation: Option<Mutation>) -> Result<Self, Failure> {
        let mut machine = assemble(&guest_files::inputs(&results.join("root")));
        machine.segments = facts.segments.iter().map(|range| Segment { range: range.0 }).collect();
        let layout = Layout::of(&machine).ok_or("no memory map in the guest's files")?;
        let version = KernelVersion::of(&machine).transpose()?;
        let producer = Producer::of(version);
        let certain = producer.traits().certain();
        let mut traits = *certain.ok_or_else(|| {
            format!("the version leaves it open: {}", producer.traits().why().unwrap_or_default())
        })?;
        let large = gbpages(&machine);
        let mut large =
            *large.certain().ok_or_else(|| large.why().unwrap_or_default().to_owned())?;
        let kind = match (machine.kexec_loaded, machine.kexec_crash_loaded) {
            (Some(true), Some(false)) => Kind::Kexec,
            (Some(false), Some(true)) => Kind::Kdump,
            other => return Err(format!("kexec_loaded, kexec_crash_loaded: {other:?}").into()),
        };

        if let Some(mutation) = mutation {
            mutation.of_traits(&mut traits, &mut large);
        }
        let mut list = requests(&machine, Some(&layout), &traits, kind);
        let mut config = traits.config(&machine, large);
        if let Some(mutation) = mutation {
            mutation.of_requests(&mut list);
            mutation.of_config(&mut config);
        }
        let identity = build(&config, &traits, &list)?;
        let (transition, transition_tables) = transition(facts, &traits, config.levels, mutation)?;
        Ok(Self {
            machine,
            layout,
            traits,
            kind,
            list,
            config,
            identity,
            transition,
            transition_tables,
        })
    }

    /// Statements about the guest that have nothing to do with tables, each as our code concluded it
    /// and as the guest's memory has it, where the two differ.
    #[must_use]
    pub fn wrong_facts(&self, facts: &Facts) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut same = |what: &str, model: String, real: String| {
            if model != real {
                wrong.push(format!("{what}: guest {real}, model {model}"));
            }
        };
        let list = |ranges: Vec<identmap::PhysRange>| format!("{ranges:?}");
        let mapped = facts.pfn_mapped.iter().map(|range| range.0).collect();
        same("pfn_mapped[]", list(pfn_mapped(&self.layout)), list(mapped));
        let efi = &self.machine.efi;
        let real = facts.efi.as_ref();
        same(
            "EFI system table",
            format!("{:?}", efi.system_table),
            format!("{:?}", real.map(|efi| efi.system_table.0)),
        );
        same(
            "EFI configuration table",
            format!("{:?}", efi.config_table.map(|table| table.address)),
            format!("{:?}", real.map(|efi| efi.config_tables.0.start())),
        );
        same("levels", self.config.levels.count().to_string(), facts.levels.to_string());
        same("1G pages", self.config.gbpages.to_string(), facts.gbpages.to_string());
        let name_says = if facts.cell.ends_with("-kdump") { Kind::Kdump } else { Kind::Kexec };
        same("loaded for", format!("{:?}", self.kind), format!("{name_says:?}"));
        wrong
    }
}

/// Where the model's tables are made out to lie: of no meaning, tables are compared without it.
const BASE: PhysAddr = match PhysAddr::new(1 << 20) {
    Some(base) => base,
    None => PhysAddr::ZERO,
};

fn build(config: &Config, traits: &Traits, list: &RequestList) -> Result<Tree, Failure> {
    let policy = Policy::from(traits.policy);
    let ranges = list.ranges();
    let mut slots = vec![Slot::EMPTY; Plan::slots_needed(&policy, ranges.len())];
    let plan = Plan::new(config, &policy, &ranges, &mut slots)?;
    let mut tables = vec![Table::EMPTY; usize::try_from(plan.tables().total())?];
    let mut arena = Arena::new(&mut tables, BASE)?;
    let built = plan.build(&mut arena)?;
    let bytes: Vec<u8> =
        tables.iter().flat_map(|table| table.0).flat_map(u64::to_le_bytes).collect();
    Ok(tree::read(&Image::new(&bytes, BASE), built.root, config.levels)?)
}

/// One entry a level, and tables of its own below the root.
fn transition(
    facts: &Facts,
    traits: &Traits,
    levels: Levels,
    mutation: Option<Mutation>,
) -> Result<(Entries, u64), Failure> {
    let relocate = facts.symbols.get("relocate_kernel").ok_or("no symbol relocate_kernel")?;
    let code = ControlCode {
        page: facts.control_page.0,
        relocate_kernel: relocate.0,
        page_offset: facts.page_offset_base.0,
    };
    let leaf = traits.transition_leaf(&code).ok_or("no address for the transition page")?;
    let translated = leaf.virt.get() & ((1 << levels.virt_bits()) - 1);
    let entries: Entries = Level::ALL
        .into_iter()
        .filter(|level| *level <= levels.root())
        .map(|level| {
            let linear = translated >> level.entry_shift() << level.entry_shift();
            let bits = match level {
                Level::Pt => leaf.phys.get() | TransitionLeaf::LEAF_FLAGS.bits(),
                _ => TransitionLeaf::TABLE_FLAGS.bits(),
            };
            (Place { linear, level: std::cmp::Reverse(level) }, bits)
        })
        .map(|(place, bits)| {
            (place, mutation.map_or(bits, |mutation| mutation.of_bits(place, bits)))
        })
        .collect();
    Ok((entries, u64::from(levels.count()) - 1))
}
