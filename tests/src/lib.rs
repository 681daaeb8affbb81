//! What the tests share besides the ladder: file tests, golden values, tidiness.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod bombs;
pub mod filecheck;
pub mod filetest;
pub mod golden;
pub mod mutants;
pub mod tidy;
pub mod words;
