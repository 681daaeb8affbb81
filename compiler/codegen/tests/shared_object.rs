//! Linked models: their structure, and their use from Rust, C and Python.

#![allow(clippy::unwrap_used)]

mod toy;

use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{LittleEndian as Le, Object as _, ObjectSection as _, ObjectSymbol as _, elf};
use qc_codegen::header::c_header;
use qc_runtime::{ContextOptions, LoadError, Predictor};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory with `toy.so`, `toy.h`.
fn directory() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("toy.so");
    std::fs::write(&path, toy::shared_object()).unwrap();
    std::fs::write(dir.path().join("toy.h"), c_header(&toy::note())).unwrap();
    (dir, path)
}

fn ramp(batch: usize) -> Vec<f32> {
    (0..batch * toy::ITEM).map(|i| i as f32 * 0.5 - 7.0).collect()
}

#[test]
fn runs_after_loading() {
    let (_dir, path) = directory();
    // SAFETY: the file was just linked.
    let model = unsafe { Predictor::load(&path) }.unwrap();
    assert_eq!((model.name(), model.sha256()), ("toy", [0xab; 32]));
    assert_eq!(model.variants(), [("scalar", 1), ("scalar", 4)]);
    assert_eq!(serde_json::from_str::<qc_runtime::Note>(model.json()).unwrap(), toy::note());
    for threads in 1..=3 {
        let mut context = model.context(&ContextOptions { threads: Some(threads), ..Default::default() }).unwrap();
        assert_eq!((context.threads(), context.tier()), (threads, "scalar"));
        for batch in 1..=21 {
            let x = ramp(batch);
            context.input_mut::<f32>("x", batch).unwrap().copy_from_slice(&x);
            context.run().unwrap();
            assert_eq!(context.output::<f32>("y").unwrap(), toy::expected(&x), "batch {batch}");
        }
    }
}

#[test]
fn two_links_are_identical() {
    assert!(toy::shared_object() == toy::shared_object());
}

/// One loadable piece of a file.
struct Load {
    flags: elf::ProgramFlags,
    address: u64,
    memory_bytes: u64,
}

#[test]
fn memory_is_never_writable_and_executable() {
    let bytes = toy::shared_object();
    let header = elf::FileHeader64::<Le>::parse(&*bytes).unwrap();
    let segments = header.program_headers(Le, &*bytes).unwrap();
    let of = |p_type| segments.iter().filter(move |s| s.p_type(Le) == p_type);
    let loads: Vec<Load> = of(elf::PT_LOAD)
        .map(|s| Load { flags: s.p_flags(Le), address: s.p_vaddr(Le), memory_bytes: s.p_memsz(Le) })
        .collect();
    let (r, x, w) = (elf::PF_R, elf::PF_R | elf::PF_X, elf::PF_R | elf::PF_W);
    assert_eq!(loads.iter().map(|l| l.flags).collect::<Vec<_>>(), [r, x, w, r]);
    assert!(loads.windows(2).all(|pair| pair[0].address + pair[0].memory_bytes <= pair[1].address));
    assert!(of(elf::PT_LOAD).all(|s| s.p_vaddr(Le) % 4096 == s.p_offset(Le) % 4096 && s.p_vaddr(Le) % 4096 == 0));
    let stack = of(elf::PT_GNU_STACK).next().unwrap();
    assert_eq!(stack.p_flags(Le), w);
    // Everything writable is read-only after loading: the executor and the model have no mutable statics.
    let relro = of(elf::PT_GNU_RELRO).next().unwrap();
    assert_eq!((relro.p_vaddr(Le), relro.p_memsz(Le)), (loads[2].address, loads[2].memory_bytes));
    assert_eq!(relro.p_memsz(Le) % 4096, 0);

    let file = ElfFile64::<Le>::parse(&*bytes).unwrap();
    let dynamic = of(elf::PT_DYNAMIC).next().unwrap().dynamic(Le, &*bytes).unwrap().unwrap();
    let value = |tag| dynamic.iter().find(|d| d.d_tag.get(Le) == tag).map(|d| d.d_val.get(Le));
    assert_eq!(value(elf::DT_FLAGS), Some(elf::DF_BIND_NOW.0));
    assert_eq!(value(elf::DT_FLAGS_1), Some(elf::DF_1_NOW.0));
    assert!(value(elf::DT_TEXTREL).is_none());
    let exports: Vec<_> = file.dynamic_symbols().filter(|s| s.is_definition()).map(|s| s.name().unwrap()).collect();
    assert!(exports.contains(&"qc_model_v7") && exports.contains(&"toy_run"), "{exports:?}");
    assert!(exports.iter().all(|name| *name == "qc_model_v7" || name.starts_with("toy_")), "{exports:?}");
    let imports: Vec<_> = file.dynamic_symbols().filter(|s| s.is_undefined()).map(|s| s.name().unwrap()).collect();
    assert!(imports.iter().all(|name| name.is_empty() || qc_embed::sys::IMPORTS.contains(name)), "{imports:?}");
    assert!(imports.contains(&"memcpy"));
    let names: Vec<_> = file.sections().map(|s| s.name().unwrap()).collect();
    assert!(names.contains(&".plt"), "the toy model calls memcpy through a stub: {names:?}");
}

