//! The printer: every op in one syntax.
//!
//! ```text
//! module  = "module" string "phase" word { const | quant | func }
//! const   = "const" "@" name ":" type "=" ( "[" numbers "]" | "hash" string )
//! quant   = "quant" "!" name "=" "q<" store "," [ "axis" int "," ] scales "," zeros "," int "," int ">"
//! func    = "func" "@" name "(" params ")" "outputs" strings region
//! region  = "{" { op } [ "return" "(" operands ")" ] "}"
//! op      = [ values "=" ] dialect "." name "(" operands ")" [ "{" attrs "}" ] { "do" "(" params ")" region }
//!           [ ":" types ] [ "loc" "(" nodes ")" ]
//! node    = string ":" string [ ":" int ]
//! ```
//!
//! Constants of more than [`PrintOptions::inline_limit`] elements print as a hash; [`sidecar`] holds their bytes.

use crate::attr::Attr;
use crate::consts::content_hash;
use crate::id::{ConstId, LocId, OpId, RegionId, ValueId};
use crate::loc::Node;
use crate::module::Module;
use crate::tensor::Data;
use crate::types::{BufferTy, Elem, Quant, Store, TensorTy, Type};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write;

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct PrintOptions {
    /// Larger constants print as a hash.
    pub inline_limit: usize,
    /// Whether locations are printed.
    pub locs: bool,
}

impl Default for PrintOptions {
    fn default() -> PrintOptions {
        PrintOptions { inline_limit: 16, locs: true }
    }
}

/// The text of a module.
pub fn print(m: &Module, options: PrintOptions) -> String {
    let mut p = Printer { m, options, names: HashMap::new(), taken: HashSet::new(), out: String::new() };
    p.module();
    p.out
}

/// The bytes of all constants that ops use: for each, hash and length as little-endian `u64`, then the data.
pub fn sidecar(m: &Module) -> Vec<u8> {
    let mut parts = BTreeMap::new();
    for id in used_consts(m) {
        let bytes = m.consts.get(id).tensor.data().to_bytes();
        parts.insert(content_hash(&bytes), bytes);
    }
    let mut out = Vec::new();
    for (hash, bytes) in parts {
        out.extend(hash.to_le_bytes());
        out.extend((bytes.len() as u64).to_le_bytes());
        out.extend(bytes);
    }
    out
}

/// A comma-separated list of types, for messages.
pub fn types(m: &Module, types: &[Type]) -> String {
    types.iter().map(|t| ty(m, t)).collect::<Vec<_>>().join(", ")
}

/// The text of a type.
pub fn ty(m: &Module, t: &Type) -> String {
    match t {
        Type::Index => "index".into(),
        Type::Scalar(e) => elem(*e),
        Type::Tensor(TensorTy { elem: e, dims }) => format!("tensor<{}>", shaped(dims, *e)),
        Type::Buffer(BufferTy { elem: e, dims, strides, origin, bytes }) => {
            format!("buf<{}, {:?}, {origin}, {bytes}>", shaped(dims, m.storage(*e)), strides)
        }
    }
}

fn shaped(dims: &[usize], e: Elem) -> String {
    let mut out = String::new();
    for d in dims {
        let _ = write!(out, "{d}x");
    }
    out + &elem(e)
}

fn elem(e: Elem) -> String {
    match e {
        Elem::Quant(q) => format!("!q{}", q.index()),
        plain => plain.word().expect("invariant: only quantized elements lack a word").into(),
    }
}

fn used_consts(m: &Module) -> Vec<ConstId> {
    let mut ids = Vec::new();
    for (_, f) in m.funcs() {
        for op in m.walk(f.body) {
            for (_, a) in m.attrs(op).iter() {
                collect(a, &mut ids);
            }
        }
    }
    ids.sort();
    ids.dedup();
    ids
}

fn collect(a: &Attr, ids: &mut Vec<ConstId>) {
    match a {
        Attr::Const(c) => ids.push(*c),
        Attr::List(list) => list.iter().for_each(|a| collect(a, ids)),
        Attr::Fields(fields) => fields.iter().for_each(|(_, a)| collect(a, ids)),
        _ => {}
    }
}

/// A name as the text form writes it: plain, or quoted when it has unusual characters.
pub fn quote_name(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.$-".contains(c));
    if plain { name.into() } else { quote(name) }
}

fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

struct Printer<'m> {
    m: &'m Module,
    options: PrintOptions,
    names: HashMap<ValueId, String>,
    taken: HashSet<String>,
    out: String,
}

