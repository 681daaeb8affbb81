//! A first walk over JSON bytes, before anything is allocated: how deep objects and lists nest.
//!
//! Parsers of JSON call themselves for every level, so depth is stack. What is no JSON is left to the parser.

use qc_ir::{Exceeded, Limits};

/// Refuses text that nests deeper than the limit `depth`.
///
/// # Errors
/// [`Exceeded`].
pub(crate) fn check(text: &[u8], limits: &Limits) -> Result<(), Exceeded> {
    limits.check(qc_ir::Limit::Depth, depth(text), || "JSON objects and lists are nested to a depth of".into())
}

/// The greatest number of objects and lists that are open at once.
fn depth(text: &[u8]) -> u64 {
    let (mut open, mut deepest, mut in_string, mut escaped) = (0u64, 0u64, false, false);
    for &byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                open += 1;
                deepest = deepest.max(open);
            }
            b'}' | b']' => open = open.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_count_outside_of_strings() {
        assert_eq!(depth(b"{\"a\": [1, {}], \"[[[[\": 2, \"\\\"[[[\": []}"), 3);
        assert_eq!(depth(b"]]][["), 2);
        let deep = [b"[".repeat(200), b"]".repeat(200)].concat();
        let error = check(&deep, &Limits::default()).unwrap_err().to_string();
        assert_eq!(
            error,
            "JSON objects and lists are nested to a depth of 200; the limit `depth` is 100 and can be raised to 120 at most"
        );
    }
}
