//! The preflight against QEMU: the same consumer, under the same page tables, on the same processor.
//!
//! [`scenario`] is one comparison and [`list`] is all of them; [`world`] is the machine and what is loaded, [`rom`] what
//! enters it, [`cpu`] its processor, [`qemu`] runs it, with [`gdb`] where a processor with SEV is
//! wanted. [`consumers`] is the other table: what every kernel at hand touches.

pub mod consumers;
pub mod cpu;
pub mod gdb;
pub mod kernels;
pub mod list;
pub mod qemu;
pub mod report;
pub mod rom;
pub mod scenario;
pub mod world;
