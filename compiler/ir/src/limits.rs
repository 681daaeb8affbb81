//! Bounds on what a model may ask of the compiler, with defaults far above real models.
//!
//! Each is checked before memory is allocated for what it bounds; a model that goes beyond one is refused with
//! [`Exceeded`], which names the limit, what was found and the option that raises it.

use crate::id::OpId;
use crate::module::Module;
use std::fmt;
use std::time::{Duration, Instant};

/// The limits of one compilation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of the model file, and of a file of combined parameters: 16 GiB.
    pub file: u64,
    /// Nodes of the model: a million.
    pub nodes: u64,
    /// Constants, variables and other tensors that the model declares: a million.
    pub tensors: u64,
    /// Dims of a tensor: 8, which is also the most that can be asked for.
    pub rank: u64,
    /// Elements of a tensor: 2^31, which is also the most that can be asked for.
    pub elements: u64,
    /// Bytes of all constants together, as stored in files beside the model or in a module: 16 GiB.
    pub params: u64,
    /// Nesting of JSON objects and lists: 100. Protobuf nests as deep as its schema only.
    pub depth: u64,
    /// Seconds that a compilation may take: 600.
    pub time: u64,
    /// Bytes of working memory that the compiled model needs for one caller: 16 GiB.
    pub memory: u64,
    /// Bytes of the shared object: 16 GiB.
    pub artefact: u64,
}

/// The greatest rank and number of elements that the compiler is made for.
const MOST: [(&str, u64); 3] = [("rank", 8), ("elements", 1 << 31), ("depth", 120)];

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            file: 16 << 30,
            nodes: 1_000_000,
            tensors: 1_000_000,
            rank: 8,
            elements: 1 << 31,
            params: 16 << 30,
            depth: 100,
            time: 600,
            memory: 16 << 30,
            artefact: 16 << 30,
        }
    }
}

/// How a limit counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Unit {
    Count,
    Bytes,
    Seconds,
}

/// A model goes beyond a limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Exceeded {
    /// Name of the limit.
    pub limit: &'static str,
    /// What has the value, such as "the model has".
    pub subject: String,
    /// The value, or the least that it would be.
    pub found: u64,
    /// The limit.
    pub allowed: u64,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exceeded { limit, subject, found, allowed } = self;
        let unit = match unit_of(limit) {
            Some(Unit::Bytes) => " bytes",
            Some(Unit::Seconds) => " s",
            _ => "",
        };
        write!(f, "{subject} {found}{unit}; the limit `{limit}` is {allowed}{unit}")?;
        match MOST.iter().find(|(name, most)| name == limit && found > most) {
            Some((_, most)) => write!(f, " and can be raised to {most} at most"),
            None => write!(f, "; raise it with --limit {limit}={found}"),
        }
    }
}

impl std::error::Error for Exceeded {}

fn unit_of(name: &str) -> Option<Unit> {
    Some(match name {
        "file" | "params" | "memory" | "artefact" => Unit::Bytes,
        "nodes" | "tensors" | "rank" | "elements" | "depth" => Unit::Count,
        "time" => Unit::Seconds,
        _ => return None,
    })
}

