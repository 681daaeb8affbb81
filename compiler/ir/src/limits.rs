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
    /// Inputs of nodes that take any number, beyond two each and one for 32 bytes of the model: 2,048.
    pub inputs: u64,
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
    /// Programs that a model is compiled to, one for each combination of shapes and each batch: 256.
    pub variants: u64,
}

/// One limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Limit {
    File,
    Nodes,
    Tensors,
    Inputs,
    Rank,
    Elements,
    Params,
    Depth,
    Time,
    Memory,
    Artefact,
    Variants,
}

impl Limit {
    /// All limits, in the order of [`Limits`].
    pub const ALL: [Limit; 12] = [
        Limit::File,
        Limit::Nodes,
        Limit::Tensors,
        Limit::Inputs,
        Limit::Rank,
        Limit::Elements,
        Limit::Params,
        Limit::Depth,
        Limit::Time,
        Limit::Memory,
        Limit::Artefact,
        Limit::Variants,
    ];

    /// Name in options and messages.
    pub fn name(self) -> &'static str {
        match self {
            Limit::File => "file",
            Limit::Nodes => "nodes",
            Limit::Tensors => "tensors",
            Limit::Inputs => "inputs",
            Limit::Rank => "rank",
            Limit::Elements => "elements",
            Limit::Params => "params",
            Limit::Depth => "depth",
            Limit::Time => "time",
            Limit::Memory => "memory",
            Limit::Artefact => "artefact",
            Limit::Variants => "variants",
        }
    }

    fn of_name(name: &str) -> Option<Limit> {
        Limit::ALL.into_iter().find(|limit| limit.name() == name)
    }

    fn unit(self) -> Unit {
        match self {
            Limit::File | Limit::Params | Limit::Memory | Limit::Artefact => Unit::Bytes,
            Limit::Nodes
            | Limit::Tensors
            | Limit::Inputs
            | Limit::Rank
            | Limit::Elements
            | Limit::Depth
            | Limit::Variants => Unit::Count,
            Limit::Time => Unit::Seconds,
        }
    }

    /// The most that can be asked for: what the compiler is made for.
    fn most(self) -> u64 {
        match self {
            Limit::Rank => 8,
            Limit::Elements => 1 << 31,
            Limit::Depth => 120,
            _ => u64::MAX,
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            file: 16 << 30,
            nodes: 1_000_000,
            tensors: 1_000_000,
            inputs: 2048,
            rank: 8,
            elements: 1 << 31,
            params: 16 << 30,
            depth: 100,
            time: 600,
            memory: 16 << 30,
            artefact: 16 << 30,
            variants: 256,
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
    /// The limit.
    pub limit: Limit,
    /// What has the value, such as "the model has".
    pub subject: String,
    /// The value, or the least that it would be.
    pub found: u64,
    /// What is allowed.
    pub allowed: u64,
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exceeded { limit, subject, found, allowed } = self;
        let (name, most) = (limit.name(), limit.most());
        let unit = match limit.unit() {
            Unit::Bytes => " bytes",
            Unit::Seconds => " s",
            Unit::Count => "",
        };
        write!(f, "{subject} {found}{unit}; the limit `{name}` is {allowed}{unit}")?;
        match *found > most {
            true => write!(f, " and can be raised to {most} at most"),
            false => write!(f, "; raise it with --limit {name}={found}"),
        }
    }
}

impl std::error::Error for Exceeded {}

impl Limits {
    /// The value of a limit.
    pub fn get(&self, limit: Limit) -> u64 {
        match limit {
            Limit::File => self.file,
            Limit::Nodes => self.nodes,
            Limit::Tensors => self.tensors,
            Limit::Inputs => self.inputs,
            Limit::Rank => self.rank,
            Limit::Elements => self.elements,
            Limit::Params => self.params,
            Limit::Depth => self.depth,
            Limit::Time => self.time,
            Limit::Memory => self.memory,
            Limit::Artefact => self.artefact,
            Limit::Variants => self.variants,
        }
    }

