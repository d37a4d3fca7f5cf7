//! The command `identmap`: flags, discovery, commands. The binary is `main.rs`;
//! this library exists so that the man page and the completions are made from
//! the same description of the command line.

mod args;

pub use args::command;
