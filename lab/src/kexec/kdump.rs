//! A crash: the capture kernel comes up, and `/proc/vmcore` reads as `crash` and makedumpfile read it.

use std::cell::Cell;

use super::cells::{CONSUMER, Producer, jump};
use super::machine::{Guest, Trouble};
use super::media::MAKEDUMPFILE;
use super::{Lab, OURS, Prepared, Row, STOCK, STOCK_FILE};
use crate::cells::{Firmware, SERIES};

/// The part's name.
pub const PART: &str = "kdump";

/// Where the capture kernel's memory is reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reserved {
    /// Below 4 GiB.
    Low,
    /// Above 4 GiB, with a piece below for devices that reach no further.
    High,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    producer: Producer,
    capture: &'static str,
    reserved: Reserved,
}

impl Case {
    fn name(&self) -> String {
        let place = match self.reserved {
            Reserved::Low => "low",
            Reserved::High => "high",
        };
        format!("{}-{place}-to-{}", self.producer, self.capture)
    }
}

/// Each series captures itself below 4 GiB, and another one above.
fn cases(sample: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for (index, &series) in SERIES.iter().enumerate() {
        let producer = Producer { series, firmware: Firmware::Ovmf, gbpages: true };
        cases.push(Case { producer, capture: series, reserved: Reserved::Low });
        let producer = Producer { series, firmware: Firmware::SeaBios, gbpages: false };
        let capture = SERIES[(index + 1) % SERIES.len()];
        cases.push(Case { producer, capture, reserved: Reserved::High });
    }
    if sample {
        cases.retain(|case| case.producer.series == "6.12" && case.reserved == Reserved::Low);
    }
    cases
}

/// Runs all cases with all tools.
#[must_use]
pub fn run(lab: &Lab) -> Vec<Row> {
    let mut cases = cases(lab.sample);
    cases.retain(|case| lab.wanted(&case.name()));
    lab.each(&cases, |case| one(lab, case)).concat()
}

fn one(lab: &Lab, case: &Case) -> Vec<Row> {
    let mut spec = lab.spec(case.producer.series, case.producer.firmware);
    let reserve = match case.reserved {
        Reserved::Low => "crashkernel=320M",
        Reserved::High => "crashkernel=256M,high crashkernel=72M,low",
    };
    let pages = if case.producer.gbpages { "" } else { " nogbpages" };
    spec.append = format!("{reserve}{pages}");
    let name = case.name();
    let prepared =
        lab.prepare(&format!("{PART}-{name}"), &spec, |guest| guest.must("uname -r", lab.patience));
    let memory = Cell::new(None);
    lab.tools()
        .into_iter()
        .map(|tool| match &prepared {
            Err(error) => lab.row(PART, &name, tool, || Err(error.to_string().into())),
            Ok(prepared) => lab.row(PART, &name, tool, || {
                let seen = crash(lab, prepared, case, tool)?;
                if tool == STOCK {
                    memory.set(Some(seen.memory));
                }
                match memory.get() {
                    Some(stock) if stock > seen.memory + MEMORY_SLACK => Err(format!(
                        "{}: {} KiB of the old kernel's memory are not in it that are with kexec -c",
                        seen.text,
                        (stock - seen.memory) >> 10
                    )
                    .into()),
                    _ => Ok(seen.text),
                }
            }),
        })
        .collect()
}

/// What the tools count differently: the first pages, saved elsewhere.
const MEMORY_SLACK: u64 = 1 << 20;

struct Seen {
    text: String,
    /// Bytes of the old kernel's memory in `/proc/vmcore`.
    memory: u64,
}

/// What loads a capture kernel.
pub(super) fn panic_loader(tool: &str) -> Result<&'static str, Trouble> {
    match tool {
        STOCK => Ok("kexec -p -c"),
        STOCK_FILE => Ok("kexec -p -s"),
        OURS => Ok("identmap load -p"),
        _ => Err(format!("no tool {tool}").into()),
    }
}

