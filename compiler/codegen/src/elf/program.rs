//! Resolves symbols, finds what the exports reach, and decides how each place is patched.

use super::input::{Kind, Object, Place, Relocation, Section, Symbol};
use super::{LinkError, LinkInput};
use crate::embed_object::WEIGHTS_SYMBOL;
use crate::target::{Direct, Relocation as Asked, Target};
use std::collections::{BTreeMap, BTreeSet};

/// A section by object and index.
pub type SectionId = (usize, usize);

/// What a symbol resolves to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Referent {
    /// An offset in a kept section.
    Section(SectionId, u64),
    /// The first byte of the weights.
    Weights,
    /// An imported function, by index in [`Program::imports`].
    Import(usize),
}

/// How a place is patched. Distances are from the place; each includes the relocation's addend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patch {
    /// The 64-bit address, completed by the loader.
    Address,
    /// The 32-bit distance to the referent, or to its stub when it is imported.
    Distance,
    /// The 64-bit distance to the referent.
    Distance64,
    /// The 32-bit distance to the referent's slot in the table of addresses (GOT).
    Slot,
    /// An instruction that takes the address from its slot gets the 32-bit distance to the referent instead.
    Direct(&'static Direct),
}

/// A place to patch in a kept section.
#[derive(Debug, Clone, Copy)]
pub struct Fix {
    pub section: SectionId,
    pub offset: u64,
    pub patch: Patch,
    pub referent: Referent,
    pub addend: i64,
}

/// An exported symbol.
#[derive(Debug)]
pub struct Export<'a> {
    pub name: &'a str,
    pub referent: Referent,
    pub size: u64,
    pub is_function: bool,
}

/// Everything that goes into the output, without addresses.
#[derive(Debug)]
pub struct Program<'a> {
    pub objects: Vec<Object<'a>>,
    /// Kept sections in the order of the input.
    pub kept: Vec<SectionId>,
    /// Patches in the order of the kept sections and places.
    pub fixes: Vec<Fix>,
    /// Imported names, sorted.
    pub imports: Vec<&'a str>,
    /// In the order of [`LinkInput::exports`].
    pub exports: Vec<Export<'a>>,
}

/// A symbol by object and index.
type SymbolId = (usize, usize);

impl<'a> Program<'a> {
    /// Resolves the input.
    pub fn new(input: &LinkInput<'a>) -> Result<Program<'a>, LinkError> {
        let parsed = input.objects.iter().enumerate().map(|(i, bytes)| Object::parse(bytes, input.target, i));
        let objects = parsed.collect::<Result<Vec<_>, _>>()?;
        let globals = global_symbols(&objects)?;
        let resolver = Resolver { objects: &objects, globals, allowed: input.imports };
        let roots = resolver.exports(input)?;
        let kept = resolver.reach(&roots)?;
        let mut imports = BTreeSet::new();
        for &id in &kept {
            for relocation in &section(&objects, id).relocations {
                if let Found::Import(name) = resolver.find(id, relocation)? {
                    imports.insert(name);
                }
            }
        }
        let imports: Vec<&'a str> = imports.into_iter().collect();
        let mut fixes = Vec::new();
        for &id in &kept {
            for relocation in &section(&objects, id).relocations {
                let referent = match resolver.find(id, relocation)? {
                    Found::Section(section, offset) => Referent::Section(section, offset),
                    Found::Weights => Referent::Weights,
                    Found::Import(name) => {
                        Referent::Import(imports.binary_search(&name).expect("every import was collected"))
                    }
                };
                fixes.push(fix(input.target, section(&objects, id), id, relocation, referent)?);
            }
        }
        let exports = input.exports.iter().zip(roots).map(|((name, _), root)| {
            let symbol = &objects[root.0].symbols[root.1];
            let Place::Section(index, offset) = symbol.place else { unreachable!("exports are definitions") };
            let referent = Referent::Section((root.0, index), offset);
            Export { name, referent, size: symbol.size, is_function: symbol.is_function }
        });
        let exports = exports.collect();
        Ok(Program { objects, kept, fixes, imports, exports })
    }

    /// A kept section.
    pub fn section(&self, id: SectionId) -> &Section<'a> {
        section(&self.objects, id)
    }

    /// Kept sections of one kind.
    pub fn kept_of(&self, kind: Kind) -> impl Iterator<Item = SectionId> {
        self.kept.iter().copied().filter(move |&id| self.section(id).kind == kind)
    }

    /// Named functions and data objects in kept sections, with their section and offset.
    pub fn items(&self) -> impl Iterator<Item = (&Symbol<'a>, SectionId, u64)> {
        let kept: BTreeSet<SectionId> = self.kept.iter().copied().collect();
        self.objects.iter().enumerate().flat_map(|(i, object)| object.symbols.iter().map(move |s| (i, s))).filter_map(
            move |(i, symbol)| match symbol.place {
                Place::Section(index, offset) if symbol.is_item && kept.contains(&(i, index)) => {
                    Some((symbol, (i, index), offset))
                }
                _ => None,
            },
        )
    }
}

fn section<'o, 'a>(objects: &'o [Object<'a>], (object, index): SectionId) -> &'o Section<'a> {
    objects[object].sections[index].as_ref().expect("places are in sections that were read")
}

