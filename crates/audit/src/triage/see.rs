//! How to see the next failure: lines for the command line that fit the machine.

use identmap::{PageSize, PhysAddr, PhysRange};
use identmap_linux::Place;
use identmap_machine::{Machine, MemType, ranges};

use crate::Audit;

/// A way to see what happens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Way {
    /// `serial`, `kexec-debug`, `screen`, `efi-pstore`, `ramoops`, `netconsole`.
    pub id: &'static str,
    /// From when on it shows something.
    pub shows: &'static str,
    /// What to add to the command line of the kernel that is left.
    pub before: Option<String>,
    /// What to add to the command line of the kernel that is entered.
    pub after: Option<String>,
    /// Where to look then, and what else it needs.
    pub then: String,
    /// What of the machine it rests on.
    pub why: String,
}

/// All that fit this machine, the one that shows the most first.
#[must_use]
pub fn ways(machine: &Machine, audit: &Audit) -> Vec<Way> {
    let port = serial_port(machine);
    let mut ways = vec![kexec_debug(&port), serial(&port)];
    ways.extend(screen(machine));
    ways.extend(ramoops(machine, audit));
    ways.extend(efi_pstore(machine));
    ways.push(netconsole());
    ways
}

/// A UART.
struct Port {
    /// I/O port; Linux `arch/x86/include/asm/serial.h`.
    io: u16,
    /// `ttyS` and this.
    number: u8,
    baud: u32,
    why: String,
}

const PORTS: [u16; 4] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];

const USUAL_BAUD: u32 = 115_200;

/// The port that the command line names; else the first.
fn serial_port(machine: &Machine) -> Port {
    let words = machine.cmdline.iter().flat_map(|line| line.split_whitespace());
    let mut named = words.filter_map(|word| {
        let (name, value) = word.split_once('=')?;
        let tty = value.strip_prefix(match name {
            "console" | "earlyprintk" => "ttyS",
            _ => return None,
        })?;
        let (number, options) = tty.split_once(',').unwrap_or((tty, ""));
        let number: u8 = number.parse().ok()?;
        let digits: String = options.chars().take_while(char::is_ascii_digit).collect();
        // earlyprintk divides by it; nothing that is a UART is slower or faster.
        let baud = digits.parse().ok().filter(|baud| (300..=USUAL_BAUD).contains(baud));
        let io = *PORTS.get(usize::from(number))?;
        let why = format!("the command line has {word}");
        Some(Port { io, number, baud: baud.unwrap_or(USUAL_BAUD), why })
    });
    // The last console= is /dev/console.
    named.next_back().unwrap_or_else(|| {
        let spcr = machine.acpi_tables.iter().any(|table| table.signature == "SPCR");
        let why = if spcr {
            "firmware names a serial console in its SPCR table, which may be another one than this, the first: \
             earlycon without a value takes it from there"
        } else if machine.cpu.hypervisor == Some(true) {
            "a virtual machine's first serial port, if it has one"
        } else {
            "no serial console is known of this machine: supposed is the first port of a PC, which a \
             management controller often has (serial over LAN) even where there is no plug"
        };
        Port { io: PORTS[0], number: 0, baud: USUAL_BAUD, why: why.to_owned() }
    })
}

fn kexec_debug(port: &Port) -> Way {
    let Port { io, baud, .. } = port;
    Way {
        id: "kexec-debug",
        shows: "the moment of the jump: the exception, with all registers",
        // early_serial_init() sets kexec_debug_8250_port.
        before: Some(format!("earlyprintk=serial,{io:#x},{baud}")),
        after: None,
        then: "needs CONFIG_KEXEC_DEBUG in the kernel that is left (Linux 6.15 and later); identmap decode explains \
               what it prints"
            .to_owned(),
        why: port.why.clone(),
    }
}

