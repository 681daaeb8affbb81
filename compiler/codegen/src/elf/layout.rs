//! Gives every section of the output its size, its place in the file and its address.

use super::input::Kind;
use super::names::Names;
use super::program::{Patch, Program, Referent, SectionId};
use super::record::{FILE_HEADER_BYTES, PROGRAM_HEADER_BYTES, ProgramHeader, RELA_BYTES, SYMBOL_BYTES};
use super::{LinkInput, record};
use crate::Target;
use object::elf;
use qc_runtime::note::SEAL_BYTES;
use std::collections::BTreeMap;

/// Bytes of a note before its contents: lengths and type, and the owner's name, padded.
pub const NOTE_HEADER_BYTES: u64 = 16;

/// Readable bytes after the weights.
const WEIGHTS_SLACK: u64 = qc_embed::abi::SLACK_BYTES as u64;

/// Sections of the output in the order of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Out {
    Note,
    Hash,
    DynamicSymbols,
    DynamicStrings,
    Relocations,
    ReadOnly,
    Text,
    Stubs,
    ReadOnlyAfterLoad,
    Dynamic,
    Slots,
    Data,
    Zero,
    Weights,
}

impl Out {
    pub const ALL: [Out; 14] = [
        Out::Note,
        Out::Hash,
        Out::DynamicSymbols,
        Out::DynamicStrings,
        Out::Relocations,
        Out::ReadOnly,
        Out::Text,
        Out::Stubs,
        Out::ReadOnlyAfterLoad,
        Out::Dynamic,
        Out::Slots,
        Out::Data,
        Out::Zero,
        Out::Weights,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Out::Note => ".note.qc",
            Out::Hash => ".hash",
            Out::DynamicSymbols => ".dynsym",
            Out::DynamicStrings => ".dynstr",
            Out::Relocations => ".rela.dyn",
            Out::ReadOnly => ".rodata",
            Out::Text => ".text",
            Out::Stubs => ".plt",
            Out::ReadOnlyAfterLoad => ".data.rel.ro",
            Out::Dynamic => ".dynamic",
            Out::Slots => ".got",
            Out::Data => ".data",
            Out::Zero => ".bss",
            Out::Weights => ".qc.weights",
        }
    }

    /// The segment it is loaded with.
    fn segment(self) -> usize {
        match self {
            Out::Note | Out::Hash | Out::DynamicSymbols | Out::DynamicStrings | Out::Relocations | Out::ReadOnly => 0,
            Out::Text | Out::Stubs => 1,
            Out::ReadOnlyAfterLoad | Out::Dynamic | Out::Slots => 2,
            Out::Data | Out::Zero => 3,
            Out::Weights => 4,
        }
    }

    fn of(kind: Kind) -> Out {
        match kind {
            Kind::Text => Out::Text,
            Kind::ReadOnly => Out::ReadOnly,
            Kind::ReadOnlyAfterLoad => Out::ReadOnlyAfterLoad,
            Kind::Data => Out::Data,
            Kind::Zero => Out::Zero,
        }
    }
}

/// A section of the output.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    pub offset: u64,
    pub address: u64,
    pub size: u64,
    pub align: u64,
}

/// Sizes, places and addresses of everything.
#[derive(Debug)]
pub struct Layout<'a> {
    pub target: &'a Target,
    spans: [Span; Out::ALL.len()],
    /// Addresses of kept sections.
    sections: BTreeMap<SectionId, u64>,
    /// Targets that have a slot, with the slot's number.
    pub slots: BTreeMap<Referent, u64>,
    /// Imports that have a stub, with the stub's number.
    pub stubs: BTreeMap<usize, u64>,
    pub segments: Vec<ProgramHeader>,
    pub names: Names<'a>,
    /// First byte of the file after everything that is loaded.
    pub end_offset: u64,
}

