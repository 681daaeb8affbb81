//! Kernel roofline and model latency.

fn main() {}
