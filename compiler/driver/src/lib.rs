//! The public API of the qc compiler: options, pipelines, compile, jit.
