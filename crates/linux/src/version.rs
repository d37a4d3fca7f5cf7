//! Which Linux this is: from `uname -r` and what stands around it.

use core::fmt;

use identmap_machine::Machine;

use crate::release::{Release, Releases};

/// Who built a kernel, as far as that decides what its version number means.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Builder {
    /// Debian: the banner tells the true stable update.
    Debian,
    /// Ubuntu and derivatives with its numbering: an ABI number hides the stable
    /// update, and fixes are added one by one.
    Ubuntu,
    /// Proxmox VE: Ubuntu's kernel.
    Proxmox,
    /// Red Hat Enterprise Linux and rebuilds: one base, years of backports.
    Rhel,
    /// SUSE Linux Enterprise and Leap: one base, years of backports.
    Suse,
    /// Amazon Linux: stable updates with own patches.
    Amazon,
    /// Another vendor with a base of its own and years of backports: Oracle's UEK, openEuler, Anolis OS,
    /// Alibaba Cloud Linux, Kylin, UOS, `OpenCloudOS`, `TencentOS`; and whoever counts builds of a `.0`.
    Vendor,
    /// `linux-next`.
    Next,
    /// Anybody who takes kernel.org's releases as they are, or nearly so:
    /// Arch, Fedora, Gentoo, openSUSE Tumbleweed, and people who build their own.
    Upstream,
}

/// Why a release is not known exactly.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Blur {
    /// The number after the series counts ABI changes; the banner with the
    /// stable update (`Debian 6.1.76-1`) is not at hand.
    AbiNumber,
    /// The vendor adds fixes from any later release.
    Backports,
    /// Commits or changes on top of the release (`-00426-gbfd8403adddd`, `+`).
    LocalCommits,
    /// A `linux-next` tree: the next series in the making.
    NextTree,
    /// The third number is not given (`5.13.x`).
    NoPatchLevel,
}

impl fmt::Display for Blur {
    /// A reason, as the second half of a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Blur::AbiNumber => {
                "its number counts ABI changes, and the banner with the stable update is not given"
            }
            Blur::Backports => "its vendor backports fixes from later releases",
            Blur::LocalCommits => "it holds changes on top of the release",
            Blur::NextTree => "linux-next holds the next series in the making",
            Blur::NoPatchLevel => "the stable update is not given",
        })
    }
}

/// What is known of the upstream release.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Upstream {
    /// This release.
    Exactly(Release),
    /// The content of some release among these.
    Among(Releases, Blur),
}

impl Upstream {
    /// The releases that it may be.
    #[must_use]
    pub const fn releases(self) -> Releases {
        match self {
            Upstream::Exactly(release) => Releases::only(release),
            Upstream::Among(releases, _) => releases,
        }
    }
}

/// The version of a kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KernelVersion {
    /// The release as `uname -r` prints it.
    pub text: String,
    /// Who built it.
    pub builder: Builder,
    /// What that says of the upstream release.
    pub upstream: Upstream,
}

/// A text that is no kernel version.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum VersionError {
    /// It does not begin with two numbers and a dot between them.
    NoNumbers {
        /// The text.
        text: String,
    },
    /// A number in it is larger than any version number can be (65535).
    TooLarge {
        /// The text.
        text: String,
    },
}

impl fmt::Display for VersionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VersionError::NoNumbers { text } => write!(
                f,
                "`{}` is not a kernel release; it should look like 6.1.76 or 6.1.0-18-amd64",
                short(text)
            ),
            VersionError::TooLarge { text } => {
                write!(f, "`{}` holds a number too large for a kernel release", short(text))
            }
        }
    }
}

impl core::error::Error for VersionError {}

impl KernelVersion {
    /// Reads a release as `uname -r` prints it, and what may stand around it: the
    /// rest of the `Linux version` line, `uname -v`, or `/proc/version_signature`.
    ///
    /// `banner` is only searched for what a distribution is known to write there:
    /// `Debian 6.1.76-1`, `Ubuntu 6.8.0-48.48-generic 6.8.12`.
    ///
    /// # Errors
    /// [`VersionError::NoNumbers`] and [`VersionError::TooLarge`], for `release` alone.
    pub fn parse(release: &str, banner: Option<&str>) -> Result<KernelVersion, VersionError> {
        let text = release.trim();
        let (head, rest) = Head::parse(text)?;
        let (builder, upstream) = identify(&head, rest, banner.unwrap_or(""));
        Ok(KernelVersion { text: text.to_owned(), builder, upstream })
    }

