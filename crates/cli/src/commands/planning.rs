//! What `map` and `explain` share: requests and configuration, from ranges or from a machine.

use identmap::{Config, Levels, PhysAddr, PhysRange, Plan};
use identmap_audit::{Coverage, MapInput, PolicyKind, SlackKind, forbidden, is_uv};
use identmap_linux::{Kind, Known, requests};
use identmap_machine::{Layout, Machine, MemType, hazards, parse_range, ranges};

use crate::args::{Facts, PlanArgs};
use crate::output::Failure;
use crate::source;

/// Everything that a map was planned from, and the map.
pub(crate) struct Planned {
    /// What the requests were taken from.
    pub(crate) source: String,
    /// The map.
    pub(crate) coverage: Coverage,
    /// The requests in their order, each with what it is for.
    pub(crate) requests: Vec<(PhysRange, Option<String>)>,
    /// What must not be mapped: sorted, disjoint.
    pub(crate) forbidden: Vec<PhysRange>,
    /// The machine's memory, if a machine was read.
    pub(crate) layout: Option<Layout>,
    /// The machine, if one was read.
    machine: Option<Machine>,
    /// What `is_uv_system()` says.
    uv: bool,
    slack: SlackKind,
    ram: Vec<PhysRange>,
}

impl Planned {
    /// Hands the plan over once more, to be built.
    pub(crate) fn with_plan<T>(&self, use_plan: impl FnOnce(&Plan<'_>) -> T) -> Result<T, Failure> {
        let ranges: Vec<PhysRange> = self.requests.iter().map(|(range, _)| *range).collect();
        let input = MapInput {
            config: self.coverage.config,
            policy: self.coverage.policy,
            uv: self.uv,
            requests: &ranges,
            forbidden: &self.forbidden,
            slack: self.slack,
            ram: &self.ram,
        };
        input.with_plan(use_plan).map_err(Failure::new)
    }
}

pub(crate) fn plan(
    source: Option<&str>,
    args: &PlanArgs,
    facts: &Facts,
) -> Result<Planned, Failure> {
    let machine = match (source, args.has_requests()) {
        (None, true) => None,
        (source, _) => Some(source::machine(source.unwrap_or("live"), facts)?),
    };
    let layout = machine.as_ref().and_then(Layout::of);
    let mut asked = given(args)?;
    let mut config = Config::kexec(Levels::Four, true);
    let mut policy = PolicyKind::Exact;
    let mut avoid = args.forbid.clone();
    let mut uv = facts.uv.as_deref() == Some("on");
    if let Some(machine) = &machine {
        let (machine_config, machine_policy, list) = of_machine(machine, layout.as_ref());
        config = machine_config;
        policy = machine_policy;
        if asked.is_empty() {
            if layout.is_none() {
                let why = "no memory map in it: nothing to request";
                return Err(Failure(format!("{}: {why}", machine.source)));
            }
            asked = list;
        }
        let known = hazards(machine);
        uv = is_uv(machine, &known);
        let ranges: Vec<PhysRange> = asked.iter().map(|(range, _)| *range).collect();
        avoid.extend(forbidden(&known, &ranges));
    } else if facts.nogbpages {
        config.gbpages = false;
    }
    asked.extend(facts.map.iter().map(|range| (*range, Some("synthetic entry".to_owned()))));
    config.levels = args.levels().unwrap_or(config.levels);
    config.gbpages = args.gbpages().unwrap_or(config.gbpages);
    config.maxphyaddr = args.maxphyaddr.unwrap_or(config.maxphyaddr);
    policy = args.policy().unwrap_or(policy);

    let ram: Vec<PhysRange> =
        layout.iter().flat_map(|layout| layout.of_kind(MemType::Usable)).collect();
    let slack = args.slack().unwrap_or(SlackKind::Ram);
    if args.slack() == Some(SlackKind::Ram) && ram.is_empty() {
        return Err(Failure::new("--slack ram needs a SOURCE that tells where RAM is"));
    }
    let ranges: Vec<PhysRange> = asked.iter().map(|(range, _)| *range).collect();
    let input =
        MapInput { config, policy, uv, requests: &ranges, forbidden: &avoid, slack, ram: &ram };
    let coverage = Coverage::plan(&input).map_err(Failure::new)?;
    let source = machine.as_ref().map_or("requests", |machine| &machine.source).to_owned();
    Ok(Planned {
        source,
        machine,
        coverage,
        requests: asked,
        forbidden: ranges::normalise(avoid),
        layout,
        uv,
        slack,
        ram,
    })
}

/// Whether every kernel that this machine may be running maps `address`, or none does: what decides, if not.
///
/// Policy and pages that are given on the command line are no question.
pub(crate) fn disagreement(
    planned: &Planned,
    args: &PlanArgs,
    facts: &Facts,
    address: PhysAddr,
) -> Result<Option<String>, Failure> {
    let (Some(machine), false) = (&planned.machine, args.has_requests()) else { return Ok(None) };
    if args.policy() == Some(PolicyKind::Guarded) {
        return Ok(None);
    }
    let layout = planned.layout.as_ref();
    let pages = identmap_linux::gbpages(machine);
    let producer = source::producer(machine);
    let mut under: [Vec<String>; 2] = Default::default();
    for traits in producer.traits().candidates() {
        let mut requests = requests(machine, layout, traits, Kind::Kexec).ranges();
        requests.extend(&facts.map);
        let given = args.gbpages().map(|on| vec![on]);
        for gbpages in given.unwrap_or_else(|| pages.candidates().to_vec()) {
            let mut config = traits.config(machine, gbpages);
            config.levels = args.levels().unwrap_or(config.levels);
            config.maxphyaddr = args.maxphyaddr.unwrap_or(config.maxphyaddr);
            let policy = args.policy().unwrap_or_else(|| traits.policy.into());
            let input = MapInput {
                config,
                policy,
                uv: planned.uv,
                requests: &requests,
                forbidden: &[],
                slack: SlackKind::None,
                ram: &[],
            };
            let coverage = Coverage::plan(&input).map_err(Failure::new)?;
            let table = if traits.config_table { "requested" } else { "not requested" };
            let leaves = if config.gbpages { "1G pages" } else { "nogbpages" };
            let name = format!("{}, configuration table {table}, {leaves}", policy.name());
            let list = &mut under[usize::from(coverage.at(address).is_some())];
            if !list.contains(&name) {
                list.push(name);
            }
        }
    }
    let [missing, mapped] = under.map(|list| list.join("; "));
    Ok((!missing.is_empty() && !mapped.is_empty())
        .then(|| format!("mapped if the producer is {mapped}\nnot mapped if it is {missing}")))
}

/// What the machine's own kernel would request, and how it would map it.
fn of_machine(
    machine: &Machine,
    layout: Option<&Layout>,
) -> (Config, PolicyKind, Vec<(PhysRange, Option<String>)>) {
    let producer = source::producer(machine);
    // Of several that are possible the last: the newest ways.
    let traits = match producer.traits() {
        Known::Certain(traits) => *traits,
        Known::Uncertain { candidates, .. } => candidates[candidates.len() - 1],
    };
    let gbpages = identmap_linux::gbpages(machine).candidates().contains(&true);
    let policy = traits.policy.into();
    let list = requests(machine, layout, &traits, Kind::Kexec);
    let asked = list.requests.iter().map(|r| (r.range, Some(r.source.to_string()))).collect();
    (traits.config(machine, gbpages), policy, asked)
}

/// `--request` and `--requests-file`, in that order.
fn given(args: &PlanArgs) -> Result<Vec<(PhysRange, Option<String>)>, Failure> {
    let mut asked: Vec<(PhysRange, Option<String>)> =
        args.request.iter().map(|range| (*range, None)).collect();
    let Some(file) = &args.requests_file else { return Ok(asked) };
    let (name, bytes) = source::bytes(file)?;
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = String::from_utf8_lossy(line);
        let text = line.split('#').next().unwrap_or_default();
        if text.trim().is_empty() {
            continue;
        }
        let range = parse_range(text).map_err(|error| {
            let shown: String = text.trim_end().chars().take(120).collect();
            let before = text.get(..error.column).map_or(0, |text| text.chars().count());
            let caret = format!("{:>width$}", "^", width = before.min(120) + 1);
            let message = &error.message;
            Failure(format!(
                "{name}:{}:{}: {message}; expected 0xSTART-0xLAST or START+SIZE\n  {shown}\n  {caret}",
                number + 1,
                before + 1,
            ))
        })?;
        asked.push((range, None));
    }
    if asked.is_empty() {
        return Err(Failure(format!(
            "{name}: no range in it; expected one a line, as 0xSTART-0xLAST"
        )));
    }
    Ok(asked)
}
