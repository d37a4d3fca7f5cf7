//! The page tables as a tree that folds: a table in a table, runs of equal entries in one line.

use identmap::{Level, Run};
use identmap_audit::{Audit, Coverage};

use super::{Markup, section};
use crate::text::human_size;

/// Lines of one tree.
const MOST_LINES: usize = 2_000;

pub(super) fn write(out: &mut Markup, audit: &Audit) {
    section(out, "tables", "Page tables");
    if audit.scenes.is_empty() {
        out.leaf("p", &[], "No map can be planned.");
    }
    for (index, scene) in audit.scenes.iter().enumerate() {
        let coverage = &scene.coverage;
        // The first shows what the others look like.
        let open: &[_] = if index == 0 {
            &[("class", "tables"), ("open", "open")]
        } else {
            &[("class", "tables")]
        };
        out.open("details", open);
        out.leaf("summary", &[], &super::hand_over::map_title(index, scene));
        let text = format!(
            "{} tables, {}; {} mapped.",
            coverage.tables.total(),
            human_size(coverage.tables.bytes()),
            human_size(coverage.mapped_bytes()),
        );
        out.leaf("p", &[], &text);
        let mut tree = Tree { out, left: MOST_LINES };
        tree.table(coverage.config.levels.root(), 0, coverage);
        out.close();
    }
    out.close();
}

struct Tree<'a> {
    out: &'a mut Markup,
    left: usize,
}

impl Tree<'_> {
    /// The table of `level` whose first entry stands for `base`.
    fn table(&mut self, level: Level, base: u64, coverage: &Coverage) {
        let end = base + (512u64 << level.entry_shift());
        let first = coverage.runs.partition_point(|run| run.range().end().get() <= base);
        let runs = coverage.runs[first..].iter().take_while(|run| run.range().start().get() < end);
        self.out.open("ul", &[("class", "tree")]);
        let mut next = base;
        for run in runs {
            let (from, to) = (run.range().start().get(), run.range().end().get().min(end));
            self.run(level, from.max(next), to, run, coverage, &mut next);
        }
        self.out.close();
    }

    /// The entries of one run from `at` on; `next` is where entries begin that nobody has shown yet.
    fn run(
        &mut self,
        level: Level,
        at: u64,
        to: u64,
        run: &Run,
        coverage: &Coverage,
        next: &mut u64,
    ) {
        let entry = 1u64 << level.entry_shift();
        let mut at = at;
        while at < to {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            if self.left == 0 {
                self.out.leaf("li", &[], "and more");
                return;
            }
            let start = at / entry * entry;
            if level.leaf() == Some(run.size()) {
                self.line(level, at, to, entry, run.size().name());
                at = to;
            } else if start == at
                && to - at >= entry
                && level.below().and_then(Level::leaf) == Some(run.size())
            {
                let full = at + (to - at) / entry * entry;
                let what = format!("full of {} leaves", run.size().name());
                self.tables(level, at, full, entry, &what);
                at = full;
            } else {
                self.inner(level, start, entry, coverage);
                at = start + entry;
            }
            *next = at;
        }
    }

    /// A run of leaves.
    fn line(&mut self, level: Level, at: u64, to: u64, entry: u64, size: &str) {
        let text = format!("{}: {} × {size}, ", indices(level, at, to), (to - at) / entry);
        self.out.open("li", &[]);
        self.out.text(&text);
        self.out.leaf("code", &[], &format!("{at:#018x}-{:#018x}", to - 1));
        self.out.close();
    }

    /// Tables that are all alike.
    fn tables(&mut self, level: Level, at: u64, to: u64, entry: u64, what: &str) {
        let count = (to - at) / entry;
        let name = level.below().map_or_else(String::new, |below| below.to_string());
        let text = format!("{}: {count} × {name} {what}, ", indices(level, at, to));
        self.out.open("li", &[]);
        self.out.text(&text);
        self.out.leaf("code", &[], &format!("{at:#018x}-{:#018x}", to - 1));
        self.out.close();
    }

    /// A table that folds.
    fn inner(&mut self, level: Level, start: u64, entry: u64, coverage: &Coverage) {
        let Some(below) = level.below() else { return };
        self.out.open("li", &[]);
        if below >= Level::Pdpt {
            self.out.open("details", &[("open", "open")]);
        } else {
            self.out.open("details", &[]);
        }
        let text = format!("{}: {below}, ", indices(level, start, start + entry));
        self.out.open("summary", &[]);
        self.out.text(&text);
        self.out.leaf("code", &[], &format!("{start:#018x}-{:#018x}", start + (entry - 1)));
        self.out.close();
        self.table(below, start, coverage);
        self.out.close();
        self.out.close();
    }
}

fn indices(level: Level, at: u64, to: u64) -> String {
    let (first, last) = (level.index(at), level.index(to - 1));
    if first == last { format!("{level}[{first}]") } else { format!("{level}[{first}–{last}]") }
}
