//! What the tests share: the ladder of equivalence.

pub mod ladder;
