//! Will this machine survive kexec?

fn main() {}
