//! The `huntaway` command.
fn main() {}
