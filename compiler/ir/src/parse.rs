//! The parser of the text form that `print.rs` describes.

use crate::attr::{Attr, AttrKind, Attrs};
use crate::diag::Diag;
use crate::edit::Insert;
use crate::id::{LocId, QuantId, RegionId, ValueId};
use crate::lex::{Spanned, Token, lex};
use crate::module::Module;
use crate::opdef::{OpDef, Registry};
use crate::tensor::{Data, HostTensor};
use crate::types::{BufferTy, Elem, Quant, Store, TensorTy, Type};
use std::collections::HashMap;
use std::sync::Arc;

type Result<T> = std::result::Result<T, Diag>;

/// The constants of a sidecar file by hash; a damaged file gives what could be read.
pub fn read_sidecar(bytes: &[u8]) -> HashMap<u64, Vec<u8>> {
    let mut out = HashMap::new();
    let mut rest = bytes;
    while let Some((head, tail)) = rest.split_first_chunk::<16>() {
        let word = |i: usize| u64::from_le_bytes(head[i..i + 8].try_into().expect("invariant: eight bytes"));
        let Some((data, after)) = usize::try_from(word(8)).ok().and_then(|n| tail.split_at_checked(n)) else { break };
        out.insert(word(0), data.to_vec());
        rest = after;
    }
    out
}

/// Parses a module; `consts` are the bytes of constants printed as hashes.
///
/// # Errors
/// The first thing that is wrong, with line and column.
pub fn parse(text: &str, registry: &Registry, consts: &HashMap<u64, Vec<u8>>) -> Result<Module> {
    let tokens = lex(text).map_err(|(line, column, e)| Diag::error(format!("{line}:{column}: {e}")))?;
    let mut p = Parser {
        tokens,
        pos: 0,
        registry,
        consts,
        m: Module::new("", ""),
        values: HashMap::new(),
        quants: HashMap::new(),
        depth: 0,
    };
    p.module()?;
    Ok(p.m)
}

/// Regions and attributes nested deeper than this are refused, so that hostile text cannot exhaust the stack.
const MAX_DEPTH: usize = 64;

struct Parser<'a> {
    tokens: Vec<Spanned>,
    pos: usize,
    registry: &'a Registry,
    consts: &'a HashMap<u64, Vec<u8>>,
    m: Module,
    values: HashMap<String, ValueId>,
    quants: HashMap<String, QuantId>,
    depth: usize,
}

