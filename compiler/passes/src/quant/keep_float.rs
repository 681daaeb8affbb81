//! Marks the ops that the user wants in f32: by name, by type, or because their type is not among those to quantize.
//!
//! before  %y = graph.add(%a, %b)
//! after   %y = graph.add(%a, %b) {keep_float = "kept by --keep-fp32"}
//!
//! Options: `nodes` and `types` are what to keep, `only` the types to quantize; each is a list, see [`list`]. Names are
//! patterns with `*` and `?` on the model's own node names; types are those of the model or of the graph dialect, in
//! any case. `only` does not concern ops that compute nothing and activations: they follow their neighbours. The mark is
//! an attribute, so patterns match the same dataflow with it; a pass that takes an op for one with an integer kernel, or
//! moves a pair past it, asks [`is_kept`] first. `lower-to-quant` removes the marks.

use qc_dialects::graph::{Clamp, Constant, Dequantize, Matmul, computes_nothing};
use qc_ir::{Attr, Diag, Elem, Keeps, Module, OpId, Pass, PassCx, Traits, ValueId};
use regex::Regex;

/// The pass.
pub const PASS: Pass = Pass {
    name: "keep-float",
    summary: "marks the ops that the user wants in f32",
    from: "",
    to: "",
    keeps: Keeps::Exact,
    run,
};

/// Characters that mean something else in the options of a pipeline.
const SPECIAL: [char; 6] = ['%', ',', '{', '}', ' ', '\t'];

/// A list as the value of a pass option: separated by commas, special characters as `%` and two hexadecimal digits.
pub fn list(items: &[String]) -> String {
    let escaped = |item: &String| -> String {
        let one = |c: char| if SPECIAL.contains(&c) { format!("%{:02x}", c as u32) } else { c.to_string() };
        item.chars().map(one).collect()
    };
    items.iter().map(escaped).collect::<Vec<_>>().join(",")
}

/// The items of a [`list`].
fn items(text: &str) -> Vec<String> {
    let plain = |item: &str| {
        let mut parts = item.split('%');
        let mut out = parts.next().unwrap_or("").to_string();
        for part in parts {
            let code = part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok());
            match code {
                Some(code) => {
                    out.push(char::from(code));
                    out.push_str(&part[2..]);
                }
                None => out.push_str(part),
            }
        }
        out
    };
    text.split(',').filter(|item| !item.is_empty()).map(plain).collect()
}

/// What the user chose.
pub struct Choice {
    nodes: Vec<Regex>,
    types: Vec<String>,
    only: Vec<String>,
}

impl Choice {
    /// A choice of node patterns, types to keep, and types to quantize (none: all).
    ///
    /// # Errors
    /// A pattern that is too long.
    pub fn new(nodes: &[String], types: &[String], only: &[String]) -> Result<Choice, Diag> {
        let pattern = |glob: &String| {
            let text = regex::escape(glob).replace(r"\*", ".*").replace(r"\?", ".");
            Regex::new(&format!("(?s)^{text}$")).map_err(|e| Diag::error(format!("pattern `{glob}`: {e}")))
        };
        let nodes = nodes.iter().map(pattern).collect::<Result<_, _>>()?;
        Ok(Choice { nodes, types: types.to_vec(), only: only.to_vec() })
    }

    /// Why an op with these names and types stays float, if it does; `own` are the names of its type besides those of the nodes. `follows`
    /// is for ops that follow their neighbours.
    pub fn reason<'n>(
        &self,
        nodes: impl Iterator<Item = (&'n str, &'n str)>,
        own: &[&str],
        follows: bool,
    ) -> Option<String> {
        let nodes: Vec<(&str, &str)> = nodes.collect();
        let is = |wanted: &String| {
            let same = |have: &str| have.eq_ignore_ascii_case(wanted);
            own.iter().any(|own| same(own)) || nodes.iter().any(|(_, op_type)| same(op_type))
        };
        if self.nodes.iter().any(|p| nodes.iter().any(|(name, _)| p.is_match(name))) || self.types.iter().any(is) {
            return Some(BY_NAME.into());
        }
        (!self.only.is_empty() && !follows && !self.only.iter().any(is)).then(|| BY_LIST.into())
    }
}

