//! `qc doctor`: what this machine offers, what the process may use of it, and what qc would choose and why.

use crate::failure::Outcome;
use crate::paths::Paths;
use crate::table::table;
use crate::ui::{JsonArgs, Ui};
use clap::Args;
use qc_compiler::options::here;
use qc_embed::threads::{default_threads, usable_cpus};
use qc_kernels::Tier;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::Path;

/// Show what this machine offers and what qc would choose.
#[derive(Args, Debug)]
pub struct Doctor {
    #[command(flatten)]
    json: JsonArgs,
}

/// What was found.
struct Machine {
    name: String,
    features: Vec<&'static str>,
    online: usize,
    cores: usize,
    affinity: String,
    quota: Option<f64>,
}

impl Machine {
    fn look() -> Machine {
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let of = |name: &str| info.lines().filter_map(|l| value(l, name)).collect::<Vec<_>>();
        let cores: BTreeSet<(&str, &str)> = of("physical id").into_iter().zip(of("core id")).collect();
        let online = of("processor").len();
        Machine {
            name: field(&info, "model name").unwrap_or("unknown").to_string(),
            features: qc_kernels::host::features().names().collect(),
            online,
            cores: if cores.is_empty() { online } else { cores.len() },
            affinity: field(&status, "Cpus_allowed_list").unwrap_or("unknown").to_string(),
            quota: quota(
                Path::new("/sys/fs/cgroup"),
                &std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default(),
            ),
        }
    }
}

/// The value of a line `name : value`.
fn value<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (key, value) = line.split_once(':')?;
    (key.trim() == name).then_some(value.trim())
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| value(line, name))
}

/// The least CPU quota of the process's cgroup and its ancestors, in CPUs; none when there is none. `listing` is
/// `/proc/self/cgroup`. Both versions of cgroups are looked at, as the runtime does, which rounds up.
fn quota(root: &Path, listing: &str) -> Option<f64> {
    let number = |path: &Path| std::fs::read_to_string(path).ok()?.trim().parse::<f64>().ok();
    let of = |dir: &Path, version1: bool| {
        let (quota, period) = match version1 {
            true => (number(&dir.join("cpu.cfs_quota_us"))?, number(&dir.join("cpu.cfs_period_us"))?),
            false => {
                let text = std::fs::read_to_string(dir.join("cpu.max")).ok()?;
                let (quota, period) = text.trim().split_once(' ')?;
                (quota.parse().ok()?, period.parse().ok()?)
            }
        };
        (quota > 0.0 && period > 0.0).then_some(quota / period)
    };
    let mut least: Option<f64> = None;
    for line in listing.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let version1 = controllers.split(',').any(|name| name == "cpu");
        if !version1 && !controllers.is_empty() {
            continue;
        }
        let mount = if version1 { root.join("cpu") } else { root.to_path_buf() };
        // Inside a container the path may name directories that exist outside only; the mount is its own group.
        for dir in Path::new(path.trim_start_matches('/')).ancestors() {
            if let Some(cpus) = of(&mount.join(dir), version1) {
                least = Some(least.map_or(cpus, |before| before.min(cpus)));
            }
        }
    }
    least
}

impl Doctor {
    /// What the command reads and writes.
    pub fn paths(&self) -> Paths {
        Paths::default().writes(self.json.file())
    }

