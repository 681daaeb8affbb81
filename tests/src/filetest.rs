//! File tests: a module in text form whose comments say what to do with it and what must come out.
//!
//! | command | what is checked |
//! |---|---|
//! | `// test: roundtrip` | parsing, printing, parsing and printing give one text |
//! | `// test: verify` | every `// error: text` stands on the line of the one error that contains the text; no other error |
//! | `// test: eval` | the interpreter gives the `// expect: 1, 2, ..` values, one comment per output |
//! | `// test: passes(a, b{x=1})` | the directives of [`crate::filecheck`] hold for the result |
//! | `// test: passes(..) precise` | the result is the text behind `// output:`, which `QC_BLESS=1` rewrites |
//! | `// test: ladder` | a graph computes the same on all rungs of [`qc_ladder::ladder`]; `ladder(exact-qdq)` sets options |
//!
//! Every `passes` test is also executed: the interpreter runs before and after each pass, and results must agree as the
//! pass's `keeps` demands; `// no-equiv: reason` leaves that out. A `passes` test with an `// error: text` must fail with
//! that text. `// input: 1, 2, ..` gives the inputs in order, otherwise they are seeded; `// tolerance: 1e-6` bounds the
//! absolute error of `expect`.

use crate::filecheck::{directives, matches};
use qc_compiler::REGISTRY;
use qc_ir::{Data, Diag, Elem, HostTensor, ManagerOptions, Module, NoSink, PrintOptions};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The folder of the file tests.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("qir")
}

/// All test files below [`folder`], sorted.
pub fn files() -> Vec<PathBuf> {
    fn collect(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                collect(&path, out);
            } else if path.extension().is_some_and(|e| e == "qir") {
                out.push(path);
            }
        }
    }
    let mut out = Vec::new();
    collect(&folder(), &mut out);
    out.sort();
    out
}

/// Values behind `// word:` comments, with their lines counted from 1.
fn comments<'t>(text: &'t str, word: &str) -> Vec<(usize, &'t str)> {
    let one = |(i, line): (usize, &'t str)| {
        let (_, comment) = line.split_once("//")?;
        Some((i + 1, comment.trim().strip_prefix(word)?.strip_prefix(':')?.trim()))
    };
    text.lines().enumerate().filter_map(one).collect()
}

/// Runs the test in `path`.
///
/// # Errors
/// What is wrong, in full.
pub fn run(path: &Path) -> Result<(), String> {
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let commands = comments(&text, "test");
    if commands.is_empty() {
        return Err("the file has no `// test:` line".into());
    }
    for (_, command) in commands {
        match command {
            "roundtrip" => round_trip(&text)?,
            "verify" => verify(&text)?,
            "eval" => eval(&text)?,
            "ladder" => ladder(&text, "")?,
            _ => match command.strip_prefix("passes(").and_then(|rest| rest.rsplit_once(')')) {
                None if command.starts_with("ladder(") => {
                    let words = command.strip_prefix("ladder(").and_then(|rest| rest.strip_suffix(')'));
                    ladder(&text, words.ok_or("`ladder(` is not closed")?)?
                }
                Some((pipeline, "")) => passes(&text, pipeline).map(|_| ())?,
                Some((pipeline, mode)) if mode.trim() == "precise" => precise(path, &text, pipeline)?,
                _ => return Err(format!("unknown command `{command}`")),
            },
        }
    }
    Ok(())
}

fn ladder(text: &str, words: &str) -> Result<(), String> {
    let options = qc_ladder::ladder::options_of(words)?;
    qc_ladder::ladder::climb_module(&module(text)?, options).map_err(|f| f.to_string())
}

/// Parses a test file.
///
/// # Errors
/// What the parser or the verifier says.
pub fn module(text: &str) -> Result<Module, String> {
    let m = qc_ir::parse(text, &REGISTRY, &HashMap::new()).map_err(|d| d.to_string())?;
    match qc_ir::verify(&m, &REGISTRY).first() {
        None => Ok(m),
        Some(d) => Err(d.render(&m)),
    }
}

fn round_trip(text: &str) -> Result<(), String> {
    let m = module(text)?;
    qc_ir::round_trips(&m, &REGISTRY).map_err(|d| d.to_string())?;
    matches(&directives(text), &qc_ir::print(&m, PrintOptions::default()))
}

/// The lines on which ops begin, in the order in which `Module::walk` visits them.
fn op_lines(text: &str) -> Vec<usize> {
    let starts = |line: &str| {
        let code = line.split("//").next().unwrap_or("").trim();
        let head = code.split('(').next().unwrap_or("");
        let name = head.rsplit('=').next().unwrap_or("").trim();
        code.contains('(') && name.contains('.') && !name.contains([' ', '{', '"', '@'])
    };
    text.lines().enumerate().filter(|(_, l)| starts(l)).map(|(i, _)| i + 1).collect()
}