impl Parser<'_> {
    fn fail<T>(&self, message: impl Into<String>) -> Result<T> {
        self.fail_at(self.pos, message)
    }

    fn fail_at<T>(&self, pos: usize, message: impl Into<String>) -> Result<T> {
        let at = self.tokens.get(pos).or(self.tokens.last());
        let place = at.map_or("1:1".into(), |t| format!("{}:{}", t.line, t.column));
        Err(Diag::error(format!("{place}: {}", message.into())))
    }

    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.pos).map(|t| &t.token)
    }

    fn next(&mut self) -> Result<Token> {
        match self.tokens.get(self.pos) {
            Some(t) => {
                self.pos += 1;
                Ok(t.token.clone())
            }
            None => self.fail("the text ends too early"),
        }
    }

    fn eat(&mut self, c: char) -> bool {
        let hit = self.peek() == Some(&Token::Punct(c));
        self.pos += usize::from(hit);
        hit
    }

    fn eat_word(&mut self, word: &str) -> bool {
        let hit = matches!(self.peek(), Some(Token::Word(w)) if w == word);
        self.pos += usize::from(hit);
        hit
    }

    fn punct(&mut self, c: char) -> Result<()> {
        if self.eat(c) { Ok(()) } else { self.fail(format!("expected `{c}`")) }
    }

    fn word(&mut self, word: &str) -> Result<()> {
        if self.eat_word(word) { Ok(()) } else { self.fail(format!("expected `{word}`")) }
    }

    fn name(&mut self, sigil: char) -> Result<String> {
        match self.peek() {
            Some(Token::Name(s, name)) if *s == sigil => {
                let name = name.clone();
                self.pos += 1;
                Ok(name)
            }
            _ => self.fail(format!("expected a name with `{sigil}`")),
        }
    }

    fn string(&mut self) -> Result<String> {
        match self.peek() {
            Some(Token::Str(s)) => {
                let s = s.clone();
                self.pos += 1;
                Ok(s)
            }
            _ => self.fail("expected a string"),
        }
    }

    /// Items separated by commas up to `close`, which is eaten.
    fn list<T>(&mut self, close: char, mut item: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut out = Vec::new();
        while !self.eat(close) {
            if !out.is_empty() {
                self.punct(',')?;
            }
            out.push(item(self)?);
        }
        Ok(out)
    }

    fn module(&mut self) -> Result<()> {
        self.word("module")?;
        self.m.name = self.string()?;
        self.word("phase")?;
        let Token::Word(phase) = self.next()? else { return self.fail("expected a phase") };
        let Some(def) = self.registry.phase(&phase) else { return self.fail(format!("unknown phase `{phase}`")) };
        self.m.phase = def.name;
        self.declare_quants()?;
        while self.peek().is_some() {
            if self.eat_word("const") {
                self.constant()?;
            } else if self.eat_word("quant") {
                self.name('!')?;
                self.punct('=')?;
                self.next()?;
            } else if self.eat_word("func") {
                self.func()?;
            } else {
                return self.fail("expected `const`, `quant` or `func`");
            }
        }
        Ok(())
    }

    /// Reads all quantized formats first: constants, which are printed before them, may use them.
    fn declare_quants(&mut self) -> Result<()> {
        let start = self.pos;
        while self.pos < self.tokens.len() {
            // The word is also the name of an attribute; there `=` follows.
            let declared = matches!(self.tokens.get(self.pos + 1), Some(Spanned { token: Token::Name('!', _), .. }));
            if declared && self.eat_word("quant") {
                let name = self.name('!')?;
                self.punct('=')?;
                let Token::Angle(_, inner) = self.next()? else { return self.fail("expected `q<..>`") };
                let Some(quant) = quant(&inner) else {
                    return self
                        .fail_at(self.pos - 1, "a quantized format is `q<store, [axis n,] scales, zeros, lo, hi>`");
                };
                let id = self.m.intern_quant(quant);
                self.quants.insert(name, id);
            } else {
                self.pos += 1;
            }
        }
        self.pos = start;
        Ok(())
    }

    fn constant(&mut self) -> Result<()> {
        let name = self.name('@')?;
        self.punct(':')?;
        let start = self.pos;
        let Type::Tensor(ty) = self.ty()? else { return self.fail("a constant is a tensor") };
        self.punct('=')?;
        let storage = self.m.storage(ty.elem);
        let data = if self.eat_word("hash") {
            let text = self.string()?;
            let hash = u64::from_str_radix(&text, 16).ok();
            match hash.and_then(|h| self.consts.get(&h)).and_then(|b| Data::from_bytes(storage, b)) {
                Some(data) => data,
                None => return self.fail(format!("the sidecar file has no constant {text}")),
            }
        } else {
            self.punct('[')?;
            let numbers = self.list(']', |p| match p.next()? {
                Token::Number(n) => Ok(n),
                _ => p.fail("expected a number"),
            })?;
            match numbers_of(storage, &numbers) {
                Some(data) => data,
                None => return self.fail("a number does not fit the element type"),
            }
        };
        match HostTensor::new(ty.dims.to_vec(), data) {
            Some(tensor) => {
                self.m.consts.add(&name, ty, Arc::new(tensor));
                Ok(())
            }
            None => self.fail_at(start, "the number of elements does not match the type"),
        }
    }

    fn func(&mut self) -> Result<()> {
        self.values.clear();
        let name = self.name('@')?;
        let f = self.m.add_func(&name, &[]);
        let body = self.m.funcs[f].body;
        self.punct('(')?;
        self.params(body)?;
        if self.eat_word("outputs") {
            self.punct('[')?;
            let names = self.list(']', Self::string)?;
            self.m.func_mut(f).outputs = names.into_iter().map(Into::into).collect();
        }
        self.region(body)
    }

    fn params(&mut self, region: RegionId) -> Result<()> {
        self.list(')', |p| {
            let name = p.name('%')?;
            p.punct(':')?;
            let (start, ty) = (p.pos, p.ty()?);
            if let Err(reason) = p.m.check_format(&ty) {
                return p.fail_at(start, reason);
            }
            let v = p.m.add_arg(region, ty);
            p.define(name, v)
        })?;
        Ok(())
    }

    fn define(&mut self, name: String, v: ValueId) -> Result<()> {
        // A number is a name, too, unless it is the one the printer gives to a value without a name.
        if name != self.values.len().to_string() {
            self.m.set_name(v, &name);
        }
        match self.values.insert(name.clone(), v) {
            None => Ok(()),
            Some(_) => self.fail(format!("`%{name}` is defined twice")),
        }
    }

    fn region(&mut self, region: RegionId) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("regions are nested too deeply");
        }
        self.punct('{')?;
        while !self.eat('}') {
            if self.eat_word("return") {
                self.punct('(')?;
                let values = self.list(')', Self::value)?;
                self.m.set_returns(region, &values);
            } else {
                self.op(region)?;
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn value(&mut self) -> Result<ValueId> {
        let start = self.pos;
        let name = self.name('%')?;
        match self.values.get(&name) {
            Some(&v) => Ok(v),
            None => self.fail_at(start, format!("`%{name}` is not defined")),
        }
    }

    fn op(&mut self, region: RegionId) -> Result<()> {
        let start = self.pos;
        let mut results = Vec::new();
        while matches!(self.peek(), Some(Token::Name('%', _))) {
            results.push(self.name('%')?);
            if !self.eat(',') {
                self.punct('=')?;
            }
        }
        let Token::Word(name) = self.next()? else { return self.fail_at(start, "expected an op") };
        let Some(def) = self.registry.op(&name) else {
            return self.fail_at(self.pos - 1, format!("unknown op `{name}`"));
        };
        self.punct('(')?;
        let operands = self.list(')', |p| if p.eat_word("_") { Ok(None) } else { p.value().map(Some) })?;
        let attrs = if self.eat('{') { self.attrs(def)? } else { Attrs::new() };
        let loc = self.m.locs.unknown();
        let op = self.m.detached(def, &operands, attrs, loc);
        while self.eat_word("do") {
            let inner = self.m.add_region(op, &[]);
            self.punct('(')?;
            self.params(inner)?;
            self.region(inner)?;
        }
        let mut stated = Vec::new();
        if self.eat(':') {
            stated.push(self.ty()?);
            while self.eat(',') {
                stated.push(self.ty()?);
            }
        }
        let loc = self.loc()?;
        self.m.set_loc(op, loc);
        let stated = (!stated.is_empty()).then_some(stated);
        if let Err(d) = self.m.infer_and_check(op, stated) {
            return self.fail_at(start, d.message);
        }
        if results.len() != self.m.results(op).len() {
            return self.fail_at(start, format!("{name} has {} results", self.m.results(op).len()));
        }
        self.m.move_op(op, Insert::End(region));
        for (name, v) in results.into_iter().zip(self.m.results(op).to_vec()) {
            self.define(name, v)?;
        }
        Ok(())
    }

    fn loc(&mut self) -> Result<LocId> {
        if !self.eat_word("loc") {
            return Ok(self.m.locs.unknown());
        }
        self.punct('(')?;
        let nodes = self.list(')', |p| {
            let name = p.string()?;
            p.punct(':')?;
            let op_type = p.string()?;
            let twin = if p.eat(':') { p.twin()? } else { 0 };
            Ok(p.m.locs.twin(&name, &op_type, twin))
        })?;
        Ok(self.m.locs.fuse(&nodes))
    }

    /// Which of the nodes with one name.
    fn twin(&mut self) -> Result<u32> {
        let number = match self.peek() {
            Some(Token::Number(n)) => n.parse().ok(),
            _ => None,
        };
        let Some(twin) = number else { return self.fail("expected the number of a node") };
        self.pos += 1;
        Ok(twin)
    }

    fn attrs(&mut self, def: &'static OpDef) -> Result<Attrs> {
        let mut attrs = Attrs::new();
        self.list('}', |p| {
            let Token::Word(name) = p.next()? else { return p.fail("expected an attribute name") };
            let Some(spec) = def.attr(&name) else {
                return p.fail_at(p.pos - 1, format!("{} has no attribute `{name}`", def.name));
            };
            p.punct('=')?;
            let value = match (p.attr()?, spec.kind) {
                (Attr::Ints(v), AttrKind::List) => Attr::List(v.iter().map(|&x| Attr::Int(x)).collect()),
                (Attr::Int(x), AttrKind::Float) => Attr::Float(x as f64),
                (Attr::Quant(q), AttrKind::Type) => Attr::Type(Type::Scalar(Elem::Quant(q))),
                (value, _) => value,
            };
            attrs.set(spec.name, value);
            Ok(())
        })?;
        Ok(attrs)
    }

    fn attr(&mut self) -> Result<Attr> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail("attributes are nested too deeply");
        }
        let attr = self.attr_inside();
        self.depth -= 1;
        attr
    }

    fn attr_inside(&mut self) -> Result<Attr> {
        let start = self.pos;
        Ok(match self.next()? {
            Token::Number(n) => match n.parse::<i64>() {
                Ok(x) => Attr::Int(x),
                Err(_) => match n.parse::<f64>() {
                    Ok(x) => Attr::Float(x),
                    Err(_) => return self.fail_at(start, format!("`{n}` is no number")),
                },
            },
            Token::Str(s) => Attr::Str(s.into()),
            Token::Word(w) if w == "true" || w == "false" => Attr::Bool(w == "true"),
            Token::Name('@', name) => match self.m.consts.by_name(&name) {
                Some(c) => Attr::Const(c),
                None => return self.fail_at(start, format!("`@{name}` is not defined")),
            },
            Token::Name('!', name) => Attr::Quant(self.quant_id(start, &name)?),
            Token::Punct('[') => {
                let items = self.list(']', Self::attr)?;
                let ints: Option<Box<[i64]>> =
                    items.iter().map(|a| if let Attr::Int(x) = a { Some(*x) } else { None }).collect();
                ints.map_or(Attr::List(items), Attr::Ints)
            }
            Token::Punct('{') => Attr::Fields(self.list('}', |p| {
                let name = match p.next()? {
                    Token::Word(w) | Token::Str(w) => w,
                    _ => return p.fail("expected a field name"),
                };
                p.punct('=')?;
                Ok((name.into(), p.attr()?))
            })?),
            _ => {
                self.pos = start;
                Attr::Type(self.ty()?)
            }
        })
    }

    fn quant_id(&self, pos: usize, name: &str) -> Result<QuantId> {
        match self.quants.get(name) {
            Some(&q) => Ok(q),
            None => self.fail_at(pos, format!("`!{name}` is not defined")),
        }
    }

    fn ty(&mut self) -> Result<Type> {
        let start = self.pos;
        match self.next()? {
            Token::Word(w) if w == "index" => Ok(Type::Index),
            Token::Word(w) => match Elem::from_word(&w) {
                Some(e) => Ok(Type::Scalar(e)),
                None => self.fail_at(start, format!("unknown type `{w}`")),
            },
            Token::Angle(w, inner) if w == "tensor" => {
                let (dims, elem) = self.shaped(start, &inner)?;
                Ok(Type::Tensor(TensorTy { elem, dims }))
            }
            Token::Angle(w, inner) if w == "buf" => {
                let Some((head, strides, tail)) = split_list(&inner) else {
                    return self.fail_at(start, "a buffer is `buf<dims, strides, origin, bytes>`");
                };
                let (dims, elem) = self.shaped(start, head)?;
                match &ints::<usize>(tail)[..] {
                    &[origin, bytes] => {
                        let strides = ints(strides).into();
                        Ok(Type::Buffer(BufferTy { elem, dims, strides, origin, bytes }))
                    }
                    _ => self.fail_at(start, "a buffer needs origin and bytes"),
                }
            }
            _ => self.fail_at(start, "expected a type"),
        }
    }

    fn shaped(&self, pos: usize, text: &str) -> Result<(Box<[usize]>, Elem)> {
        let mut parts: Vec<&str> = text.trim().split('x').collect();
        let last = parts.pop().unwrap_or("");
        let elem = match last.strip_prefix('!') {
            Some(name) => Elem::Quant(self.quant_id(pos, name)?),
            None => match Elem::from_word(last) {
                Some(e) => e,
                None => return self.fail_at(pos, format!("unknown element type `{last}`")),
            },
        };
        let dims: Option<Box<[usize]>> = parts.iter().map(|d| d.parse().ok()).collect();
        match dims {
            Some(dims) if dims.iter().try_fold(1usize, |a, &d| a.checked_mul(d)).is_some() => Ok((dims, elem)),
            _ => self.fail_at(pos, format!("`{text}` has a bad dim")),
        }
    }
}

