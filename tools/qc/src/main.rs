//! The qc command line.

fn main() {}
