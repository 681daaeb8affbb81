//! Shapes as users state them, and the combinations of sizes that they stand for.
//!
//! `ids[?,{16,128}]`, `x[?,3,320,32..960:32]`, `mask[?,S]`, `S={16,128}`: a dim is a number, `?` for the batch,
//! alternatives, a range whose end is included, or a name with or without sizes. A name is one size wherever it stands,
//! and so are the names that the model itself has for its dims. Each combination of sizes is a shape to compile for.

mod combine;

pub(crate) use combine::{combinations, exact, fits_data, of_data};

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// The shape of an input, or the sizes of a named dim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShapeSpec {
    /// The input, or the named dim.
    pub name: String,
    /// Its dims.
    pub dims: Vec<DimSpec>,
}

/// One dim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DimSpec {
    /// `?`: the batch.
    Batch,
    /// What it may be, ascending.
    Sizes(Vec<i64>),
    /// A name, with what it may be if that is said here.
    Named(String, Option<Vec<i64>>),
}

/// Static shapes by input name; a leading -1 stands for the batch.
pub type Shapes = BTreeMap<String, Vec<i64>>;

/// The most sizes of a dim: the number of combinations has a limit of its own.
const MAX_SIZES: usize = 1 << 16;

impl FromStr for ShapeSpec {
    type Err = String;

    /// Reads `NAME[DIMS]`, `NAME=DIMS` or `NAME:DIMS`, dims separated by commas; numbers may be separated by `x` as well.
    fn from_str(text: &str) -> Result<ShapeSpec, String> {
        let (name, dims) = split_name(text).ok_or("expected NAME[?,3,224,224] or NAME=?,3,224,224")?;
        if name.is_empty() {
            return Err("the input's name is missing".into());
        }
        let parts = split_dims(dims)?;
        let dims = parts.into_iter().map(parse_dim).collect::<Result<Vec<DimSpec>, String>>()?;
        match dims.iter().skip(1).any(|d| *d == DimSpec::Batch) {
            true => {
                Err("only the first dimension, the batch, can be open (`?`); give the others sizes or names".into())
            }
            false => Ok(ShapeSpec { name: name.into(), dims }),
        }
    }
}

/// The name and the dims; the sign between them is the last one outside braces and brackets, as names may hold any.
fn split_name(text: &str) -> Option<(&str, &str)> {
    if let Some((name, dims)) = text.strip_suffix(']').and_then(|t| t.rsplit_once('[')) {
        return Some((name, dims));
    }
    let braced = text.find('{').unwrap_or(text.len());
    // `S=` inside a list of dims names a dim: the input's sign is the first `=`; a colon without one may be part of a name.
    match text[..braced].split_once('=') {
        Some((name, _)) => Some((name, &text[name.len() + 1..])),
        None => text[..braced].rsplit_once(':').map(|(name, _)| (name, &text[name.len() + 1..])),
    }
}

