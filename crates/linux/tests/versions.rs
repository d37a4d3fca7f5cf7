//! Kernel versions as they are printed, and what can be concluded from them.

use identmap_linux::{
    Blur, Builder, Class, KernelVersion, Producer, Release, Upstream, VersionError,
};

fn parse(release: &str, banner: Option<&str>) -> KernelVersion {
    KernelVersion::parse(release, banner).unwrap_or_else(|e| panic!("{e}"))
}

fn exact(release: &str, banner: &str) -> Option<String> {
    parse(release, Some(banner)).exact().map(|r| r.to_string())
}

#[test]
fn a_stable_update_is_read_where_it_is_written() {
    for (release, banner, want) in [
        ("6.1.0-18-amd64", "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)", "6.1.76"),
        ("6.1.0-18-amd64", "Debian 6.1.76-1", "6.1.76"),
        ("6.1.0-18-cloud-amd64", "#1 SMP Debian 6.1.76-1 (2024-02-01)", "6.1.76"),
        ("6.12-rc6-amd64", "#1 SMP Debian 6.12~rc6-1~exp1 (2024-11-08)", "6.12-rc6"),
        (
            "6.18-amd64",
            "(gcc (Debian 15.2.0-11)) #1 SMP Debian 6.18.2-1~exp1 (2025-12-18)",
            "6.18.2",
        ),
        ("6.16.12+deb14+1-amd64", "", "6.16.12"),
        ("6.12.94+deb13-cloud-amd64", "", "6.12.94"),
        ("6.7.12+bpo-amd64", "", "6.7.12"),
        ("3.10-1-grml-amd64", "#1 SMP Debian 3.10.10-1+grml.1 (2013-08-30)", "3.10.10"),
        ("6.17.5-arch1-1", "#1 SMP", "6.17.5"),
        ("6.1.76", "", "6.1.76"),
        ("6.8.0-rc5-Zen3", "", "6.8-rc5"),
        ("6.12.0-rc1", "", "6.12-rc1"),
        ("6.19.9-200.fc43.x86_64", "", "6.19.9"),
        ("6.2.0-0.rc1.14.fc38.x86_64+debug", "", "6.2-rc1"),
        ("5.14.0-051400rc2-generic", "", "5.14-rc2"),
        ("6.14.4-061404-generic", "", "6.14.4"),
        ("6.5.4-1-default", "#1 SMP Wed Sep 20 05:07:04 UTC 2023 (fdd7e9e)", "6.5.4"),
        ("5.15.90.1-microsoft-standard-WSL2", "", "5.15.90"),
        ("4.19.163-1.el7.x86_64", "", "4.19.163"),
        ("6.9.1-1.el9.elrepo.x86_64", "", "6.9.1"),
        ("6.8.0-63.fc40.x86_64", "", "6.8"),
        ("6.8.0-1-mainline", "", "6.8"),
        ("6.8.0-arch1-1", "", "6.8"),
        ("6.6.14-desktop-2.mga9", "", "6.6.14"),
    ] {
        assert_eq!(exact(release, banner).as_deref(), Some(want), "{release} {banner}");
    }
}

