//! The crate as it is compiled into models: every kernel is a function of its own section that calls nothing but the C
//! library's memory functions, and nothing can panic.
#![allow(clippy::unwrap_used)]

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind};
use qc_kernels::table;
use std::collections::BTreeSet;
use std::process::Command;

/// What kernels and table may ask of the C library.
const LIBC: [&str; 5] = ["memcpy", "memmove", "memset", "memcmp", "bcmp"];

fn compile() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("kernels.o");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let status = Command::new(rustc)
        .args(["--edition", "2024", "--crate-name", "qc_kernels", "--crate-type", "rlib", "--emit", "obj"])
        .args(["--cfg", "qc_embed", "-C", "opt-level=3", "-C", "panic=abort", "-C", "codegen-units=1"])
        .args(["-C", "relocation-model=pic", "-C", "force-unwind-tables=no", "-D", "warnings"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs"))
        .arg("-o")
        .arg(&out)
        .status()
        .unwrap();
    assert!(status.success());
    std::fs::read(out).unwrap()
}

#[test]
fn kernels_stand_alone() {
    let bytes = compile();
    let file = object::File::parse(&*bytes).unwrap();
    let undefined: BTreeSet<&str> =
        file.symbols().filter(|s| s.is_undefined()).map(|s| s.name().unwrap()).filter(|n| !n.is_empty()).collect();
    let foreign: Vec<_> = undefined.iter().filter(|n| !LIBC.contains(n)).collect();
    assert!(foreign.is_empty(), "needs {foreign:?}");
    for kernel in table::rows() {
        let symbol = format!("qc_k_{}", kernel.name);
        let found = file.symbol_by_name(&symbol).unwrap_or_else(|| panic!("no symbol {symbol}"));
        let section = file.section_by_index(found.section_index().unwrap()).unwrap();
        assert_eq!((section.name().unwrap(), found.address()), (&*format!(".text.{symbol}"), 0));
        for (offset, relocation) in section.relocations() {
            let RelocationTarget::Symbol(target) = relocation.target() else { continue };
            let target = file.symbol_by_index(target).unwrap();
            let Some(index) = target.section_index() else { continue };
            let other = file.section_by_index(index).unwrap();
            let calls = other.kind() == SectionKind::Text && index != section.index();
            assert!(!calls, "{symbol}+{offset:#x} calls into {}", other.name().unwrap());
        }
    }
}
