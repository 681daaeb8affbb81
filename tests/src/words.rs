//! The glossary of `docs/extending.md` is kept by the names in the code.

use crate::tidy::File;
use std::collections::BTreeMap;

/// The page with the glossary.
const PAGE: &str = "docs/extending.md";

/// The words that the glossary refuses, each with the word to use.
pub fn refused(page: &str) -> BTreeMap<String, String> {
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [word, _, not] = cells[..] else { return None };
        Some((word.to_string(), not.to_string()))
    });
    let rows = rows.skip_while(|(word, _)| word != "word").skip(2);
    rows.flat_map(|(word, not)| {
        let words: Vec<String> = not.split(',').map(|w| w.trim().to_string()).filter(|w| !w.is_empty()).collect();
        words.into_iter().map(move |w| (w, word.clone()))
    })
    .collect()
}

/// The lower-case words that a name is made of.
fn parts(name: &str) -> impl Iterator<Item = String> + '_ {
    let mut cuts = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !cuts.ends_with(|last: char| last == '_' || last.is_uppercase()) {
            cuts.push('_');
        }
        cuts.push(c);
    }
    cuts.to_lowercase().split('_').map(str::to_string).collect::<Vec<_>>().into_iter()
}

/// Names in Rust code that hold a word which the glossary refuses.
pub fn kept(files: &[File]) -> Vec<String> {
    let Some(page) = files.iter().find(|f| f.path == PAGE) else { return vec![format!("there is no {PAGE}")] };
    let refused = refused(&page.text);
    if refused.len() < 10 {
        return vec![format!("{PAGE} has no glossary that refuses words")];
    }
    let mut out = Vec::new();
    for f in files.iter().filter(|f| f.path.ends_with(".rs") && f.path != "tests/src/words.rs") {
        for (i, line) in f.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            // What stands in quotes are words of others, such as values of a format's attributes.
            let unquoted = code.split('"').step_by(2);
            let names = unquoted.flat_map(|code| code.split(|c: char| !c.is_alphanumeric() && c != '_'));
            for part in names.flat_map(parts) {
                if let Some(word) = refused.get(&part) {
                    out.push(format!("{}:{}: `{part}` is called {word} here ({PAGE})", f.path, i + 1));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{kept, refused};
    use crate::tidy::File;

    const PAGE: &str = "| a | b | c |\n|---|---|---|\n| x | y | z |\n\n| word | meaning | not |\n|---|---|---|\n\
                        | padding | zeros | border, halo |\n| item | one | |\n";

    #[test]
    fn the_last_column_is_refused() {
        let refused = refused(PAGE);
        let pairs: Vec<_> = refused.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(pairs, [("border", "padding"), ("halo", "padding")]);
    }

    #[test]
    fn names_are_taken_apart() {
        let rows: String = (0..10).map(|i| format!("| w{i} | | n{i} |\n")).collect();
        let file = |path: &str, text: &str| File { path: path.into(), text: text.into() };
        let code = "fn top_border() {} // a border\nstruct HaloSize;\nlet borderless = 1;";
        let found = kept(&[file("docs/extending.md", &(PAGE.to_string() + &rows)), file("a.rs", code)]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("a.rs:1: `border` is called padding"));
        assert!(found[1].starts_with("a.rs:2: `halo`"));
    }
}
