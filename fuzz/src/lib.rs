//! The checks behind the targets, and what a target prints when one fails.

use std::cell::RefCell;
use std::panic;

#[path = "../checks/bundle.rs"]
pub mod bundle;
#[path = "../checks/bytes.rs"]
pub mod bytes;
#[path = "../checks/core_file.rs"]
pub mod core_file;
#[path = "../checks/decode.rs"]
pub mod decode;
#[path = "../checks/dumps.rs"]
pub mod dumps;
#[path = "../checks/entries.rs"]
pub mod entries;
#[path = "../checks/kernel.rs"]
pub mod kernel;
#[path = "../checks/kernel_file.rs"]
pub mod kernel_file;
#[path = "../../crates/kexec/tests/support/mod.rs"]
mod kernel_files;
#[path = "../checks/parse.rs"]
pub mod parse;
#[path = "../checks/plan.rs"]
pub mod plan;
#[path = "../../crates/linux/tests/support/mod.rs"]
mod support;
#[path = "../checks/tables.rs"]
pub mod tables;
#[path = "../checks/verdict.rs"]
pub mod verdict;

thread_local! {
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// From now on a panic prints the test that `paste` makes of the input, then what it did before.
pub fn print_test_on_panic(paste: fn(&[u8]) -> String) {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        INPUT.with_borrow(|input| {
            eprintln!("\n---- a test to paste ----\n{}----\n", paste(input));
        });
        before(info);
    }));
}

/// Keeps the input for [`print_test_on_panic`] and checks it.
pub fn run(input: &[u8], check: impl Fn(&[u8])) {
    INPUT.with_borrow_mut(|kept| {
        kept.clear();
        kept.extend_from_slice(input);
    });
    check(input);
}

/// A test that calls a check with the bytes.
pub fn paste_call(check: &str, input: &[u8]) -> String {
    format!("#[test]\nfn found_by_fuzzing() {{\n    {check}(b\"{}\");\n}}\n", input.escape_ascii())
}
