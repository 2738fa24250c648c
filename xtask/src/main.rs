//! The project's own commands: `cargo xtask ci` and `cargo xtask fix`.
fn main() {}