fn serial(port: &Port) -> Way {
    let Port { io, number, baud, .. } = port;
    Way {
        id: "serial",
        shows: "the new kernel from its first line on",
        before: None,
        after: Some(format!(
            "earlycon=uart8250,io,{io:#x},{baud}n8 console=tty0 console=ttyS{number},{baud}n8 keep_bootcon \
             ignore_loglevel"
        )),
        then: format!(
            "kexec -l … --console-serial --serial={io:#x} --serial-baud={baud} lets purgatory speak too (not with -s)"
        ),
        why: port.why.clone(),
    }
}

fn screen(machine: &Machine) -> Option<Way> {
    (machine.efi.booted == Some(true)).then(|| Way {
        id: "screen",
        shows: "the new kernel from its first lines on, on the screen",
        before: Some("nomodeset".to_owned()),
        after: Some("earlycon=efifb keep_bootcon ignore_loglevel nomodeset".to_owned()),
        then: "a photo or a film of the screen; needs CONFIG_EFI_EARLYCON, and the firmware's framebuffer as the \
               firmware left it: hence nomodeset in both"
            .to_owned(),
        why: "booted by EFI: there is a framebuffer of the firmware, if there is a screen".to_owned(),
    })
}

fn efi_pstore(machine: &Machine) -> Option<Way> {
    (machine.efi.booted == Some(true)).then(|| Way {
        id: "efi-pstore",
        shows: "a panic or an oops of either kernel, once EFI's run-time services work; not a silent reset",
        before: Some("efi_pstore.pstore_disable=0 printk.always_kmsg_dump=1".to_owned()),
        after: Some(
            "pstore.backend=efi_pstore efi_pstore.pstore_disable=0 printk.always_kmsg_dump=1 panic=30".to_owned(),
        ),
        then: "after the next boot in /sys/fs/pstore, or /var/lib/systemd/pstore; needs \
               CONFIG_EFI_VARS_PSTORE; it writes to the firmware's flash, so take it out again"
            .to_owned(),
        why: "booted by EFI: firmware has variables".to_owned(),
    })
}

fn netconsole() -> Way {
    Way {
        id: "netconsole",
        shows: "the new kernel after its network driver is up; nothing early",
        before: None,
        after: Some("netconsole=@/INTERFACE,6666@RECEIVER/ ignore_loglevel".to_owned()),
        then: "on the receiver: nc -u -l 6666; replace INTERFACE (ip -br link) and RECEIVER (its IP address); the \
               drivers must be built in, or load it in the initramfs: modprobe netconsole netconsole=…"
            .to_owned(),
        why: "works on every machine with a wired network".to_owned(),
    }
}

/// What ramoops gets.
const RAMOOPS: u64 = 1 << 20;

fn ramoops(machine: &Machine, audit: &Audit) -> Option<Way> {
    let range = quiet_range(machine, audit)?;
    let (start, size) = (range.start().get(), range.len());
    let line = format!(
        "memmap={size:#x}${start:#x} ramoops.mem_address={start:#x} ramoops.mem_size={size:#x} \
         ramoops.record_size=0x20000 ramoops.console_size=0x80000 ramoops.ecc=1"
    );
    Some(Way {
        id: "ramoops",
        shows: "the log of either kernel up to its last line, if the machine is reset, not switched off, and \
                firmware leaves that memory alone",
        before: Some(line.clone()),
        after: Some(line),
        then: "the same line for both kernels and for the one that is booted after it; there in /sys/fs/pstore \
               (modprobe ramoops). In /etc/default/grub the $ takes three backslashes before it"
            .to_owned(),
        why: format!(
            "{range} is RAM below 4 GiB that holds no table, no image and no reservation that is known; with the \
             line no kernel uses it"
        ),
    })
}