/// Definitions by name: the strong one, else the first weak one.
fn global_symbols<'a>(objects: &[Object<'a>]) -> Result<BTreeMap<&'a str, SymbolId>, LinkError> {
    let mut globals: BTreeMap<&'a str, SymbolId> = BTreeMap::new();
    for (o, object) in objects.iter().enumerate() {
        for (s, symbol) in object.symbols.iter().enumerate() {
            if !(symbol.is_global || symbol.is_weak) || !matches!(symbol.place, Place::Section(..)) {
                continue;
            }
            match globals.get(symbol.name) {
                None => {
                    globals.insert(symbol.name, (o, s));
                }
                Some(_) if symbol.is_weak => {}
                Some(&(o0, s0)) if objects[o0].symbols[s0].is_weak => {
                    globals.insert(symbol.name, (o, s));
                }
                Some(_) => return Err(LinkError::Duplicate { symbol: symbol.name.into() }),
            }
        }
    }
    Ok(globals)
}

/// Where a relocation's symbol is.
enum Found<'a> {
    Section(SectionId, u64),
    Weights,
    Import(&'a str),
}

struct Resolver<'o, 'a> {
    objects: &'o [Object<'a>],
    globals: BTreeMap<&'a str, SymbolId>,
    allowed: &'o [&'o str],
}

impl<'a> Resolver<'_, 'a> {
    /// The symbols behind the exports.
    fn exports(&self, input: &LinkInput<'a>) -> Result<Vec<SymbolId>, LinkError> {
        let find = |(name, symbol): &(String, String)| match self.globals.get(symbol.as_str()) {
            Some(&id) => Ok(id),
            None => Err(LinkError::Undefined { symbol: symbol.clone(), needed_by: format!("the export '{name}'") }),
        };
        input.exports.iter().map(find).collect()
    }

    /// Sections that the roots reach, in the order of the input.
    fn reach(&self, roots: &[SymbolId]) -> Result<Vec<SectionId>, LinkError> {
        let places = roots.iter().map(|&(o, s)| match self.objects[o].symbols[s].place {
            Place::Section(index, _) => (o, index),
            _ => unreachable!("globals are definitions"),
        });
        let mut kept: BTreeSet<SectionId> = places.collect();
        let mut open: Vec<SectionId> = kept.iter().copied().collect();
        while let Some(id) = open.pop() {
            for relocation in &section(self.objects, id).relocations {
                if let Found::Section(next, _) = self.find(id, relocation)?
                    && kept.insert(next)
                {
                    open.push(next);
                }
            }
        }
        Ok(kept.into_iter().collect())
    }

    fn find(&self, from: SectionId, relocation: &Relocation) -> Result<Found<'a>, LinkError> {
        let symbol = &self.objects[from.0].symbols[relocation.symbol];
        match symbol.place {
            Place::Section(index, offset) => return Ok(Found::Section((from.0, index), offset)),
            Place::Undefined => {}
            Place::Unusable => {
                let reason = format!("'{}' is not in a section that can be linked", symbol.name);
                return Err(self.at(from, relocation, reason));
            }
        }
        if let Some(&(o, s)) = self.globals.get(symbol.name)
            && let Place::Section(index, offset) = self.objects[o].symbols[s].place
        {
            return Ok(Found::Section((o, index), offset));
        }
        if symbol.name == WEIGHTS_SYMBOL {
            return Ok(Found::Weights);
        }
        if self.allowed.contains(&symbol.name) {
            return Ok(Found::Import(symbol.name));
        }
        let needed_by = section(self.objects, from).name.to_string();
        Err(LinkError::Undefined { symbol: symbol.name.into(), needed_by })
    }

    fn at(&self, from: SectionId, relocation: &Relocation, reason: String) -> LinkError {
        LinkError::Relocation { section: section(self.objects, from).name.into(), offset: relocation.offset, reason }
    }
}

/// Decides how a relocation is carried out.
fn fix(
    target: &Target,
    section: &Section,
    id: SectionId,
    relocation: &Relocation,
    referent: Referent,
) -> Result<Fix, LinkError> {
    let fail = |reason: &str| {
        let (section, offset) = (section.name.to_string(), relocation.offset);
        Err(LinkError::Relocation { section, offset, reason: reason.to_string() })
    };
    let is_import = matches!(referent, Referent::Import(_));
    let (patch, width) = match relocation.what {
        Ok(Asked::Address) => (Patch::Address, 8),
        Ok(Asked::Distance) if is_import => return fail("an imported function is used as if it were near"),
        Ok(Asked::Distance | Asked::Call) => (Patch::Distance, 4),
        Ok(Asked::Distance64) if !is_import => (Patch::Distance64, 8),
        Ok(Asked::Slot) => (slot_patch(target, section, relocation, referent), 4),
        Ok(Asked::Address32) => return fail("a 32-bit address cannot be in a shared object"),
        Ok(Asked::Distance64 | Asked::None) => return fail("an imported function has no 64-bit distance"),
        Err(other) => return fail(&format!("relocation type {} is not known", other.0)),
    };
    if section.kind == Kind::Zero || relocation.offset.checked_add(width).is_none_or(|end| end > section.size) {
        return fail("the place is outside the section's contents");
    }
    if patch == Patch::Address && section.kind == Kind::Text {
        return fail("code holds a 64-bit address, which would make it writable");
    }
    Ok(Fix { section: id, offset: relocation.offset, patch, referent, addend: relocation.addend })
}

/// A load of an address from the table becomes the address itself where the instruction allows it.
fn slot_patch(target: &Target, section: &Section, relocation: &Relocation, referent: Referent) -> Patch {
    let before = section.bytes.get(..relocation.offset as usize).unwrap_or(&[]);
    // Weights may be farther away than 2 GiB; and the operand has to end the instruction.
    if !matches!(referent, Referent::Section(..)) || relocation.addend != -4 {
        return Patch::Slot;
    }
    (target.direct)(before).map_or(Patch::Slot, Patch::Direct)
}
