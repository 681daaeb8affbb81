//! The intermediate representation of qc: arenas, types, text form, verifier, rewriter, pass manager.
