//! The parsers, bundles and rules, by what they make of files. One program, so that its tests share the processors.

mod bad_input;
mod bundles;
mod corpus;
mod fuzz_regressions;
mod lost;
mod schema;
