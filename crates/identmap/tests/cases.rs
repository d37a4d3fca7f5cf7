//! The corpus in `testdata/cases`, through the plan, the builder and `add`.

mod support;

use std::fs;
use std::path::Path;

use identmap::{
    AddError, Arena, Config, ConfigError, Decoded, Entry, Flags, Guard, LeafRun, Level, Levels,
    PhysRange, Plan, PlanError, Policy, Slack, add, empty_root,
};
use serde::Deserialize;
use support::{BASE, addr, assert_tables_hold, dirty_tables, leaves, reopened, slots_for};

#[test]
fn every_case() {
    let cases = corpus();
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "names are unique");
    assert!(cases.len() >= 55, "only {} cases were found", cases.len());
    for case in &cases {
        println!("case {}", case.name);
        assert!(!case.story.trim().is_empty() && !case.source.trim().is_empty());
        case.check();
    }
}

/// What the posted patch would have stored for the first case: a leaf with the address of the
/// request in it. The reader of entries names the reserved bits; a processor faults on them.
#[test]
fn the_posted_patch_would_have_stored_reserved_bits() {
    let cases = corpus();
    let case = cases.iter().find(|case| case.name == "gib-entered-at-an-unaligned-start").unwrap();
    let (config, request) = (case.config(), ranges(&case.requests)[0]);
    let flags = config.leaf_entry_flags(identmap::PageSize::Size1G);
    let paging = config.paging();

    let wrong = Entry::from_bits(request.start().get() | flags);
    assert_eq!(paging.decode(Level::Pdpt, wrong), Decoded::Reserved { bits: 0x20_0000 });
    // Not every wrong start shows: bit 12 of a large leaf is PAT, so this one changes caching.
    let pat = Entry::from_bits(0x1_4000_1000 | flags);
    assert!(matches!(paging.decode(Level::Pdpt, pat), Decoded::Leaf { .. }));

    let policy = Policy::ExactOnUv { uv: false };
    let mut slots = slots_for(&policy, 1);
    let plan = Plan::new(&config, &policy, &[request], &mut slots).unwrap();
    let (tables, _) = support::built(&plan);
    let leaf = tables.iter().flat_map(|table| table.0).find(|bits| bits & 0x80 != 0).unwrap();
    assert_eq!(leaf, 0x1_4000_0000 | 0x1e3);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Corpus {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    story: String,
    source: String,
    policy: String,
    #[serde(default)]
    uv: bool,
    #[serde(default)]
    slack: Option<String>,
    requests: Vec<String>,
    #[serde(default)]
    forbidden: Vec<String>,
    #[serde(default)]
    ram: Vec<String>,
    #[serde(default)]
    levels: Option<u8>,
    #[serde(default)]
    gbpages: Option<bool>,
    #[serde(default)]
    offset: Option<String>,
    #[serde(default)]
    encryption_mask: Option<String>,
    #[serde(default)]
    maxphyaddr: Option<u8>,
    expect: Expect,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Expect {
    Refused(Refused),
    Map(Map),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    error: Error,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum Error {
    Conflict { request: String, index: usize, forbidden: String, page: String },
    PastLimit { request: String, index: usize, limit: String },
    NotCanonical { request: String, index: usize },
    BothHalves { request: String, index: usize, first: String },
    OffsetUnaligned,
    EncryptionMask,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Map {
    runs: Vec<String>,
    tables: u64,
    #[serde(default)]
    mapped: Vec<String>,
    #[serde(default)]
    unmapped: Vec<String>,
    #[serde(default)]
    leaf_flags: Option<String>,
}

fn corpus() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/cases");
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("testdata/cases")
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    files
        .iter()
        .flat_map(|path| {
            let text = fs::read_to_string(path).unwrap();
            let corpus: Corpus =
                toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            corpus.case
        })
        .collect()
}

fn number(text: &str) -> u64 {
    let digits = text.strip_prefix("0x").expect("a number begins with 0x");
    u64::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{text} is no number"))
}

/// `0x…-0x…`, the last byte included.
fn one_range(text: &str) -> PhysRange {
    let (start, last) = text.split_once('-').expect("a range has a dash");
    PhysRange::from_inclusive(number(start), number(last)).unwrap()
}

fn ranges(texts: &[String]) -> Vec<PhysRange> {
    texts.iter().map(|text| one_range(text)).collect()
}

impl Case {
    fn config(&self) -> Config {
        let levels = match self.levels.unwrap_or(4) {
            4 => Levels::Four,
            5 => Levels::Five,
            other => panic!("{}: {other} levels", self.name),
        };
        Config {
            offset: self.offset.as_deref().map_or(0, number),
            encryption_mask: self.encryption_mask.as_deref().map_or(0, number),
            maxphyaddr: self.maxphyaddr.unwrap_or(52),
            ..Config::kexec(levels, self.gbpages.unwrap_or(true))
        }
    }

    fn policy<'a>(&self, forbidden: &'a [PhysRange], ram: &'a [PhysRange]) -> Policy<'a> {
        match self.policy.as_str() {
            "round-out" => Policy::RoundOut,
            "exact" => Policy::Exact,
            "exact-on-uv" => Policy::ExactOnUv { uv: self.uv },
            "guarded" => {
                let slack = match self.slack.as_deref() {
                    None | Some("none") => Slack::None,
                    Some("ram") => Slack::Ram(ram),
                    Some("any") => Slack::Any,
                    Some(other) => panic!("{}: slack {other}", self.name),
                };
                Policy::Guarded(Guard { forbidden, slack })
            }
            other => panic!("{}: policy {other}", self.name),
        }
    }

    fn check(&self) {
        let (requests, forbidden, ram) =
            (ranges(&self.requests), ranges(&self.forbidden), ranges(&self.ram));
        let (config, policy) = (self.config(), self.policy(&forbidden, &ram));
        assert_eq!(policy.name(), self.policy);
        let mut slots = slots_for(&policy, requests.len());
        let result = Plan::new(&config, &policy, &requests, &mut slots);
        match &self.expect {
            Expect::Refused(expected) => {
                let error = result.expect_err(&self.name);
                assert_eq!(expected.error.as_plan_error(&config), error, "{}", self.name);
                self.check_add_refused(&config, &policy, &requests, error);
            }
            Expect::Map(expected) => {
                let plan = result.unwrap_or_else(|error| panic!("{}: {error}", self.name));
                self.check_plan(expected, &plan);
                self.check_tables(expected, &config, &policy, &requests, &plan);
            }
        }
    }

    fn check_plan(&self, expected: &Map, plan: &Plan<'_>) {
        let runs: Vec<String> = plan.runs().map(|run| run.to_string()).collect();
        assert_eq!(runs, expected.runs, "{}", self.name);
        assert_eq!(plan.tables().total(), expected.tables, "{}", self.name);
        for range in ranges(&expected.mapped) {
            assert_eq!(plan.first_gap(range), None, "{}: {range}", self.name);
        }
        for range in ranges(&expected.unmapped) {
            let meets = plan.runs().any(|run| run.range().intersects(range));
            assert!(!meets, "{}: {range} is mapped", self.name);
        }
    }

    /// The tables that are built, and those that grow request by request.
    fn check_tables(
        &self,
        expected: &Map,
        config: &Config,
        policy: &Policy<'_>,
        requests: &[PhysRange],
        plan: &Plan<'_>,
    ) {
        let (mut tables, built) = support::built(plan);
        let used = tables.len();
        let arena = reopened(&mut tables, used);
        let (found, count) = leaves(&arena, built.root, config.paging());
        assert_tables_hold(plan, &found, count);
        self.check_flags(expected, &found);

        let mut tables = dirty_tables(64);
        let mut arena = Arena::new(&mut tables, addr(BASE)).unwrap();
        let root = empty_root(&mut arena, config).unwrap();
        for &request in requests {
            let mut slots = slots_for(policy, 1);
            add(&mut arena, root, config, policy, request, &mut slots).unwrap();
        }
        let (found, count) = leaves(&arena, root, config.paging());
        self.check_flags(expected, &found);
        if let Policy::Guarded(Guard { slack: Slack::None | Slack::Ram(_), .. }) = policy {
            self.check_promises(requests, &found);
        } else {
            assert_tables_hold(plan, &found, count);
        }
    }

    fn check_flags(&self, expected: &Map, found: &[LeafRun]) {
        let flags = expected.leaf_flags.as_deref().map_or(0x1e3, number);
        for run in found {
            // 4 KiB leaves have no PS bit.
            let ps = u64::from(run.size.shift() == 12) << 7;
            assert_eq!(run.flags, Flags::from_bits(flags & !ps), "{}", self.name);
        }
    }

    /// Requests that grow one by one under `guarded` may take more tables; these two things hold.
    fn check_promises(&self, requests: &[PhysRange], found: &[LeafRun]) {
        let mapped = |within: PhysRange| -> u64 {
            found
                .iter()
                .filter_map(|run| {
                    PhysRange::from_len(run.phys.get(), run.bytes()).unwrap().intersection(within)
                })
                .map(PhysRange::len)
                .sum()
        };
        for &request in requests {
            assert_eq!(mapped(request), request.len(), "{}", self.name);
        }
        for range in ranges(&self.forbidden) {
            assert_eq!(mapped(range), 0, "{}", self.name);
        }
    }

    /// The request that a plan refuses is refused when it is added, and nothing is written.
    fn check_add_refused(
        &self,
        config: &Config,
        policy: &Policy<'_>,
        requests: &[PhysRange],
        error: PlanError,
    ) {
        // Alone, a request lies in one half; a configuration is refused with any request.
        let (PlanError::Conflict { index, .. }
        | PlanError::PastPhysLimit { index, .. }
        | PlanError::NotCanonical { index, .. }) = error
        else {
            return;
        };
        let mut tables = dirty_tables(8);
        let mut arena = Arena::new(&mut tables, addr(BASE)).unwrap();
        let root = empty_root(&mut arena, config).unwrap();
        let mut slots = slots_for(policy, 1);
        let refused = add(&mut arena, root, config, policy, requests[index], &mut slots);
        let Err(AddError::Plan(refused)) = refused else { panic!("{}: {refused:?}", self.name) };
        assert_eq!(std::mem::discriminant(&refused), std::mem::discriminant(&error));
        assert_eq!(arena.tables(), [identmap::Table::EMPTY]);
    }
}

impl Error {
    fn as_plan_error(&self, config: &Config) -> PlanError {
        match self {
            Error::Conflict { request, index, forbidden, page } => PlanError::Conflict {
                request: one_range(request),
                index: *index,
                forbidden: one_range(forbidden),
                page: addr(number(page)),
            },
            Error::PastLimit { request, index, limit } => PlanError::PastPhysLimit {
                request: one_range(request),
                index: *index,
                limit: addr(number(limit) + 1),
            },
            Error::NotCanonical { request, index } => {
                PlanError::NotCanonical { request: one_range(request), index: *index }
            }
            Error::BothHalves { request, index, first } => PlanError::BothHalves {
                request: one_range(request),
                index: *index,
                first: one_range(first),
            },
            Error::OffsetUnaligned => PlanError::Config(ConfigError::OffsetUnaligned {
                offset: config.offset,
                size: config.largest_leaf(),
            }),
            Error::EncryptionMask => {
                PlanError::Config(ConfigError::EncryptionMask(config.encryption_mask))
            }
        }
    }
}
