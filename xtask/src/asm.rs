//! `cargo xtask asm`: whether the compiler still makes vectors of the loops that write leaves.
//!
//! A look at the code instead of a clock: nothing that is timed decides a test.

use std::fs;

use crate::tools::{cargo, run, target};

/// The functions with the loops, `crates/identmap/src/build.rs`, and how many vectors of 16 bytes, which every
/// x86-64 has, a step stores at least: 16 entries of one table; 8 of each of 8 tables.
const FUNCTIONS: [(&str, usize); 2] = [("write_leaves", 8), ("write_abreast", 32)];
/// One loop for each size of a leaf.
const LOOPS: usize = 3;

/// Compiles the core and looks.
pub(crate) fn check() -> Result<(), String> {
    let file = target().join("identmap-core.s");
    // With link-time optimisation, what is written here is not yet optimised.
    let flags = ["rustc", "--locked", "--release", "--config", "profile.release.lto='off'"];
    let mut command = cargo(flags);
    command.args(["--package", "identmap", "--lib", "--target", "x86_64-unknown-linux-gnu", "--"]);
    command.arg(format!("--emit=asm={}", file.display()));
    // Plain x86-64, whatever the flags of whoever runs this.
    run(command.env_remove("RUSTFLAGS"))?;
    let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    for (function, least) in FUNCTIONS {
        let loops = vector_loops(&text, function, least);
        for (label, stores) in &loops {
            println!("    {function} {label}: {stores} vector stores, no load, no other store");
        }
        if loops.len() < LOOPS {
            let found = loops.len();
            return Err(format!(
                "{function} has {found} loops of at least {least} vector stores and no load; expected \
                 {LOOPS}: look at {}",
                file.display()
            ));
        }
    }
    Ok(())
}

/// The loops of a function that consist of one block, store at least so many vectors and touch no other memory
/// (constants are none): label and number of stores.
fn vector_loops<'t>(text: &'t str, function: &str, least: usize) -> Vec<(&'t str, usize)> {
    let function = text
        .lines()
        .skip_while(|line| !(line.contains(function) && line.ends_with(':')))
        .skip(1)
        .take_while(|line| !line.starts_with(".Lfunc_end"));
    let mut loops = Vec::new();
    let (mut label, mut stores, mut other) = ("", 0, 0);
    for line in function {
        if let Some(name) = line.strip_suffix(':') {
            (label, stores, other) = (name, 0, 0);
            continue;
        }
        let Some((mnemonic, operands)) = line.trim().split_once(char::is_whitespace) else {
            continue;
        };
        if mnemonic.starts_with('j') {
            if operands.trim() == label && stores >= least && other == 0 {
                loops.push((label, stores));
            }
        } else if is_vector_store(operands) {
            stores += 1;
        } else if operands.contains('(') && !mnemonic.starts_with("lea") && !is_constant(operands) {
            other += 1;
        }
    }
    loops
}

/// AT&T order: source first. `%xmm9, 16(%rcx)`.
fn is_vector_store(operands: &str) -> bool {
    let operands = operands.trim();
    let register = ["%xmm", "%ymm", "%zmm"].iter().any(|name| operands.starts_with(name));
    register
        && operands.ends_with(')')
        && operands.split_once(", ").is_some_and(|(_, to)| !to.starts_with('%'))
}

/// A vector in the code's own read-only data, as the source: `.LCPI5_0(%rip), %xmm0`.
fn is_constant(operands: &str) -> bool {
    operands.trim().starts_with(".LCPI") && operands.contains("(%rip), %xmm")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A function with one loop of eight stores, and what else is in it.
    fn function(more: &str) -> String {
        let stores: Vec<String> =
            (0..8).map(|i| format!("\tmovdqu\t%xmm{i}, {}(%rcx)\n", 16 * i)).collect();
        let stores = stores.concat();
        format!(
            "_ZN8identmap5build12write_leaves17h0E:\n.LBB5_1:\n{stores}{more}\tjne\t.LBB5_1\n.Lfunc_end5:\n"
        )
    }

    fn loops(text: &str) -> Vec<(&str, usize)> {
        vector_loops(text, "write_leaves", 8)
    }

    #[test]
    fn a_loop_of_vector_stores_is_found() {
        for more in
            ["\tpaddq\t%xmm0, %xmm1\n\tsubq\t$-128, %rcx\n", "\tpaddq\t.LCPI5_0(%rip), %xmm0\n"]
        {
            assert_eq!(loops(&function(more)), [(".LBB5_1", 8)], "{more}");
        }
    }

    #[test]
    fn a_load_a_scalar_store_or_too_few_vectors_are_not() {
        for more in [
            "\tmovq\t(%rcx), %rax\n",
            "\tmovq\t%rdx, (%rcx)\n",
            "\tpaddq\t16(%rcx), %xmm0\n",
            "\tmovq\t%rdx, .LCPI5_0(%rip)\n",
        ] {
            assert_eq!(loops(&function(more)), [], "{more}");
        }
        let few = function("").replacen("\tmovdqu\t%xmm0, 0(%rcx)\n", "", 1);
        assert_eq!(loops(&few), []);
        let elsewhere = function("").replace("write_leaves", "other");
        assert_eq!(loops(&elsewhere), []);
        let straight = function("").replace("jne\t.LBB5_1", "jne\t.LBB5_2");
        assert_eq!(loops(&straight), []);
    }
}
