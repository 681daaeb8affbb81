//! How many threads to run on when nobody says: what the process may really use, not what the machine has.
//!
//! `QC_NUM_THREADS`, then `OMP_NUM_THREADS` (schedulers such as Ray set it per worker), then the smallest of the
//! affinity mask, the cgroup CPU quota rounded up, and the online CPUs.

use crate::sys;

/// Most threads one context may have.
pub const MAX_THREADS: u32 = 256;

/// `QC_NUM_THREADS` is not a number from 0 (automatic) to [`MAX_THREADS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadThreadCount;

/// Number of threads of a context that did not ask for a certain number; at least 1.
///
/// # Errors
/// When `QC_NUM_THREADS` is malformed. A malformed `OMP_NUM_THREADS` is ignored, since it is not ours.
pub fn default_threads() -> Result<u32, BadThreadCount> {
    let asked = from_variables(sys::environment(b"QC_NUM_THREADS\0"), sys::environment(b"OMP_NUM_THREADS\0"))?;
    Ok(asked.unwrap_or_else(usable_cpus))
}

/// The number the environment asks for.
fn from_variables(qc: Option<&[u8]>, omp: Option<&[u8]>) -> Result<Option<u32>, BadThreadCount> {
    match qc.map(trim) {
        None | Some(b"") => {}
        Some(text) => match number(text) {
            Some((0, b"")) => {}
            Some((n, b"")) if n <= MAX_THREADS as u64 => return Ok(Some(n as u32)),
            _ => return Err(BadThreadCount),
        },
    }
    // OMP_NUM_THREADS may be a list, one entry per nesting level; the first is ours.
    Ok(match omp.map(trim).and_then(number) {
        Some((n @ 1.., b"" | [b',', ..])) => Some(n.min(MAX_THREADS as u64) as u32),
        _ => None,
    })
}

/// CPUs this process may use: affinity, cgroup quota, online; from 1 to [`MAX_THREADS`].
pub fn usable_cpus() -> u32 {
    let mut cpus = sys::online_cpus();
    let affinity = sys::affinity_count();
    if affinity > 0 {
        cpus = cpus.min(affinity);
    }
    if let Some(quota) = quota_cpus(&mut sys::read_file) {
        cpus = cpus.min(quota);
    }
    cpus.clamp(1, MAX_THREADS)
}

/// Reads the beginning of the file at a NUL-terminated path.
type ReadFile<'a> = &'a mut dyn FnMut(&[u8], &mut [u8]) -> Option<usize>;

/// The CPU quota of the process's cgroup and its ancestors in whole CPUs, rounded up; none when unlimited.
fn quota_cpus(read: ReadFile) -> Option<u32> {
    let mut listing = [0u8; 4096];
    let len = read(b"/proc/self/cgroup\0", &mut listing)?;
    let mut least: Option<u32> = None;
    for line in listing[..len].split(|&byte| byte == b'\n') {
        // A line is `id:controllers:path`; version 2 has id 0 and no controllers.
        let mut fields = line.splitn(3, |&byte| byte == b':');
        let (Some(_id), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let version1 = controllers.split(|&byte| byte == b',').any(|name| name == b"cpu");
        if !version1 && !controllers.is_empty() {
            continue;
        }
        if let Some(cpus) = least_on_path(path, version1, read) {
            least = Some(least.map_or(cpus, |before| before.min(cpus)));
        }
    }
    least
}

/// The smallest quota from the cgroup at `path` up to the root. Inside a container `path` may name directories that
/// exist outside only; those are skipped and the mount's root is the container's own group.
fn least_on_path(path: &[u8], version1: bool, read: ReadFile) -> Option<u32> {
    let mut path = path;
    let mut least: Option<u32> = None;
    loop {
        let cpus = if version1 { quota_v1(path, read) } else { quota_v2(path, read) };
        if let Some(cpus) = cpus {
            least = Some(least.map_or(cpus, |before| before.min(cpus)));
        }
        match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => path = &path[..slash],
            None => return least,
        }
    }
}

/// `cpu.max`: `"<quota> <period>"` in microseconds, or `"max <period>"`.
fn quota_v2(group: &[u8], read: ReadFile) -> Option<u32> {
    let mut buffer = [0u8; 64];
    let text = read_in_group(b"/sys/fs/cgroup", group, b"/cpu.max\0", &mut buffer, read)?;
    let (quota, rest) = number(text)?;
    let (period, _) = number(trim(rest))?;
    whole_cpus(quota, period)
}

