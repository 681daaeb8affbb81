//! Recurrent ops: over padded sequences, over ragged ones, and with a state of bytes.

pub(super) mod bytes;
pub(super) mod padded;
pub(super) mod ragged;
