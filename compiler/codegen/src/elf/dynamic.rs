//! `.dynsym` and `.dynamic`: names with the addresses that the layout gave them.

use super::layout::{Layout, Out};
use super::names::Names;
use super::program::Program;
use super::record::{RELA_BYTES, SYMBOL_BYTES, SymbolRecord, write_dynamic};
use object::elf;

/// `.dynsym`.
pub fn symbols(names: &Names, program: &Program, layout: &Layout) -> Vec<u8> {
    let mut out = vec![0; SYMBOL_BYTES as usize];
    let n_imports = program.imports.len();
    for (i, &name) in names.name_offsets.iter().enumerate() {
        let undefined = SymbolRecord { name, is_global: true, is_function: true, section: 0, value: 0, size: 0 };
        let symbol = match i.checked_sub(n_imports).map(|i| &program.exports[i]) {
            None => undefined,
            Some(export) => SymbolRecord {
                is_function: export.is_function,
                section: layout.referent_index(program, export.referent),
                value: layout.address(export.referent),
                size: export.size,
                ..undefined
            },
        };
        symbol.write(&mut out);
    }
    out
}

/// `.dynamic`; `n_relative` relocations without a symbol come first.
pub fn entries(names: &Names, layout: &Layout, n_relative: u64) -> Vec<u8> {
    let relocations = layout.span(Out::Relocations);
    let mut out = Vec::new();
    for needed in &names.needed {
        write_dynamic(elf::DT_NEEDED, u64::from(*needed), &mut out);
    }
    for (tag, value) in [
        (elf::DT_SONAME, names.soname as u64),
        (elf::DT_HASH, layout.span(Out::Hash).address),
        (elf::DT_STRTAB, layout.span(Out::DynamicStrings).address),
        (elf::DT_STRSZ, names.strings.bytes.len() as u64),
        (elf::DT_SYMTAB, layout.span(Out::DynamicSymbols).address),
        (elf::DT_SYMENT, SYMBOL_BYTES),
        (elf::DT_RELA, relocations.address),
        (elf::DT_RELASZ, relocations.size),
        (elf::DT_RELAENT, RELA_BYTES),
        (elf::DT_RELACOUNT, n_relative),
        (elf::DT_FLAGS, elf::DF_BIND_NOW.0),
        (elf::DT_FLAGS_1, elf::DF_1_NOW.0),
        (elf::DT_NULL, 0),
    ] {
        write_dynamic(tag, value, &mut out);
    }
    out
}
