//! A writer of HTML that is XML too: every element closed, every text escaped.

use std::fmt::Write;

/// HTML under construction. Elements and attributes are named by the program; texts and values may come
/// from anywhere.
#[derive(Debug, Default)]
pub(crate) struct Markup {
    out: String,
    open: Vec<&'static str>,
}

impl Markup {
    pub(crate) fn document() -> Markup {
        Markup { out: "<!DOCTYPE html>\n".to_owned(), open: Vec::new() }
    }

    /// Begins an element; [`close`](Self::close) ends it.
    pub(crate) fn open(&mut self, tag: &'static str, attrs: &[(&'static str, &str)]) {
        self.start(tag, attrs);
        self.out.push('>');
        self.open.push(tag);
    }

    /// An element without content: one of HTML's void ones, or of SVG.
    pub(crate) fn empty(&mut self, tag: &'static str, attrs: &[(&'static str, &str)]) {
        self.start(tag, attrs);
        self.out.push_str("/>");
    }

    /// An element that holds a text.
    pub(crate) fn leaf(&mut self, tag: &'static str, attrs: &[(&'static str, &str)], text: &str) {
        self.open(tag, attrs);
        self.text(text);
        self.close();
    }

    pub(crate) fn text(&mut self, text: &str) {
        escape(&mut self.out, text);
    }

    /// The program's own style sheet: nothing from outside.
    pub(crate) fn style(&mut self, css: &str) {
        debug_assert!(!css.contains(['<', '&']));
        let _ = write!(self.out, "<style>\n{css}</style>\n");
    }

    /// Ends the element begun last.
    pub(crate) fn close(&mut self) {
        if let Some(tag) = self.open.pop() {
            let _ = write!(self.out, "</{tag}>");
            if BREAKS.contains(&tag) {
                self.out.push('\n');
            }
        }
    }

    /// Ends what is open.
    pub(crate) fn finish(mut self) -> String {
        while !self.open.is_empty() {
            self.close();
        }
        self.out
    }

    fn start(&mut self, tag: &'static str, attrs: &[(&'static str, &str)]) {
        let _ = write!(self.out, "<{tag}");
        for (name, value) in attrs {
            let _ = write!(self.out, " {name}=\"");
            escape(&mut self.out, value);
            self.out.push('"');
        }
    }
}

/// Elements behind which a line may end without a space being seen.
const BREAKS: [&str; 14] = [
    "head", "title", "section", "div", "p", "h1", "h2", "h3", "table", "tr", "li", "svg",
    "details", "figure",
];

/// Escapes what means something in HTML, and shows what cannot be in it, or would turn the reading
/// order of what follows, as a replacement character.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            // Controls; Unicode TR 9: embeddings, overrides and isolates; no characters.
            _ if c.is_control() => out.push('\u{fffd}'),
            '\u{200e}'
            | '\u{200f}'
            | '\u{61c}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{fffe}'
            | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_a_text_or_a_value() {
        let mut page = Markup::default();
        let hostile = "</td><script>alert('1')</script>\u{0}\u{202e}\" onload=\"x&\u{7f}";
        page.open("p", &[("title", hostile)]);
        page.text(hostile);
        let out = page.finish();
        assert!(!out.contains("<script") && !out.contains("\" onload"), "{out}");
        assert!(!out.contains(['\u{0}', '\u{202e}', '\u{7f}']));
        assert!(out.ends_with("</p>\n"));
    }
}