/// `cpu.cfs_quota_us` (-1 for none) and `cpu.cfs_period_us`.
fn quota_v1(group: &[u8], read: ReadFile) -> Option<u32> {
    let mount = b"/sys/fs/cgroup/cpu";
    let mut buffer = [0u8; 64];
    let (quota, _) = number(read_in_group(mount, group, b"/cpu.cfs_quota_us\0", &mut buffer, read)?)?;
    let (period, _) = number(read_in_group(mount, group, b"/cpu.cfs_period_us\0", &mut buffer, read)?)?;
    whole_cpus(quota, period)
}

fn whole_cpus(quota_us: u64, period_us: u64) -> Option<u32> {
    if quota_us == 0 || period_us == 0 {
        return None;
    }
    Some(quota_us.div_ceil(period_us).min(u32::MAX as u64) as u32)
}

fn read_in_group<'b>(
    mount: &[u8],
    group: &[u8],
    file: &[u8],
    buffer: &'b mut [u8],
    read: ReadFile,
) -> Option<&'b [u8]> {
    let mut path = [0u8; 4096];
    let mut len = 0;
    let group = group.strip_suffix(b"/").unwrap_or(group);
    for part in [mount, group, file] {
        path.get_mut(len..len + part.len())?.copy_from_slice(part);
        len += part.len();
    }
    let len = read(&path[..len], buffer)?;
    Some(trim(&buffer[..len]))
}

fn trim(text: &[u8]) -> &[u8] {
    text.trim_ascii()
}

/// A decimal number at the start of `text`, and what follows it; none without a digit or on overflow.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let (head, rest) = text.split_at(digits);
    let value = head.iter().try_fold(0u64, |n, d| n.checked_mul(10)?.checked_add((d - b'0') as u64))?;
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quota(files: &[(&str, &str)]) -> Option<u32> {
        quota_cpus(&mut |path, buffer| {
            let path = path.strip_suffix(b"\0").expect("paths end in NUL");
            let (_, text) = files.iter().find(|(name, _)| name.as_bytes() == path)?;
            buffer[..text.len()].copy_from_slice(text.as_bytes());
            Some(text.len())
        })
    }

    #[test]
    fn variables_in_order() {
        assert_eq!(from_variables(Some(b"3"), Some(b"5")), Ok(Some(3)));
        assert_eq!(from_variables(Some(b"0"), Some(b" 5,2")), Ok(Some(5)));
        assert_eq!(from_variables(None, Some(b"0")), Ok(None));
        assert_eq!(from_variables(Some(b""), Some(b"dynamic")), Ok(None));
        assert_eq!(from_variables(Some(b"four"), None), Err(BadThreadCount));
        assert_eq!(from_variables(Some(b"4x"), None), Err(BadThreadCount));
        assert_eq!(from_variables(Some(b"99999999999999999999999"), None), Err(BadThreadCount));
        assert_eq!(from_variables(None, Some(b"100000")), Ok(Some(MAX_THREADS)));
    }

    #[test]
    fn quota_of_version_2_is_the_least_of_all_ancestors() {
        let cgroup = ("/proc/self/cgroup", "0::/a/b\n");
        assert_eq!(quota(&[cgroup]), None);
        assert_eq!(quota(&[cgroup, ("/sys/fs/cgroup/a/b/cpu.max", "max 100000\n")]), None);
        let outer = ("/sys/fs/cgroup/a/cpu.max", "150000 100000\n");
        assert_eq!(quota(&[cgroup, outer, ("/sys/fs/cgroup/a/b/cpu.max", "400000 100000\n")]), Some(2));
        assert_eq!(quota(&[("/proc/self/cgroup", "0::/\n"), ("/sys/fs/cgroup/cpu.max", "50000 100000\n")]), Some(1));
    }

    #[test]
    fn quota_of_version_1_inside_a_container() {
        let files = [
            ("/proc/self/cgroup", "12:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "300000\n"),
            ("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n"),
        ];
        assert_eq!(quota(&files), Some(3));
        assert_eq!(quota(&[files[0], ("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n"), files[2]]), None);
    }

    #[test]
    fn usable_is_within_reason() {
        assert!((1..=sys::online_cpus().min(MAX_THREADS)).contains(&usable_cpus()));
    }
}
