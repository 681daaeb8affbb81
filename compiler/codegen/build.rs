//! Builds the executor that every `model.so` carries, as a relocatable object embedded by `embed_object.rs`.
//!
//! It is compiled by the same `rustc` as this build, always optimized, whatever profile the rest has, and folded into one
//! object with the parts of `core` it uses, so that the linker needs no archive. The object depends on the sources and
//! the compiler only: paths are mapped away and `RUSTFLAGS` are not passed on.

use object::read::archive::ArchiveFile;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

#[path = "src/target/triple.rs"]
mod triple;

/// A symbol the executor defines; the archive member that has it is the object.
const ENTRY: &[u8] = b"qc_model_v7";

const FLAGS: &[&str] = &[
    "--edition=2024",
    "--cfg=qc_embed",
    "--cap-lints=warn",
    "-Copt-level=3",
    "-Ccodegen-units=1",
    "-Cpanic=abort",
    "-Cforce-unwind-tables=no",
    "-Crelocation-model=pic",
    "-Cdebuginfo=0",
];

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let embed = Path::new(&manifest).join("../../runtime/embed/src");
    println!("cargo::rerun-if-changed={}", embed.display());
    println!("cargo::rerun-if-changed=build.rs");
    let at = |name: &str| out.join(name).display().to_string();
    let archive = format!("--emit=link={}", at("libqc_embed.a"));
    compile("qc_embed", &embed, "lib.rs", &["--crate-type=staticlib", "-Clto=fat", &archive]);
    let bytes = fs::read(at("libqc_embed.a")).expect("rustc wrote the archive");
    fs::write(at("executor.o"), entry_member(&bytes)).expect("OUT_DIR is writable");
}

/// Runs `rustc` on the crate whose root is `root` in `source`.
fn compile(name: &str, source: &Path, root: &str, flags: &[&str]) {
    let rustc = env::var_os("RUSTC").expect("cargo sets RUSTC");
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let status = Command::new(rustc)
        .current_dir(out)
        .args(["--crate-name", name])
        .args(FLAGS)
        .args(["--target", triple::X86_64_LINUX])
        .args(flags)
        .arg(format!("--remap-path-prefix={}={name}", source.display()))
        .arg(source.join(root))
        .status()
        .expect("rustc starts");
    assert!(status.success(), "compiling {name} for embedding failed");
}

/// The member of a static library that defines [`ENTRY`].
fn entry_member(bytes: &[u8]) -> &[u8] {
    let archive = ArchiveFile::parse(bytes).expect("a static library");
    let symbols = archive.symbols().expect("a readable symbol table").expect("a symbol table");
    let symbol = symbols.map(|symbol| symbol.expect("a symbol")).find(|symbol| symbol.name() == ENTRY);
    let member = archive.member(symbol.expect("the executor defines its entry").offset()).expect("a member");
    member.data(bytes).expect("a member inside the file")
}
