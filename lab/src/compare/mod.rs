//! The model of a guest's tables against the tables taken from its memory, entry for entry.

pub mod bundle;
pub mod inside;
pub mod model;
pub mod mutate;
pub mod report;
pub mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use crate::facts::Facts;
use crate::guest::Failure;
use model::Model;
use mutate::Mutation;
use tree::Difference;

/// What a comparison found.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The guest.
    pub facts: Facts,
    /// What it was held against.
    pub model: Model,
    /// Entries compared, those of the transition page among them.
    pub entries: usize,
    /// Differences of the identity map.
    pub identity: Vec<Difference>,
    /// Differences of the transition page.
    pub transition: Vec<Difference>,
    /// Tables reached from the guest's root, and from the model's.
    pub tables: (u64, u64),
    /// Statements that are wrong, in words.
    pub wrong_facts: Vec<String>,
    /// What `identmap tables --live` said inside the guest that is wrong; `None`: it was not run.
    pub inside: Option<Vec<String>>,
    /// The bundle that was made inside the guest, if one was.
    pub bundle: Option<bundle::Looked>,
}

impl Comparison {
    /// How many things differ.
    #[must_use]
    pub fn differences(&self) -> usize {
        self.identity.len()
            + self.transition.len()
            + usize::from(self.tables.0 != self.tables.1)
            + self.wrong_facts.len()
            + self.said_wrong()
    }

    /// How much of what our binary said inside the guest is wrong, on its tables and in its bundle.
    #[must_use]
    pub fn said_wrong(&self) -> usize {
        self.inside.as_ref().map_or(0, Vec::len)
            + self.bundle.as_ref().map_or(0, |bundle| bundle.wrong.len())
    }

    /// What our binary was not asked inside the guest; empty if everything.
    #[must_use]
    pub fn not_asked(&self) -> &'static str {
        match (&self.inside, &self.bundle) {
            (None, _) => "; nothing was asked inside",
            (_, None) => "; no bundle was made inside",
            (_, Some(bundle)) if bundle.answer.is_none() => "; the bundle was not checked",
            _ => "",
        }
    }

    /// What differs, a line each; at most `most` entries of each kind.
    #[must_use]
    pub fn lines(&self, most: usize) -> Vec<String> {
        let mut lines = self.wrong_facts.clone();
        lines.extend(self.inside.iter().flatten().cloned());
        lines.extend(self.bundle.iter().flat_map(|bundle| bundle.wrong.iter().cloned()));
        let (real, model) = self.tables;
        if real != model {
            lines.push(format!("tables: guest {real}, model {model}"));
        }
        for (what, differences) in
            [("identity map", &self.identity), ("transition page", &self.transition)]
        {
            lines.extend(differences.iter().take(most).map(|one| format!("{what}: {one}")));
            if differences.len() > most {
                lines.push(format!("{what}: and {} more", differences.len() - most));
            }
        }
        lines
    }
}

/// Compares a cell's results; with our `binary`, what that says of the guest's bundle on this machine too.
/// With a `mutation`, the model alone.
///
/// # Errors
/// In words: results that cannot be read, or a guest that cannot be modelled.
pub fn cell(
    results: &Path,
    binary: Option<&Path>,
    mutation: Option<Mutation>,
) -> Result<Comparison, Failure> {
    let (facts, memory) = Facts::load(results)?;
    let levels = facts.paging_levels();
    let real = tree::read(&memory, facts.root.0, levels)?;
    let model = Model::of(results, &facts, mutation)?;
    Ok(Comparison {
        entries: real.lower.len() + real.upper.len(),
        identity: tree::differences(&real.lower, &model.identity.lower),
        transition: tree::differences(&real.upper, &model.transition),
        tables: (real.tables, model.identity.tables + model.transition_tables),
        wrong_facts: model.wrong_facts(&facts),
        inside: if mutation.is_none() { inside::tables(results, &facts, &real)? } else { None },
        bundle: if mutation.is_none() { bundle::look(results, binary)? } else { None },
        facts,
        model,
    })
}

/// The results that are there, by name.
///
/// # Errors
/// When the directory cannot be read.
pub fn cells(cache: &Path) -> std::io::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(cache.join("lab/results"))? {
        let path = entry?.path();
        if path.join("facts.json").is_file()
            && let Some(name) = path.file_name()
        {
            found.push((name.to_string_lossy().into_owned(), path));
        }
    }
    found.sort();
    Ok(found)
}

/// Compares each.
#[must_use]
pub fn all(cells: &[(String, PathBuf)], binary: Option<&Path>) -> Vec<report::Row> {
    cells
        .iter()
        .map(|(name, path)| {
            (name.clone(), cell(path, binary, None).map_err(|error| error.to_string()))
        })
        .collect()
}

/// How many cells notice that the model is wrong.
#[derive(Clone, Copy, Debug)]
pub struct Noticed {
    /// In which way.
    pub mutation: Mutation,
    /// Cells that differ, then. A model that cannot be made at all is not counted.
    pub noticed: usize,
    /// Cells looked at.
    pub cells: usize,
}

/// Makes the model wrong in each of these ways, for each cell.
#[must_use]
pub fn mutations(cells: &[(String, PathBuf)], mutations: &[Mutation]) -> Vec<Noticed> {
    let differs = |path: &Path, mutation| {
        let compared = cell(path, None, Some(mutation));
        compared.is_ok_and(|compared| compared.differences() != 0)
    };
    mutations
        .iter()
        .map(|&mutation| Noticed {
            mutation,
            noticed: cells.iter().filter(|(_, path)| differs(path, mutation)).count(),
            cells: cells.len(),
        })
        .collect()
}
