//! The linker on small objects: writable data, errors, and what the embedded object may need.

#![allow(clippy::unwrap_used)]

mod toy;

use cranelift_codegen::ir::{AbiParam, InstBuilder, MemFlagsData, types};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataDescription, Linkage, Module};
use object::{Object as _, ObjectSection as _};
use qc_codegen::elf::{LinkError, LinkInput, link};
use qc_codegen::{Target, embed_object};
use toy::Toy;

/// An object that exports `bump`, which adds 1 to a static that begins at `initial` and returns it. The static is
/// reached by a table of addresses, as far data is.
fn counter(symbol: &str, initial: i64) -> Vec<u8> {
    let mut toy = Toy::new();
    let data = toy.module.declare_data(symbol, Linkage::Export, true, false).unwrap();
    let mut description = DataDescription::new();
    match initial {
        0 => description.define_zeroinit(8),
        _ => description.define(initial.to_le_bytes().into()),
    }
    toy.module.define_data(data, &description).unwrap();
    let mut signature = toy.module.make_signature();
    signature.returns.push(AbiParam::new(types::I64));
    let id = toy.module.declare_function("bump", Linkage::Export, &signature).unwrap();
    let mut cx = toy.module.make_context();
    cx.func.signature = signature;
    let global = toy.module.declare_data_in_func(data, &mut cx.func);
    let mut builder = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut cx.func, &mut builder);
    let entry = b.create_block();
    b.switch_to_block(entry);
    let address = b.ins().symbol_value(types::I64, global);
    let value = b.ins().load(types::I64, MemFlagsData::trusted(), address, 0);
    let value = b.ins().iadd_imm_u(value, 1);
    b.ins().store(MemFlagsData::trusted(), value, address, 0);
    b.ins().return_(&[value]);
    b.seal_all_blocks();
    b.finalize(toy.module.target_config());
    toy.module.define_function(id, &mut cx).unwrap();
    toy.finish()
}

fn link_bump(objects: &[&[u8]]) -> Result<Vec<u8>, LinkError> {
    let exports = [("bump".to_string(), "bump".to_string())];
    link(&LinkInput {
        target: Target::host().unwrap(),
        objects,
        weights: &[],
        exports: &exports,
        imports: &[],
        note: "{}",
        soname: "bump.so",
    })
}

#[test]
fn writable_data_is_writable_and_starts_as_defined() {
    let dir = tempfile::tempdir().unwrap();
    for initial in [41, 0] {
        let path = dir.path().join(format!("bump{initial}.so"));
        std::fs::write(&path, link_bump(&[&counter("state", initial)]).unwrap()).unwrap();
        // SAFETY: the library was just linked and its one function has this type.
        unsafe {
            let library = libloading::Library::new(&path).unwrap();
            let bump = library.get::<unsafe extern "C" fn() -> i64>(b"bump").unwrap();
            assert_eq!([bump(), bump(), bump()], [1, 2, 3].map(|n| initial + n));
        }
    }
}

/// Every way of reaching something through the table of addresses, relaxed where it can be; `bump` gives 42.
const ASSEMBLY: &str = r#"
    .globl bump, inner, leaf, two, far
    .section .text.bump,"ax",@progbits
bump:
    jmp *inner@GOTPCREL(%rip)
    .section .text.inner,"ax",@progbits
inner:
    sub $8, %rsp
    call *leaf@GOTPCREL(%rip)
    add $8, %rsp
    movq two@GOTPCREL(%rip), %rcx
    add (%rcx), %rax
    movq two@GOTPCREL(%rip), %r9
    add (%r9), %rax
    pushq two@GOTPCREL(%rip)
    pop %rcx
    sub (%rcx), %rax
    lea far(%rip), %rcx
    add (%rcx), %rcx
    add (%rcx), %rax
    sub (%rcx), %rax
    ret
    .section .text.leaf,"ax",@progbits
leaf:
    mov $40, %eax
    ret
    .section .rodata.two,"a",@progbits
    .balign 8
two: .quad 2
    .section .rodata.far,"a",@progbits
    .balign 8
far: .quad two - .
"#;

#[test]
fn loads_calls_and_jumps_through_slots() {
    let dir = tempfile::tempdir().unwrap();
    let (source, object) = (dir.path().join("slots.s"), dir.path().join("slots.o"));
    std::fs::write(&source, ASSEMBLY).unwrap();
    for relax in ["-Wa,-mrelax-relocations=no", "-Wa,-mrelax-relocations=yes"] {
        let mut command = std::process::Command::new("cc");
        let Ok(built) = command.args(["-c", relax, "-o"]).arg(&object).arg(&source).output() else {
            println!("SKIPPED 1: cc is not installed");
            assert!(std::env::var_os("QC_REQUIRE_TOOLS").is_none(), "cc is required");
            return;
        };
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        let path = dir.path().join(format!("slots{relax}.so"));
        let bytes = link_bump(&[&std::fs::read(&object).unwrap()]).unwrap();
        std::fs::write(&path, &bytes).unwrap();
        // Only the push needs its slot.
        let file = object::read::elf::ElfFile64::<object::LittleEndian>::parse(&*bytes).unwrap();
        assert_eq!(file.section_by_name(".got").unwrap().size(), 8);
        // SAFETY: the library was just linked and its one function has this type.
        unsafe {
            let library = libloading::Library::new(&path).unwrap();
            let bump = library.get::<unsafe extern "C" fn() -> i64>(b"bump").unwrap();
            assert_eq!(bump(), 42);
        }
    }
}

