//! Every IR to IR transformation of qc.
