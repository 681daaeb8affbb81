//! What the tests share: file tests, the ladder of equivalence, random graphs, golden values, tidiness.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod filecheck;
pub mod filetest;
pub mod golden;
pub mod ladder;
pub mod mutants;
pub mod random;
pub mod tidy;