    fn slot(&mut self, limit: Limit) -> &mut u64 {
        match limit {
            Limit::File => &mut self.file,
            Limit::Nodes => &mut self.nodes,
            Limit::Tensors => &mut self.tensors,
            Limit::Inputs => &mut self.inputs,
            Limit::Rank => &mut self.rank,
            Limit::Elements => &mut self.elements,
            Limit::Params => &mut self.params,
            Limit::Depth => &mut self.depth,
            Limit::Time => &mut self.time,
            Limit::Memory => &mut self.memory,
            Limit::Artefact => &mut self.artefact,
            Limit::Variants => &mut self.variants,
        }
    }

    /// Sets a limit from `NAME=VALUE`. Counts and bytes take the suffixes K, M and G (powers of 1024 for bytes, of 1000
    /// for counts), times s, m and h.
    ///
    /// # Errors
    /// A sentence: an unknown name, with those that exist, or a value that is none.
    pub fn set(&mut self, text: &str) -> Result<(), String> {
        let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
        let names = Limit::ALL.map(Limit::name).join(", ");
        let limit = Limit::of_name(name).ok_or_else(|| format!("there is no limit `{name}`; limits are {names}"))?;
        let number = parse_value(limit.unit(), value);
        let number = number.ok_or_else(|| format!("`{value}` is no value of the limit `{name}`"))?;
        if number > limit.most() {
            return Err(format!("the limit `{name}` can be {} at most", limit.most()));
        }
        *self.slot(limit) = number;
        Ok(())
    }

    /// Refuses a value above a limit. `subject` says what has the value, such as "the model has".
    ///
    /// # Errors
    /// [`Exceeded`].
    pub fn check(&self, limit: Limit, found: u64, subject: impl FnOnce() -> String) -> Result<(), Exceeded> {
        let allowed = self.get(limit);
        if found <= allowed {
            return Ok(());
        }
        Err(Exceeded { limit, subject: subject(), found, allowed })
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
            self.check(Limit::Rank, ty.dims.len() as u64, || format!("{} a rank of", name()))?;
            let elements = ty.dims.iter().try_fold(1u64, |a, &d| a.checked_mul(d as u64)).unwrap_or(u64::MAX);
            self.check(Limit::Elements, elements, || format!("{} elements:", name()))?;
        }
        let bytes = m.consts.iter().map(|c| (c.tensor.len() * m.elem_bytes(c.tensor.data().elem())) as u64);
        self.check(Limit::Params, bytes.sum(), || "the constants have".into())
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
        Err(Exceeded { limit: Limit::Time, subject: "compiling may need".into(), found, allowed: self.seconds })
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
            let limit = text.split('=').next().and_then(Limit::of_name).expect("a name");
            assert_eq!(limits.get(limit), value, "{text}");
        }
        for bad in ["memory", "memory=", "memory=-1", "memory=4T", "time=4G", "nodes=99999999999999999999", "x=1"] {
            assert!(limits.set(bad).is_err(), "{bad}");
        }
        assert_eq!(limits.set("rank=9"), Err("the limit `rank` can be 8 at most".into()));
    }

    #[test]
    fn every_limit_can_be_set_and_is_checked() {
        for limit in Limit::ALL {
            let (name, mut limits) = (limit.name(), Limits::default());
            assert_eq!(Limit::of_name(name), Some(limit));
            let default = limits.get(limit);
            assert!(limits.check(limit, default, String::new).is_ok());
            let text = limits.check(limit, default + 1, || "it has".into()).expect_err("above the limit").to_string();
            assert!(text.contains(&format!("the limit `{name}` is {default}")), "{text}");
            assert_eq!(text.contains("--limit"), default < limit.most(), "{text}");
            limits.set(&format!("{name}=1")).expect("a good value");
            assert_eq!(limits.get(limit), 1);
            assert!(limits.check(limit, 2, String::new).is_err());
        }
    }

    #[test]
    fn a_deadline_passes() {
        assert!(Limits::default().deadline().check().is_ok());
        let over = Limits { time: 0, ..Limits::default() }.deadline().check().expect_err("no time");
        assert_eq!(over.to_string(), "compiling may need 1 s; the limit `time` is 0 s; raise it with --limit time=1");
    }
}
