//! SOURCE: live, a file, standard input, or a sample; and the facts given on the command line.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read};

use identmap_linux::firmware::config_entry_len;
use identmap_linux::{Consumer, KernelVersion, Producer};
use identmap_machine::bundle::Bundle;
use identmap_machine::parse::{self, MAX_INPUT};
use identmap_machine::{ConfigTable, Machine, Uv, sample, samples};

use crate::args::Facts;
use crate::live;
use crate::loading;
use crate::output::Failure;

/// Reads a machine, and adds what the command line knows better.
pub(crate) fn machine(source: &str, facts: &Facts) -> Result<Machine, Failure> {
    machine_and_bundle(source, facts).map(|(machine, _)| machine)
}

/// The same, with the bundle that it was read from, if it was one.
pub(crate) fn machine_and_bundle(
    source: &str,
    facts: &Facts,
) -> Result<(Machine, Option<Bundle>), Failure> {
    let (mut machine, bundle) = read(source)?;
    apply(&mut machine, facts)?;
    Ok((machine, bundle))
}

fn read(source: &str) -> Result<(Machine, Option<Bundle>), Failure> {
    if source == "live" {
        let mut machine = live::machine();
        machine.kho_scratch = loading::kho_scratch();
        return Ok((machine, None));
    }
    let (name, bytes) = content(source)?;
    if !Bundle::is_in(&bytes) {
        return Ok((parse::machine(&name, &bytes).map_err(Failure::new)?, None));
    }
    let bundle = Bundle::read(&name, &bytes).map_err(Failure::new)?;
    let machine = bundle.machine(&name).map_err(Failure::new)?;
    Ok((machine, Some(bundle)))
}

/// The name and the content of a SOURCE that is not `live`.
pub(crate) fn content(source: &str) -> Result<(String, Cow<'static, [u8]>), Failure> {
    if let Some(name) = source.strip_prefix("sample:") {
        let Some(sample) = sample(name) else {
            let list: Vec<String> = samples()
                .iter()
                .map(|sample| format!("  sample:{:<18} {}", sample.name, sample.summary))
                .collect();
            let what = if name.is_empty() {
                "name a sample".to_owned()
            } else {
                format!("there is no sample {name:?}")
            };
            return Err(Failure(format!("{what}; there are\n{}", list.join("\n"))));
        };
        return Ok((source.to_owned(), Cow::Borrowed(sample.bytes)));
    }
    let (name, bytes) = bytes(source)?;
    Ok((name, Cow::Owned(bytes)))
}

/// The content of a file, or of standard input for `-`; at most what the parsers take, and one byte.
pub(crate) fn bytes(source: &str) -> Result<(String, Vec<u8>), Failure> {
    let limit = MAX_INPUT as u64 + 1;
    let mut bytes = Vec::new();
    if source == "-" {
        let read = io::stdin().lock().take(limit).read_to_end(&mut bytes);
        read.map_err(|error| Failure(format!("standard input: {error}")))?;
        return Ok(("standard input".to_owned(), bytes));
    }
    let read = File::open(source).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok((source.to_owned(), bytes)),
        Err(error) => {
            let hint = if error.kind() == io::ErrorKind::NotFound {
                "; SOURCE is live, a file, - or sample:NAME"
            } else {
                ""
            };
            Err(Failure(format!("{source}: {error}{hint}")))
        }
    }
}

pub(crate) fn apply(machine: &mut Machine, facts: &Facts) -> Result<(), Failure> {
    if facts.nogbpages {
        machine.nogbpages = Some(true);
        machine.direct_gbpages = Some(false);
    }
    if let Some(uv) = &facts.uv {
        machine.uv = Some(if uv == "on" { Uv::Hubbed } else { Uv::No });
    }
    if let Some(sev) = &facts.sev {
        machine.cpu.sev = Some(sev == "on");
    }
    if let Some(la57) = &facts.la57 {
        machine.cpu.la57 = Some(la57 == "on");
        if la57 == "off" {
            machine.cpu.la57_active = Some(false);
        }
    }
    if let Some(address) = facts.system_table {
        machine.efi.system_table = Some(address);
        machine.efi.booted = Some(true);
    }
    if let Some(range) = facts.config_table {
        // An address alone is a range of one byte: where it begins is known, not how long it is.
        let entry = config_entry_len(machine);
        let entries = (range.len() > 1).then(|| range.len().div_ceil(entry));
        machine.efi.config_table = Some(ConfigTable { address: range.start(), entries });
        machine.efi.booted = Some(true);
    }
    if let Some(release) = &facts.producer {
        KernelVersion::parse(release, None)
            .map_err(|error| Failure(format!("--producer {release}: {error}")))?;
        machine.kernel = Some(release.clone());
        machine.kernel_banner = None;
    }
    Ok(())
}

/// Whether the releases given can be read.
///
/// # Errors
/// If one cannot.
pub(crate) fn check_releases(facts: &Facts) -> Result<(), Failure> {
    apply(&mut Machine::default(), facts)?;
    consumer(facts).map(|_| ())
}

/// The kernel that is left, by the machine's own word.
pub(crate) fn producer(machine: &Machine) -> Producer {
    // A release that cannot be read is not known; the machine's own text is not the user's fault.
    Producer::of(KernelVersion::of(machine).and_then(Result::ok))
}

/// The kernel that is entered.
pub(crate) fn consumer(facts: &Facts) -> Result<Consumer, Failure> {
    let version = match &facts.consumer {
        None => None,
        Some(release) => Some(
            KernelVersion::parse(release, None)
                .map_err(|error| Failure(format!("--consumer {release}: {error}")))?,
        ),
    };
    Ok(Consumer { version, ..Consumer::default() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap_linux::RequestSource;
    use identmap_linux::{Kind, requests};

    /// Entries of 32-bit firmware have 16 bytes. With 24 for each, 160 bytes were 7 entries, of which 112 bytes
    /// were needed, and the rest was not looked at.
    #[test]
    fn all_of_a_configuration_table_is_taken_whatever_the_firmware() {
        for (is_64bit, len) in [(None, 168), (Some(true), 168), (Some(false), 160)] {
            let mut machine = Machine::default();
            machine.efi.is_64bit = is_64bit;
            let config_table = identmap::PhysRange::from_len(0x7000_0018, 160).ok();
            apply(&mut machine, &Facts { config_table, ..Facts::default() }).unwrap();
            let producer = producer(&machine);
            let asks = producer.traits().candidates().iter().find(|traits| traits.config_table);
            let list = requests(&machine, None, asks.unwrap(), Kind::Kexec);
            let of_table = |r: &&identmap_linux::Request| r.source == RequestSource::EfiConfigTable;
            let range = list.requests.iter().find(of_table).unwrap().range;
            assert_eq!(range.len(), len, "{is_64bit:?}");
        }
    }
}