impl<'a> Layout<'a> {
    /// Lays out a program.
    pub fn new(input: &LinkInput<'a>, program: &Program<'a>) -> Layout<'a> {
        let (slots, stubs) = indirections(program);
        let names = Names::new(input, program);
        let addresses = program.fixes.iter().filter(|fix| fix.patch == Patch::Address).count() + slots.len();
        let n_symbols = names.n_symbols() as u64;
        let target = input.target;
        let mut layout = Layout {
            target,
            spans: [Span { align: 8, ..Span::default() }; Out::ALL.len()],
            sections: BTreeMap::new(),
            slots,
            stubs,
            segments: Vec::new(),
            names,
            end_offset: 0,
        };
        layout.set(Out::Note, note_bytes(input.note), 4);
        layout.set(Out::Hash, layout.names.hash_bytes(), 8);
        layout.set(Out::DynamicSymbols, n_symbols * SYMBOL_BYTES, 8);
        layout.set(Out::DynamicStrings, layout.names.strings.bytes.len() as u64, 1);
        layout.set(Out::Relocations, addresses as u64 * RELA_BYTES, 8);
        layout.set(Out::Stubs, layout.stubs.len() as u64 * target.stub_bytes, 16);
        layout.set(Out::Dynamic, layout.names.n_entries() as u64 * record::DYNAMIC_BYTES, 8);
        layout.set(Out::Slots, layout.slots.len() as u64 * 8, 8);
        layout.set(Out::Weights, input.weights.len() as u64 + WEIGHTS_SLACK, target.page_bytes);
        for kind in [Kind::Text, Kind::ReadOnly, Kind::ReadOnlyAfterLoad, Kind::Data, Kind::Zero] {
            layout.place_sections(program, kind);
        }
        layout.place_spans();
        for (&id, address) in layout.sections.iter_mut() {
            *address += layout.spans[Out::of(program.section(id).kind) as usize].address;
        }
        layout
    }

    /// Where a section of the output is.
    pub fn span(&self, out: Out) -> Span {
        self.spans[out as usize]
    }

    /// Whether the output has this section.
    pub fn has(&self, out: Out) -> bool {
        self.span(out).size > 0
    }

    /// Address of a kept section.
    pub fn section(&self, id: SectionId) -> u64 {
        self.sections[&id]
    }

    /// Place in the file of a kept section.
    pub fn section_offset(&self, id: SectionId, kind: Kind) -> u64 {
        let span = self.span(Out::of(kind));
        self.sections[&id] - span.address + span.offset
    }

    /// The output section of a kind, counted as section headers are: present sections from 1 on.
    pub fn header_index(&self, out: Out) -> u16 {
        1 + Out::ALL.iter().filter(|&&o| o < out && self.has(o)).count() as u16
    }

    /// Header index of the section a referent is in.
    pub fn referent_index(&self, program: &Program, referent: Referent) -> u16 {
        match referent {
            Referent::Section(id, _) => self.header_index(Out::of(program.section(id).kind)),
            Referent::Weights => self.header_index(Out::Weights),
            Referent::Import(_) => 0,
        }
    }

    /// Address of a referent; the stub of an import.
    pub fn address(&self, referent: Referent) -> u64 {
        match referent {
            Referent::Section(id, offset) => self.section(id) + offset,
            Referent::Weights => self.span(Out::Weights).address,
            Referent::Import(import) => self.span(Out::Stubs).address + self.stubs[&import] * self.target.stub_bytes,
        }
    }

    /// Address of a referent's slot.
    pub fn slot(&self, referent: Referent) -> u64 {
        self.span(Out::Slots).address + self.slots[&referent] * 8
    }

    fn set(&mut self, out: Out, size: u64, align: u64) {
        let span = &mut self.spans[out as usize];
        (span.size, span.align) = (size, align);
    }

    /// Puts kept sections of a kind one after the other; their addresses are relative until the span has one.
    fn place_sections(&mut self, program: &Program, kind: Kind) {
        let (mut size, mut align) = (0u64, 16);
        for id in program.kept_of(kind) {
            let section = program.section(id);
            size = size.next_multiple_of(section.align);
            align = align.max(section.align);
            self.sections.insert(id, size);
            size += section.size;
        }
        self.set(Out::of(kind), size, align);
    }

    /// Gives spans their places. Segments begin on pages, and addresses equal places in the file, except that memory
    /// without bytes in the file comes in between.
    fn place_spans(&mut self) {
        let page = self.target.page_bytes;
        let mut offset = FILE_HEADER_BYTES + PROGRAM_HEADER_BYTES * self.n_program_headers();
        let mut address = offset;
        let mut segment = 0;
        let mut segment_start = (0, 0);
        for out in Out::ALL {
            let Span { size, align, .. } = self.spans[out as usize];
            if size == 0 {
                continue;
            }
            if out.segment() != segment {
                self.close_segment(segment, segment_start, offset, address);
                (offset, address) = (offset.next_multiple_of(page), address.next_multiple_of(page));
                (segment, segment_start) = (out.segment(), (offset, address));
            }
            address = address.next_multiple_of(align);
            if out != Out::Zero {
                offset = segment_start.0 + (address - segment_start.1);
            }
            self.spans[out as usize] = Span { offset, address, size, align };
            address += size;
            if out != Out::Zero {
                offset += size;
            }
        }
        self.close_segment(segment, segment_start, offset, address);
        self.end_offset = offset;
    }

    fn close_segment(&mut self, segment: usize, start: (u64, u64), offset: u64, address: u64) {
        let flags = match segment {
            1 => elf::PF_R | elf::PF_X,
            2 | 3 => elf::PF_R | elf::PF_W,
            _ => elf::PF_R,
        };
        let mut memory_bytes = address - start.1;
        if segment == 2 {
            // The loader protects whole pages, so the pages belong to this segment to their ends.
            memory_bytes = memory_bytes.next_multiple_of(self.target.page_bytes);
        }
        self.segments.push(ProgramHeader {
            p_type: elf::PT_LOAD,
            flags,
            offset: start.0,
            address: start.1,
            file_bytes: offset - start.0,
            memory_bytes,
            align: self.target.page_bytes,
        });
        if segment == 2 {
            let load = self.segments[self.segments.len() - 1];
            self.segments.push(ProgramHeader { p_type: elf::PT_GNU_RELRO, flags: elf::PF_R, align: 1, ..load });
        }
    }

    /// The loadable segments, and PT_DYNAMIC, PT_NOTE, PT_GNU_STACK, PT_GNU_RELRO.
    pub fn n_program_headers(&self) -> u64 {
        let mut segments: Vec<usize> = Out::ALL.iter().filter(|&&o| self.has(o)).map(|o| o.segment()).collect();
        segments.dedup();
        segments.len() as u64 + 4
    }
}

/// Slots and stubs that the patches need, in the order of their referents.
fn indirections(program: &Program) -> (BTreeMap<Referent, u64>, BTreeMap<usize, u64>) {
    let (mut slots, mut stubs) = (BTreeMap::new(), BTreeMap::new());
    for fix in &program.fixes {
        match (fix.patch, fix.referent) {
            (Patch::Slot, referent) => {
                slots.insert(referent, 0);
            }
            (Patch::Distance, Referent::Import(import)) => {
                slots.insert(fix.referent, 0);
                stubs.insert(import, 0);
            }
            _ => {}
        }
    }
    slots.values_mut().enumerate().for_each(|(i, slot)| *slot = i as u64);
    stubs.values_mut().enumerate().for_each(|(i, stub)| *stub = i as u64);
    (slots, stubs)
}

/// Size of `.note.qc`: the seal and the text, each with its header.
fn note_bytes(text: &str) -> u64 {
    2 * NOTE_HEADER_BYTES + SEAL_BYTES as u64 + (text.len() as u64).next_multiple_of(4)
}
