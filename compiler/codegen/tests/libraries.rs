//! Which libraries a linked model needs.

#![allow(clippy::unwrap_used)]

mod toy;

use object::LittleEndian as Le;
use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// The dynamic entries of a file with these bytes.
fn dynamic(bytes: &[u8]) -> Vec<(elf::DynamicTag, u64)> {
    let header = FileHeader64::<Le>::parse(bytes).unwrap();
    let segments = header.program_headers(Le, bytes).unwrap();
    let entries = segments.iter().find_map(|s| s.dynamic(Le, bytes).unwrap()).unwrap();
    entries.iter().map(|d| (d.tag(Le), d.d_val(Le))).collect()
}

#[test]
fn nothing_but_the_c_library_is_needed() {
    let bytes = toy::shared_object();
    let entries = dynamic(&bytes);
    let header = FileHeader64::<Le>::parse(&*bytes).unwrap();
    let sections = header.sections(Le, &*bytes).unwrap();
    let symbols = sections.symbols(Le, &*bytes, elf::SHT_DYNSYM).unwrap();
    let name = |at: u64| std::str::from_utf8(symbols.strings().get(at as u32).unwrap()).unwrap().to_string();
    let needed: Vec<String> =
        entries.iter().filter(|(tag, _)| *tag == elf::DT_NEEDED).map(|(_, at)| name(*at)).collect();
    assert_eq!(needed, ["libc.so.6", "libpthread.so.0"]);
    // Without versions, any C library that has the names will do.
    for tag in [elf::DT_VERNEED, elf::DT_VERSYM, elf::DT_RPATH, elf::DT_RUNPATH] {
        assert!(entries.iter().all(|(other, _)| *other != tag), "{tag:?}");
    }
}

/// The files of this process's own C library: glibc from 2.34 on has all functions in the first.
fn c_library() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut found: Vec<PathBuf> =
        maps.lines().filter_map(|line| line.split_whitespace().nth(5)).map(PathBuf::from).collect();
    found.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libc.so") || name.starts_with("libc-2") || name.starts_with("libpthread")
    });
    found.dedup();
    found
}

/// `2.17` of `GLIBC_2.17` as numbers.
fn number(version: &str) -> Option<Vec<u32>> {
    version.strip_prefix("GLIBC_")?.split('.').map(|part| part.parse().ok()).collect()
}

#[test]
fn every_function_is_as_old_as_glibc_2_17() {
    let mut oldest: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for path in c_library() {
        let bytes = std::fs::read(path).unwrap();
        let header = FileHeader64::<Le>::parse(&*bytes).unwrap();
        let sections = header.sections(Le, &*bytes).unwrap();
        let symbols = sections.symbols(Le, &*bytes, elf::SHT_DYNSYM).unwrap();
        let Some(versions) = sections.versions(Le, &*bytes).unwrap() else { continue };
        for (index, symbol) in symbols.enumerate() {
            let version = versions.version(versions.version_index(Le, index).into()).ok().flatten();
            let Some(version) = version.and_then(|v| number(std::str::from_utf8(v.name()).ok()?)) else { continue };
            let name = symbols.strings().get(symbol.st_name.get(Le)).unwrap();
            let known = oldest.entry(String::from_utf8_lossy(name).into_owned()).or_insert_with(|| version.clone());
            if version < *known {
                *known = version;
            }
        }
    }
    if oldest.is_empty() {
        println!("SKIPPED 1: the C library of this machine is not glibc");
        return;
    }
    for import in qc_embed::sys::IMPORTS {
        let since = oldest.get(*import).unwrap_or_else(|| panic!("glibc has no {import}"));
        assert!(*since <= vec![2, 17], "{import} is there since glibc {since:?} only");
    }
}

/// The loader of musl, where it is installed; `QC_MUSL` names one elsewhere.
fn musl() -> Option<PathBuf> {
    let path = std::env::var_os("QC_MUSL")
        .map_or_else(|| format!("/lib/ld-musl-{}.so.1", std::env::consts::ARCH).into(), PathBuf::from);
    path.is_file().then_some(path)
}

#[test]
fn musl_loads_it() {
    let Some(loader) = musl() else {
        println!("SKIPPED 1: musl's loader is not on this machine (QC_MUSL)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("toy.so");
    std::fs::write(&path, toy::shared_object()).unwrap();
    let out = Command::new(&loader).arg("--list").arg(&path).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && !text.contains("Error"), "{text}");
    // One library, which is the loader itself, has all names.
    assert!(text.lines().all(|line| !line.contains("=>") || line.contains("musl")), "{text}");
}