#[test]
fn what_a_number_hides_is_not_guessed() {
    use Blur::{AbiNumber, Backports, LocalCommits, NextTree, NoPatchLevel};
    for (release, banner, builder, from, before, why) in [
        ("6.1.0-18-amd64", "", Builder::Debian, "6.1", Some("6.2-rc1"), AbiNumber),
        // A compiler's version is no kernel's.
        (
            "6.1.0-18-amd64",
            "(gcc (Debian 6.1.0-1) 6.1.0",
            Builder::Debian,
            "6.1",
            Some("6.2-rc1"),
            AbiNumber,
        ),
        ("6.8.0-31-generic", "", Builder::Ubuntu, "6.8", None, Backports),
        (
            "6.8.0-31-generic",
            "Ubuntu 6.8.0-31.31-generic 6.8.1",
            Builder::Ubuntu,
            "6.8.1",
            None,
            Backports,
        ),
        (
            "6.8.0-48-generic",
            "#48-Ubuntu SMP (Ubuntu 6.8.0-48.48-generic 6.8.12)",
            Builder::Ubuntu,
            "6.8.12",
            None,
            Backports,
        ),
        ("5.14.0-427.el9.x86_64", "", Builder::Rhel, "5.14", None, Backports),
        ("5.14.0-570.23.1.el9_6.x86_64", "", Builder::Rhel, "5.14", None, Backports),
        ("2.6.32-431.el6.x86_64", "", Builder::Rhel, "2.6.32", None, Backports),
        ("6.4.0-150600.21-default", "", Builder::Suse, "6.4", None, Backports),
        ("5.3.18-lp152.60-default", "", Builder::Suse, "5.3.18", None, Backports),
        ("6.1.112-124.190.amzn2023.x86_64", "", Builder::Amazon, "6.1.112", None, Backports),
        ("6.5.13-5-pve", "#1 SMP PMX 6.5.13-5", Builder::Proxmox, "6.5.13", None, Backports),
        ("6.8.0-next-20240312+", "", Builder::Next, "6.8", Some("6.9"), NextTree),
        (
            "6.9.0-rc4-00001-gafc95ee83a86",
            "",
            Builder::Upstream,
            "6.9-rc4",
            Some("6.10-rc2"),
            LocalCommits,
        ),
        ("5.12.0+", "", Builder::Upstream, "5.12", Some("5.13-rc2"), LocalCommits),
        ("6.12.12+", "", Builder::Upstream, "6.12.12", Some("6.13-rc1"), LocalCommits),
        (
            "5.10.180-22633-g1d2f89719839",
            "",
            Builder::Upstream,
            "5.10.180",
            Some("5.11-rc1"),
            LocalCommits,
        ),
        ("5.15.0-1040-intel-iotg", "", Builder::Ubuntu, "5.15", None, Backports),
        ("5.4.17-2136.330.7.1.el8uek.x86_64", "", Builder::Vendor, "5.4.17", None, Backports),
        ("5.10.134-16.3.an8.x86_64", "", Builder::Vendor, "5.10.134", None, Backports),
        ("5.10.0-60.18.0.50.oe2203.x86_64", "", Builder::Vendor, "5.10", None, Backports),
        ("4.19.90-2312.1.0.0255.oe2003sp4.x86_64", "", Builder::Vendor, "4.19.90", None, Backports),
        ("5.10.0-153.12.0.92.oe2203sp2.x86_64", "", Builder::Vendor, "5.10", None, Backports),
        ("4.19.36-vhulk1907.1.0.h475.eulerosv2r8", "", Builder::Vendor, "4.19.36", None, Backports),
        ("5.4.119-19-0009.28", "", Builder::Vendor, "5.4.119", None, Backports),
        ("5.4.241-1-tlinux4-0017.5", "", Builder::Vendor, "5.4.241", None, Backports),
        ("6.4.0-24-default", "", Builder::Suse, "6.4", None, Backports),
        ("6.1.0-4711-acme", "", Builder::Vendor, "6.1", None, Backports),
        ("5.13.x", "", Builder::Upstream, "5.13", Some("5.14-rc1"), NoPatchLevel),
    ] {
        let version = parse(release, Some(banner));
        let Upstream::Among(span, blur) = version.upstream else { panic!("{version} is exact") };
        assert_eq!(version.builder, builder, "{release}");
        assert_eq!(span.from.to_string(), from, "{release}");
        assert_eq!(span.before.map(|b| b.to_string()).as_deref(), before, "{release}");
        assert_eq!(blur, why, "{release}");
    }
}

#[test]
fn a_number_of_a_build_is_no_processor() {
    let of = |release: &str| parse(release, None).other_architecture();
    for release in
        ["6.1.0-10-686-pae", "6.1.0-686", "6.1.0-18-rt-686-pae", "4.9.0-13-686", "5.4.0-1.el7.i686"]
    {
        assert_eq!(of(release), Some("32-bit x86"), "{release}");
    }
    assert_eq!(of("6.12.30-301.fc43.aarch64"), Some("ARM"));
    for release in [
        "5.14.0-386.el9.x86_64",
        "4.18.0-586.el8.x86_64",
        "5.14.0-686.3.1.el9_8.x86_64",
        "5.14.0-386.el9",
        "6.1.0-386-amd64",
        "5.14.0-386.el9.x86_64+debug",
        "6.12.30",
    ] {
        assert_eq!(of(release), None, "{release}");
    }
}

#[test]
fn garbage_is_an_error_that_names_it() {
    for text in ["", " ", "x", "6", "6.", "v6.1", ".1", "6,1", "\u{1f427}.1", "-6.1", "6 .1"] {
        let error = KernelVersion::parse(text, None).unwrap_err();
        assert_eq!(error, VersionError::NoNumbers { text: text.trim().to_owned() });
    }
    for text in ["99999.1", "6.65536", "6.1.70000", "6.99999999999999999999999999"] {
        let error = KernelVersion::parse(text, None).unwrap_err();
        assert_eq!(error, VersionError::TooLarge { text: text.to_owned() });
    }
    // What follows the numbers is free, and must not be able to do harm.
    let long = "6.1.0-".to_owned() + &"g".repeat(100_000);
    for (release, banner) in [
        (long.as_str(), long.as_str()),
        ("6.1.0-rc", "Debian "),
        ("6.1.0-rc99999999", "Debian 99999999.1"),
        ("6.65535.65535-rc65535", "#Debian 6.65535"),
        ("6.1.0-é", "# Ubuntu 6.1.0-é é"),
        ("6.1-060", "Ubuntu 6"),
        ("6.1.0-06010é-generic", ""),
    ] {
        let version = parse(release, Some(banner));
        let _ = (version.to_string(), Producer::of(Some(version)));
    }
}