fn crash(lab: &Lab, prepared: &Prepared<String>, case: &Case, tool: &str) -> Result<Seen, Trouble> {
    let mut guest = prepared.restore(&lab.log(&format!("{PART}-{}-{tool}", case.name())))?;
    let program = panic_loader(tool)?;
    // What Debian's kdump-tools give a capture kernel, where it matters here.
    let cmdline = format!("{CONSUMER} nr_cpus=1 reset_devices lab.capture=1");
    guest.must(
        &format!(
            "{program} /kernels/{} --initrd=/capture --command-line='{cmdline}'",
            case.capture
        ),
        lab.patience,
    )?;
    if guest.must("cat /sys/kernel/kexec_crash_loaded", lab.patience)? != "1" {
        return Err("nothing is loaded for a crash".into());
    }
    let release = jump(lab, &mut guest, "echo c >/proc/sysrq-trigger")?;
    if !release.starts_with(case.capture.trim_end_matches('x')) {
        return Err(format!("{release} came up instead of {}", case.capture).into());
    }
    let told = guest.must("cat /proc/cmdline", lab.patience)?;
    // kexec_file_load and identmap put elfcorehdr= before it, kexec-tools behind.
    if !told.contains(&cmdline) {
        return Err(format!("its command line is {told:?}").into());
    }
    let core = Core::read(&mut guest, lab)?;
    let old = &prepared.answer;
    let named = core.info("OSRELEASE=").ok_or("no OSRELEASE in vmcoreinfo")?;
    if named != *old {
        return Err(format!("vmcoreinfo is of {named}, the kernel that crashed was {old}").into());
    }
    // As crash(8) does first: follow a kernel pointer through the segments, and see the old kernel there.
    let at = core.kernel_address("init_uts_ns")?;
    let bytes = core.bytes(&mut guest, lab, at, 512)?;
    if !bytes.windows(old.len()).any(|window| window == old.as_bytes()) {
        return Err(format!("no {old} in init_uts_ns at physical address 0x{at:x}").into());
    }
    // As gdb does: by the virtual address alone.
    let virt = core.virtual_address("init_uts_ns")?;
    let within = |load: &&Load| virt.checked_sub(load.virt).is_some_and(|at| at < load.size);
    let text = core.loads.iter().find(within);
    let text = text.ok_or(format!("init_uts_ns at 0x{virt:x} is in no segment"))?;
    if virt - text.virt + text.physical != at {
        return Err(
            format!("0x{virt:x} is not 0x{at:x} in the segment of the kernel's image").into()
        );
    }
    let dmesg = guest.must(
        &format!("{MAKEDUMPFILE} --dump-dmesg /proc/vmcore /tmp/dmesg >/dev/null && tail -n 200 /tmp/dmesg"),
        lab.patience,
    )?;
    if !dmesg.contains("Trigger a crash") {
        return Err(format!("the old kernel's log does not have its crash: {dmesg}").into());
    }
    guest.must(&format!("{MAKEDUMPFILE} -l -d 31 /proc/vmcore /tmp/dump"), lab.patience)?;
    let size: u64 = guest
        .must("wc -c </tmp/dump", lab.patience)?
        .parse()
        .map_err(|_| "no size of the dump".to_owned())?;
    if lab.own.is_some() {
        // Our own reader, of vmcoreinfo and of the segments: the crashed kernel's image and its tables.
        let ran = guest.run("identmap tables /proc/vmcore --color never", lab.patience)?;
        // 3: something of the tables is not in the dump, such as what lies in the reservation.
        if !matches!(ran.status, 0 | 3) || !ran.text().contains("the kernel's own, by VMCOREINFO") {
            return Err(format!("identmap tables ended with {}: {}", ran.status, ran.text()).into());
        }
    }
    let memory = core.memory();
    let text = format!(
        "{release} up, {} segments with {} MiB, vmcoreinfo and utsname of {old}, log read, makedumpfile -d 31: {} MiB",
        core.loads.len(),
        memory >> 20,
        size >> 20
    );
    Ok(Seen { text, memory })
}

/// `/proc/vmcore`'s headers.
pub(super) struct Core {
    loads: Vec<Load>,
    vmcoreinfo: String,
}

/// A program header of type `PT_LOAD`.
struct Load {
    virt: u64,
    physical: u64,
    offset: u64,
    size: u64,
}

/// Of the headers and notes that are read; a header for each CPU and range, and a few notes.
const HEADERS: usize = 128 << 10;
/// `PT_LOAD` and `PT_NOTE` (System V ABI, "Program Header").
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
/// `__START_KERNEL_map` (`arch/x86/include/asm/page_64_types.h`)
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

impl Core {
    pub(super) fn read(guest: &mut Guest, lab: &Lab) -> Result<Self, Trouble> {
        let line = format!("dd if=/proc/vmcore bs=4096 count={} 2>/dev/null", HEADERS / 4096);
        let ran = guest.run(&line, lab.patience)?;
        Self::parse(&ran.output).ok_or_else(|| {
            format!("/proc/vmcore is no core file ({} bytes)", ran.output.len()).into()
        })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        // ELF of a 64-bit little-endian machine, ET_CORE, EM_X86_64.
        if bytes.get(..6)? != b"\x7fELF\x02\x01" || number(bytes, 16, 4)? != 4 | 62 << 16 {
            return None;
        }
        let start = number(bytes, 32, 8)?;
        let (size, count) = (number(bytes, 54, 2)?, number(bytes, 56, 2)?);
        let mut core = Self { loads: Vec::new(), vmcoreinfo: String::new() };
        for index in 0..count {
            let at = usize::try_from(start.checked_add(index * size)?).ok()?;
            let field = |offset| number(bytes, at.checked_add(offset)?, 8);
            let (offset, size) = (field(8)?, field(32)?);
            match number(bytes, at, 4)? as u32 {
                PT_LOAD => {
                    core.loads.push(Load { virt: field(16)?, physical: field(24)?, offset, size });
                }
                PT_NOTE => {
                    let range = usize::try_from(offset).ok()?
                        ..usize::try_from(offset.checked_add(size)?).ok()?;
                    if let Some(text) = vmcoreinfo(bytes.get(range)?) {
                        core.vmcoreinfo = text;
                    }
                }
                _ => {}
            }
        }
        Some(core)
    }