#[test]
fn only_what_is_reached_is_kept() {
    let bytes = toy::shared_object();
    let file = ElfFile64::<Le>::parse(&*bytes).unwrap();
    let names: Vec<_> = file.symbols().map(|s| s.name().unwrap()).collect();
    assert!(names.contains(&"step_add") && names.contains(&"step_copy_add"));
    assert!(!names.contains(&"step_unused"));
    assert!(bytes.len() < 110_000, "{} bytes", bytes.len());
}

#[test]
fn weights_are_on_pages_of_their_own() {
    let note = serde_json::to_string(&toy::note()).unwrap();
    let mut weights = toy::weights();
    weights.resize(1 << 20, 0x5a);
    let bytes = toy::link(&toy::object(&note), &note, &weights).unwrap();
    let small = toy::shared_object();
    assert!((bytes.len() - small.len()).abs_diff(weights.len() - toy::weights().len()) < 16);
    let at = bytes.windows(16).position(|w| w == &weights[..16]).unwrap();
    assert_eq!(at % 4096, 0);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("big.so");
    std::fs::write(&path, &bytes).unwrap();
    // SAFETY: the file was just linked.
    let model = unsafe { Predictor::load(&path) }.unwrap();
    let mut context = model.context(&ContextOptions::default()).unwrap();
    context.input_mut::<f32>(0, 1).unwrap().fill(1.0);
    context.run().unwrap();
    assert_eq!(context.output::<f32>(0).unwrap(), toy::expected(&[1.0; 4]));
}