/// The reason for ops that were named.
pub const BY_NAME: &str = "kept by --keep-fp32";
/// The reason for ops that were not listed.
pub const BY_LIST: &str = "not among --quantize-ops";

fn run(m: &mut Module, cx: &mut PassCx) -> Result<(), Diag> {
    let option = |name| cx.option(name).map(items).unwrap_or_default();
    let choice = Choice::new(&option("nodes"), &option("types"), &option("only"))?;
    for op in m.walk(m.body()) {
        if computes_nothing(m, op) {
            continue;
        }
        let follows = m.def(op).traits.has(Traits::MOVEMENT) || Clamp::is(m, op);
        let own = [m.def(op).name.trim_start_matches("graph."), FC];
        let own = if is_fc(m, op) { &own[..] } else { &own[..1] };
        let nodes = m.locs.nodes(m.loc(op)).into_iter().map(|n| (&*n.name, &*n.op_type));
        if let Some(reason) = choice.reason(nodes, own, follows) {
            cx.remark(m.loc(op), reason.clone());
            cx.count("kept");
            mark(m, op, &reason);
        }
    }
    Ok(())
}

/// What Paddle's passes call a product by a constant matrix, with the addition of its bias, before they choose what is quantized.
pub const FC: &str = "fc";

fn is_fc(m: &Module, op: OpId) -> bool {
    let constant = |v: ValueId| Constant::producing(m, Dequantize::producing(m, v).map_or(v, |d| d.q(m))).is_some();
    m.is(op, Matmul::DEF) && m.operand(op, 1).is_some_and(constant)
}

/// The mark on an op, one of [`qc_ir::MARKS`]; its value is the reason.
const MARK: &str = "keep_float";

/// Marks `op`, unless it computes nothing from floats or is marked already. Says whether it is marked by this.
pub fn mark(m: &mut Module, op: OpId, reason: &str) -> bool {
    let real = |v: ValueId| m.ty(v).tensor().is_some_and(|t| t.elem == Elem::F32);
    // Constants say nothing about where an op is computed.
    let stored = |v: ValueId| Dequantize::producing(m, v).map_or(v, |d| d.q(m));
    let computed = |&v: &ValueId| real(v) && Constant::producing(m, stored(v)).is_none();
    let marked = !is_kept(m, op) && m.operands(op).iter().flatten().any(computed);
    if marked {
        m.set_attr(op, MARK, reason);
    }
    marked
}

/// Why an op is to be computed in f32, if it is.
pub fn kept(m: &Module, op: OpId) -> Option<&str> {
    match m.attrs(op).get(MARK)? {
        Attr::Str(reason) => Some(reason),
        _ => None,
    }
}

/// Whether an op is to be computed in f32.
pub fn is_kept(m: &Module, op: OpId) -> bool {
    kept(m, op).is_some()
}

/// Takes all marks away.
pub fn remove_marks(m: &mut Module) {
    for op in m.walk(m.body()) {
        m.remove_attr(op, MARK);
    }
}

#[cfg(test)]
mod tests {
    use super::{Choice, items, list};

    #[test]
    fn lists_hold_any_name() {
        let names = ["a b,c{d}".to_string(), "50%".into(), "head/*".into()];
        let text = list(&names);
        assert!(!text.contains([' ', '{', '}']), "{text}");
        assert_eq!(items(&text), names);
        assert_eq!(items(""), Vec::<String>::new());
    }

    #[test]
    fn names_are_patterns_and_types_have_any_case() {
        let strings = |v: &[&str]| v.iter().map(|s| s.to_string()).collect::<Vec<_>>();
        let choice = Choice::new(&strings(&["head/*", "c?nv(1)"]), &strings(&["softmax"]), &[]).unwrap();
        let kept = |name, op_type| choice.reason([(name, op_type)].into_iter(), &["conv2d"], false).is_some();
        assert!(kept("head/fc", "Gemm") && kept("conv(1)", "Conv") && kept("x", "Softmax"));
        assert!(!kept("ahead/fc", "Gemm") && !kept("conv1", "Conv"));
        let only = Choice::new(&[], &[], &strings(&["Conv"])).unwrap();
        let kept = |op_type, own, follows| only.reason([("n", op_type)].into_iter(), &[own], follows).is_some();
        assert!(!kept("Conv", "conv2d", false) && kept("Gemm", "matmul", false) && !kept("Relu", "relu", true));
    }
}
