//! Reads relocatable objects into sections, symbols and relocations.

use super::LinkError;
use crate::target::{self, Target};
use object::read::elf::ElfFile64;
use object::{
    LittleEndian, Object as _, ObjectSection as _, ObjectSymbol as _, RelocationFlags, RelocationTarget, SectionFlags,
    SectionIndex, elf,
};

/// Where a section ends up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Executable.
    Text,
    /// Read-only as it is in the file.
    ReadOnly,
    /// Read-only once the loader has filled in addresses.
    ReadOnlyAfterLoad,
    /// Writable.
    Data,
    /// Writable, zero at first, without bytes in the file.
    Zero,
}

/// A section that can be part of the output.
#[derive(Debug)]
pub struct Section<'a> {
    pub name: &'a str,
    pub kind: Kind,
    /// Empty for [`Kind::Zero`].
    pub bytes: &'a [u8],
    pub size: u64,
    pub align: u64,
    pub relocations: Vec<Relocation>,
}

/// A place to patch.
#[derive(Debug, Clone, Copy)]
pub struct Relocation {
    pub offset: u64,
    /// What it asks for; its type, for messages, if that is not known.
    pub what: Result<target::Relocation, elf::RelocationType>,
    /// Index in [`Object::symbols`].
    pub symbol: usize,
    pub addend: i64,
}

/// What a symbol stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Defined elsewhere.
    Undefined,
    /// An offset in a section, by index in [`Object::sections`].
    Section(usize, u64),
    /// Something a shared object of ours cannot hold: absolute, common or in a dropped section.
    Unusable,
}

/// A symbol of an object.
#[derive(Debug)]
pub struct Symbol<'a> {
    pub name: &'a str,
    pub place: Place,
    pub size: u64,
    pub is_global: bool,
    pub is_weak: bool,
    /// A function or a data object, not a section or file name.
    pub is_item: bool,
    pub is_function: bool,
}

/// A relocatable object. Indices are those of the file; dropped sections are `None`.
#[derive(Debug)]
pub struct Object<'a> {
    pub sections: Vec<Option<Section<'a>>>,
    pub symbols: Vec<Symbol<'a>>,
}

