//! The manual page of a file format: identmap-bundle(5).

use clap_mangen::roff::{Roff, bold, roman};

/// The file's name, without section.
pub(crate) const NAME: &str = "identmap-bundle";
pub(crate) const SECTION: &str = "5";

/// The page; `version` is the program's.
pub(crate) fn page(version: &str) -> Vec<u8> {
    let mut roff = Roff::new();
    let source = format!("identmap {version}");
    roff.control("TH", [NAME, SECTION, "", &source, "File Formats"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{NAME} - what a machine told, in one file"))]);
    roff.control("SH", ["DESCRIPTION"]);
    for text in DESCRIPTION {
        roff.control("PP", []).text([roman(*text)]);
    }
    for (title, list) in [("FIELDS", FIELDS), ("VALUES", VALUES), ("VERSIONS", VERSIONS)] {
        roff.control("SH", [title]);
        for (name, text) in list {
            roff.control("TP", []).text([bold(*name)]).text([roman(*text)]);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([
        bold("identmap"),
        roman("(8), "),
        bold("identmap-capture"),
        roman("(8); docs/capture.md and docs/bundle.schema.json in the sources"),
    ]);
    let mut out = Vec::new();
    roff.to_writer(&mut out).expect("memory can be written");
    out
}

const DESCRIPTION: &[&str] = &[
    "A bundle is a JSON object of at most 16 MiB, written by identmap capture and read by every command \
     of identmap as SOURCE. It holds the contents of files below /proc and /sys and the answers of CPUID \
     as they were found, not what was made of them: a reader goes the same way as identmap on the machine.",
    "The same answers give the same bytes. Unless it was written with --full, a bundle holds no serial \
     numbers, host names, network addresses, UUIDs or secrets of the command line.",
    "White space and the order of fields do not count. Any other change makes the file unreadable: its \
     checksum no longer fits, or a field is not known.",
];

const FIELDS: &[(&str, &str)] = &[
    ("schema", "identmap.bundle/1. The first field."),
    ("made_by", "Program and version."),
    ("redacted", "Whether what identifies a machine or a person was left out."),
    ("left_out", "What was left out, in words."),
    (
        "live",
        "What a running kernel told, by the path it was read from; dmesg and kernel config stand for the \
         kernel's log and the options of its configuration that matter. What was not looked for is missing.",
    ),
    ("cpuid", "With live: leaves of CPUID, each with EAX, EBX, ECX and EDX."),
    ("text", "Instead of live: a boot log or another text."),
    ("memory", "Pieces of physical memory: what they hold, where they begin, their bytes."),
    (
        "tables",
        "Page tables of a loaded image: the top table, the levels, and runs of equal leaves by address.",
    ),
    (
        "integrity",
        "SHA-256 of all other fields, written without white space; in every object schema comes first, then \
         names by code point, then numbers by value. The last field.",
    ),
];

const VALUES: &[(&str, &str)] = &[
    ("null", "There is no such file or directory on the machine."),
    ("a string", "The text of the file."),
    (
        "an array",
        "The lines of the file, each ended by a line feed. A number stands for that many lines that were \
         left out.",
    ),
    ("unreadable", "An object with this field says why the file could not be read."),
    ("base64", "Bytes that are no text."),
    ("zeros", "That many bytes, all zero."),
    (
        "files",
        "A directory: values by file name; files in numbered folders stand below the number.",
    ),
];

const VERSIONS: &[(&str, &str)] = &[(
    "1",
    "The present one. New fields come with a new version; every version of identmap reads the bundles of all \
     earlier ones.",
)];
