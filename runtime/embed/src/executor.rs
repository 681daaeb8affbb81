//! Runs a model's steps.

/// State of one caller.
#[derive(Debug)]
pub struct Context {
    _private: u8,
}
