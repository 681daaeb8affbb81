//! Edits of programs in text form, token by token.

use super::{edge, raw};
use qc_ladder::random::Numbers;

/// One to four edits.
pub(super) fn edit(text: &[u8], n: &mut Numbers) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(text) else { return raw::edit(text, n) };
    let mut tokens = split(text);
    if n.below(4) == 0 {
        mix_types(&mut tokens, n);
        return tokens.concat().into_bytes();
    }
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

/// Types of all kinds, of usual and unusual elements and ranks.
const TYPES: &[&str] = &[
    "index",
    "f32",
    "buf<4xf32, [4], 0, 16>",
    "tensor<f32>",
    "tensor<4xf32>",
    "tensor<1x4x4x4xf32>",
    "tensor<4xu8>",
    "tensor<1x6xi64>",
    "tensor<4x4xi32>",
    "tensor<1x2x4x4xi8>",
    "tensor<2x2x2xbool>",
];

/// Gives some operands a value of another type, the rest of the program left as it is: a new argument, or one that the
/// program has; or another element to a type.
fn mix_types(tokens: &mut Vec<String>, n: &mut Numbers) {
    let places = |tokens: &[String], holds: fn(&str) -> bool| -> Vec<usize> {
        (0..tokens.len()).filter(|&i| holds(&tokens[i])).collect()
    };
    let elements = ["f32", "u8", "i8", "i32", "i64", "bool"];
    if n.below(4) == 0 {
        let typed = places(tokens, |t| t.ends_with("xf32") || t.ends_with("xu8") || t.ends_with("xi64"));
        if !typed.is_empty() {
            let at = typed[n.below(typed.len())];
            let dims = tokens[at].rsplit_once('x').map_or("", |(dims, _)| dims).to_string();
            tokens[at] = format!("{dims}x{}", elements[n.below(elements.len())]);
        }
        return;
    }
    let Some(head) = tokens.iter().position(|t| t == "(") else { return };
    let other = match n.below(3) {
        0 => {
            let values = places(tokens, |t| t.starts_with('%'));
            let Some(&first) = values.first() else { return };
            tokens[if values.len() > 1 { values[n.below(values.len())] } else { first }].clone()
        }
        _ => {
            tokens.insert(head + 1, format!("%other : {}, ", TYPES[n.below(TYPES.len())]));
            "%other".to_string()
        }
    };
    // Operands stand behind the head and are followed by a comma or a bracket, unlike results and arguments.
    let is_operand = |i: usize| tokens[i].starts_with('%') && tokens.get(i + 1).is_some_and(|t| t == "," || t == ")");
    let operands: Vec<usize> = (head + 2..tokens.len()).filter(|&i| is_operand(i)).collect();
    for _ in 0..=n.below(2) {
        if !operands.is_empty() {
            tokens[operands[n.below(operands.len())]] = other.clone();
        }
    }
}

fn number(n: &mut Numbers) -> String {
    match n.below(6) {
        0 => ["nan", "inf", "-inf", "1e39", "-0", "1e-50", "99999999999999999999"][n.below(7)].into(),
        _ => edge(n).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{mix_types, split};
    use crate::mutants::{Reader, read};
    use qc_ladder::random::{Mode, Numbers, Recipe};

    /// Each is refused with a sentence or compiles; both happen.
    #[test]
    fn programs_of_mixed_types_are_refused_or_compile() {
        let mut outcomes = [0, 0];
        for seed in 0..24 {
            let text = Recipe::random(seed, if seed % 2 == 0 { Mode::Pairs } else { Mode::Float }).to_qir();
            for number in 0..25 {
                let mut tokens = split(&text);
                mix_types(&mut tokens, &mut Numbers::new(seed * 100 + number));
                let mixed = tokens.concat();
                outcomes[usize::from(read(Reader::Qir, mixed.as_bytes()).is_ok())] += 1;
            }
        }
        assert!(outcomes.iter().all(|&n| n > 20), "{outcomes:?}");
    }
}