/// A MiB of RAM, as high below 4 GiB as possible, 16 MiB away from its end (where firmware and kernels put
/// things first) and away from all that is known to lie in RAM.
fn quiet_range(machine: &Machine, audit: &Audit) -> Option<PhysRange> {
    const AWAY: u64 = 16 << 20;
    let window = PhysRange::new(64 << 20, 1 << 32).ok()?;
    let ram: Vec<PhysRange> = audit.layout.as_ref()?.of_kind(MemType::Usable).collect();
    let mut taken: Vec<PhysRange> = machine.crash_kernels.iter().map(|crash| crash.range).collect();
    taken.extend(machine.segments.iter().map(|segment| segment.range));
    taken.extend(machine.ramdisk);
    taken.extend(&machine.setup_data);
    taken.extend(machine.acpi_tables.iter().map(|table| table.range));
    // Where the running kernel and firmware say that something is.
    let inner = machine.iomem.iter().filter(|entry| entry.depth > 0);
    taken.extend(inner.map(|entry| entry.range));
    taken.extend(machine.efi.memmap);
    // EfiConventionalMemory, and what boot services leave behind (UEFI 2.10, table 7.10).
    let in_use = machine.efi.memory_map.iter().filter(|entry| !matches!(entry.kind, 1..=4 | 7));
    taken.extend(in_use.map(|entry| entry.range));
    for need in &audit.needs {
        match &need.place {
            Place::Known(range) => taken.push(*range),
            // The image goes anywhere in RAM: the reservation keeps it away.
            Place::Within { .. } | Place::Unknown => {}
        }
    }
    let taken =
        ranges::normalise(taken.iter().map(|range| range.round_out(PageSize::Size2M)).collect());
    let free = ranges::subtract(&ranges::intersect(&ranges::normalise(ram), &[window]), &taken);
    let mut fitting = free.into_iter().filter(|range| range.len() > 2 * AWAY + RAMOOPS);
    let last = fitting.next_back()?;
    let end = (last.end().get() - AWAY) & !(RAMOOPS - 1);
    PhysAddr::new(end.checked_sub(RAMOOPS)?)
        .and_then(|start| PhysRange::from_len(start.get(), RAMOOPS).ok())
        .filter(|range| last.covers(*range))
}

#[cfg(test)]
mod tests {
    use super::*;
    use identmap_machine::parse;

    fn port(cmdline: &str) -> (u16, u8, u32) {
        let machine = Machine { cmdline: Some(cmdline.to_owned()), ..Machine::default() };
        let port = serial_port(&machine);
        (port.io, port.number, port.baud)
    }

    #[test]
    fn the_serial_port_is_the_one_that_is_used() {
        assert_eq!(port("quiet"), (0x3f8, 0, 115_200));
        assert_eq!(port("console=ttyS1,115200n8 console=tty0"), (0x2f8, 1, 115_200));
        assert_eq!(port("console=ttyS0 console=ttyS1,9600n8"), (0x2f8, 1, 9600));
        assert_eq!(port("earlyprintk=ttyS1,57600,keep"), (0x2f8, 1, 57_600));
        assert_eq!(
            port("console=ttyS9,9600 console=ttySAC0 console=ttyS0,99999999999"),
            (0x3f8, 0, 115_200)
        );
    }

    #[test]
    fn ramoops_lies_in_ram_that_nothing_uses() {
        use crate::{ImageTables, Question, check};
        use identmap_linux::{Consumer, Kind, Producer};
        let mut found = 0;
        for sample in identmap_machine::samples() {
            let machine = parse::machine(sample.name, sample.bytes).unwrap();
            let audit = check(&Question {
                machine: &machine,
                producer: Producer::of(None),
                consumer: Consumer::default(),
                kind: Kind::Kexec,
                tables: ImageTables::NotRead(String::new()),
                entries: &[],
                seen: None,
            });
            let Some(range) = quiet_range(&machine, &audit) else { continue };
            found += 1;
            let layout = audit.layout.as_ref().unwrap();
            assert!(
                layout.of_kind(MemType::Usable).any(|ram| ram.covers(range)),
                "{}",
                sample.name
            );
            let crash = machine.crash_kernels.iter().map(|crash| crash.range);
            let tables = machine.acpi_tables.iter().map(|table| table.range);
            assert!(crash.chain(tables).all(|taken| !taken.intersects(range)), "{}", sample.name);
            assert_eq!(range.start().get() % RAMOOPS, 0);
        }
        assert!(found >= 6, "{found}");
    }
}
