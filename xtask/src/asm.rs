//! `cargo xtask asm`: whether the compiler still makes vectors of the loops that write leaves.
//!
//! A look at the code instead of a clock: nothing that is timed decides a test.

use std::fs;

use crate::tools::{cargo, run, target};

/// A function whose loops are looked at.
struct Function {
    package: &'static str,
    name: &'static str,
    /// How many vectors of 16 bytes, which every x86-64 has, a step stores at least.
    stores: usize,
    /// What every store is called; all begin so.
    mnemonic: &'static str,
}

/// Those of `src/stores.rs` in both packages: 16 entries of one table; 8 of each of 8 tables; a cache line past the
/// caches.
const FUNCTIONS: [Function; 3] = [
    Function { package: "identmap", name: "write_leaves", stores: 8, mnemonic: "mov" },
    Function { package: "identmap", name: "write_abreast", stores: 32, mnemonic: "mov" },
    Function { package: "identmap-stream", name: "stream_table", stores: 4, mnemonic: "movnt" },
];
/// One loop for each size of a leaf.
const LOOPS: usize = 3;

/// Compiles what has these loops, and looks.
pub(crate) fn check() -> Result<(), String> {
    for function in &FUNCTIONS {
        let Function { package, name, stores, .. } = function;
        let file = target().join(format!("{package}.s"));
        // With link-time optimisation, what is written here is not yet optimised.
        let flags = ["rustc", "--locked", "--release", "--config", "profile.release.lto='off'"];
        let mut command = cargo(flags);
        command.args(["--package", package, "--lib", "--target", "x86_64-unknown-linux-gnu", "--"]);
        command.arg(format!("--emit=asm={}", file.display()));
        // Plain x86-64, whatever the flags of whoever runs this.
        run(command.env_remove("RUSTFLAGS"))?;
        let text = fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
        let loops = vector_loops(&text, function);
        for (label, stores) in &loops {
            println!("    {name} {label}: {stores} vector stores, no load, no other store");
        }
        if loops.len() < LOOPS {
            return Err(format!(
                "{name} has {} loops of at least {stores} vector stores and no load; expected at least \
                 {LOOPS}: look at {}",
                loops.len(),
                file.display()
            ));
        }
    }
    Ok(())
}

/// The loops of the functions of that name that consist of one block, store at least so many vectors and touch no other memory
/// (constants are none): label and number of stores.
fn vector_loops<'t>(text: &'t str, function: &Function) -> Vec<(&'t str, usize)> {
    let mut inside = false;
    // A function with a constant of its own for each size is there three times.
    let lines = text.lines().filter(|line| {
        inside |= line.contains(function.name) && line.ends_with(':');
        inside &= !line.starts_with(".Lfunc_end");
        inside
    });
    let mut loops = Vec::new();
    let (mut label, mut stores, mut other) = ("", 0, 0);
    for line in lines {
        if let Some(name) = line.strip_suffix(':') {
            (label, stores, other) = (name, 0, 0);
            continue;
        }
        let Some((mnemonic, operands)) = line.trim().split_once(char::is_whitespace) else {
            continue;
        };
        if mnemonic.starts_with('j') {
            if operands.trim() == label && stores >= function.stores && other == 0 {
                loops.push((label, stores));
            }
        } else if mnemonic.starts_with(function.mnemonic) && is_vector_store(operands) {
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
        vector_loops(text, &FUNCTIONS[0])
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
        // An ordinary store where all must go past the caches.
        let streams = |store: &str| {
            let text = function("").replace("write_leaves", "stream_table");
            let text = text.replacen("movdqu", store, 1).replace("movdqu", "movntdq");
            vector_loops(&text, &FUNCTIONS[2]).len()
        };
        assert_eq!((streams("movntdq"), streams("movdqa")), (1, 0));
        let straight = function("").replace("jne\t.LBB5_1", "jne\t.LBB5_2");
        assert_eq!(loops(&straight), []);
    }
}