/// All errors of a module in text form: line and message.
fn errors(text: &str) -> Result<Vec<(usize, String)>, String> {
    let mut m = match qc_ir::parse(text, &REGISTRY, &HashMap::new()) {
        Ok(m) => m,
        Err(d) => {
            let line = d.message.split(':').next().and_then(|l| l.parse().ok());
            return Ok(vec![(line.ok_or_else(|| format!("no line in `{d}`"))?, d.message)]);
        }
    };
    // Each op gets its line as location, so that what the verifier says can be placed.
    let funcs: Vec<_> = m.funcs().map(|(_, f)| f.body).collect();
    let ops: Vec<_> = funcs.into_iter().flat_map(|body| m.walk(body)).collect();
    let lines = op_lines(text);
    if lines.len() != ops.len() {
        return Err(format!("{} ops were read from {} lines that look like ops", ops.len(), lines.len()));
    }
    for (op, line) in ops.into_iter().zip(lines) {
        let loc = m.locs.node(&line.to_string(), "line");
        m.set_loc(op, loc);
    }
    let head = text.lines().position(|l| l.starts_with("module")).map_or(1, |i| i + 1);
    let place = |d: &Diag| {
        let nodes = d.loc.map(|loc| m.locs.nodes(loc)).unwrap_or_default();
        nodes.first().and_then(|n| n.name.parse().ok()).unwrap_or(head)
    };
    Ok(qc_ir::verify(&m, &REGISTRY).into_iter().map(|d| (place(&d), d.message)).collect())
}

fn verify(text: &str) -> Result<(), String> {
    let mut found = errors(text)?;
    for (line, wanted) in comments(text, "error") {
        match found.iter().position(|(l, message)| *l == line && message.contains(wanted)) {
            Some(i) => drop(found.remove(i)),
            None => return Err(format!("line {line}: no error contains `{wanted}`; errors are {found:?}")),
        }
    }
    if found.is_empty() { Ok(()) } else { Err(format!("unexpected errors {found:?}")) }
}

fn numbers(list: &str) -> Result<Vec<f64>, String> {
    let words = list.split([' ', ',', '[', ']']).filter(|w| !w.is_empty());
    words.map(|w| w.parse().map_err(|_| format!("`{w}` is no number"))).collect()
}

/// A tensor of the elements and dims of a type.
fn tensor(elem: Elem, dims: &[usize], values: &[f64]) -> Option<HostTensor> {
    let data = match elem {
        Elem::F32 => Data::F32(values.iter().map(|&x| x as f32).collect()),
        Elem::I8 => Data::I8(values.iter().map(|&x| x as i8).collect()),
        Elem::U8 => Data::U8(values.iter().map(|&x| x as u8).collect()),
        Elem::I32 => Data::I32(values.iter().map(|&x| x as i32).collect()),
        Elem::I64 => Data::I64(values.iter().map(|&x| x as i64).collect()),
        Elem::Bool => Data::Bool(values.iter().map(|&x| x != 0.0).collect()),
        Elem::Quant(_) => return None,
    };
    HostTensor::new(dims, data)
}

fn inputs(text: &str, m: &Module) -> Result<Vec<HostTensor>, String> {
    let mut inputs = qc_ir::seeded_inputs(m);
    for (i, (line, list)) in comments(text, "input").into_iter().enumerate() {
        let slot = inputs.get_mut(i).ok_or("more `input` comments than inputs")?;
        let given = tensor(slot.data().elem(), slot.dims(), &numbers(list)?);
        *slot = given.ok_or_else(|| format!("line {line}: needs {} numbers", slot.len()))?;
    }
    Ok(inputs)
}

fn eval(text: &str) -> Result<(), String> {
    let m = module(text)?;
    let inputs = inputs(text, &m)?;
    let result = qc_compiler::interpret(&m, &inputs);
    let failures = comments(text, "error");
    if let Some((_, wanted)) = failures.first() {
        let message = result.err().map_or("no error".to_string(), |d| d.message);
        return if message.contains(wanted) { Ok(()) } else { Err(format!("expected `{wanted}`, got: {message}")) };
    }
    let outputs = result.map_err(|d| d.render(&m))?;
    let tolerance = match comments(text, "tolerance").first() {
        Some((_, t)) => t.parse().map_err(|_| "bad tolerance")?,
        None => 0.0,
    };
    let expected = comments(text, "expect");
    if expected.len() != outputs.len() {
        return Err(format!("{} `expect` comments for {} outputs", expected.len(), outputs.len()));
    }
    for ((line, list), out) in expected.into_iter().zip(&outputs) {
        let wanted = numbers(list)?;
        let wrap = tensor(out.data().elem(), out.dims(), &wanted);
        let wanted = wrap.ok_or_else(|| format!("line {line}: the output has shape {:?}: {out:?}", out.dims()))?;
        if !near(&wanted, out, tolerance) {
            return Err(format!("line {line}: expected {:?}, got {:?}", wanted.data(), out.data()));
        }
    }
    Ok(())
}

