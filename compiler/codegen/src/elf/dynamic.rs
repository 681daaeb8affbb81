//! What the dynamic loader reads: symbols, their hash table, strings and `.dynamic`.

use super::LinkInput;
use super::layout::{Layout, Out};
use super::program::Program;
use super::record::{RELA_BYTES, SYMBOL_BYTES, StringTable, SymbolRecord, write_dynamic};
use object::elf;

/// The library that imported functions come from.
const LIBC: &str = "libc.so.6";

/// Dynamic symbols and strings: nothing, then the imports, then the exports.
#[derive(Debug)]
pub struct Dynamic<'a> {
    names: Vec<&'a str>,
    name_offsets: Vec<u32>,
    pub strings: StringTable,
    soname: u32,
    needed: Option<u32>,
}

impl<'a> Dynamic<'a> {
    /// Collects names and strings.
    pub fn new(input: &LinkInput<'a>, program: &Program<'a>) -> Dynamic<'a> {
        let mut strings = StringTable::new();
        let names: Vec<&str> =
            program.imports.iter().copied().chain(program.exports.iter().map(|export| export.name)).collect();
        let name_offsets = names.iter().map(|name| strings.add(name)).collect();
        let soname = strings.add(input.soname);
        let needed = (!program.imports.is_empty()).then(|| strings.add(LIBC));
        Dynamic { names, name_offsets, strings, soname, needed }
    }

    /// Number of symbols, the empty first one included.
    pub fn n_symbols(&self) -> usize {
        1 + self.names.len()
    }

    /// Index of an imported symbol.
    pub fn import_index(import: usize) -> u32 {
        1 + import as u32
    }

    /// Size of the hash table: as many chains as symbols.
    pub fn hash_bytes(&self) -> u64 {
        4 * (2 + 2 * self.n_symbols() as u64)
    }

    /// The System V hash table; undefined symbols are not in it.
    pub fn hash_table(&self, program: &Program) -> Vec<u8> {
        let n = self.n_symbols();
        let mut buckets = vec![0u32; n];
        let mut chains = vec![0u32; n];
        for (i, name) in self.names.iter().enumerate().skip(program.imports.len()) {
            let bucket = &mut buckets[elf::hash(name.as_bytes()) as usize % n];
            chains[i + 1] = *bucket;
            *bucket = i as u32 + 1;
        }
        let words = [n as u32, n as u32].into_iter().chain(buckets).chain(chains);
        words.flat_map(u32::to_le_bytes).collect()
    }

    /// `.dynsym`.
    pub fn symbols(&self, program: &Program, layout: &Layout) -> Vec<u8> {
        let mut out = vec![0; SYMBOL_BYTES as usize];
        let n_imports = program.imports.len();
        for (i, &name) in self.name_offsets.iter().enumerate() {
            let undefined = SymbolRecord { name, is_global: true, is_function: true, section: 0, value: 0, size: 0 };
            let symbol = match i.checked_sub(n_imports).map(|i| &program.exports[i]) {
                None => undefined,
                Some(export) => SymbolRecord {
                    is_function: export.is_function,
                    section: layout.target_index(program, export.target),
                    value: layout.address(export.target),
                    size: export.size,
                    ..undefined
                },
            };
            symbol.write(&mut out);
        }
        out
    }

    /// Number of entries of `.dynamic`.
    pub fn n_entries(&self) -> usize {
        13 + self.needed.is_some() as usize
    }

    /// `.dynamic`; `n_relative` relocations without a symbol come first.
    pub fn entries(&self, layout: &Layout, n_relative: u64) -> Vec<u8> {
        let relocations = layout.span(Out::Relocations);
        let mut out = Vec::new();
        if let Some(needed) = self.needed {
            write_dynamic(elf::DT_NEEDED, needed as u64, &mut out);
        }
        for (tag, value) in [
            (elf::DT_SONAME, self.soname as u64),
            (elf::DT_HASH, layout.span(Out::Hash).address),
            (elf::DT_STRTAB, layout.span(Out::DynamicStrings).address),
            (elf::DT_STRSZ, self.strings.bytes.len() as u64),
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
}
