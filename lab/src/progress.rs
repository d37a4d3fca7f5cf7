//! What is running, on a terminal's last line, and what has ended.

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::results::Outcome;

/// Shared by all runners.
#[derive(Debug)]
pub struct Board(Mutex<State>);

#[derive(Debug)]
struct State {
    total: usize,
    running: Vec<(String, String)>,
    ended: Vec<Outcome>,
    terminal: bool,
}

impl Board {
    /// For this many cells.
    #[must_use]
    pub fn new(total: usize) -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self(Mutex::new(State { total, running: Vec::new(), ended: Vec::new(), terminal }))
    }

    /// A cell has come to its next phase.
    pub fn phase(&self, cell: &str, phase: &str) {
        let mut state = self.state();
        match state.running.iter_mut().find(|(name, _)| name == cell) {
            Some(found) => phase.clone_into(&mut found.1),
            None => state.running.push((cell.to_owned(), phase.to_owned())),
        }
        state.draw();
    }

    /// A cell has ended.
    pub fn done(&self, outcome: Outcome) {
        let mut state = self.state();
        state.running.retain(|(name, _)| *name != outcome.cell);
        state.erase();
        let count = state.ended.len() + 1;
        eprintln!("[{count:2}/{}] {outcome}", state.total);
        state.ended.push(outcome);
        state.draw();
    }

    /// All that have ended, by name.
    #[must_use]
    pub fn finish(&self) -> Vec<Outcome> {
        let mut state = self.state();
        state.erase();
        let mut ended = std::mem::take(&mut state.ended);
        ended.sort_by(|a, b| a.cell.cmp(&b.cell));
        ended
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn draw(&self) {
        if self.terminal {
            let text: Vec<String> =
                self.running.iter().map(|(name, phase)| format!("{name}: {phase}")).collect();
            eprint!("\r\x1b[K[{}/{}] {}", self.ended.len(), self.total, text.join(" | "));
            let _ = std::io::stderr().flush();
        }
    }

    fn erase(&self) {
        if self.terminal {
            eprint!("\r\x1b[K");
        }
    }
}