/// Every `Linux version` line of the real logs is read, and to something of its series.
#[test]
fn banners_of_real_machines() {
    let (mut exact, mut blurred) = (0, 0);
    for line in include_str!("banners.txt").lines().filter(|l| !l.starts_with('#')) {
        let rest = line.strip_prefix("Linux version ").expect(line);
        let (release, banner) = rest.split_once(' ').unwrap_or((rest, ""));
        let version = KernelVersion::parse(release, Some(banner)).expect(line);
        let from = version.releases().from;
        let series = format!("{}.{}", from.major(), from.minor());
        assert!(release.starts_with(&series), "{line}: {version}");
        match version.upstream {
            Upstream::Exactly(_) => exact += 1,
            Upstream::Among(..) => blurred += 1,
        }
        // Nothing of the real logs is taken for another builder's.
        let debian = banner.contains(" Debian ") && banner.contains('#');
        assert_eq!(version.builder == Builder::Debian, debian, "{line}: {version:?}");
        let ubuntu = banner.contains("-Ubuntu ") || banner.contains("(Ubuntu 3.13.0");
        assert_eq!(version.builder == Builder::Ubuntu, ubuntu, "{line}: {version:?}");
        let rhel = release.contains(".el") && !release.contains("elrdy") && from.patch() == 0
            || release.contains(".el6");
        assert_eq!(version.builder == Builder::Rhel, rhel, "{line}: {version:?}");
    }
    assert_eq!((exact, blurred), BANNERS, "of the banners");
}

/// Exactly known, and not.
const BANNERS: (usize, usize) = (82, 91);

/// The class of an upstream release; `None` where it is uncertain.
fn class(release: &str) -> Option<Class> {
    Producer::of(Some(parse(release, None))).class().certain().copied()
}

/// Every boundary, and the release on either side of it.
#[test]
fn classes_at_every_boundary() {
    use Class::{A, B, C, D};
    for (release, want) in [
        ("5.4.268", A),
        ("5.4.269", B),
        ("5.4.273", B),
        ("5.4.274", A),
        ("5.10.0", A),
        ("5.10.209", A),
        ("5.10.210", B),
        ("5.10.214", B),
        ("5.10.215", A),
        ("5.10.262", A),
        ("5.15.148", A),
        ("5.15.156", A),
        ("5.15.167", A),
        ("6.1.0", A),
        ("6.1.78", A),
        ("6.1.79", B),
        ("6.1.84", B),
        ("6.1.85", A),
        ("6.1.112", A),
        ("6.1.113", C),
        ("6.1.187", C),
        ("6.1.188", D),
        ("6.1.192", D),
        ("6.6.0", A),
        ("6.6.17", A),
        ("6.6.18", B),
        ("6.6.25", B),
        ("6.6.26", A),
        ("6.6.54", A),
        ("6.6.55", C),
        ("6.6.77", C),
        ("6.6.78", D),
        ("6.6.130", D),
        ("6.7.0", A),
        ("6.7.5", A),
        ("6.7.6", B),
        ("6.7.12", B),
        ("6.8.0-rc4", A),
        ("6.8.0-rc5", B),
        ("6.8.0", B),
        ("6.8.2", B),
        ("6.8.4", B),
        ("6.8.5", A),
        ("6.8.12", A),
        ("6.9.0-rc1", B),
        ("6.9.0-rc2", A),
        ("6.9.0", A),
        ("6.9.12", A),
        ("6.10.0", A),
        ("6.10.13", A),
        ("6.10.14", D),
        ("6.11.0", A),
        ("6.11.2", A),
        ("6.11.3", D),
        ("6.11.11", D),
        ("6.12.0-rc1", D),
        ("6.12.0", D),
        ("6.12.117", D),
        ("6.19.5", D),
        ("7.0.10", D),
        ("7.2.13", D),
        ("7.3.4", D),
    ] {
        assert_eq!(class(release), Some(want), "{release}");
    }
    // Bounds that nobody read: both answers stay.
    for release in ["4.19.307", "4.19.312", "5.15.149", "5.15.155", "5.15.168", "5.15.190"] {
        assert_eq!(class(release), None, "{release}");
    }
}

