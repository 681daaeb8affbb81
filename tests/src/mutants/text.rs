//! Edits of programs in text form, token by token.

use super::{edge, raw};
use qc_ladder::random::Numbers;

/// One to four edits.
pub(super) fn edit(text: &[u8], n: &mut Numbers) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(text) else { return raw::edit(text, n) };
    let mut tokens = split(text);
    for _ in 0..=n.below(4) {
        if !tokens.is_empty() {
            once(&mut tokens, n);
        }
    }
    tokens.concat().into_bytes()
}

/// Words with the punctuation and blanks between them as tokens of their own.
fn split(text: &str) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_.%@!-".contains(c);
    let mut tokens: Vec<String> = Vec::new();
    let mut in_word = false;
    for c in text.chars() {
        match tokens.last_mut().filter(|_| in_word && is_word(c)) {
            Some(word) => word.push(c),
            None => tokens.push(c.to_string()),
        }
        in_word = is_word(c);
    }
    tokens
}

fn once(tokens: &mut Vec<String>, n: &mut Numbers) {
    // A word far more often than what stands between words.
    let mut at = n.below(tokens.len());
    for _ in 0..4 {
        if tokens[at].len() < 2 && !tokens[at].chars().all(|c| c.is_ascii_digit()) {
            at = n.below(tokens.len());
        }
    }
    let is_number = tokens[at].parse::<f64>().is_ok();
    match n.below(10) {
        0 => drop(tokens.remove(at)),
        1 => {
            let copy = tokens[at].clone();
            tokens.insert(at, copy);
        }
        2 => {
            let other = n.below(tokens.len());
            tokens.swap(at, other);
        }
        3 => tokens[at] = tokens[n.below(tokens.len())].clone(),
        4 => {
            // A whole line again.
            let start = tokens[..at].iter().rposition(|t| t == "\n").map_or(0, |p| p + 1);
            let end = tokens[at..].iter().position(|t| t == "\n").map_or(tokens.len(), |p| at + p + 1);
            let line = tokens[start..end].to_vec();
            tokens.splice(start..start, line);
        }
        5 if n.below(4) == 0 => {
            let depth = [3, 70, 5000, 100_000][n.below(4)];
            tokens[at] = ["[", "{", "{a = ", "tensor<"][n.below(4)].repeat(depth);
        }
        _ if is_number => tokens[at] = number(n),
        _ => tokens[at] = tokens[n.below(tokens.len())].clone(),
    }
}

fn number(n: &mut Numbers) -> String {
    match n.below(6) {
        0 => ["nan", "inf", "-inf", "1e39", "-0", "1e-50", "99999999999999999999"][n.below(7)].into(),
        _ => edge(n).to_string(),
    }
}
