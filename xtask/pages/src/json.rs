//! identmap-json(5), made from docs/json.md, so that the two cannot differ.

use clap_mangen::roff::{Inline, Roff, bold, roman};

/// The file's name, without section.
pub(crate) const NAME: &str = "identmap-json";
pub(crate) const SECTION: &str = "5";

const SOURCE: &str = include_str!("../../../docs/json.md");

/// The page; `version` is the program's.
pub(crate) fn page(version: &str) -> Vec<u8> {
    let mut roff = Roff::new();
    let source = format!("identmap {version}");
    roff.control("TH", [NAME, SECTION, "", &source, "File Formats"]);
    roff.control("SH", ["NAME"]);
    roff.text([roman(format!("{NAME} - what identmap prints with --json"))]);
    roff.control("SH", ["DESCRIPTION"]);
    write(&mut roff, SOURCE);
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("identmap"), roman("(8), "), bold("identmap-bundle"), roman("(5)")]);
    let mut out = Vec::new();
    roff.to_writer(&mut out).expect("memory can be written");
    out
}

/// What docs/json.md uses of Markdown: headings, paragraphs, lists with `-`, tables, code blocks.
fn write(roff: &mut Roff, text: &str) {
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("# ") || line.is_empty() {
            continue;
        }
        if let Some(heading) = line.strip_prefix("## ") {
            roff.control("SH", [plain(heading).to_uppercase().as_str()]);
        } else if let Some(heading) = line.strip_prefix("### ") {
            roff.control("SS", [plain(heading).as_str()]);
        } else if line.starts_with("```") {
            roff.control("nf", []);
            for code in lines.by_ref().take_while(|code| !code.starts_with("```")) {
                roff.text([roman(code)]);
            }
            roff.control("fi", []);
        } else if line.starts_with('|') {
            // The heading of a table and the line below it say nothing that the rows do not.
            let rows: Vec<&str> =
                std::iter::from_fn(|| lines.next_if(|next| next.starts_with('|'))).collect();
            for row in rows.into_iter().skip(1) {
                table_row(roff, row);
            }
        } else {
            let mut paragraph = line.to_owned();
            while let Some(more) = lines.next_if(|next| continues(next)) {
                paragraph.push(' ');
                paragraph.push_str(more.trim());
            }
            match paragraph.strip_prefix("- ") {
                Some(item) => roff.control("IP", ["\\(bu", "2"]).text(inline(item)),
                None => roff.control("PP", []).text(inline(&paragraph)),
            };
        }
    }
}

/// Whether a line belongs to the paragraph before it.
fn continues(line: &str) -> bool {
    let begins = ["- ", "|", "#", "```"];
    !line.is_empty() && !begins.iter().any(|start| line.starts_with(start))
}

/// The first cell, then the others that are not empty.
fn table_row(roff: &mut Roff, row: &str) {
    let mut cells =
        row.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('|').trim());
    let name = plain(cells.next().unwrap_or_default());
    let rest: Vec<&str> = cells.filter(|cell| !cell.is_empty()).collect();
    roff.control("TP", []).text([bold(name)]);
    let text = match rest.split_first() {
        Some((&"opt", [])) => "optional".to_owned(),
        Some((&"opt", more)) => format!("(optional) {}", more.join("; ")),
        _ => rest.join("; "),
    };
    roff.text(inline(if text.is_empty() { "likewise" } else { &text }));
}

/// Code is bold, emphasis roman.
fn inline(text: &str) -> Vec<Inline> {
    let pieces = text.split('`').enumerate().map(|(index, piece)| match index % 2 {
        0 => roman(plain(piece)),
        _ => bold(piece),
    });
    pieces.collect()
}

/// Without the marks of Markdown; of a link its text.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        out.push_str(before);
        if let Some((name, target)) = after.split_once("](")
            && let Some((_, tail)) = target.split_once(')')
        {
            out.push_str(name);
            rest = tail;
        } else {
            out.push('[');
            rest = after;
        }
    }
    out.push_str(rest);
    out.replace(['`', '*'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_of_the_document_is_on_the_page() {
        let page = String::from_utf8(page("0")).unwrap();
        let page = page.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "");
        let mut fields = 0;
        for row in SOURCE.lines().filter(|line| line.starts_with("| `")) {
            let name = row.split('`').nth(1).unwrap();
            assert!(page.contains(name), "{name} is missing");
            fields += 1;
        }
        assert!(fields > 100, "{fields} fields");
        for schema in ["identmap.check/1", "identmap.map/1"] {
            assert!(page.contains(schema), "{schema}");
        }
    }
}
