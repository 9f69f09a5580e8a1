//! The `aral` command.
fn main() {}
