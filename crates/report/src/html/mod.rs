//! `identmap report`: one HTML file that needs nothing else. Readable without script and without
//! network, in light and dark and on paper.

mod facts;
mod findings;
mod hand_over;
mod markup;
mod matrix;
mod pictures;
mod style;
mod table;
mod tree;

use identmap_audit::{Audit, Matrix, Verdict};
use identmap_linux::{Consumer, Producer};
use identmap_machine::Machine;

pub(crate) use markup::Markup;
#[cfg(test)]
pub(crate) use pictures::scale;

use crate::check::{self, RunRow};
use crate::picture::Picture;
use crate::svg::palette;
use crate::text::Style;

/// Everything that a report is made of.
#[derive(Clone, Copy, Debug)]
pub struct HtmlReport<'a> {
    /// The heading; without it, the machine's own name.
    pub title: Option<&'a str>,
    /// The machine. Whatever must not be handed on is already out of it.
    pub machine: &'a Machine,
    /// Whether it is.
    pub redacted: bool,
    /// The kernel that is left.
    pub producer: &'a Producer,
    /// The kernel that is entered.
    pub consumer: &'a Consumer,
    /// The verdict and what it rests on.
    pub audit: &'a Audit,
    /// The policies against the consumers.
    pub matrix: &'a Matrix,
    /// Where the consumer got to when it was run, under each map; empty if it was not.
    pub runs: &'a [RunRow],
    /// What was supposed to run it.
    pub assumptions: &'a [String],
    /// Anything to print as the time of the report; without it, the same input gives the same bytes.
    pub date: Option<&'a str>,
}

impl HtmlReport<'_> {
    /// The document. It is well-formed XML too.
    #[must_use]
    pub fn html(&self) -> String {
        let mut out = Markup::document();
        out.open("html", &[("lang", "en")]);
        self.head(&mut out);
        out.open("body", &[]);
        palette::define_patterns(&mut out);
        out.open("main", &[]);
        self.verdict(&mut out);
        let picture = Picture::of_audit(self.audit);
        let zooms = pictures::Zooms::of(self.audit, &picture);
        findings::write(&mut out, self.audit, &zooms);
        pictures::write(&mut out, self.audit, &picture, &zooms);
        hand_over::write(&mut out, self.audit, self.runs, self.assumptions);
        matrix::write_policies(&mut out, self.audit);
        matrix::write(&mut out, self.matrix);
        tree::write(&mut out, self.audit);
        facts::write(&mut out, self.machine, self.audit);
        self.foot(&mut out);
        out.finish()
    }

    fn heading(&self) -> String {
        self.title.map_or_else(
            || self.machine.hardware.clone().unwrap_or_else(|| "A machine without a name".into()),
            str::to_owned,
        )
    }

    fn head(&self, out: &mut Markup) {
        out.open("head", &[]);
        out.empty("meta", &[("charset", "utf-8")]);
        // Should anything slip through: nothing is loaded, nothing runs.
        let policy = "default-src 'none'; style-src 'unsafe-inline'";
        out.empty("meta", &[("http-equiv", "Content-Security-Policy"), ("content", policy)]);
        let viewport = "width=device-width, initial-scale=1";
        out.empty("meta", &[("name", "viewport"), ("content", viewport)]);
        out.empty("meta", &[("name", "color-scheme"), ("content", "light dark")]);
        let generator = concat!("identmap ", env!("CARGO_PKG_VERSION"));
        out.empty("meta", &[("name", "generator"), ("content", generator)]);
        let title = format!("{}: {} for kexec", self.heading(), self.audit.verdict);
        out.leaf("title", &[], &title);
        out.style(&style::sheet());
        out.close();
    }

    fn verdict(&self, out: &mut Markup) {
        let (class, word, sentence) = match self.audit.verdict {
            Verdict::Safe => {
                ("good", "SAFE", "What the next kernel needs is mapped, nothing forbidden is.")
            }
            Verdict::Unknown => ("doubt", "UNKNOWN", "It cannot be told; what to supply is below."),
            Verdict::Unsafe => ("bad", "UNSAFE", "Do not kexec as things are."),
        };
        out.open("header", &[]);
        out.leaf("p", &[("class", "over")], "Will this machine survive kexec?");
        out.leaf("h1", &[], &self.heading());
        out.open("p", &[("class", &format!("verdict {class}"))]);
        out.leaf("strong", &[], word);
        out.text(" ");
        out.leaf("span", &[], sentence);
        out.close();
        out.open("dl", &[("class", "facts")]);
        let rows = [
            ("Machine", check::machine_line(self.machine, self.audit, Style::default())),
            ("Producer", check::producer_text(self.producer)),
            ("Consumer", check::consumer_text(self.consumer)),
            ("Tables", check::tables_text(&self.audit.tables)),
        ];
        for (name, text) in rows {
            out.leaf("dt", &[], name);
            out.leaf("dd", &[], &text);
        }
        if let Some(date) = self.date {
            out.leaf("dt", &[], "Date");
            out.leaf("dd", &[], date);
        }
        out.close();
        out.open("nav", &[("aria-label", "Contents")]);
        for (target, name) in [
            ("#findings", "Findings"),
            ("#pictures", "Address space"),
            ("#hand-over", "Hand-over"),
            ("#policies", "Policies"),
            ("#matrix", "Matrix"),
            ("#tables", "Page tables"),
            ("#facts", "Facts"),
        ] {
            out.leaf("a", &[("href", target)], name);
            out.text(" ");
        }
        out.close();
        out.close();
    }

    fn foot(&self, out: &mut Markup) {
        out.open("footer", &[]);
        let made = concat!("Made by identmap ", env!("CARGO_PKG_VERSION"), ". ");
        let kept = if self.redacted {
            "Serial numbers, host names, network addresses and UUIDs were left out."
        } else {
            "Nothing was left out: this file may hold serial numbers and host names."
        };
        out.leaf("p", &[], &format!("{made}{kept}"));
        out.close();
    }
}

/// Begins a section with its heading; the caller closes it.
fn section(out: &mut Markup, id: &'static str, title: &str) {
    out.open("section", &[("id", id)]);
    out.leaf("h2", &[], title);
}
