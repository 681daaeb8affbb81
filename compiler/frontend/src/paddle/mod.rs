//! Paddle models: a program and its parameters.

pub(crate) mod params;
pub(crate) mod program;
