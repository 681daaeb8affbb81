//! The records of an ELF file, as bytes.

use object::{I64, LittleEndian as Le, U16, U32, U64, elf, pod};

/// Size of the file header.
pub const FILE_HEADER_BYTES: u64 = 64;
/// Size of a program header.
pub const PROGRAM_HEADER_BYTES: u64 = 56;
/// Size of a symbol.
pub const SYMBOL_BYTES: u64 = 24;
/// Size of a relocation.
pub const RELA_BYTES: u64 = 24;
/// Size of an entry of `.dynamic`.
pub const DYNAMIC_BYTES: u64 = 16;

/// Where the tables of the file are.
pub struct FileHeader {
    pub machine: elf::Machine,
    pub n_program_headers: u16,
    pub section_headers_offset: u64,
    pub n_section_headers: u16,
    pub section_names_index: u16,
}

impl FileHeader {
    pub fn write(&self, out: &mut Vec<u8>) {
        let header = elf::FileHeader64::<Le> {
            e_ident: elf::Ident {
                magic: elf::ELFMAG,
                class: elf::ELFCLASS64,
                data: elf::ELFDATA2LSB,
                version: elf::EV_CURRENT,
                os_abi: elf::ELFOSABI_NONE,
                abi_version: 0,
                padding: [0; 7],
            },
            e_type: U16::new(Le, elf::ET_DYN),
            e_machine: U16::new(Le, self.machine),
            e_version: U32::new(Le, 1),
            e_entry: U64::new(Le, 0),
            e_phoff: U64::new(Le, FILE_HEADER_BYTES),
            e_shoff: U64::new(Le, self.section_headers_offset),
            e_flags: U32::new(Le, elf::FileFlags(0)),
            e_ehsize: U16::new(Le, FILE_HEADER_BYTES as u16),
            e_phentsize: U16::new(Le, PROGRAM_HEADER_BYTES as u16),
            e_phnum: U16::new(Le, self.n_program_headers),
            e_shentsize: U16::new(Le, size_of::<elf::SectionHeader64<Le>>() as u16),
            e_shnum: U16::new(Le, self.n_section_headers),
            e_shstrndx: U16::new(Le, elf::SymbolSection(self.section_names_index)),
        };
        out.extend_from_slice(pod::bytes_of(&header));
    }
}

/// A program header.
#[derive(Debug, Clone, Copy)]
pub struct ProgramHeader {
    pub p_type: elf::ProgramType,
    pub flags: elf::ProgramFlags,
    pub offset: u64,
    pub address: u64,
    pub file_bytes: u64,
    pub memory_bytes: u64,
    pub align: u64,
}

impl ProgramHeader {
    pub fn write(&self, out: &mut Vec<u8>) {
        let header = elf::ProgramHeader64::<Le> {
            p_type: U32::new(Le, self.p_type),
            p_flags: U32::new(Le, self.flags),
            p_offset: U64::new(Le, self.offset),
            p_vaddr: U64::new(Le, self.address),
            p_paddr: U64::new(Le, self.address),
            p_filesz: U64::new(Le, self.file_bytes),
            p_memsz: U64::new(Le, self.memory_bytes),
            p_align: U64::new(Le, self.align),
        };
        out.extend_from_slice(pod::bytes_of(&header));
    }
}

/// A section header.
#[derive(Debug, Clone, Copy)]
pub struct SectionHeader {
    pub name: u32,
    pub sh_type: elf::SectionType,
    pub flags: elf::SectionFlags,
    pub address: u64,
    pub offset: u64,
    pub size: u64,
    pub link: u32,
    pub info: u32,
    pub align: u64,
    pub entry_bytes: u64,
}

impl SectionHeader {
    pub fn write(&self, out: &mut Vec<u8>) {
        let header = elf::SectionHeader64::<Le> {
            sh_name: U32::new(Le, self.name),
            sh_type: U32::new(Le, self.sh_type),
            sh_flags: U64::new(Le, self.flags),
            sh_addr: U64::new(Le, self.address),
            sh_offset: U64::new(Le, self.offset),
            sh_size: U64::new(Le, self.size),
            sh_link: U32::new(Le, self.link),
            sh_info: U32::new(Le, self.info),
            sh_addralign: U64::new(Le, self.align),
            sh_entsize: U64::new(Le, self.entry_bytes),
        };
        out.extend_from_slice(pod::bytes_of(&header));
    }
}

/// A symbol; `section` 0 means undefined.
#[derive(Debug, Clone, Copy)]
pub struct SymbolRecord {
    pub name: u32,
    pub is_global: bool,
    pub is_function: bool,
    pub section: u16,
    pub value: u64,
    pub size: u64,
}

impl SymbolRecord {
    pub fn write(&self, out: &mut Vec<u8>) {
        let bind = if self.is_global { elf::STB_GLOBAL } else { elf::STB_LOCAL };
        let kind = if self.is_function { elf::STT_FUNC } else { elf::STT_OBJECT };
        let symbol = elf::Sym64::<Le> {
            st_name: U32::new(Le, self.name),
            st_info: elf::SymbolInfo::new(bind, kind),
            st_other: elf::SymbolOther(0),
            st_shndx: U16::new(Le, elf::SymbolSection(self.section)),
            st_value: U64::new(Le, self.value),
            st_size: U64::new(Le, self.size),
        };
        out.extend_from_slice(pod::bytes_of(&symbol));
    }
}

/// A relocation the loader carries out.
#[derive(Debug, Clone, Copy)]
pub struct Rela {
    pub address: u64,
    pub r_type: elf::RelocationType,
    /// Index in the dynamic symbols; 0 for none.
    pub symbol: u32,
    pub addend: i64,
}

impl Rela {
    pub fn write(&self, out: &mut Vec<u8>) {
        let rela = elf::Rela64::<Le> {
            r_offset: U64::new(Le, self.address),
            r_info: U64::new(Le, (self.symbol as u64) << 32 | self.r_type.0 as u64),
            r_addend: I64::new(Le, self.addend),
        };
        out.extend_from_slice(pod::bytes_of(&rela));
    }
}

/// Appends an entry of `.dynamic`.
pub fn write_dynamic(tag: elf::DynamicTag, value: u64, out: &mut Vec<u8>) {
    let entry = elf::Dyn64::<Le> { d_tag: I64::new(Le, tag), d_val: U64::new(Le, value) };
    out.extend_from_slice(pod::bytes_of(&entry));
}

/// Names by offset, each NUL-terminated.
#[derive(Debug)]
pub struct StringTable {
    pub bytes: Vec<u8>,
}

impl StringTable {
    pub fn new() -> StringTable {
        StringTable { bytes: vec![0] }
    }

    /// Appends a name and returns its offset.
    pub fn add(&mut self, name: &str) -> u32 {
        let offset = self.bytes.len() as u32;
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        offset
    }
}
