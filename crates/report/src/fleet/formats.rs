//! The formats that other tools read.

use std::fmt::Write;

use super::summary::Summary;
use super::{FleetRow, FleetVerdict, printable};

pub(super) fn json_line(row: &FleetRow) -> String {
    // Strings, numbers and maps with string keys: nothing that serde_json refuses.
    serde_json::to_string(row).unwrap_or_default() + "\n"
}

/// <https://testanything.org/tap-version-13-specification.html>
pub(super) fn tap_plan(total: usize) -> String {
    format!("TAP version 13\n1..{total}\n")
}

pub(super) fn tap_line(number: usize, row: &FleetRow) -> String {
    // `#` begins a directive.
    let name = printable(&row.source).replace('#', "\\#");
    let why = reason(row).replace('#', "\\#");
    match row.verdict {
        FleetVerdict::Safe => format!("ok {number} - {name}\n"),
        // Neither passed nor failed: harnesses count it apart.
        FleetVerdict::Unknown => format!("not ok {number} - {name} # TODO cannot tell: {why}\n"),
        FleetVerdict::Unsafe => format!("not ok {number} - {name}\n# {why}\n"),
        FleetVerdict::Unreadable => format!("not ok {number} - {name}\n# unreadable: {why}\n"),
    }
}

/// One `testcase` as Jenkins, GitLab and others read it.
pub(super) fn junit_case(row: &FleetRow) -> String {
    let class = row.hardware.as_deref().unwrap_or("unknown hardware");
    let mut out =
        format!("    <testcase classname=\"{}\" name=\"{}\"", xml(class), xml(&row.source));
    let element = match row.verdict {
        FleetVerdict::Safe => {
            out.push_str("/>\n");
            return out;
        }
        FleetVerdict::Unknown => "skipped",
        FleetVerdict::Unsafe => "failure",
        FleetVerdict::Unreadable => "error",
    };
    let why = xml(&reason(row));
    let _ = write!(out, "><{element} message=\"{why}\"");
    if element != "skipped" {
        let _ = write!(out, " type=\"{}\"", row.causes.first().unwrap_or(&"unreadable"));
    }
    out.push_str("/></testcase>\n");
    out
}

pub(super) fn junit(summary: &Summary, cases: &str) -> String {
    let count = |verdict| summary.count(verdict);
    let counts = format!(
        "tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\"",
        summary.total(),
        count(FleetVerdict::Unsafe),
        count(FleetVerdict::Unreadable),
        count(FleetVerdict::Unknown)
    );
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n  \
         <testsuite name=\"identmap\" {counts}>\n{cases}  </testsuite>\n</testsuites>\n"
    )
}

pub(super) fn prometheus_line(row: &FleetRow) -> String {
    let mut labels = format!("source=\"{}\"", label(&row.source));
    for (name, value) in
        [("hardware", &row.hardware), ("firmware", &row.firmware), ("kernel", &row.kernel)]
    {
        if let Some(value) = value {
            let _ = write!(labels, ",{name}=\"{}\"", label(value));
        }
    }
    format!("identmap_machine_status{{{labels}}} {}\n", row.verdict.status())
}

/// <https://prometheus.io/docs/instrumenting/exposition_formats/>: text format 0.0.4. No timestamps: the
/// textfile collector refuses them, and exports the file's own as `node_textfile_mtime_seconds`.
pub(super) fn prometheus(summary: &Summary, machines: &str) -> String {
    let mut out = String::from(
        "# HELP identmap_machines Machines by verdict of identmap.\n\
         # TYPE identmap_machines gauge\n",
    );
    for verdict in FleetVerdict::ALL {
        let count = summary.count(verdict);
        let _ = writeln!(out, "identmap_machines{{verdict=\"{}\"}} {count}", verdict.word());
    }
    if !summary.causes.is_empty() {
        out.push_str(
            "# HELP identmap_cause_machines Machines by the finding that decides, and verdict.\n\
             # TYPE identmap_cause_machines gauge\n",
        );
    }
    for ((id, verdict), count) in &summary.causes {
        let verdict = verdict.word();
        let _ =
            writeln!(out, "identmap_cause_machines{{id=\"{id}\",verdict=\"{verdict}\"}} {count}");
    }
    out.push_str(
        "# HELP identmap_machine_status Exit status of identmap check: 0 safe, 1 unsafe, \
         2 unreadable, 3 cannot tell.\n\
         # TYPE identmap_machine_status gauge\n",
    );
    out.push_str(machines);
    out
}

fn reason(row: &FleetRow) -> String {
    let why = row.reason.as_deref().unwrap_or("no reason");
    if row.causes.is_empty() { why.to_owned() } else { format!("{why} ({})", row.causes.join(",")) }
}

fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Text for an attribute. XML 1.0 has no way to write most control characters.
fn xml(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hostile() -> FleetRow {
        FleetRow::unreadable("a\"b\\c\n<d>&#1", "e#f\u{7}\nline two")
    }

    #[test]
    fn what_machines_say_breaks_no_format() {
        let row = hostile();
        assert_eq!(
            prometheus_line(&row),
            "identmap_machine_status{source=\"a\\\"b\\\\c\\n<d>&#1\"} 2\n"
        );
        let case = junit_case(&row);
        assert!(case.contains("name=\"a&quot;b\\c\u{fffd}&lt;d&gt;&amp;#1\""), "{case}");
        assert_eq!(case.lines().count(), 1);
        assert_eq!(tap_line(7, &row).lines().count(), 2);
        assert!(tap_line(7, &row).starts_with("not ok 7 - a\"b\\c <d>&\\#1\n# unreadable: e\\#f "));
        assert_eq!(json_line(&row).lines().count(), 1);
    }
}