impl Limits {
    /// Names of all limits, in the order of the struct.
    pub const NAMES: [&'static str; 10] =
        ["file", "nodes", "tensors", "rank", "elements", "params", "depth", "time", "memory", "artefact"];

    fn slot(&mut self, name: &str) -> Option<&mut u64> {
        Some(match name {
            "file" => &mut self.file,
            "nodes" => &mut self.nodes,
            "tensors" => &mut self.tensors,
            "rank" => &mut self.rank,
            "elements" => &mut self.elements,
            "params" => &mut self.params,
            "depth" => &mut self.depth,
            "time" => &mut self.time,
            "memory" => &mut self.memory,
            "artefact" => &mut self.artefact,
            _ => return None,
        })
    }

    /// Sets a limit from `NAME=VALUE`. Counts and bytes take the suffixes K, M and G (powers of 1024 for bytes, of 1000
    /// for counts), times s, m and h.
    ///
    /// # Errors
    /// A sentence: an unknown name, with those that exist, or a value that is none.
    pub fn set(&mut self, text: &str) -> Result<(), String> {
        let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
        let names = Limits::NAMES.join(", ");
        let unknown = || format!("there is no limit `{name}`; limits are {names}");
        let unit = unit_of(name).ok_or_else(unknown)?;
        let number = parse_value(unit, value).ok_or_else(|| format!("`{value}` is no value of the limit `{name}`"))?;
        if let Some((_, most)) = MOST.iter().find(|(n, most)| *n == name && number > *most) {
            return Err(format!("the limit `{name}` can be {most} at most"));
        }
        *self.slot(name).ok_or_else(unknown)? = number;
        Ok(())
    }

    /// Refuses a value above the limit called `name`. `subject` says what has the value, such as "the model has".
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn check(&self, name: &'static str, found: u64, subject: impl FnOnce() -> String) -> Result<(), Exceeded> {
        let allowed = self.clone().slot(name).map_or(u64::MAX, |value| *value);
        if found <= allowed {
            return Ok(());
        }
        Err(Exceeded { limit: name, subject: subject(), found, allowed })
    }

    /// Checks the tensors of a module: ranks, elements, bytes of constants.
    ///
    /// # Errors
    /// The first limit that it exceeds.
    pub fn check_module(&self, m: &Module) -> Result<(), Exceeded> {
        let ops: Vec<OpId> = m.funcs().flat_map(|(_, f)| m.walk(f.body)).collect();
        let inputs = m.funcs().flat_map(|(_, f)| m.args(f.body));
        for v in ops.iter().flat_map(|&op| m.results(op)).chain(inputs) {
            let Some(ty) = m.ty(*v).tensor() else { continue };
            let name = || format!("the tensor \"{}\" has", m.name(*v).unwrap_or("?"));
            self.check("rank", ty.dims.len() as u64, || format!("{} a rank of", name()))?;
            let elements = ty.dims.iter().try_fold(1u64, |a, &d| a.checked_mul(d as u64)).unwrap_or(u64::MAX);
            self.check("elements", elements, || format!("{} elements:", name()))?;
        }
        let bytes = m.consts.iter().map(|c| (c.tensor.len() * m.elem_bytes(c.tensor.data().elem())) as u64);
        self.check("params", bytes.sum(), || "the constants have".into())
    }

    /// The point in time at which a compilation that starts now has to end.
    pub fn deadline(&self) -> Deadline {
        Deadline { started: Instant::now(), seconds: self.time }
    }
}

fn parse_value(unit: Unit, text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let kilo: u64 = if unit == Unit::Bytes { 1024 } else { 1000 };
    let factor = match (unit, text[digits..].trim_end_matches("iB").trim_end_matches('B')) {
        (_, "") => 1,
        (Unit::Seconds, "s") => 1,
        (Unit::Seconds, "m") => 60,
        (Unit::Seconds, "h") => 3600,
        (Unit::Count | Unit::Bytes, "K" | "k") => kilo,
        (Unit::Count | Unit::Bytes, "M") => kilo * kilo,
        (Unit::Count | Unit::Bytes, "G") => kilo * kilo * kilo,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// When a compilation has to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Deadline {
    started: Instant,
    seconds: u64,
}

impl Deadline {
    /// Refuses to go on once the time is over.
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn check(&self) -> Result<(), Exceeded> {
        if self.started.elapsed() < Duration::from_secs(self.seconds) {
            return Ok(());
        }
        // What it would have taken is not known; twice the limit is a next try.
        let found = (2 * self.seconds).max(1);
        Err(Exceeded { limit: "time", subject: "compiling may need".into(), found, allowed: self.seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_with_suffixes() {
        let mut limits = Limits::default();
        for (text, value) in [("memory=4G", 4 << 30), ("memory=12KiB", 12 << 10), ("nodes=2K", 2000), ("time=10m", 600)]
        {
            limits.set(text).expect("a good value");
            let name = text.split('=').next().expect("a name");
            assert_eq!(*limits.slot(name).expect("a limit"), value, "{text}");
        }
        for bad in ["memory", "memory=", "memory=-1", "memory=4T", "time=4G", "nodes=99999999999999999999", "x=1"] {
            assert!(limits.set(bad).is_err(), "{bad}");
        }
        assert_eq!(limits.set("rank=9"), Err("the limit `rank` can be 8 at most".into()));
    }

    #[test]
    fn every_limit_has_a_name_a_unit_and_a_default() {
        for name in Limits::NAMES {
            assert!(unit_of(name).is_some(), "{name}");
            let mut limits = Limits::default();
            let default = *limits.slot(name).expect("a limit");
            assert!(limits.check(name, default, String::new).is_ok());
            let text = limits.check(name, default + 1, || "it has".into()).expect_err("above the limit").to_string();
            assert!(text.contains(&format!("the limit `{name}` is {default}")), "{text}");
            assert_eq!(text.contains("--limit"), !matches!(name, "rank" | "elements"), "{text}");
            limits.set(&format!("{name}=1")).expect("a good value");
            assert!(limits.check(name, 2, String::new).is_err());
        }
    }

    #[test]
    fn a_deadline_passes() {
        assert!(Limits::default().deadline().check().is_ok());
        let over = Limits { time: 0, ..Limits::default() }.deadline().check().expect_err("no time");
        assert_eq!(over.to_string(), "compiling may need 1 s; the limit `time` is 0 s; raise it with --limit time=1");
    }
}
