//! The command, run as a process. One program, so that its tests share the processors and are linked once.

mod alive;
mod bad_input;
mod capture;
mod display;
mod doubts;
mod encryption;
mod fleet;
mod json_fields;
mod kernel;
mod load;
mod machines;
mod manual;
mod needs;
mod packaging;
mod report;
mod samples;
mod signature;
mod support;
mod tables;
mod triage;