/// Runs a command, or prints and counts a skip when the tool is not installed.
fn tool(name: &str, command: &mut Command) -> Option<std::process::Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(_) => {
            println!("SKIPPED 1: {name} is not installed");
            assert!(std::env::var_os("QC_REQUIRE_TOOLS").is_none(), "{name} is required");
            None
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const C_PROGRAM: &str = r#"
#include "toy.h"
#include <stdio.h>
#include <string.h>
#define CHECK(c) do { if (!(c)) { printf("line %d: %s\n", __LINE__, #c); return 1; } } while (0)
int main(void)
{
    static const float w[4] = {10.0f, 20.0f, -30.0f, 0.25f};
    toy_ctx *ctx = NULL;
    toy_options options;
    char why[100];
    memset(&options, 0, sizeof options);
    options.error_text = why;
    options.error_text_bytes = sizeof why;
    options.cpu = "nonsense";
    CHECK(toy_create(&ctx, &options) == TOY_BAD_OPTION && ctx == NULL && strstr(why, "nonsense"));
    options.cpu = NULL;
    options.threads = 2;
    CHECK(toy_create(&ctx, &options) == TOY_OK);
    toy_context_info info;
    CHECK(toy_info(ctx, &info) == 0 && info.threads == 2 && info.batch == 0 && info.profile_len == 2);
    CHECK(toy_abi() == 7 && strcmp(toy_tier(ctx), "scalar") == 0 && toy_sha256()[31] == 0xab);
    CHECK(strstr(toy_json(), "\"generator\":\"qc test\""));
    CHECK(toy_n_inputs() == TOY_N_INPUTS && toy_n_outputs() == 1 && toy_input_info(1) == NULL);
    CHECK(strcmp(toy_input_info(0)->name, "x") == 0 && toy_output_info(0)->dims[1] == 4);
    CHECK(toy_run(ctx) == TOY_UNBOUND && strstr(toy_last_error(ctx), "'x'"));
    float x[7 * 4], y[7 * 4];
    for (int i = 0; i < 28; i++) x[i] = (float)i;
    CHECK(toy_in_x(ctx, x, 7) == 0 && toy_run(ctx) == 0);
    for (int i = 0; i < 28; i++) CHECK(toy_out_y(ctx)[i] == x[i] + w[i % 4]);
    CHECK(toy_into_y(ctx, y, 7) == 0 && toy_run(ctx) == 0);
    for (int i = 0; i < 28; i++) CHECK(y[i] == x[i] + w[i % 4]);
    toy_step_time times[2] = {{0, 0}, {0, 0}};
    CHECK(toy_run_profiled(ctx, times, 2) == 0 && times[0].calls == 3 && times[1].calls == 1);
    CHECK(toy_bind_input(ctx, TOY_IN_X, NULL, 1) == TOY_NULL_POINTER);
    CHECK(toy_bind_input(ctx, 3, x, 1) == TOY_BAD_INDEX);
    CHECK(toy_bind_input(ctx, TOY_IN_X, (const char *)x + 1, 1) == TOY_MISALIGNED);
    CHECK(toy_run(NULL) == TOY_NULL_POINTER && strlen(toy_strerror(TOY_BUSY)) > 0);
    toy_destroy(ctx);
    toy_destroy(NULL);
    puts("ok");
    return 0;
}
"#;

#[test]
fn used_from_c_and_cpp() {
    let (dir, _) = directory();
    for (compiler, standard, source) in [("cc", "-std=c99", "main.c"), ("c++", "-std=c++11", "main.cpp")] {
        std::fs::write(dir.path().join(source), C_PROGRAM).unwrap();
        let mut command = Command::new(compiler);
        command.args([standard, "-Wall", "-Wextra", "-Werror", "-pedantic", source, "toy.so", "-o", "main"]);
        command.arg("-Wl,-rpath,$ORIGIN").current_dir(dir.path());
        let Some(built) = tool(compiler, &mut command) else { continue };
        assert!(built.status.success(), "{compiler}: {}", text(&built.stderr));
        let run = Command::new(dir.path().join("main")).output().unwrap();
        assert_eq!((run.status.code(), text(&run.stdout).trim()), (Some(0), "ok"), "{compiler}");
    }
}

#[test]
fn used_from_python() {
    let (_dir, path) = directory();
    let program = r#"
import ctypes, sys
lib = ctypes.CDLL(sys.argv[1])
lib.toy_output.restype = ctypes.POINTER(ctypes.c_float)
ctx = ctypes.c_void_p()
assert lib.toy_create(ctypes.byref(ctx), None) == 0
x = (ctypes.c_float * 20)(*range(20))
assert lib.toy_bind_input(ctx, ctypes.c_size_t(0), x, ctypes.c_size_t(5)) == 0
assert lib.toy_run(ctx) == 0
y = lib.toy_output(ctx, ctypes.c_size_t(0))
w = [10, 20, -30, 0.25]
assert [y[i] for i in range(20)] == [i + w[i % 4] for i in range(20)]
lib.toy_destroy(ctx)
print("ok")
"#;
    let Some(run) = tool("python3", Command::new("python3").args(["-c", program]).arg(&path)) else { return };
    assert_eq!(text(&run.stdout).trim(), "ok", "{}", text(&run.stderr));
}

#[test]
fn binary_tools_accept_it() {
    let (_dir, path) = directory();
    let commands: [(&str, &[&str]); 5] = [
        ("readelf", &["-aW"]),
        ("nm", &["-D"]),
        ("objdump", &["-dr"]),
        ("ldd", &["-r"]),
        ("gdb", &["-batch", "-nx", "-ex", "info functions toy_run"]),
    ];
    for (name, arguments) in commands {
        let Some(output) = tool(name, Command::new(name).args(arguments).arg(&path)) else { continue };
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        let complaints = text(&output.stderr);
        let complaints: Vec<_> = complaints.lines().filter(|l| !l.contains("execution permission")).collect();
        assert!(complaints.is_empty(), "{name}: {complaints:?}");
        let out = text(&output.stdout);
        assert!(!out.contains("undefined symbol") && !out.to_lowercase().contains("warning"), "{name}: {out}");
        if name == "gdb" {
            assert!(out.contains("toy_run"), "{out}");
        }
    }
}

#[test]
fn truncated_files_are_refused() {
    let bytes = toy::shared_object();
    for len in (0..bytes.len()).step_by(64).chain([bytes.len() - 1]) {
        assert!(qc_runtime::note::check_bytes(&bytes[..len]).is_err(), "{len} of {} bytes", bytes.len());
    }
    let longer = [&bytes[..], &[0]].concat();
    let error = qc_runtime::note::check_bytes(&longer).unwrap_err().to_string();
    assert!(error.contains("longer than when it was written"), "{error}");
}

#[test]
fn flipped_bytes_are_refused() {
    let bytes = toy::shared_object();
    assert!(qc_runtime::note::check_bytes(&bytes).is_ok());
    let mut damaged = bytes.clone();
    for at in (0..4096).chain((4096..bytes.len()).step_by(61)) {
        for mask in [0x01, 0x80, 0xff] {
            damaged[at] = bytes[at] ^ mask;
            assert!(qc_runtime::note::check_bytes(&damaged).is_err(), "byte {at} ^ {mask:#x}");
        }
        damaged[at] = bytes[at];
    }
}

#[test]
fn damaged_weights_are_noticed_unless_that_was_not_wanted() {
    let (_dir, path) = directory();
    let mut bytes = std::fs::read(&path).unwrap();
    let weights = bytes.windows(16).position(|w| w == toy::weights()).unwrap();
    bytes[weights] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    // SAFETY: the file was just linked; one weight differs.
    let error = unsafe { Predictor::load(&path) }.unwrap_err();
    assert!(matches!(error, LoadError::Damaged { .. }) && error.to_string().contains("checksum"), "{error}");
    assert!(qc_runtime::inspect(&path).is_err());
    // SAFETY: as above.
    let model = unsafe { Predictor::load_checked(&path, qc_runtime::Check::Code) }.unwrap();
    assert!(model.context(&ContextOptions::default()).is_ok());
}

/// The refusal of a file with these contents.
fn refusal(path: &Path, bytes: &[u8]) -> LoadError {
    std::fs::write(path, bytes).unwrap();
    // SAFETY: the file is refused before anything of it runs.
    unsafe { Predictor::load(path) }.unwrap_err()
}

#[test]
fn refusals_name_the_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.so");
    let bytes = toy::shared_object();
    let says = |error: LoadError, text: &str| assert!(error.to_string().contains(text), "{error} lacks {text:?}");
    // SAFETY: the files are refused before anything of them runs.
    says(unsafe { Predictor::load(&path) }.unwrap_err(), "model.so: No such file");
    // SAFETY: as above.
    says(unsafe { Predictor::load(dir.path()) }.unwrap_err(), "not a regular file");
    says(refusal(&path, b""), "not a 64-bit ELF file");
    says(refusal(&path, &[b'x'; 10_000]), "not a 64-bit ELF file");
    says(refusal(&path, &std::fs::read(std::env::current_exe().unwrap()).unwrap()), "made by `qc compile`");
    says(refusal(&path, &bytes[..bytes.len() / 2]), "copy or compile it again");
    let object = toy::object("{}");
    let with_note =
        |note: &qc_runtime::Note| toy::link(&object, &serde_json::to_string(note).unwrap(), &toy::weights()).unwrap();
    let newer = qc_runtime::Note { format: 77, ..toy::note() };
    says(
        refusal(&path, &with_note(&newer)),
        "has format 77, this version of qc reads format 7; compile the model again",
    );
    let future = qc_runtime::Note { tiers: vec!["avx9000".into()], ..toy::note() };
    says(refusal(&path, &with_note(&future)), "needs avx9000, this CPU offers ");
}

#[test]
fn a_replaced_file_is_noticed() {
    let (dir, path) = directory();
    // SAFETY: the file was just linked.
    let first = unsafe { Predictor::load(&path) }.unwrap();
    let other = qc_runtime::Note { generator: "another build".into(), ..toy::note() };
    let json = serde_json::to_string(&other).unwrap();
    let new = dir.path().join("new.so");
    std::fs::write(&new, toy::link(&toy::object(&json), &json, &toy::weights()).unwrap()).unwrap();
    std::fs::rename(&new, &path).unwrap();
    // SAFETY: as above.
    let error = unsafe { Predictor::load(&path) }.unwrap_err();
    assert!(matches!(error, LoadError::Replaced { .. }), "{error}");
    drop(first);
    // SAFETY: as above.
    let second = unsafe { Predictor::load(&path) }.unwrap();
    assert_eq!(second.json(), json);
}