impl Printer<'_> {
    fn module(&mut self) {
        let _ = writeln!(self.out, "module {} phase {}", quote(&self.m.name), self.m.phase);
        for id in used_consts(self.m) {
            self.constant(id);
        }
        for (id, q) in self.m.quants() {
            let _ = writeln!(self.out, "quant !q{} = {}", id.index(), quant(q));
        }
        for (_, func) in self.m.funcs() {
            self.names.clear();
            self.taken.clear();
            let params = self.params(func.body);
            let outputs: Vec<String> = func.outputs.iter().map(|n| quote(n)).collect();
            let _ = write!(self.out, "func @{}({params}) outputs [{}] ", quote_name(&func.name), outputs.join(", "));
            self.region(func.body, 0);
            self.out.push('\n');
        }
    }

    fn constant(&mut self, id: ConstId) {
        let c = self.m.consts.get(id);
        let head = format!("const @{} : {} = ", quote_name(&c.name), ty(self.m, &Type::Tensor(c.ty.clone())));
        let tail = if c.tensor.len() <= self.options.inline_limit {
            numbers(c.tensor.data())
        } else {
            format!("hash \"{:016x}\"", content_hash(&c.tensor.data().to_bytes()))
        };
        let _ = writeln!(self.out, "{head}{tail}");
    }

    fn name(&mut self, v: ValueId) -> String {
        if let Some(name) = self.names.get(&v) {
            return name.clone();
        }
        let hint = self.m.name(v).map(str::to_string);
        let mut n = 0;
        let unique = loop {
            let candidate = match (&hint, n) {
                (Some(h), 0) => h.clone(),
                (Some(h), n) => format!("{h}_{n}"),
                (None, n) => format!("{}", self.names.len() + n),
            };
            if self.taken.insert(candidate.clone()) {
                break candidate;
            }
            n += 1;
        };
        let text = format!("%{}", quote_name(&unique));
        self.names.insert(v, text.clone());
        text
    }

    fn params(&mut self, region: RegionId) -> String {
        let args = self.m.args(region).to_vec();
        let params: Vec<String> =
            args.into_iter().map(|v| format!("{} : {}", self.name(v), ty(self.m, self.m.ty(v)))).collect();
        params.join(", ")
    }

    fn region(&mut self, region: RegionId, depth: usize) {
        self.out.push_str("{\n");
        for &op in self.m.ops(region) {
            self.op(op, depth + 1);
        }
        let returns = self.m.returns(region).to_vec();
        if !returns.is_empty() {
            let values: Vec<String> = returns.into_iter().map(|v| self.name(v)).collect();
            let _ = writeln!(self.out, "{}return({})", "  ".repeat(depth + 1), values.join(", "));
        }
        let _ = write!(self.out, "{}}}", "  ".repeat(depth));
    }

    fn op(&mut self, op: OpId, depth: usize) {
        let m = self.m;
        let operands: Vec<String> = m.operands(op).iter().map(|v| v.map_or("_".into(), |v| self.name(v))).collect();
        let results: Vec<String> = m.results(op).iter().map(|&v| self.name(v)).collect();
        self.out.push_str(&"  ".repeat(depth));
        if !results.is_empty() {
            let _ = write!(self.out, "{} = ", results.join(", "));
        }
        let _ = write!(self.out, "{}({})", m.def(op).name, operands.join(", "));
        if !m.attrs(op).is_empty() {
            let fields: Vec<String> = m.attrs(op).iter().map(|(n, a)| format!("{n} = {}", attr(m, a))).collect();
            let _ = write!(self.out, " {{{}}}", fields.join(", "));
        }
        for &region in m.regions(op) {
            let params = self.params(region);
            let _ = write!(self.out, " do ({params}) ");
            self.region(region, depth);
        }
        if !results.is_empty() {
            let list: Vec<Type> = m.results(op).iter().map(|&v| m.ty(v).clone()).collect();
            let _ = write!(self.out, " : {}", types(m, &list));
        }
        if self.options.locs && !m.locs.nodes(m.loc(op)).is_empty() {
            let _ = write!(self.out, " loc({})", loc(m, m.loc(op)));
        }
        self.out.push('\n');
    }
}

fn loc(m: &Module, loc: LocId) -> String {
    let one = |n: &&Node| match n.twin {
        0 => format!("{}:{}", quote(&n.name), quote(&n.op_type)),
        twin => format!("{}:{}:{twin}", quote(&n.name), quote(&n.op_type)),
    };
    m.locs.nodes(loc).iter().map(one).collect::<Vec<_>>().join(", ")
}

fn quant(q: &Quant) -> String {
    let store = match q.store {
        Store::U8 => "u8",
        Store::I8 => "i8",
        Store::I32 => "i32",
    };
    let axis = q.axis.map_or(String::new(), |a| format!("axis {a}, "));
    format!("q<{store}, {axis}{:?}, {:?}, {}, {}>", q.scales, q.zeros, q.lo, q.hi)
}

fn numbers(data: &Data) -> String {
    match data {
        Data::F32(v) => format!("{v:?}"),
        Data::I8(v) => format!("{v:?}"),
        Data::U8(v) => format!("{v:?}"),
        Data::I32(v) => format!("{v:?}"),
        Data::I64(v) => format!("{v:?}"),
        Data::Bool(v) => format!("{:?}", v.iter().map(|&b| u8::from(b)).collect::<Vec<_>>()),
    }
}

fn attr(m: &Module, a: &Attr) -> String {
    let list = |items: &[Attr]| items.iter().map(|a| attr(m, a)).collect::<Vec<_>>().join(", ");
    match a {
        Attr::Int(x) => x.to_string(),
        Attr::Float(x) => format!("{x:?}"),
        Attr::Bool(x) => x.to_string(),
        Attr::Str(s) => quote(s),
        Attr::Ints(v) => format!("{v:?}"),
        Attr::Const(c) => format!("@{}", quote_name(&m.consts.get(*c).name)),
        Attr::Quant(q) => format!("!q{}", q.index()),
        Attr::Type(t) => ty(m, t),
        Attr::List(items) => format!("[{}]", list(items)),
        Attr::Fields(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(n, a)| format!("{} = {}", quote_name(n), attr(m, a))).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}