    /// The running kernel of a machine; `None` where its texts do not name one.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    #[must_use]
    pub fn of(machine: &Machine) -> Option<Result<KernelVersion, VersionError>> {
        let release = machine.kernel.as_deref()?;
        Some(KernelVersion::parse(release, machine.kernel_banner.as_deref()))
    }

    /// What the kernel is built for, by its name, where that is not x86-64: everything that is said of it here
    /// would be wrong.
    ///
    /// A bare `686` is a flavour (`6.1.0-10-686-pae`) where nothing but numbers and `pae` follows, and the number of a
    /// build otherwise (`5.14.0-386.el9.x86_64`).
    #[must_use]
    pub fn other_architecture(&self) -> Option<&'static str> {
        const WORDS: [(&str, &str); 15] = [
            ("686", "32-bit x86"),
            ("i686", "32-bit x86"),
            ("586", "32-bit x86"),
            ("i586", "32-bit x86"),
            ("386", "32-bit x86"),
            ("i386", "32-bit x86"),
            ("pae", "32-bit x86"),
            ("PAE", "32-bit x86"),
            ("aarch64", "ARM"),
            ("arm64", "ARM"),
            ("armv7l", "ARM"),
            ("armhf", "ARM"),
            ("ppc64le", "POWER"),
            ("s390x", "s390"),
            ("riscv64", "RISC-V"),
        ];
        if ["x86_64", "amd64"].iter().any(|name| self.text.contains(name)) {
            return None;
        }
        let numbers = |c: char| c.is_ascii_digit() || c == '.';
        let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        let of = |part: &str| WORDS.iter().find(|(word, _)| *word == part).map(|&(_, name)| name);
        let parts = self.text.trim_start_matches(numbers).split(['-', '+', '_', '.']);
        let last_first: Vec<&str> = parts.collect();
        let mut of_flavour = true;
        last_first.into_iter().rev().find_map(|part| {
            let found = of(part).filter(|_| of_flavour || !is_number(part));
            of_flavour &= is_number(part) || ["pae", "PAE"].contains(&part);
            found
        })
    }

    /// The upstream release, where it is certain.
    #[must_use]
    pub const fn exact(&self) -> Option<Release> {
        match self.upstream {
            Upstream::Exactly(release) => Some(release),
            Upstream::Among(..) => None,
        }
    }

    /// The releases it may be.
    #[must_use]
    pub const fn releases(&self) -> Releases {
        self.upstream.releases()
    }
}

impl fmt::Display for KernelVersion {
    /// The release as printed, with the upstream release where the two differ:
    /// `6.1.0-18-amd64 (6.1.76)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        match self.upstream {
            Upstream::Exactly(release) if self.text == release.to_string() => Ok(()),
            Upstream::Exactly(release) => write!(f, " ({release})"),
            Upstream::Among(releases, _) => write!(f, " (like {releases})"),
        }
    }
}

/// The numbers that a release begins with.
struct Head {
    major: u16,
    minor: u16,
    /// `None` for `6.18-amd64` and `5.13.x`.
    patch: Option<u16>,
    /// The third number was written as `x`.
    unknown_patch: bool,
}

