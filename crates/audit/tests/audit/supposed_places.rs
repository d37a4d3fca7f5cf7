//! Places of an image that were only supposed, for a run of it, are held against nothing.

use identmap_audit::{ImageTables, Question, check};
use identmap_linux::{Consumer, KernelVersion, Kind, Producer};
use identmap_machine::parse;

#[test]
fn an_image_that_was_run_is_not_said_to_lie_anywhere() {
    let log = "BIOS-e820: [mem 0x0000000000000000-0x000000000009ffff] usable\n\
               BIOS-e820: [mem 0x0000000000100000-0x000000007fffffff] usable\n\
               efi: EFI v2.7 by EDK II\n\
               efi: ACPI=0x7f001000 TPMEventLog=0x60000018\n\
               nr_segments = 1\n\
               segment[0].mem   = 0x60000000\n\
               segment[0].memsz = 0x100000\n";
    let machine = parse::machine("log", log.as_bytes()).unwrap();
    let ids = |seen| {
        let producer = Producer::of(KernelVersion::parse("6.12.30", None).ok());
        let audit = check(&Question {
            machine: &machine,
            producer,
            consumer: Consumer::default(),
            kind: Kind::Kexec,
            tables: ImageTables::NotRead(String::new()),
            entries: &[],
            seen,
        });
        let of = |id| audit.findings.iter().filter(|finding| finding.id == id).count();
        (of("conflict"), of("table-in-ram"))
    };
    assert_eq!(ids(None), (1, 0));
    assert_eq!(ids(Some(&[])), (0, 1));
}
