//! Arguments, a command, an exit code.

fn main() {}