impl Head {
    fn parse(text: &str) -> Result<(Head, &str), VersionError> {
        let none = || VersionError::NoNumbers { text: text.to_owned() };
        let too_large = || VersionError::TooLarge { text: text.to_owned() };
        let number = |at: &str| -> Result<Option<(u16, usize)>, VersionError> {
            let digits = at.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 {
                return Ok(None);
            }
            at[..digits].parse().map(|n| Some((n, digits))).map_err(|_| too_large())
        };
        let (major, used) = number(text)?.ok_or_else(none)?;
        let rest = text[used..].strip_prefix('.').ok_or_else(none)?;
        let (minor, used) = number(rest)?.ok_or_else(none)?;
        let rest = &rest[used..];
        let mut head = Head { major, minor, patch: None, unknown_patch: false };
        let Some(third) = rest.strip_prefix('.') else { return Ok((head, rest)) };
        if let Some((patch, used)) = number(third)? {
            head.patch = Some(patch);
            return Ok((head, &third[used..]));
        }
        head.unknown_patch = third.starts_with(['x', 'y']);
        Ok((head, rest))
    }

    fn release(&self) -> Release {
        Release::new(self.major, self.minor, self.patch.unwrap_or(0))
    }

    fn is(&self, major: u16, minor: u16, patch: u16) -> bool {
        (self.major, self.minor, self.patch) == (major, minor, Some(patch))
    }
}

/// The heart of it: a list of habits, the most telling first.
fn identify(head: &Head, rest: &str, banner: &str) -> (Builder, Upstream) {
    let release = head.release();
    // A banner of another series belongs to another kernel.
    let same_series = |r: &Release| (r.major(), r.minor()) == (head.major, head.minor);
    let debian = after_word(banner, "Debian ").and_then(leading_release).filter(same_series);
    if let Some(stable) = debian {
        return (Builder::Debian, Upstream::Exactly(stable));
    }
    let since = |from, blur| Upstream::Among(Releases::since(from), blur);
    let signature = after_word(banner, "Ubuntu ").and_then(ubuntu_signature).filter(same_series);
    if let Some(stable) = signature {
        return (Builder::Ubuntu, since(stable, Blur::Backports));
    }
    if has_part(rest, |p| p == "pve") {
        return (Builder::Proxmox, since(release, Blur::Backports));
    }
    if is_rhel(head, rest) {
        return (Builder::Rhel, since(release, Blur::Backports));
    }
    if is_suse(head, rest) {
        return (Builder::Suse, since(release, Blur::Backports));
    }
    if rest.contains(".amzn") {
        return (Builder::Amazon, since(release, Blur::Backports));
    }
    if is_vendor(rest) {
        return (Builder::Vendor, since(release, Blur::Backports));
    }
    if let Some(built) = ubuntu_mainline(head, rest) {
        return (Builder::Upstream, Upstream::Exactly(built));
    }
    let candidate = candidate(rest);
    let named = match candidate {
        Some(n) if head.patch.unwrap_or(0) == 0 => Release::rc(head.major, head.minor, n),
        _ => release,
    };
    if rest.contains("-next-") {
        let span = Releases::new(named, Release::new(head.major, head.minor.saturating_add(1), 0));
        return (Builder::Next, Upstream::Among(span, Blur::NextTree));
    }
    if head.unknown_patch {
        let span = Releases::rest_of_series(release);
        return (Builder::Upstream, Upstream::Among(span, Blur::NoPatchLevel));
    }
    if let Some(span) = local_commits(named, rest) {
        return (Builder::Upstream, Upstream::Among(span, Blur::LocalCommits));
    }
    if candidate.is_none()
        && let Some(found) = abi_numbered(head, rest)
    {
        return found;
    }
    if candidate.is_none() && counts_builds(head, rest) {
        return (Builder::Vendor, since(release, Blur::Backports));
    }
    (Builder::Upstream, Upstream::Exactly(named))
}

