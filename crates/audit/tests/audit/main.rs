//! Verdicts, by what is known and what is not. One program, so that its tests share the processors.

mod less_is_known;
mod real_tables;
mod small_worlds;
mod supposed_places;
