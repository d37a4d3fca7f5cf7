//! What a running kernel tells, with parts of it taken away: whoever knows less may not say `safe` where the
//! whole says otherwise.

use identmap_audit::{ImageTables, Question, Verdict, check};
use identmap_linux::{Consumer, KernelVersion, Kind, Producer};
use identmap_machine::Machine;
use identmap_machine::live::{Content, CpuidLeaf, Inputs, assemble};

/// The laptop of 2024 as root would see it, with a processor that has SEV in CPUID.
fn inputs() -> Inputs {
    let log = include_str!("../../../../testdata/doubts/base.txt").replace("6.12.30", "6.1.80");
    let text = |text: &str| Content::Bytes(text.as_bytes().to_vec());
    let mut page = vec![0; 4096];
    page[0x1c0..0x1c4].copy_from_slice(b"EL64");
    page[0x1c4..0x1c8].copy_from_slice(&0xcb66_1018_u32.to_le_bytes());
    let mut iomem = String::new();
    for line in log.lines().filter_map(|line| line.split_once("BIOS-e820: [mem 0x")) {
        let (range, kind) = line.1.split_once("] ").unwrap();
        let name = match kind {
            "usable" => "System RAM",
            "ACPI data" => "ACPI Tables",
            "ACPI NVS" => "ACPI Non-volatile Storage",
            _ => "Reserved",
        };
        let range = range.replace("-0x", "-");
        iomem.extend([range.as_str(), " : ", name, "\n"]);
    }
    let leaf =
        |leaf, ecx, edx, eax| CpuidLeaf { leaf, subleaf: 0, eax, ebx: 0x6874_7541, ecx, edx };
    Inputs {
        dmesg: text(&log),
        iomem: text(&iomem),
        cmdline: text("root=/dev/sda1 ro quiet\n"),
        cpuinfo: text(
            "processor : 0\nvendor_id : AuthenticAMD\nmodel name : AMD Ryzen 7 5800H\n\
             flags : fpu pdpe1gb sev\naddress sizes : 48 bits physical, 48 bits virtual\n",
        ),
        meminfo: text("DirectMap4k: 1 kB\nDirectMap2M: 1 kB\nDirectMap1G: 1 kB\n"),
        version: text("Linux version 6.1.80 (x@y) (gcc) #1 SMP\n"),
        osrelease: text("6.1.80\n"),
        efi_exists: Some(true),
        efi_config_table: text("0xc7a01018\n"),
        efi_fw_platform_size: text("64\n"),
        boot_params: Content::Bytes(page),
        cpuid: vec![
            leaf(0, 0x444d_4163, 0x6974_6e65, 0x10),
            leaf(1, 0, 0, 0),
            leaf(7, 0, 0, 0),
            leaf(0x8000_0000, 0, 0, 0x8000_0020),
            leaf(0x8000_0001, 0, 1 << 26, 0),
            leaf(0x8000_0008, 0, 0, 48),
            leaf(0x8000_001f, 0, 0, 3),
        ],
        ..Inputs::default()
    }
}

/// What was found is not worth more for its places not being read.
#[test]
fn an_image_that_is_loaded_somewhere_is_not_safe() {
    let mut inputs = inputs();
    let Content::Bytes(log) = &mut inputs.dmesg else { panic!() };
    log.extend_from_slice(b"efi: MEMATTR=0xce000018\n");
    let loaded = |inputs: &mut Inputs, flag: &str| {
        inputs.kexec_loaded = Content::Bytes(flag.as_bytes().to_vec());
        assemble(inputs)
    };
    let of = |machine: &Machine| verdict(machine, Some("6.12.70"), Some("6.12.30"));
    let mut machine = loaded(&mut inputs, "1\n");
    assert_eq!(of(&machine), Verdict::Unknown, "over MEMATTR or not");
    let at = |start| identmap::PhysRange::from_len(start, 4096).unwrap();
    machine.segments = vec![identmap_machine::Segment { range: at(0xce00_0000) }];
    assert_eq!(of(&machine), Verdict::Unsafe);
    machine.segments = vec![identmap_machine::Segment { range: at(0x1000_0000) }];
    assert_eq!(of(&machine), Verdict::Safe);
    assert_eq!(of(&loaded(&mut inputs, "0\n")), Verdict::Safe, "none is");
}

fn verdict(machine: &Machine, consumer: Option<&str>, producer: Option<&str>) -> Verdict {
    let version = |release: &str| KernelVersion::parse(release, None).ok();
    let running = KernelVersion::of(machine).and_then(Result::ok);
    let question = Question {
        machine,
        producer: Producer::of(producer.map_or(running, version)),
        consumer: Consumer { version: consumer.and_then(version), ..Consumer::default() },
        kind: Kind::Kexec,
        tables: ImageTables::NotRead("supposed".to_owned()),
        entries: &[],
        seen: None,
    };
    check(&question).verdict
}

type Take = (&'static str, fn(&mut Inputs, bool));

/// Everything that can be taken away: by nobody having looked, or by being refused.
const SOURCES: [Take; 12] = {
    macro_rules! file {
        ($field:ident) => {
            (stringify!($field), |inputs: &mut Inputs, refused: bool| {
                inputs.$field =
                    if refused { Content::Unreadable(String::new()) } else { Content::NotRead }
            })
        };
    }
    [
        file!(dmesg),
        file!(iomem),
        file!(cmdline),
        file!(cpuinfo),
        file!(meminfo),
        file!(version),
        file!(osrelease),
        ("efi_exists", |inputs, _| inputs.efi_exists = None),
        file!(efi_config_table),
        file!(efi_fw_platform_size),
        file!(boot_params),
        ("cpuid", |inputs, _| inputs.cpuid.clear()),
    ]
};

#[test]
fn taking_something_away_never_makes_it_safe() {
    let whole = inputs();
    let consumers = [None, Some("5.10.200"), Some("6.1.30"), Some("6.12.70")];
    let producers = [None, Some("6.1.60"), Some("6.1.80"), Some("6.1.150"), Some("6.12.30")];
    let mut met = [0; 3];
    for producer in producers {
        for consumer in consumers {
            let all = verdict(&assemble(&whole), consumer, producer);
            for (first, one) in SOURCES.iter().enumerate() {
                for two in &SOURCES[first..] {
                    for refused in [false, true] {
                        let mut less = whole.clone();
                        (one.1)(&mut less, refused);
                        (two.1)(&mut less, refused);
                        let found = verdict(&assemble(&less), consumer, producer);
                        met[found as usize] += 1;
                        assert!(
                            found != Verdict::Safe || all == Verdict::Safe,
                            "{all} with everything, safe without {} and {}: {producer:?} {consumer:?}",
                            one.0,
                            two.0
                        );
                    }
                }
            }
        }
    }
    assert!(met.iter().all(|&count| count > 100), "safe, unknown, unsafe: {met:?}");
}