/// Debian (`6.1.0-18-amd64`, `6.12.94+deb13-amd64`) and Ubuntu (`6.8.0-31-generic`) without a banner.
fn abi_numbered(head: &Head, rest: &str) -> Option<(Builder, Upstream)> {
    const DEBIAN: [&str; 3] = ["amd64", "686", "grml"];
    const UBUNTU: [&str; 22] = [
        "generic",
        "lowlatency",
        "aws",
        "azure",
        "gcp",
        "gke",
        "oracle",
        "kvm",
        "oem",
        "ibm",
        "nvidia",
        "fips",
        "realtime",
        "virtual",
        "intel",
        "iot",
        "iotg",
        "gkeop",
        "laptop",
        "starfive",
        "raspi",
        "xilinx",
    ];
    let release = head.release();
    let abi = rest.strip_prefix('-').is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()));
    if has_part(rest, |p| DEBIAN.contains(&p)) {
        // Since Debian 13 the release carries the stable update: 6.12.94+deb13-amd64, 6.9.12-amd64.
        let exact = head.patch.is_some_and(|patch| patch > 0);
        let span = Releases::rest_of_series(release);
        let upstream =
            if exact { Upstream::Exactly(release) } else { Upstream::Among(span, Blur::AbiNumber) };
        return Some((Builder::Debian, upstream));
    }
    if abi && has_part(rest, |p| UBUNTU.contains(&p)) {
        return Some((Builder::Ubuntu, Upstream::Among(Releases::since(release), Blur::Backports)));
    }
    None
}

/// `.el8`, `.el9_6`, on a version that Red Hat built upon; `elrepo` and own builds are not Red Hat's.
fn is_rhel(head: &Head, rest: &str) -> bool {
    let el = rest
        .match_indices(".el")
        .any(|(at, _)| rest[at + 3..].starts_with(|c: char| c.is_ascii_digit()));
    el && head.patch.unwrap_or(0) == 0 && !rest.contains("elrepo")
        || el && head.is(2, 6, 18)
        || el && head.is(2, 6, 32)
}

/// The word that a vendor marks a product's kernels with: `.el8uek`, `.oe2203`, `.oe2003sp4`, `.an8`, `.al8`, `.ky10`,
/// `.uel20`, `.oc9`, `-tlinux4`, `.eulerosv2r9`; or the numbers alone that stand behind some of `TencentOS`'
/// (`5.4.119-19-0009.28`).
fn is_vendor(rest: &str) -> bool {
    const MARKS: [&str; 8] = ["oe", "an", "al", "ky", "uel", "uelc", "oc", "tlinux"];
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let of_numbers = |text: &str| text.split(['-', '.']).all(is_number);
    if rest.strip_prefix('-').is_some_and(|rest| rest.contains('-') && of_numbers(rest)) {
        return true;
    }
    rest.split(['.', '-', '_', '+']).any(|part| {
        let uek = part.starts_with("el") && part.ends_with("uek");
        // A number, and a service pack's behind it.
        let marked = |mark: &&str| {
            part.strip_prefix(*mark).is_some_and(|number| match number.split_once("sp") {
                Some((number, pack)) => is_number(number) && is_number(pack),
                None => is_number(number),
            })
        };
        uek || part.starts_with("euleros") || MARKS.iter().any(marked)
    })
}

/// `5.10.0-60…`: a `.0` with a number of the builder's own. Those who take kernel.org's releases have moved on
/// to the stable updates; Fedora, Tumbleweed and `ELRepo` are known to build a `.0` as it is.
fn counts_builds(head: &Head, rest: &str) -> bool {
    let number = rest.strip_prefix('-').unwrap_or_default();
    let as_is = [".fc", "elrepo", "-mainline"].iter().any(|mark| rest.contains(mark))
        || rest.ends_with("-default");
    head.patch == Some(0) && number.starts_with(|c: char| c.is_ascii_digit()) && !as_is
}

/// `-default`, `-azure` … on a version that SUSE Linux Enterprise built upon, or with its
/// product number (`150600`, `lp152`). Tumbleweed (`6.5.4-1-default`) takes releases as they are.
fn is_suse(head: &Head, rest: &str) -> bool {
    const FLAVOURS: [&str; 6] = ["default", "preempt", "azure", "rt", "debug", "kvmsmall"];
    // 6.4.0 is also SL Micro's, without a product number.
    const BASES: [(u16, u16, u16); 7] =
        [(3, 0, 101), (3, 12, 74), (4, 4, 180), (4, 12, 14), (5, 3, 18), (5, 14, 21), (6, 4, 0)];
    let product = has_part(rest, |p| {
        p.starts_with("lp1")
            || p.split('.')
                .next()
                .is_some_and(|n| n.len() == 6 && n.bytes().all(|b| b.is_ascii_digit()))
    });
    let flavour = has_part(rest, |p| FLAVOURS.contains(&p));
    flavour && (product || BASES.iter().any(|&(a, b, c)| head.is(a, b, c)))
}

