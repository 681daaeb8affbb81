//! Compiles the kernels, once and always optimized, whatever profile the rest has: into the object that models are made
//! from, and into a library with which everything that uses this crate is linked.
//!
//! The compiler's output is taken as it is: optimizing it again at link time moves registers to the stack. The object
//! depends on the sources and the compiler only: paths are mapped away and `RUSTFLAGS` are not passed on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const FLAGS: &[&str] = &[
    "--crate-name=qc_vector",
    "--crate-type=rlib",
    "--edition=2024",
    "--target=x86_64-unknown-linux-gnu",
    "--cfg=qc_embed",
    "--cap-lints=warn",
    "-Copt-level=3",
    "-Ccodegen-units=1",
    "-Cpanic=abort",
    "-Cforce-unwind-tables=no",
    "-Crelocation-model=pic",
    "-Cdebuginfo=0",
    "-Cembed-bitcode=no",
];

/// Sources that the object is made of.
const SOURCES: &[&str] = &[
    "lib.rs",
    "args",
    "args.rs",
    "body",
    "field.rs",
    "functions.rs",
    "host.rs",
    "isa",
    "numbers.rs",
    "row.rs",
    "table.rs",
    "tier.rs",
    "wide.rs",
];

fn main() {
    let variable = |name: &str| PathBuf::from(env::var_os(name).expect("cargo sets it"));
    let (out, source) = (variable("OUT_DIR"), variable("CARGO_MANIFEST_DIR").join("src"));
    println!("cargo::rerun-if-changed=build.rs");
    for name in SOURCES {
        println!("cargo::rerun-if-changed={}", source.join(name).display());
    }
    let (library, object) = (out.join("libqc_vector.a"), out.join("kernels.o"));
    let status = Command::new(variable("RUSTC"))
        .current_dir(&out)
        .args(FLAGS)
        .arg(format!("--emit=link={},obj={}", library.display(), object.display()))
        .arg(format!("--remap-path-prefix={}=qc_kernels", source.display()))
        .arg(source.join("lib.rs"))
        .status()
        .expect("rustc starts");
    assert!(status.success(), "compiling the kernels failed");
    assert!(size(&object) > 0 && size(&library) > 0, "rustc wrote both files");
    // Not bundled: the library is a Rust one in form, and two such cannot be one inside the other.
    println!("cargo::rustc-link-search=native={}", out.display());
    println!("cargo::rustc-link-lib=static:-bundle=qc_vector");
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}