    /// Bytes of physical memory in it; the kernel's image may be there twice, by its virtual address too.
    fn memory(&self) -> u64 {
        let mut ranges: Vec<(u64, u64)> = self
            .loads
            .iter()
            .map(|load| (load.physical, load.physical.saturating_add(load.size)))
            .collect();
        ranges.sort_unstable();
        let mut top = 0;
        let mut bytes = 0;
        for (start, end) in ranges {
            bytes += end.saturating_sub(start.max(top));
            top = top.max(end);
        }
        bytes
    }

    /// Whether all of this is in it.
    pub(super) fn holds(&self, start: u64, len: u64) -> bool {
        self.loads.iter().any(|load| {
            let within = start.checked_sub(load.physical);
            within.and_then(|at| at.checked_add(len)).is_some_and(|end| end <= load.size)
        })
    }

    fn info(&self, key: &str) -> Option<&str> {
        self.vmcoreinfo.lines().find_map(|line| line.strip_prefix(key))
    }

    /// Where a variable of the kernel's image lies.
    fn kernel_address(&self, symbol: &str) -> Result<u64, Trouble> {
        let at = self.virtual_address(symbol)?;
        let base = self.info("NUMBER(phys_base)=").ok_or("no phys_base in vmcoreinfo")?;
        base.parse()
            .ok()
            .and_then(|base| at.checked_sub(KERNEL_MAP)?.checked_add_signed(base))
            .ok_or_else(|| format!("vmcoreinfo's address of {symbol} cannot be").into())
    }

    fn virtual_address(&self, symbol: &str) -> Result<u64, Trouble> {
        let key = format!("SYMBOL({symbol})=");
        let text = self.info(&key).ok_or(format!("no {key} in vmcoreinfo"))?;
        u64::from_str_radix(text, 16).map_err(|_| format!("{key}{text} in vmcoreinfo").into())
    }

    fn bytes(&self, guest: &mut Guest, lab: &Lab, at: u64, size: u64) -> Result<Vec<u8>, Trouble> {
        let offset = self
            .loads
            .iter()
            .find_map(|load| {
                let within = at.checked_sub(load.physical)?;
                (within.checked_add(size)? <= load.size).then(|| load.offset.checked_add(within))?
            })
            .ok_or(format!("physical address 0x{at:x} is in no segment"))?;
        let line = format!("dd if=/proc/vmcore bs=1 skip={offset} count={size} 2>/dev/null");
        let ran = guest.run(&line, lab.patience)?;
        if ran.output.len() as u64 == size {
            Ok(ran.output)
        } else {
            Err(format!("0x{at:x} of /proc/vmcore cannot be read").into())
        }
    }
}

/// The text of the note named `VMCOREINFO` (`kernel/vmcore_info.c`).
fn vmcoreinfo(mut notes: &[u8]) -> Option<String> {
    loop {
        let name_size = usize::try_from(number(notes, 0, 4)?).ok()?;
        let size = usize::try_from(number(notes, 4, 4)?).ok()?;
        let name = notes.get(12..12usize.checked_add(name_size)?)?;
        let start = 12usize.checked_add(name_size.checked_next_multiple_of(4)?)?;
        let end = start.checked_add(size)?;
        if name == b"VMCOREINFO\0" {
            return Some(String::from_utf8_lossy(notes.get(start..end)?).into_owned());
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
}

fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(size)?)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_once() {
        let load = |physical, size| Load { virt: 0, physical, offset: 0, size };
        let loads = vec![
            load(0x10000, 0x8000),
            load(0x1000, 0x1000),
            load(0x12000, 0x1000),
            load(0x17000, 0x2000),
        ];
        let core = Core { loads, vmcoreinfo: String::new() };
        assert_eq!(core.memory(), 0x1000 + 0x9000);
        assert!(core.holds(0x10000, 0x8000) && core.holds(0x18fff, 1));
        assert!(!core.holds(0x10000, 0x8001) && !core.holds(0x2000, 1));
    }

    #[test]
    fn a_note_is_found_behind_another() {
        let mut notes = Vec::new();
        for (name, content) in
            [(&b"CORE\0"[..], &b"12345"[..]), (b"VMCOREINFO\0", b"OSRELEASE=6\n")]
        {
            notes.extend((name.len() as u32).to_le_bytes());
            notes.extend((content.len() as u32).to_le_bytes());
            notes.extend([0; 4]);
            for part in [name, content] {
                notes.extend(part);
                notes.resize(notes.len().next_multiple_of(4), 0);
            }
        }
        assert_eq!(vmcoreinfo(&notes).as_deref(), Some("OSRELEASE=6\n"));
        assert_eq!(vmcoreinfo(&notes[..30]), None);
    }
}
