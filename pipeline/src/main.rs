//! Squall.
fn main() {}
