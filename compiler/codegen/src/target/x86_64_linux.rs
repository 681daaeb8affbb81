//! x86-64 Linux.

use super::{Direct, LoadedRelocations, Relocation, Target, triple};
use object::{Architecture, elf};

/// The target.
pub static TARGET: Target = Target {
    name: "x86-64 Linux",
    triple: triple::X86_64_LINUX,
    page_bytes: 4096,
    machine: elf::EM_X86_64,
    architecture: Architecture::X86_64,
    loaded: LoadedRelocations {
        relative: elf::R_X86_64_RELATIVE,
        slot: elf::R_X86_64_GLOB_DAT,
        address: elf::R_X86_64_64,
    },
    relocation,
    direct,
    stub_bytes: STUB_BYTES,
    stub,
    // Before glibc 2.34 threads were in a library of their own, of which newer ones keep an empty shell; musl takes both
    // names for its one library, which is there already.
    libraries: &["libc.so.6", "libpthread.so.0"],
    imports: qc_embed::sys::IMPORTS,
    objects: [qc_kernels::OBJECT, include_bytes!(concat!(env!("OUT_DIR"), "/executor.o"))],
};

const STUB_BYTES: u64 = 8;

fn relocation(r_type: elf::RelocationType) -> Option<Relocation> {
    Some(match r_type {
        elf::R_X86_64_NONE => Relocation::None,
        elf::R_X86_64_64 => Relocation::Address,
        elf::R_X86_64_32 | elf::R_X86_64_32S => Relocation::Address32,
        elf::R_X86_64_PC32 => Relocation::Distance,
        elf::R_X86_64_PLT32 => Relocation::Call,
        elf::R_X86_64_PC64 => Relocation::Distance64,
        elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX => Relocation::Slot,
        _ => return None,
    })
}

/// `mov reg, [slot]` becomes `lea reg, [address]`.
static LOAD: Direct = Direct { bytes: &[(-2, 0x8d)], distance: 0 };
/// `call [slot]` becomes `call address`, with a prefix that makes it as long as what it replaces.
static CALL: Direct = Direct { bytes: &[(-2, 0x67), (-1, 0xe8)], distance: 0 };
/// `jmp [slot]` becomes `jmp address`, one byte shorter than what it replaces, and `nop`.
static JUMP: Direct = Direct { bytes: &[(-2, 0xe9), (3, 0x90)], distance: -1 };

/// No instruction but these ends in the bytes tested for and has a memory operand that could be a slot, so that the test
/// is right even for relocations that do not promise a certain instruction.
fn direct(before: &[u8]) -> Option<&'static Direct> {
    match before {
        // REX.W mov r64, [rip + disp32]
        [.., 0x48 | 0x4c, 0x8b, modrm] if modrm & 0xc7 == 0x05 => Some(&LOAD),
        // call [rip + disp32]
        [.., 0xff, 0x15] => Some(&CALL),
        // jmp [rip + disp32]
        [.., 0xff, 0x25] => Some(&JUMP),
        _ => None,
    }
}

/// `jmp [rip + distance]`, which counts from its end, padded with `int3`.
fn stub(distance: u64) -> Vec<u8> {
    let [a, b, c, d] = (distance.wrapping_sub(6) as u32).to_le_bytes();
    vec![0xff, 0x25, a, b, c, d, 0xcc, 0xcc]
}
