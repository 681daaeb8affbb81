//! Edits of JSON documents: values of other types and sizes, missing and doubled members, deep nesting.

use super::{edge, raw};
use qc_ladder::random::Numbers;
use serde_json::{Map, Value, json};

/// One to four edits.
pub(super) fn edit(text: &[u8], n: &mut Numbers) -> Vec<u8> {
    let Ok(mut value) = serde_json::from_slice::<Value>(text) else { return raw::edit(text, n) };
    let mut words = Vec::new();
    collect(&value, &mut words);
    for _ in 0..=n.below(4) {
        once(&mut value, &words, n);
    }
    let out = value.to_string().into_bytes();
    match n.below(24) {
        // What no document of values can say: nesting without end, a name twice.
        0 => nested(&out, n),
        1 => String::from_utf8_lossy(&out).replacen('{', "{\"\":0,\"\":[],", 1).into_bytes(),
        _ => out,
    }
}

fn nested(text: &[u8], n: &mut Numbers) -> Vec<u8> {
    let depth = [50, 200, 5000, 200_000][n.below(4)];
    let at = n.below(text.len() + 1);
    [&text[..at], &b"[".repeat(depth), &b"]".repeat(depth), &text[at..]].concat()
}

fn collect(value: &Value, words: &mut Vec<Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|v| collect(v, words)),
        Value::Object(members) => members.values().for_each(|v| collect(v, words)),
        other if words.len() < 4096 => words.push(other.clone()),
        _ => {}
    }
}

fn strange(words: &[Value], n: &mut Numbers) -> Value {
    match n.below(9) {
        0 => Value::Null,
        1 => json!([]),
        2 => json!({}),
        3 => json!(true),
        4 => json!(1e300),
        5 => json!(-0.5),
        6 => json!(""),
        7 if !words.is_empty() => words[n.below(words.len())].clone(),
        _ => json!(edge(n)),
    }
}

fn once(value: &mut Value, words: &[Value], n: &mut Numbers) {
    let deeper = n.below(10) != 0;
    match value {
        Value::Array(items) if deeper && !items.is_empty() => {
            let at = n.below(items.len());
            match n.below(12) {
                0 => drop(items.remove(at)),
                1 => {
                    let copy = items[at].clone();
                    items.insert(at, copy);
                }
                2 => {
                    let other = n.below(items.len());
                    items.swap(at, other);
                }
                _ => once(&mut items[at], words, n),
            }
        }
        Value::Object(members) if deeper && !members.is_empty() => member(members, words, n),
        other => *other = strange(words, n),
    }
}

fn member(members: &mut Map<String, Value>, words: &[Value], n: &mut Numbers) {
    let at = n.below(members.len());
    let Some(name) = members.keys().nth(at).cloned() else { return };
    match n.below(12) {
        0 => drop(members.remove(&name)),
        1 => {
            let other = members.values().nth(n.below(members.len())).cloned().unwrap_or_default();
            members.insert(name, other);
        }
        2 => {
            let moved = members.remove(&name).unwrap_or_default();
            members.insert(format!("{name}x"), moved);
        }
        _ => {
            if let Some(value) = members.get_mut(&name) {
                once(value, words, n);
            }
        }
    }
}
