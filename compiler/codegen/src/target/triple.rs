//! The names of the targets, for the compiler and for its build script, which compiles the executor.

/// x86-64 Linux.
pub const X86_64_LINUX: &str = "x86_64-unknown-linux-gnu";