/// Splits `head, [list], tail`.
fn split_list(text: &str) -> Option<(&str, &str, &str)> {
    let (head, rest) = text.split_once(", [")?;
    let (list, tail) = rest.split_once(']')?;
    Some((head, list, tail.strip_prefix(", ").unwrap_or("")))
}

fn ints<T: std::str::FromStr>(text: &str) -> Vec<T> {
    text.split(',').filter_map(|t| t.trim().parse().ok()).collect()
}

fn quant(inner: &str) -> Option<Quant> {
    let (head, scales, rest) = split_list(inner)?;
    let (zeros, bounds) = rest.strip_prefix('[')?.split_once(']')?;
    let mut words = head.split(',').map(str::trim);
    let store = match words.next()? {
        "u8" => Store::U8,
        "i8" => Store::I8,
        "i32" => Store::I32,
        _ => return None,
    };
    let axis = match words.next() {
        Some(word) => Some(word.strip_prefix("axis ")?.parse().ok()?),
        None => None,
    };
    let (scales, zeros): (Vec<f32>, Vec<i32>) = (ints(scales), ints(zeros));
    match ints(bounds)[..] {
        [lo, hi] if !scales.is_empty() && !zeros.is_empty() => {
            Some(Quant { store, axis, scales: scales.into(), zeros: zeros.into(), lo, hi })
        }
        _ => None,
    }
}

fn numbers_of(elem: Elem, numbers: &[String]) -> Option<Data> {
    fn all<T: std::str::FromStr>(numbers: &[String]) -> Option<Vec<T>> {
        numbers.iter().map(|n| n.parse().ok()).collect()
    }
    Some(match elem {
        Elem::F32 => Data::F32(all(numbers)?),
        Elem::I8 => Data::I8(all(numbers)?),
        Elem::U8 => Data::U8(all(numbers)?),
        Elem::I32 => Data::I32(all(numbers)?),
        Elem::I64 => Data::I64(all(numbers)?),
        Elem::Bool => Data::Bool(all::<u8>(numbers)?.into_iter().map(|x| x != 0).collect()),
        Elem::Quant(_) => return None,
    })
}