impl<'a> Object<'a> {
    /// Reads an object for `target`; `index` names it in errors.
    pub fn parse(bytes: &'a [u8], target: &Target, index: usize) -> Result<Object<'a>, LinkError> {
        let fail = |reason: String| LinkError::Object { object: index, reason };
        let file = ElfFile64::<LittleEndian>::parse(bytes).map_err(|e| fail(e.to_string()))?;
        if file.kind() != object::ObjectKind::Relocatable || file.architecture() != target.architecture {
            return Err(fail(format!("it is not a relocatable object for {}", target.name)));
        }
        let mut sections = Vec::new();
        for section in file.sections() {
            let SectionIndex(i) = section.index();
            sections.resize_with(sections.len().max(i + 1), || None);
            sections[i] = read_section(&section, target).map_err(fail)?;
        }
        let mut symbols = Vec::new();
        for symbol in file.symbols() {
            let i = symbol.index().0;
            symbols.resize_with(symbols.len().max(i + 1), Symbol::absent);
            symbols[i] = read_symbol(&symbol, &sections).map_err(fail)?;
        }
        let in_range = |r: &Relocation| r.symbol < symbols.len();
        if !sections.iter().flatten().flat_map(|s| &s.relocations).all(in_range) {
            return Err(fail("a relocation names no symbol".into()));
        }
        Ok(Object { sections, symbols })
    }
}

type FileSection<'a, 'f> = object::read::elf::ElfSection64<'a, 'f, LittleEndian>;
type FileSymbol<'a, 'f> = object::read::elf::ElfSymbol64<'a, 'f, LittleEndian>;

fn read_section<'a>(section: &FileSection<'a, '_>, target: &Target) -> Result<Option<Section<'a>>, String> {
    let name = section.name().map_err(|e| e.to_string())?;
    let SectionFlags::Elf { sh_type, sh_flags } = section.flags() else { return Ok(None) };
    // Frame tables are dropped: nothing unwinds through a model, and everything in it aborts instead of panicking.
    if !sh_flags.contains(elf::SHF_ALLOC) || name == ".eh_frame" {
        return Ok(None);
    }
    if sh_flags.contains(elf::SHF_TLS) {
        return Err(format!("section {name} is thread-local"));
    }
    if [elf::SHT_INIT_ARRAY, elf::SHT_FINI_ARRAY, elf::SHT_PREINIT_ARRAY].contains(&sh_type) {
        return Err(format!("section {name} runs code at load time"));
    }
    let (align, size) = (section.align().max(1), section.size());
    if !align.is_power_of_two() || align > target.page_bytes {
        return Err(format!("section {name} has an alignment of {align}"));
    }
    let relocations = read_relocations(section, target).map_err(|reason| format!("section {name} {reason}"))?;
    let has_addresses = relocations.iter().any(|r| r.what == Ok(target::Relocation::Address));
    let kind = if sh_flags.contains(elf::SHF_EXECINSTR) {
        Kind::Text
    } else if sh_flags.contains(elf::SHF_WRITE) && !name.starts_with(".data.rel.ro") {
        if sh_type == elf::SHT_NOBITS { Kind::Zero } else { Kind::Data }
    } else if has_addresses || sh_flags.contains(elf::SHF_WRITE) {
        Kind::ReadOnlyAfterLoad
    } else {
        Kind::ReadOnly
    };
    let bytes = if kind == Kind::Zero { &[] } else { section.data().map_err(|e| e.to_string())? };
    if kind != Kind::Zero && bytes.len() as u64 != size {
        return Err(format!("section {name} has no contents"));
    }
    Ok(Some(Section { name, kind, bytes, size, align, relocations }))
}

fn read_relocations(section: &FileSection, target: &Target) -> Result<Vec<Relocation>, String> {
    let mut relocations = Vec::new();
    for (offset, relocation) in section.relocations() {
        let RelocationTarget::Symbol(symbol) = relocation.target() else {
            return Err("has a relocation without a symbol".into());
        };
        let RelocationFlags::Elf { r_type } = relocation.flags() else {
            return Err("has an unknown kind of relocation".into());
        };
        let what = (target.relocation)(r_type).ok_or(r_type);
        if what != Ok(target::Relocation::None) {
            relocations.push(Relocation { offset, what, symbol: symbol.0, addend: relocation.addend() });
        }
    }
    relocations.sort_by_key(|r| r.offset);
    Ok(relocations)
}

fn read_symbol<'a>(symbol: &FileSymbol<'a, '_>, sections: &[Option<Section>]) -> Result<Symbol<'a>, String> {
    let name = symbol.name().map_err(|e| e.to_string())?;
    let place = match symbol.section() {
        object::SymbolSection::Undefined => Place::Undefined,
        object::SymbolSection::Section(SectionIndex(i)) => match sections.get(i) {
            Some(Some(section)) if symbol.address() <= section.size => Place::Section(i, symbol.address()),
            _ => Place::Unusable,
        },
        _ => Place::Unusable,
    };
    Ok(Symbol {
        name,
        place,
        size: symbol.size(),
        is_global: symbol.is_global(),
        is_weak: symbol.is_weak(),
        is_item: matches!(symbol.kind(), object::SymbolKind::Text | object::SymbolKind::Data) && !name.is_empty(),
        is_function: symbol.kind() == object::SymbolKind::Text,
    })
}

impl Symbol<'_> {
    fn absent() -> Self {
        Symbol {
            name: "",
            place: Place::Unusable,
            size: 0,
            is_global: false,
            is_weak: false,
            is_item: false,
            is_function: false,
        }
    }
}
