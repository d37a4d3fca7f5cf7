//! Shell completions, from the description of the command line.

use clap_complete::{Shell, generate};

use crate::files::Files;

/// Bash, zsh and fish, named as each shell looks for them.
pub(crate) fn scripts() -> Files {
    [("identmap.bash", Shell::Bash), ("_identmap", Shell::Zsh), ("identmap.fish", Shell::Fish)]
        .into_iter()
        .map(|(file, shell)| {
            let mut script = Vec::new();
            generate(shell, &mut identmap_cli::command(), "identmap", &mut script);
            (file.to_owned(), script)
        })
        .collect()
}
