//! The object that models are made from: every kernel is a function of its own section that calls nothing but the C
//! library's memory functions, and nothing can panic.
#![allow(clippy::unwrap_used)]

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind};
use qc_kernels::table;
use std::collections::BTreeSet;

/// What kernels and table may ask of the C library.
const LIBC: [&str; 5] = ["memcpy", "memmove", "memset", "memcmp", "bcmp"];

#[test]
fn kernels_stand_alone() {
    let file = object::File::parse(qc_kernels::OBJECT).unwrap();
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