#[test]
fn the_other_behaviours_at_their_boundaries() {
    let traits = |release: &str| {
        let producer = Producer::of(Some(parse(release, None)));
        *producer.traits().certain().unwrap_or_else(|| panic!("{release}: {producer:?}"))
    };
    for (release, gbpages, firmware_tables, end_minus_one) in [
        ("4.11.12", false, false, false),
        ("4.12.0", true, false, false),
        ("5.2.21", true, false, false),
        ("5.3.0", true, true, true),
        ("5.10.262", true, true, true),
        ("6.1.192", true, true, true),
        ("6.7.12", true, true, true),
        ("6.8.0-rc1", true, true, false),
        ("6.12.117", true, true, false),
    ] {
        let t = traits(release);
        assert_eq!(
            (t.gbpages, t.firmware_tables, t.acpi_end_minus_one),
            (gbpages, firmware_tables, end_minus_one),
            "{release}"
        );
    }
    for (release, noptishadow, separate_pgd, mmio_serial) in [
        ("6.1.128", false, false, false),
        ("6.1.129", false, true, false),
        ("6.1.138", false, false, false),
        ("6.1.192", false, false, false),
        ("6.6.65", false, false, false),
        ("6.6.66", true, false, false),
        ("6.6.78", true, true, false),
        ("6.12.4", false, false, false),
        ("6.12.5", true, false, false),
        ("6.12.14", true, true, false),
        ("6.12.107", true, true, false),
        ("6.13.0-rc1", false, false, false),
        ("6.13.0-rc2", true, false, false),
        ("6.14.0", true, true, false),
        ("6.15.11", true, true, false),
        ("6.16.0-rc1", true, true, true),
        ("7.2.13", true, true, true),
    ] {
        let t = traits(release);
        assert_eq!(
            (t.noptishadow, t.separate_pgd, t.mmio_serial),
            (noptishadow, separate_pgd, mmio_serial),
            "{release}"
        );
    }
}

#[test]
fn vendors_and_ranges_keep_every_class_that_is_possible() {
    use Class::{A, B, C, D};
    for (release, banner, want) in [
        // A supported kernel may be of any class; so may what backports into an old base.
        ("5.14.0-427.el9.x86_64", "", vec![A, B, C, D]),
        ("6.8.0-48-generic", "#48-Ubuntu (Ubuntu 6.8.0-48.48-generic 6.8.12)", vec![A, B, C, D]),
        ("6.1.0-18-amd64", "", vec![A, B, C, D]),
        ("6.11.0-8-generic", "Ubuntu 6.11.0-8.8-generic 6.11.0", vec![A, B, C, D]),
        // From here on nothing has changed any more.
        ("6.12.0-55.el10.x86_64", "", vec![D]),
        ("6.14.0-24-generic", "Ubuntu 6.14.0-24.24-generic 6.14.8", vec![D]),
        ("6.1.0-18-amd64", "Debian 6.1.76-1", vec![A]),
        ("6.1.0-19-amd64", "Debian 6.1.82-1", vec![B]),
        ("6.9.0-rc4-00001-gafc95ee83a86", "", vec![A]),
        ("6.12.0-rc2+", "", vec![D]),
        ("5.10.180-22633-g1d2f89719839", "", vec![A, B]),
    ] {
        let producer = Producer::of(Some(parse(release, Some(banner))));
        let mut classes = producer.class().candidates().to_vec();
        classes.sort_unstable();
        assert_eq!(classes, want, "{release} {banner}");
        assert_eq!(producer.class().why().is_some(), want.len() > 1, "{release}");
    }
    let mut unknown = Producer::of(None).class().candidates().to_vec();
    unknown.sort_unstable();
    assert_eq!(unknown, [A, B, C, D]);
    // RHEL 8's 4.18 may have the firmware tables or not, but never the configuration table alone.
    let old = Producer::of(Some(parse("4.18.0-553.el8.x86_64", None)));
    assert!(old.traits().candidates().iter().any(|t| !t.firmware_tables));
    assert!(old.traits().candidates().iter().all(|t| t.firmware_tables || !t.config_table));
}

#[test]
fn a_certain_version_cites_what_it_rests_on() {
    let producer = Producer::of(Some(parse("6.1.192", None)));
    let commits: Vec<&str> = producer.sources().iter().map(|(_, span)| span.commit).collect();
    assert!(commits.contains(&"cc31744a2945") && commits.contains(&"5760929f6545"), "{commits:?}");
    assert!(!producer.is_newer_than_read());
    assert!(!Producer::of(Some(parse("7.3.99", None))).is_newer_than_read());
    assert!(Producer::of(Some(parse("7.4.0-rc1", None))).is_newer_than_read());
    assert_eq!(Release::new(6, 1, 192), producer.version().unwrap().exact().unwrap());
}
