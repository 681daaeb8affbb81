//! The graph, quant and loop dialects: op declarations and their meaning.
