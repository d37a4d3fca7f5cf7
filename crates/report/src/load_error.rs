//! Why an image was not loaded: causes, how to tell them apart, what to do.

use std::fmt::Write;

use serde::Serialize;

use crate::text::{Style, Tone};
use crate::wrap::wrapped;

/// One line that says that an image was not loaded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LoadError {
    /// The line, counted from 1.
    pub line: usize,
    /// What it says.
    pub said: String,
    /// The system call, where it names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<&'static str>,
    /// The errno's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errno: Option<&'static str>,
    /// Its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i32>,
    /// All that it can mean.
    pub causes: Vec<LoadCause>,
    /// The image that was refused, where it was printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<RefusedImage>,
}

/// One cause.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct LoadCause {
    /// Why.
    pub cause: &'static str,
    /// How to tell; empty where there is nothing to look at.
    pub tell: &'static str,
    /// What to do.
    pub next: &'static str,
    /// Where this was read.
    pub source: &'static str,
}

/// An image that the kernel did not take.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RefusedImage {
    /// Whether it was a crash kernel's (`kexec -p`); missing where flags were not printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panic: Option<bool>,
    /// How many segments were printed.
    pub segments: usize,
    /// How long they are together.
    pub bytes: u64,
    /// What the kernel refuses in it.
    pub notes: Vec<String>,
}

impl LoadError {
    pub(crate) fn text(&self, style: Style) -> String {
        let mut out = String::new();
        let heading = format!("line {}: {}", self.line, self.said);
        let _ = writeln!(out, "{}", style.paint(Tone::Strong, &heading));
        if let (Some(errno), Some(number)) = (self.errno, self.number) {
            let call = self.call.map_or(String::new(), |call| format!(", of {call}(2)"));
            let _ = writeln!(out, "  errno      {number} {errno}{call}");
        }
        if let Some(image) = &self.image {
            let what = match image.panic {
                Some(true) => ", for kexec -p",
                Some(false) => ", for kexec -l",
                None => "",
            };
            let size = style.size(image.bytes);
            let _ = writeln!(out, "  image      {} segments, {size}{what}", image.segments);
            for note in &image.notes {
                out.push_str(&wrapped(&format!("=> {note}"), 13, "   "));
            }
            if image.notes.is_empty() && image.segments > 0 {
                out.push_str(&wrapped("nothing in this list is refused by itself", 13, ""));
            }
        }
        if self.causes.is_empty() {
            out.push_str(
                "  cause      not known: this call is not known to end so; see the kernel's log\n",
            );
        }
        for (number, cause) in self.causes.iter().enumerate() {
            let word = if number == 0 { "cause" } else { "or" };
            let text = wrapped(cause.cause, 13, "");
            let _ = write!(out, "  {word:<11}{}", text.trim_start());
            if !cause.tell.is_empty() {
                out.push_str(&wrapped(&format!("to tell: {}", cause.tell), 13, "  "));
            }
            out.push_str(&wrapped(&format!("do: {}", cause.next), 13, "  "));
        }
        out
    }
}
