//! `cargo xtask ci`: the stages one after the other, then the table of how they went.

use std::time::{Duration, Instant};

use crate::stages::{STAGES, Stage};

#[derive(clap::Args, Default)]
pub(crate) struct Options {
    /// Only the stages that need neither network nor root
    #[arg(long)]
    quick: bool,

    /// Start with this stage
    #[arg(long, value_name = "STAGE", value_parser = names(), conflicts_with = "only")]
    from: Option<String>,

    /// Run this stage (repeatable)
    #[arg(long, value_name = "STAGE", value_parser = names())]
    only: Vec<String>,

    /// List the stages
    #[arg(long)]
    list: bool,
}

/// Runs what is asked for, all of it even if some fails, and prints the table.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let stages = chosen(options);
    if options.list {
        for stage in stages {
            println!("{:14} {}", stage.name, stage.about);
        }
        return Ok(());
    }
    let start = Instant::now();
    let mut rows = Vec::new();
    for (index, stage) in stages.iter().enumerate() {
        println!("==> [{}/{}] {}: {}", index + 1, stages.len(), stage.name, stage.about);
        let stage_start = Instant::now();
        let result = (stage.run)();
        let row = Row { name: stage.name, result, took: stage_start.elapsed() };
        println!("<== {}: {}, {:.1} s\n", row.name, row.word(), row.took.as_secs_f64());
        rows.push(row);
    }
    print!("{}", table(&rows, start.elapsed()));
    let failed: Vec<&str> =
        rows.iter().filter(|row| row.result.is_err()).map(|row| row.name).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}

struct Row {
    name: &'static str,
    result: Result<(), String>,
    took: Duration,
}

impl Row {
    fn word(&self) -> &'static str {
        if self.result.is_ok() { "passed" } else { "FAILED" }
    }

    fn remark(&self) -> &str {
        self.result.as_ref().err().map_or("", String::as_str)
    }
}

fn chosen(options: &Options) -> Vec<&'static Stage> {
    STAGES
        .iter()
        .skip_while(|stage| options.from.as_ref().is_some_and(|from| from != stage.name))
        .filter(|stage| options.only.is_empty() || options.only.iter().any(|o| o == stage.name))
        .filter(|stage| !options.quick || stage.quick)
        .collect()
}

fn names() -> Vec<&'static str> {
    STAGES.iter().map(|stage| stage.name).collect()
}

/// The last line is one that tools which count tests understand.
fn table(rows: &[Row], total: Duration) -> String {
    use std::fmt::Write;

    let mut text = format!("{:14} {:8} {:>8}\n", "stage", "result", "seconds");
    for row in rows {
        let line = format!(
            "{:14} {:8} {:>8.1}  {}",
            row.name,
            row.word(),
            row.took.as_secs_f64(),
            row.remark()
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let _ = writeln!(text, "{:14} {:8} {:>8.1}", "total", "", total.as_secs_f64());
    let passed = rows.iter().filter(|row| row.result.is_ok()).count();
    let _ = writeln!(text, "stages: {passed} passed, {} failed", rows.len() - passed);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen_names(options: &Options) -> Vec<&'static str> {
        chosen(options).iter().map(|stage| stage.name).collect()
    }

    #[test]
    fn all_stages_unless_told_otherwise() {
        assert_eq!(chosen_names(&Options::default()), names());
    }

    #[test]
    fn from_runs_the_rest_and_only_runs_what_is_named() {
        let from = Options { from: Some("oracle".into()), ..Options::default() };
        assert_eq!(
            chosen_names(&from),
            ["oracle", "package", "lab", "kexec", "preflight", "truth"]
        );
        let only = Options { only: vec!["test".into(), "fmt".into()], ..Options::default() };
        assert_eq!(chosen_names(&only), ["fmt", "test"]);
    }

    #[test]
    fn quick_needs_no_network() {
        let quick = chosen_names(&Options { quick: true, ..Options::default() });
        assert!(quick.contains(&"test") && !quick.contains(&"deny") && !quick.contains(&"oracle"));
    }

    #[test]
    fn the_table_names_what_failed_and_ends_with_counts() {
        let rows = [
            Row { name: "fmt", result: Ok(()), took: Duration::from_millis(1500) },
            Row { name: "deny", result: Err("no".into()), took: Duration::ZERO },
        ];
        let expected = "\
stage          result    seconds
fmt            passed        1.5
deny           FAILED        0.0  no
total                        2.0
stages: 1 passed, 1 failed
";
        assert_eq!(table(&rows, Duration::from_secs(2)), expected);
    }
}