    /// Carries the command out.
    pub fn run(&self, ui: Ui) -> Outcome {
        let machine = Machine::look();
        let here = here();
        let names = |which: &dyn Fn(&Tier) -> bool| -> Vec<&str> {
            Tier::ALL.iter().filter(|t| which(t)).map(|t| t.name()).collect()
        };
        let (usable, missing) = (names(&|t| here.contains(t)), names(&|t| !here.contains(t)));
        let threads = default_threads().ok();
        let variable = |name: &str| std::env::var(name).ok();
        let variables = ["QC_CPU", "QC_NUM_THREADS", "OMP_NUM_THREADS"].map(|name| (name, variable(name)));
        let chosen = chosen_tier(&here, variables[0].1.as_deref());
        let decision = threads_text(threads, &variables[1].1, &variables[2].1, &machine);
        let json = || {
            json!({
                "schema": "qc.doctor/1",
                "version": env!("CARGO_PKG_VERSION"),
                "cpu": machine.name,
                "features": machine.features,
                "tiers": usable,
                "missing_tiers": missing,
                "tier": chosen.as_ref().ok().map(|t| t.name()),
                "online_cpus": machine.online,
                "cores": machine.cores,
                "affinity": machine.affinity,
                "cgroup_quota_cpus": machine.quota,
                "usable_cpus": usable_cpus(),
                "threads": threads,
                "environment": variables.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            })
        };
        ui.result(&self.json, json, || {
            let row = |name: &str, text: String| vec![name.to_string(), text];
            let quota = machine.quota.map_or("none".into(), |q| format!("{q:.2} CPUs"));
            let mut rows = vec![
                row("qc", env!("CARGO_PKG_VERSION").into()),
                row("CPU", machine.name.clone()),
                row("offers", machine.features.join(" ")),
                row("CPUs", format!("{} on {} cores; {} usable", machine.online, machine.cores, usable_cpus())),
                row("affinity", machine.affinity.clone()),
                row("quota", quota),
                row("kernels", format!("{}: all give the same integers", usable.join(", "))),
            ];
            if !missing.is_empty() {
                rows.push(row("not here", missing.join(", ")));
            }
            rows.push(row("tier", chosen.as_ref().map_or_else(Clone::clone, |t| t.name().to_string())));
            rows.push(row("threads", decision.clone()));
            let set = variables.iter().filter_map(|(name, value)| Some((*name, value.clone()?)));
            rows.extend(set.map(|(name, value)| row(name, value)));
            table(&["", ""], rows).trim_start().to_string()
        })
    }
}

/// The tier of `here`, lowest first, that code would run on, or why none would.
fn chosen_tier(here: &[Tier], cap: Option<&str>) -> Result<Tier, String> {
    let cap = match cap.map(str::trim).filter(|c| !c.is_empty()) {
        None => None,
        Some(word) => match Tier::from_name(word) {
            Some(tier) => Some(tier),
            None => return Err(format!("QC_CPU={word} is no tier; running would fail")),
        },
    };
    let fits = |t: &Tier| cap.is_none_or(|cap| t.rank() <= cap.rank());
    Ok(here.iter().copied().rfind(fits).unwrap_or(Tier::Scalar))
}

/// How many threads a model would get, and who says so.
fn threads_text(threads: Option<u32>, qc: &Option<String>, omp: &Option<String>, machine: &Machine) -> String {
    let set = |v: &Option<String>| v.as_deref().is_some_and(|v| !matches!(v.trim(), "" | "0"));
    let Some(n) = threads else { return "QC_NUM_THREADS is no number from 0 to 256; running would fail".into() };
    let why = match () {
        () if set(qc) => "QC_NUM_THREADS".to_string(),
        () if set(omp) => "OMP_NUM_THREADS".to_string(),
        () if machine.quota.is_some_and(|q| q.ceil() as u32 <= n) => "the cgroup quota".to_string(),
        () if (n as usize) < machine.online => "the CPU affinity".to_string(),
        () => "the number of CPUs".to_string(),
    };
    format!("{n}, by {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_quota_on_the_path_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let group = dir.path().join("a/b");
        std::fs::create_dir_all(&group).expect("a directory");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file");
        assert_eq!(quota(dir.path(), "0::/a/b\n"), None);
        write("a/b/cpu.max", "max 100000\n");
        write("a/cpu.max", "150000 100000\n");
        assert_eq!(quota(dir.path(), "0::/a/b\n"), Some(1.5));
        assert_eq!(quota(dir.path(), "0::/elsewhere/b\n"), None);
        std::fs::create_dir(dir.path().join("cpu")).expect("a directory");
        write("cpu/cpu.cfs_quota_us", "-1");
        write("cpu/cpu.cfs_period_us", "100000");
        assert_eq!(quota(dir.path(), "4:cpu,cpuacct:/docker/x\n"), None);
        write("cpu/cpu.cfs_quota_us", "50000");
        assert_eq!(quota(dir.path(), "4:cpu,cpuacct:/docker/x\n"), Some(0.5));
    }

    #[test]
    fn a_cap_that_is_no_tier_is_told() {
        let without_avxvnni = [Tier::Scalar, Tier::Avx2, Tier::Avx512Vnni];
        assert!(chosen_tier(&[Tier::Scalar], Some("z80")).is_err());
        assert_eq!(chosen_tier(&[Tier::Scalar], Some("avx2")), Ok(Tier::Scalar));
        assert_eq!(chosen_tier(&without_avxvnni, Some("avxvnni")), Ok(Tier::Avx2));
        assert_eq!(chosen_tier(&without_avxvnni, None), Ok(Tier::Avx512Vnni));
    }
}