/// The texts of the dims.
fn split_dims(text: &str) -> Result<Vec<&str>, String> {
    let number = |d: &str| matches!(d.trim(), "?" | "-1") || d.trim().parse::<i64>().is_ok();
    if !text.contains(',') && text.contains('x') && text.split('x').all(number) {
        return Ok(text.split('x').collect());
    }
    let (mut parts, mut begin, mut depth) = (Vec::new(), 0, 0usize);
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.checked_sub(1).ok_or("there is a `}` without a `{`")?,
            ',' if depth == 0 => {
                parts.push(&text[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[begin..]);
    if depth > 0 { Err("a `{` is not closed".into()) } else { Ok(parts) }
}

fn parse_dim(text: &str) -> Result<DimSpec, String> {
    let text = text.trim();
    if matches!(text, "?" | "-1") {
        return Ok(DimSpec::Batch);
    }
    if text.starts_with(|c: char| c.is_ascii_digit() || c == '{' || c == '-') {
        return parse_sizes(text).map(DimSpec::Sizes);
    }
    let (name, sizes) = match text.split_once('=') {
        Some((name, sizes)) => (name.trim(), Some(parse_sizes(sizes.trim())?)),
        None => (text, None),
    };
    let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-' | '+' | '*' | '/' | ' ');
    match !name.is_empty() && name.chars().all(word) {
        true => Ok(DimSpec::Named(name.into(), sizes)),
        false => Err(format!("`{text}` is no dimension: give a number, ?, {{16,128}}, 16..512:16 or a name")),
    }
}

/// A number, `{a,b,lo..hi:step}` or `lo..hi:step`.
fn parse_sizes(text: &str) -> Result<Vec<i64>, String> {
    let inner = text.strip_prefix('{').map(|t| t.strip_suffix('}').ok_or(format!("`{text}` is no dimension")));
    let parts: Vec<&str> = match inner.transpose()? {
        Some(list) => list.split(',').collect(),
        None => vec![text],
    };
    let mut sizes = Vec::new();
    for part in parts {
        sizes.extend(parse_range(part.trim())?);
        if sizes.len() > MAX_SIZES {
            return Err(format!("`{text}` stands for more than {MAX_SIZES} sizes"));
        }
    }
    sizes.sort_unstable();
    sizes.dedup();
    Ok(sizes)
}

fn parse_range(text: &str) -> Result<Vec<i64>, String> {
    let number = |d: &str| d.trim().parse::<i64>().ok().filter(|&d| d > 0).ok_or(format!("`{text}` is no dimension"));
    let Some((lo, rest)) = text.split_once("..") else { return Ok(vec![number(text)?]) };
    let (hi, step) = match rest.split_once(':') {
        Some((hi, step)) => (number(hi)?, number(step)?),
        None => (number(rest)?, 1),
    };
    let lo = number(lo)?;
    if lo > hi || (hi - lo) % step != 0 {
        return Err(format!("`{text}` does not end at {hi}, which is part of it: give lo..hi:step, as 16..512:16"));
    }
    if (hi - lo) / step >= MAX_SIZES as i64 {
        return Err(format!("`{text}` stands for more than {MAX_SIZES} sizes"));
    }
    Ok((0..=(hi - lo) / step).map(|i| lo + i * step).collect())
}

impl ShapeSpec {
    /// Whether a shape, the batch aside, is one of those that it stands for; a name without sizes takes any.
    pub fn holds(&self, dims: &[usize]) -> bool {
        let one = |(spec, &n): (&DimSpec, &usize)| match spec {
            DimSpec::Sizes(sizes) | DimSpec::Named(_, Some(sizes)) => sizes.contains(&(n as i64)),
            DimSpec::Batch | DimSpec::Named(_, None) => true,
        };
        self.dims.len() == dims.len() && self.dims.iter().zip(dims).all(one)
    }

    /// Whether it stands for several shapes.
    pub fn is_open(&self) -> bool {
        let several = |sizes: &Vec<i64>| sizes.len() > 1;
        self.dims.iter().any(|d| match d {
            DimSpec::Sizes(sizes) | DimSpec::Named(_, Some(sizes)) => several(sizes),
            DimSpec::Batch | DimSpec::Named(_, None) => false,
        })
    }
}

impl fmt::Display for ShapeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.dims.iter().map(DimSpec::to_string).collect();
        write!(f, "{}[{}]", self.name, dims.join(","))
    }
}

impl fmt::Display for DimSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DimSpec::Batch => f.write_str("?"),
            DimSpec::Sizes(sizes) | DimSpec::Named(_, Some(sizes)) => {
                if let DimSpec::Named(name, _) = self {
                    write!(f, "{name}=")?;
                }
                match &sizes[..] {
                    [one] => write!(f, "{one}"),
                    several => write!(f, "{{{}}}", several.iter().map(i64::to_string).collect::<Vec<_>>().join(",")),
                }
            }
            DimSpec::Named(name, None) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests;
