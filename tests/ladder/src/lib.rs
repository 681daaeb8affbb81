//! The ladder of equivalence, and random models that climb it: what the tests and `qc fuzz` share.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod batch;
pub mod conversions;
pub mod everywhere;
pub mod ladder;
pub mod random;
pub mod shapes;
pub mod stepwise;
pub mod watched;
