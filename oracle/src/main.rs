//! oracle
fn main() {}
