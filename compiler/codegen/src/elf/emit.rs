//! Writes the file: contents, patches, headers.

use super::dynamic;
use super::input::Kind;
use super::layout::{Layout, NOTE_HEADER_BYTES, Out};
use super::names::Names;
use super::program::{Fix, Patch, Program, Referent};
use super::record::{
    FileHeader, ProgramHeader, RELA_BYTES, Rela, SYMBOL_BYTES, SectionHeader, StringTable, SymbolRecord,
};
use super::{LinkError, LinkInput};
use object::elf;
use qc_runtime::note::{self, Seal};

/// Writes a laid-out program.
pub fn emit(input: &LinkInput, program: &Program, layout: Layout) -> Result<Vec<u8>, LinkError> {
    let relocations = relocations(program, &layout);
    let mut file = vec![0u8; layout.span(Out::Weights).offset as usize];
    let mut put = |offset: u64, bytes: &[u8]| {
        file[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    };
    let note_offset = layout.span(Out::Note).offset;
    put(note_offset, &notes(input.note));
    put(layout.span(Out::Hash).offset, &layout.names.hash_table(program));
    put(layout.span(Out::DynamicSymbols).offset, &dynamic::symbols(&layout.names, program, &layout));
    put(layout.span(Out::DynamicStrings).offset, &layout.names.strings.bytes);
    put(layout.span(Out::Relocations).offset, &relocations.bytes);
    put(layout.span(Out::Dynamic).offset, &dynamic::entries(&layout.names, &layout, relocations.n_relative));
    for (&import, &stub) in &layout.stubs {
        let (span, at) = (layout.span(Out::Stubs), stub * input.target.stub_bytes);
        let distance = layout.slot(Referent::Import(import)).wrapping_sub(span.address + at);
        put(span.offset + at, &(input.target.stub)(distance));
    }
    for &id in &program.kept {
        let section = program.section(id);
        if section.kind != Kind::Zero {
            put(layout.section_offset(id, section.kind), section.bytes);
        }
    }
    for fix in &program.fixes {
        patch(program, &layout, fix, &mut file)?;
    }
    let weights = layout.span(Out::Weights);
    file.reserve(weights.size as usize + 64 * input.target.page_bytes as usize);
    file.extend_from_slice(input.weights);
    file.resize((weights.offset + weights.size) as usize, 0);
    let tables = section_tables(program, &layout, &mut file);
    let mut head = Vec::new();
    tables.write(&mut head);
    program_headers(&layout).iter().for_each(|header| header.write(&mut head));
    file[..head.len()].copy_from_slice(&head);
    Seal::write(&mut file, (note_offset + NOTE_HEADER_BYTES) as usize, weights.offset as usize);
    Ok(file)
}

/// The seal, empty as yet, and the text.
fn notes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (n_type, contents) in [(note::TYPE_SEAL, &[0; note::SEAL_BYTES][..]), (note::TYPE_JSON, text.as_bytes())] {
        for word in [note::OWNER.len() as u32 + 1, contents.len() as u32, n_type] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(note::OWNER.as_bytes());
        // The name ends in at least one zero; its padded length is part of `NOTE_HEADER_BYTES`.
        out.resize((out.len() + 1).next_multiple_of(4), 0);
        out.extend_from_slice(contents);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

struct Relocations {
    bytes: Vec<u8>,
    n_relative: u64,
}

/// What the loader has to fill in: addresses in our own memory first, by place, then imports.
fn relocations(program: &Program, layout: &Layout) -> Relocations {
    let loaded = layout.target.loaded;
    let at = |address: u64, referent: Referent, addend: i64| match referent {
        Referent::Import(import) => {
            let r_type = if addend == 0 { loaded.slot } else { loaded.address };
            Rela { address, r_type, symbol: Names::import_index(import), addend }
        }
        _ => {
            let addend = layout.address(referent).wrapping_add_signed(addend) as i64;
            Rela { address, r_type: loaded.relative, symbol: 0, addend }
        }
    };
    let addresses = program.fixes.iter().filter(|fix| fix.patch == Patch::Address);
    let mut all: Vec<Rela> = addresses
        .map(|fix| at(layout.section(fix.section) + fix.offset, fix.referent, fix.addend))
        .chain(layout.slots.keys().map(|&referent| at(layout.slot(referent), referent, 0)))
        .collect();
    all.sort_by_key(|rela| (rela.symbol != 0, rela.address));
    let n_relative = all.iter().filter(|rela| rela.symbol == 0).count() as u64;
    let mut bytes = Vec::with_capacity(all.len() * RELA_BYTES as usize);
    all.iter().for_each(|rela| rela.write(&mut bytes));
    Relocations { bytes, n_relative }
}

/// Carries out one patch in the file.
fn patch(program: &Program, layout: &Layout, fix: &Fix, file: &mut [u8]) -> Result<(), LinkError> {
    let section = program.section(fix.section);
    let address = layout.section(fix.section) + fix.offset;
    let at = (layout.section_offset(fix.section, section.kind) + fix.offset) as usize;
    let distance = |to: u64| to.wrapping_add_signed(fix.addend).wrapping_sub(address) as i64;
    let near = |distance: i64| match i32::try_from(distance) {
        Ok(near) => Ok(near.to_le_bytes()),
        Err(_) => Err(LinkError::Relocation {
            section: section.name.to_string(),
            offset: fix.offset,
            reason: "the target is more than 2 GiB away".into(),
        }),
    };
    match fix.patch {
        // Filled in by the loader.
        Patch::Address => {}
        Patch::Distance => file[at..at + 4].copy_from_slice(&near(distance(layout.address(fix.referent)))?),
        Patch::Distance64 => file[at..at + 8].copy_from_slice(&distance(layout.address(fix.referent)).to_le_bytes()),
        Patch::Slot => file[at..at + 4].copy_from_slice(&near(distance(layout.slot(fix.referent)))?),
        Patch::Direct(direct) => {
            for &(place, byte) in direct.bytes {
                file[at.wrapping_add_signed(place)] = byte;
            }
            // A distance counts from where it is.
            let distance = near(distance(layout.address(fix.referent)) - direct.distance as i64)?;
            file[at.wrapping_add_signed(direct.distance)..][..4].copy_from_slice(&distance);
        }
    }
    Ok(())
}

/// Program headers: the loadable segments in the order of their addresses, then what they say about themselves.
fn program_headers(layout: &Layout) -> Vec<ProgramHeader> {
    let of = |out: Out, p_type, flags| {
        let span = layout.span(out);
        ProgramHeader {
            p_type,
            flags,
            offset: span.offset,
            address: span.address,
            file_bytes: span.size,
            memory_bytes: span.size,
            align: span.align,
        }
    };
    let is_load = |header: &&ProgramHeader| header.p_type == elf::PT_LOAD;
    let mut headers: Vec<ProgramHeader> = layout.segments.iter().filter(is_load).copied().collect();
    headers.extend(layout.segments.iter().filter(|header| !is_load(header)));
    headers.push(of(Out::Dynamic, elf::PT_DYNAMIC, elf::PF_R | elf::PF_W));
    headers.push(of(Out::Note, elf::PT_NOTE, elf::PF_R));
    let nowhere = ProgramHeader { offset: 0, address: 0, file_bytes: 0, memory_bytes: 0, ..headers[0] };
    headers.push(ProgramHeader { p_type: elf::PT_GNU_STACK, flags: elf::PF_R | elf::PF_W, align: 16, ..nowhere });
    headers
}

/// Appends symbol table, string tables and section headers, which loaders do not need but people and their tools do.
fn section_tables(program: &Program, layout: &Layout, file: &mut Vec<u8>) -> FileHeader {
    let mut names = StringTable::new();
    let mut headers: Vec<SectionHeader> = vec![empty_header()];
    for out in Out::ALL.into_iter().filter(|&out| layout.has(out)) {
        headers.push(loaded_header(layout, out, names.add(out.name())));
    }
    let (symbols, n_local, strings) = symbol_table(program, layout);
    let mut append = |name: u32, sh_type, bytes: &[u8], align: u64| {
        file.resize(file.len().next_multiple_of(align as usize), 0);
        let offset = file.len() as u64;
        file.extend_from_slice(bytes);
        headers.push(SectionHeader { name, sh_type, offset, size: bytes.len() as u64, align, ..empty_header() });
        headers.len() - 1
    };
    let symbols_index = append(names.add(".symtab"), elf::SHT_SYMTAB, &symbols, 8);
    let strings_index = append(names.add(".strtab"), elf::SHT_STRTAB, &strings.bytes, 1);
    let name = names.add(".shstrtab");
    let names_index = append(name, elf::SHT_STRTAB, &names.bytes, 1);
    headers[symbols_index].link = strings_index as u32;
    headers[symbols_index].info = n_local;
    headers[symbols_index].entry_bytes = SYMBOL_BYTES;
    file.resize(file.len().next_multiple_of(8), 0);
    let section_headers_offset = file.len() as u64;
    headers.iter().for_each(|header| header.write(file));
    FileHeader {
        machine: layout.target.machine,
        n_program_headers: layout.n_program_headers() as u16,
        section_headers_offset,
        n_section_headers: headers.len() as u16,
        section_names_index: names_index as u16,
    }
}

fn empty_header() -> SectionHeader {
    SectionHeader {
        name: 0,
        sh_type: elf::SHT_NULL,
        flags: elf::SectionFlags(0),
        address: 0,
        offset: 0,
        size: 0,
        link: 0,
        info: 0,
        align: 0,
        entry_bytes: 0,
    }
}

fn loaded_header(layout: &Layout, out: Out, name: u32) -> SectionHeader {
    let span = layout.span(out);
    let strings = layout.header_index(Out::DynamicStrings) as u32;
    let symbols = layout.header_index(Out::DynamicSymbols) as u32;
    let (sh_type, link, info, entry_bytes) = match out {
        Out::Note => (elf::SHT_NOTE, 0, 0, 0),
        Out::Hash => (elf::SHT_HASH, symbols, 0, 4),
        Out::DynamicSymbols => (elf::SHT_DYNSYM, strings, 1, SYMBOL_BYTES),
        Out::DynamicStrings => (elf::SHT_STRTAB, 0, 0, 0),
        Out::Relocations => (elf::SHT_RELA, symbols, 0, RELA_BYTES),
        Out::Dynamic => (elf::SHT_DYNAMIC, strings, 0, super::record::DYNAMIC_BYTES),
        Out::Zero => (elf::SHT_NOBITS, 0, 0, 0),
        Out::Stubs => (elf::SHT_PROGBITS, 0, 0, layout.target.stub_bytes),
        Out::Slots => (elf::SHT_PROGBITS, 0, 0, 8),
        Out::ReadOnly | Out::Text | Out::ReadOnlyAfterLoad | Out::Data | Out::Weights => (elf::SHT_PROGBITS, 0, 0, 0),
    };
    let flags = match out {
        Out::Text | Out::Stubs => elf::SHF_ALLOC | elf::SHF_EXECINSTR,
        Out::ReadOnlyAfterLoad | Out::Dynamic | Out::Slots | Out::Data | Out::Zero => elf::SHF_ALLOC | elf::SHF_WRITE,
        _ => elf::SHF_ALLOC,
    };
    SectionHeader {
        name,
        sh_type,
        flags,
        address: span.address,
        offset: span.offset,
        size: span.size,
        link,
        info,
        align: span.align,
        entry_bytes,
    }
}

/// `.symtab`, the number of local symbols in it, and its strings: the model's own functions for debuggers and
/// profilers, by address, then the exports.
fn symbol_table(program: &Program, layout: &Layout) -> (Vec<u8>, u32, StringTable) {
    let mut strings = StringTable::new();
    let mut items: Vec<_> = program.items().collect();
    items.sort_by_key(|(symbol, section, offset)| (layout.section(*section) + offset, symbol.name));
    let mut bytes = vec![0; SYMBOL_BYTES as usize];
    for (symbol, section, offset) in &items {
        let referent = Referent::Section(*section, *offset);
        let record = SymbolRecord {
            name: strings.add(symbol.name),
            is_global: false,
            is_function: symbol.is_function,
            section: layout.referent_index(program, referent),
            value: layout.address(referent),
            size: symbol.size,
        };
        record.write(&mut bytes);
    }
    for export in &program.exports {
        let record = SymbolRecord {
            name: strings.add(export.name),
            is_global: true,
            is_function: export.is_function,
            section: layout.referent_index(program, export.referent),
            value: layout.address(export.referent),
            size: export.size,
        };
        record.write(&mut bytes);
    }
    (bytes, 1 + items.len() as u32, strings)
}
