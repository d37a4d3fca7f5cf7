//! How a list is printed: the letters of lsblk(8) and lsmem(1).

use clap::Args;
use identmap_report::Form;

#[derive(Args, Debug, Clone)]
#[command(next_help_heading = "The list")]
pub(crate) struct ListArgs {
    /// Print the list alone, with these columns (COL,… or +COL,… beside the usual ones)
    #[arg(short = 'o', long = "output", value_name = "COLS", conflicts_with = "json")]
    pub(crate) columns: Option<String>,

    /// Print the list alone, without the line of headings
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) noheadings: bool,

    /// Print the list alone, one space between cells
    #[arg(short, long, conflicts_with = "json")]
    pub(crate) raw_output: bool,

    /// Print the list alone, as NAME="value"
    #[arg(short = 'P', long, conflicts_with_all = ["json", "raw_output"])]
    pub(crate) pairs: bool,
}

impl ListArgs {
    /// Whether the list alone is wanted.
    pub(crate) fn is_wanted(&self) -> bool {
        self.columns.is_some() || self.noheadings || self.raw_output || self.pairs
    }

    pub(crate) fn form(&self) -> Form {
        match (self.raw_output, self.pairs) {
            (true, _) => Form::Raw,
            (_, true) => Form::Pairs,
            _ => Form::Aligned,
        }
    }
}
