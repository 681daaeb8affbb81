//! Damaged files of every kind: each is read or refused with a sentence, within a second and 256 MB.
//!
//! ```text
//! QC_MUTANTS=20000 cargo test --release -p qc-tests --test mutants       that many mutants, in children of this process
//! QC_MUTANT=1234   cargo test --release -p qc-tests --test mutants       this one, kept as a file, in this process
//! ```
//!
//! A child works on a range of mutants and says one line about each, so that one that ends it, or keeps it busy, is
//! known. Memory is counted by the allocator, and bounded to 4 GiB by the system.
#![allow(clippy::unwrap_used)]

use peak_alloc::PeakAlloc;
use qc_tests::mutants::{Reader, Seed, mutate, read, seeds};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Mutants without `QC_MUTANTS`.
const DEFAULT: usize = 20_000;
/// Mutants per child.
const CHUNK: usize = 2000;
const MAX_PEAK_BYTES: usize = 256 << 20;
/// Without optimization everything takes several times as long.
const MAX_TIME: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });
/// Silence after which a child is ended.
const HANGS: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let number = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<usize>().ok());
    if let Some(range) = std::env::var("QC_MUTANTS_RANGE").ok().and_then(|r| parse_range(&r)) {
        child(range);
        return ExitCode::SUCCESS;
    }
    if let Some(n) = number("QC_MUTANT") {
        return one(n);
    }
    parent(number("QC_MUTANTS").unwrap_or(DEFAULT))
}

fn parse_range(text: &str) -> Option<std::ops::Range<usize>> {
    let (from, to) = text.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// The seeds by reader; mutants go round the readers, and for each reader round its seeds.
struct Seeds(Vec<Vec<Seed>>);

impl Seeds {
    fn new() -> Seeds {
        let mut by_reader: Vec<Vec<Seed>> = Reader::ALL.iter().map(|_| Vec::new()).collect();
        for seed in seeds() {
            let at = Reader::ALL.iter().position(|r| *r == seed.reader).unwrap();
            by_reader[at].push(seed);
        }
        by_reader.retain(|seeds| !seeds.is_empty());
        Seeds(by_reader)
    }

    fn of(&self, n: usize) -> &Seed {
        let seeds = &self.0[n % self.0.len()];
        &seeds[n / self.0.len() % seeds.len()]
    }
}

fn child(range: std::ops::Range<usize>) {
    let seeds = Seeds::new();
    std::panic::set_hook(Box::new(|_| {}));
    for n in range {
        let seed = seeds.of(n);
        let bytes = mutate(seed, n as u64);
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        let start = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| read(seed.reader, &bytes)));
        let time = start.elapsed().as_micros();
        let peak = MEMORY.peak_usage() - before.min(MEMORY.peak_usage());
        let verdict = match outcome {
            Ok(Ok(())) => "read".to_string(),
            Ok(Err(_)) => "refused".to_string(),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
                format!("panic: {}", text.replace('\n', " "))
            }
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{n}\t{time}\t{peak}\t{}\t{}\t{verdict}", seed.reader.name(), seed.name).unwrap();
        out.flush().unwrap();
    }
}

/// One mutant in this process, for a debugger.
fn one(n: usize) -> ExitCode {
    let seeds = Seeds::new();
    let seed = seeds.of(n);
    let bytes = mutate(seed, n as u64);
    let path = std::env::temp_dir().join(format!("mutant-{n}"));
    std::fs::write(&path, &bytes).unwrap();
    println!("mutant {n} of {} ({}) is {}", seed.name, seed.reader.name(), path.display());
    let start = Instant::now();
    println!("{:?} after {:?}; {} bytes at most", read(seed.reader, &bytes), start.elapsed(), MEMORY.peak_usage());
    ExitCode::SUCCESS
}

/// What became of the mutants of one reader.
#[derive(Default)]
struct Tally {
    read: usize,
    refused: usize,
    slowest: Duration,
    peak: usize,
}

fn parent(count: usize) -> ExitCode {
    let start = Instant::now();
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut next = 0;
    while next < count {
        let end = count.min(next + CHUNK);
        next = follow(spawn(next, end), next, end, &mut tallies, &mut failures);
    }
    println!("{count} mutants in {:.0} s", start.elapsed().as_secs_f64());
    for (reader, t) in &tallies {
        let (ms, mib) = (t.slowest.as_secs_f64() * 1e3, t.peak as f64 / (1 << 20) as f64);
        println!("{reader:>8}: {:>6} read, {:>6} refused, slowest {ms:.0} ms, peak {mib:.1} MiB", t.read, t.refused);
    }
    if count >= 1000 && tallies.values().any(|t| t.refused == 0) {
        failures.push("a reader refused nothing: its mutants are too tame".into());
    }
    for failure in failures.iter().take(40) {
        println!("{failure}");
    }
    println!("{} failures", failures.len());
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn spawn(from: usize, to: usize) -> Child {
    let limited = Command::new("sh")
        .args(["-c", "ulimit -v 4194304; exec \"$0\""])
        .arg(std::env::current_exe().unwrap())
        .env("QC_MUTANTS_RANGE", format!("{from}..{to}"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    limited.unwrap()
}

/// Reads what a child says; returns where to go on.
fn follow(
    mut child: Child,
    from: usize,
    to: usize,
    tallies: &mut BTreeMap<String, Tally>,
    failures: &mut Vec<String>,
) -> usize {
    let (send, receive) = channel();
    let out = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    let mut next = from;
    let end = loop {
        match receive.recv_timeout(HANGS) {
            Ok(line) => next = note(&line, tallies, failures).unwrap_or(next),
            Err(RecvTimeoutError::Timeout) => {
                let _ = child.kill();
                break Some("hangs");
            }
            Err(RecvTimeoutError::Disconnected) => break (next < to).then_some("ends the process"),
        }
    };
    let status = child.wait().unwrap();
    let _ = reader.join();
    match end {
        Some(what) => {
            failures.push(format!("mutant {next} {what} ({status}); QC_MUTANT={next} keeps it as a file"));
            next + 1
        }
        None => to,
    }
}

/// Takes in one line; returns the number of the next mutant.
fn note(line: &str, tallies: &mut BTreeMap<String, Tally>, failures: &mut Vec<String>) -> Option<usize> {
    let fields: Vec<&str> = line.splitn(6, '\t').collect();
    let [n, time, peak, reader, name, verdict] = fields[..] else { return None };
    let (time, peak) = (Duration::from_micros(time.parse().ok()?), peak.parse::<usize>().ok()?);
    let tally = tallies.entry(reader.to_string()).or_default();
    tally.slowest = tally.slowest.max(time);
    tally.peak = tally.peak.max(peak);
    let mut fail = |what: String| failures.push(format!("mutant {n} of {name} ({reader}): {what}"));
    match verdict {
        "read" => tally.read += 1,
        "refused" => tally.refused += 1,
        other => fail(other.to_string()),
    }
    if time > MAX_TIME {
        fail(format!("took {time:?}"));
    }
    if peak > MAX_PEAK_BYTES {
        fail(format!("needed {peak} bytes"));
    }
    n.parse::<usize>().ok().map(|n| n + 1)
}