/// Whether all elements differ by at most `tolerance`; NaN equals NaN.
fn near(a: &HostTensor, b: &HostTensor, tolerance: f32) -> bool {
    match (a.as_f32(), b.as_f32()) {
        (Some(a), Some(b)) => {
            let same = |(x, y): (&f32, &f32)| x == y || (x.is_nan() && y.is_nan()) || (x - y).abs() <= tolerance;
            a.len() == b.len() && a.iter().zip(b).all(same)
        }
        _ => a == b,
    }
}

/// Runs passes with all checks; gives the printed result.
fn passes(text: &str, pipeline: &str) -> Result<String, String> {
    let mut m = module(text)?;
    let steps = qc_ir::parse_pipeline(pipeline, qc_passes::ALL).map_err(|d| d.to_string())?;
    let check_each = comments(text, "no-equiv").is_empty();
    let options = ManagerOptions { verify_each: true, check_each, ..ManagerOptions::default() };
    let result = qc_ir::run(&mut m, &steps, &REGISTRY, &options, &mut NoSink);
    if let Some((_, wanted)) = comments(text, "error").first() {
        let message = result.err().map_or("no error".to_string(), |d| d.render(&m));
        return if message.contains(wanted) {
            Ok(message)
        } else {
            Err(format!("expected `{wanted}`, got: {message}"))
        };
    }
    result.map_err(|d| d.render(&m))?;
    qc_ir::round_trips(&m, &REGISTRY).map_err(|d| d.to_string())?;
    let printed = qc_ir::print(&m, PrintOptions::default());
    matches(&directives(text), &printed).map_err(|e| format!("{e}\nthe output is:\n{printed}"))?;
    Ok(printed)
}

fn precise(path: &Path, text: &str, pipeline: &str) -> Result<(), String> {
    let printed = passes(text, pipeline)?;
    let (head, wanted) = match text.split_once("// output:\n") {
        Some((head, tail)) => (head, tail),
        None => (text, ""),
    };
    let actual: String = printed.lines().map(|l| format!("// | {l}\n")).collect();
    if wanted == actual {
        return Ok(());
    }
    if std::env::var_os("QC_BLESS").is_some() {
        return std::fs::write(path, format!("{head}// output:\n{actual}")).map_err(|e| e.to_string());
    }
    let diff = similar::TextDiff::from_lines(wanted, actual.as_str());
    Err(format!("the output differs (QC_BLESS=1 accepts it):\n{}", diff.unified_diff().context_radius(3)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "module \"m\" phase canonical\nfunc @main(%x : tensor<2xf32>) outputs [\"y\"] {\n";

    fn outcome(header: &str, body: &str, tail: &str) -> Result<(), String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, format!("{header}\n{HEAD}{body}\n}}\n{tail}\n").as_bytes()).unwrap();
        run(file.path())
    }

    fn fails(header: &str, body: &str, tail: &str, reason: &str) {
        let error = outcome(header, body, tail).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }

    const RELU: &str = "  %y = graph.relu(%x)\n  return(%y)";

    #[test]
    fn a_wrong_value_is_seen() {
        outcome("// test: eval", RELU, "// input: 1 -1\n// expect: 1 0").unwrap();
        fails("// test: eval", RELU, "// input: 1 -1\n// expect: 1 -1", "expected F32([1.0, -1.0])");
        fails("// test: eval", RELU, "// input: 1 -1", "0 `expect` comments for 1 outputs");
        fails("// test: eval", RELU, "// input: 1\n// expect: 1 0", "needs 2 numbers");
    }

    #[test]
    fn every_error_must_be_announced_on_its_line() {
        let wrong = "  %y = graph.relu(%z) // error: not defined\n  return(%y)";
        outcome("// test: verify", wrong, "").unwrap();
        fails("// test: verify", RELU, "// error: not defined", "no error contains");
        fails("// test: verify", "  %y = graph.relu(%z)\n  return(%y)", "", "unexpected errors");
        fails("// test: verify", "  %y = graph.relu(%z)\n  return(%y) // error: not defined", "", "line 5: no error");
    }

    #[test]
    fn expectations_on_passes_are_checked() {
        outcome("// test: passes(cse)", RELU, "// check: graph.relu").unwrap();
        fails("// test: passes(cse)", RELU, "// check: graph.clip", "expected, but not found");
        fails("// test: passes(cse)", RELU, "// not: graph.relu", "forbidden");
        fails("// test: passes(cse) precise", RELU, "// output:\n// | something", "the output differs");
        fails("// test: passes(cse)", RELU, "// error: too bad", "expected `too bad`, got: no error");
    }

    #[test]
    fn a_pass_that_changes_results_is_seen() {
        let observed = "  %o = graph.observe(%x) {min = 0.0, max = 0.001}\n  %a = graph.add(%o, %o)\n\
                        \x20 %y = graph.mul(%a, %a)\n  return(%y)";
        fails("// test: passes(quantize)", observed, "", "pass `quantize` (001) changed the results");
        outcome("// test: passes(quantize)", observed, "// no-equiv: the range is far too small").unwrap();
    }

    #[test]
    fn commands_must_be_known() {
        fails("// test: evaluate", RELU, "", "unknown command `evaluate`");
        fails("//", RELU, "", "the file has no `// test:` line");
    }
}