#[test]
fn undefined_symbols_are_named() {
    let mut toy = Toy::new();
    toy.step("bump", true);
    let missing = link_bump(&[&toy.finish()]).unwrap_err().to_string();
    // A local function is no export.
    assert_eq!(missing, "'bump', needed by the export 'bump', is not defined");

    let target = Target::host().unwrap();
    let [kernels, executor] = target.objects;
    let exports = embed_object::exports("toy");
    let input = LinkInput {
        target,
        objects: &[&toy::object("{}"), kernels, executor],
        weights: &[],
        exports: &exports,
        imports: &["abort"],
        note: "{}",
        soname: "toy.so",
    };
    assert!(matches!(link(&input), Err(LinkError::Undefined { .. })), "imports outside the list are refused");
}

#[test]
fn symbols_defined_twice_are_named() {
    let error = link_bump(&[&counter("state", 1), &counter("other", 1)]).unwrap_err().to_string();
    assert_eq!(error, "'bump' is defined twice");
}

#[test]
fn relocations_that_need_a_fixed_address_are_refused() {
    let object = counter("state", 1);
    // The function reaches its static by a relocation of type 9 (GOTPCREL); 10 and 11 are 32-bit addresses, 1 is a 64-bit
    // address in code, 200 does not exist.
    let place =
        object.windows(8).rposition(|w| w[0] == 9 && w[1..4] == [0; 3] && w[4] != 0 && w[5..] == [0; 3]).unwrap();
    for (r_type, reason) in [(10, "32-bit address"), (11, "32-bit address"), (1, "64-bit address"), (200, "type 200")] {
        let mut object = object.clone();
        object[place] = r_type;
        let error = link_bump(&[&object]).unwrap_err();
        assert!(matches!(error, LinkError::Relocation { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
}

#[test]
fn bytes_that_are_no_object_are_refused() {
    let object = counter("state", 1);
    for bytes in [&b""[..], b"nonsense", &object[..100], &object[..object.len() - 1]] {
        assert!(matches!(link_bump(&[bytes]), Err(LinkError::Object { object: 0, .. })));
    }
    let shared = toy::shared_object();
    let error = link_bump(&[&shared]).unwrap_err().to_string();
    assert!(error.contains("it is not a relocatable object for "), "{error}");
}

#[test]
fn objects_of_another_machine_are_refused() {
    let host = Target::host().unwrap();
    let other = Target { architecture: object::Architecture::Aarch64, name: "another machine", ..host.clone() };
    let exports = [("bump".to_string(), "bump".to_string())];
    let object = counter("state", 1);
    let input = LinkInput {
        target: &other,
        objects: &[&object],
        weights: &[],
        exports: &exports,
        imports: &[],
        note: "{}",
        soname: "bump.so",
    };
    let error = link(&input).unwrap_err().to_string();
    assert_eq!(error, "object 0 cannot be linked: it is not a relocatable object for another machine");
    assert!(link(&LinkInput { target: host, ..input }).is_ok());
}

#[test]
fn kernels_call_nothing_but_memory_functions() {
    let [kernels, ..] = Target::host().unwrap().objects;
    let all = qc_kernels::table::rows();
    let failure = |symbol: String| {
        let exports = [("kernel".to_string(), symbol)];
        let imports = &["memcpy", "memset"];
        link(&LinkInput {
            target: Target::host().unwrap(),
            objects: &[kernels],
            weights: &[],
            exports: &exports,
            imports,
            note: "{}",
            soname: "k.so",
        })
        .err()
    };
    let failures: Vec<String> =
        all.filter_map(|kernel| failure(format!("qc_k_{}", kernel.name))).map(|error| error.to_string()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_embedded_objects_are_complete_and_say_nothing_of_this_machine() {
    // Everything but the model itself is resolved among the objects and libc.
    let error = toy::link(&Toy::new().finish(), "{}", &[]).unwrap_err().to_string();
    assert!(error.starts_with("'QC_MODEL', needed by "), "{error}");
    for object in Target::host().unwrap().objects {
        let text = String::from_utf8_lossy(object);
        assert!(!text.contains(env!("CARGO_MANIFEST_DIR")), "a path of this machine is in the object");
    }
}
