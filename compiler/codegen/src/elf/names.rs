//! The names that the dynamic loader looks up, their strings and hash table, which need no addresses.

use super::LinkInput;
use super::program::Program;
use super::record::StringTable;
use object::elf;

/// Dynamic symbols and strings: nothing, then the imports, then the exports.
#[derive(Debug)]
pub struct Names<'a> {
    names: Vec<&'a str>,
    /// Where each name is among the strings.
    pub name_offsets: Vec<u32>,
    pub strings: StringTable,
    /// The library's own name, among the strings.
    pub soname: u32,
    /// The libraries that imports come from, among the strings.
    pub needed: Vec<u32>,
}

impl<'a> Names<'a> {
    /// Collects names and strings.
    pub fn new(input: &LinkInput<'a>, program: &Program<'a>) -> Names<'a> {
        let mut strings = StringTable::new();
        let names: Vec<&str> =
            program.imports.iter().copied().chain(program.exports.iter().map(|export| export.name)).collect();
        let name_offsets = names.iter().map(|name| strings.add(name)).collect();
        let soname = strings.add(input.soname);
        let needed = match program.imports.is_empty() {
            true => Vec::new(),
            false => input.target.libraries.iter().map(|name| strings.add(name)).collect(),
        };
        Names { names, name_offsets, strings, soname, needed }
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

    /// Number of entries of `.dynamic`.
    pub fn n_entries(&self) -> usize {
        13 + self.needed.len()
    }
}
