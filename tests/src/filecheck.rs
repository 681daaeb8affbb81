//! Matches expectations in comments against printed text.
//!
//! | directive | meaning |
//! |---|---|
//! | `// check: p` | some line behind the last match contains `p` |
//! | `// next: p` | the line right behind the last match contains `p` |
//! | `// not: p` | no line between the last match and the next one (or the end) contains `p` |
//!
//! `[[NAME:regex]]` captures, `[[NAME]]` repeats what was captured, all else is literal. Runs of spaces in a pattern
//! match any blanks.

use regex::Regex;
use std::collections::HashMap;

/// What a directive demands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A later line.
    Check,
    /// The next line.
    Next,
    /// No line in between.
    Not,
}

/// One expectation.
#[derive(Clone, Debug)]
pub struct Directive {
    /// What it demands.
    pub kind: Kind,
    /// The pattern as written.
    pub pattern: String,
    /// Its line in the test file, from 1.
    pub line: usize,
}

/// The directives of a test file, in order.
pub fn directives(text: &str) -> Vec<Directive> {
    let one = |(i, line): (usize, &str)| {
        let comment = line.trim().strip_prefix("//")?.trim();
        let words = [("check:", Kind::Check), ("next:", Kind::Next), ("not:", Kind::Not)];
        words.iter().find_map(|&(word, kind)| {
            let pattern = comment.strip_prefix(word)?.trim().to_string();
            Some(Directive { kind, pattern, line: i + 1 })
        })
    };
    text.lines().enumerate().filter_map(one).collect()
}

/// Matches `directives` against `output`.
///
/// # Errors
/// The first expectation that does not hold, with its line.
pub fn matches(directives: &[Directive], output: &str) -> Result<(), String> {
    let lines: Vec<&str> = output.lines().collect();
    let mut captured: HashMap<String, String> = HashMap::new();
    let mut pos = 0;
    let mut forbidden: Vec<&Directive> = Vec::new();
    for d in directives {
        let fail = |what: &str| Err(format!("line {}: {what}: `{}`", d.line, d.pattern));
        if d.kind == Kind::Not {
            forbidden.push(d);
            continue;
        }
        let regex = compile(d, &captured)?;
        let found = match d.kind {
            Kind::Next => (pos < lines.len() && regex.is_match(lines[pos])).then_some(pos),
            _ => (pos..lines.len()).find(|&i| regex.is_match(lines[i])),
        };
        let Some(at) = found else { return fail("expected, but not found") };
        absent(&forbidden, &lines[pos..at], &captured)?;
        forbidden.clear();
        let groups = regex.captures(lines[at]).ok_or("invariant: the line matched")?;
        for name in regex.capture_names().flatten() {
            if let Some(text) = groups.name(name) {
                captured.insert(name.to_string(), text.as_str().to_string());
            }
        }
        pos = at + 1;
    }
    absent(&forbidden, &lines[pos..], &captured)
}

fn absent(forbidden: &[&Directive], lines: &[&str], captured: &HashMap<String, String>) -> Result<(), String> {
    for d in forbidden {
        let regex = compile(d, captured)?;
        if let Some(hit) = lines.iter().find(|l| regex.is_match(l)) {
            return Err(format!("line {}: forbidden `{}` found in `{}`", d.line, d.pattern, hit.trim()));
        }
    }
    Ok(())
}

/// The regular expression of a pattern, given what was captured.
fn compile(d: &Directive, captured: &HashMap<String, String>) -> Result<Regex, String> {
    let mut out = String::new();
    let mut rest = d.pattern.as_str();
    while let Some((literal, tail)) = rest.split_once("[[") {
        out += &escape(literal);
        // A list such as `[[0, 64]]` is literal: a capture starts with a name.
        let close = tail.find("]]").ok_or_else(|| format!("line {}: `[[` is not closed", d.line))?;
        let inner = &tail[..close];
        let (name, regex) = inner.split_once(':').map_or((inner, None), |(n, r)| (n, Some(r)));
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') {
            out += &regex::escape("[[");
            rest = tail;
            continue;
        }
        match regex {
            Some(regex) => out += &format!("(?P<{name}>{regex})"),
            None => {
                let text = captured.get(name).ok_or_else(|| format!("line {}: `{name}` was not captured", d.line))?;
                out += &regex::escape(text);
            }
        }
        rest = &tail[close + 2..];
    }
    out += &escape(rest);
    Regex::new(&out).map_err(|e| format!("line {}: {e}", d.line))
}

fn escape(literal: &str) -> String {
    regex::escape(literal).replace(' ', r"\s+")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(test: &str, output: &str) -> Result<(), String> {
        matches(&directives(test), output)
    }

    #[test]
    fn captures_and_order() {
        let out = "a = f(x)\nb = g(a)\nc = h(b)\n";
        holds("// check: [[V:\\w+]] = f\n// next: g([[V]])\n", out).unwrap();
        holds("// check: f(x)\n// not: g\n", out).unwrap_err();
        holds("// check: f(x)\n// not: z\n// check: h\n", out).unwrap();
        holds("// check: h\n// check: f\n", out).unwrap_err();
        holds("// check: f\n// next: h\n", out).unwrap_err();
        holds("// check: [[V]]\n", out).unwrap_err();
    }

    #[test]
    fn lists_are_literal() {
        holds("// check: at = [[0, 64], [1]]", "x {at = [[0, 64], [1]]}").unwrap();
    }
}