/// Ubuntu's builds of kernel.org's releases: `5.14.0-051400rc2-generic`.
fn ubuntu_mainline(head: &Head, rest: &str) -> Option<Release> {
    let part = rest.strip_prefix('-')?.split('-').next()?;
    let code = part.get(..6)?;
    let patch = head.patch?;
    if code != format!("{:02}{:02}{patch:02}", head.major, head.minor) {
        return None;
    }
    match part.get(6..)? {
        "" => Some(head.release()),
        tail => {
            let n = leading_number(tail.strip_prefix("rc")?)?;
            (patch == 0).then(|| Release::rc(head.major, head.minor, n))
        }
    }
}

/// The number of `-rc5`, `0.rc5.`.
fn candidate(rest: &str) -> Option<u16> {
    rest.match_indices("rc")
        .filter(|&(at, _)| matches!(rest[..at].bytes().last(), Some(b'-' | b'.' | b'~')))
        .find_map(|(at, _)| leading_number(&rest[at + 2..]))
}

/// What a release with commits on top of it may hold; `None` where there are none.
fn local_commits(named: Release, rest: &str) -> Option<Releases> {
    let commit = rest.match_indices("-g").chain(rest.match_indices("git")).any(|(at, mark)| {
        let hash = &rest[at + mark.len()..];
        hash.bytes().take_while(u8::is_ascii_hexdigit).count() >= 7
    });
    // `+deb13`, `+bpo` and `+debug` are names; a `+` by itself is a changed tree.
    let plus = rest.ends_with('+') || rest.contains("+ ");
    if !commit && !plus {
        return None;
    }
    Some(if named.patch() > 0 {
        // A stable update with commits on top is a vendor's or somebody's branch of that series.
        Releases::rest_of_series(named)
    } else {
        // Up to the next merge window; its first candidate is the furthest a tree named so goes.
        let next = named.next_series();
        Releases::new(named, Release::rc(next.major(), next.minor(), 2))
    })
}

/// The last release-like word of `6.8.0-48.48-generic 6.8.12)`.
fn ubuntu_signature(text: &str) -> Option<Release> {
    let mut words = text.split([' ', ')', '\n']).filter(|w| !w.is_empty());
    words.next()?;
    leading_release(words.next()?)
}

/// `6.1.76-1`, `6.12~rc6-1~exp1`, `3.13.11-ckt21`: the release a word begins with.
fn leading_release(text: &str) -> Option<Release> {
    let (head, rest) = Head::parse(text).ok()?;
    let candidate = rest.strip_prefix("~rc").and_then(leading_number);
    Some(match candidate {
        Some(n) if head.patch.unwrap_or(0) == 0 => Release::rc(head.major, head.minor, n),
        _ => head.release(),
    })
}

fn leading_number(text: &str) -> Option<u16> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    text[..digits].parse().ok()
}

/// What follows a distribution's name where it names a version of the kernel.
///
/// The same words stand before compilers (`gcc version 8.3.0 (Debian 8.3.0-6)`), so
/// only what follows the build number (`#1 SMP …`), or begins the text, counts.
fn after_word<'a>(banner: &'a str, word: &str) -> Option<&'a str> {
    let banner = banner.trim_start();
    let build = banner.find(" #").or_else(|| banner.starts_with('#').then_some(0));
    let found = match build {
        None => banner.strip_prefix(word)?,
        Some(at) => {
            let tail = &banner[at..];
            tail.match_indices(word)
                .map(|(at, _)| &tail[at + word.len()..])
                .find(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))?
        }
    };
    Some(found)
}

/// Whether a part of the release between `-`, `+` and `_` is so.
fn has_part(rest: &str, is: impl Fn(&str) -> bool) -> bool {
    rest.split(['-', '+', '_']).any(is)
}

fn short(text: &str) -> &str {
    let end = text.char_indices().nth(60).map_or(text.len(), |(at, _)| at);
    &text[..end]
}
