//! Rules about the source that no compiler checks. Each function gives the violations of one rule.

use proc_macro2::{TokenStream, TokenTree};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use syn::spanned::Spanned;
use syn::visit::Visit;

/// Lines a source file may have.
pub const MAX_FILE_LINES: usize = 800;
/// Lines a function may have.
pub const MAX_FUNCTION_LINES: usize = 100;
/// Functions that are tables, which nothing is gained by cutting.
pub const TABLES: &[&str] = &[];
/// File names that say nothing about their content.
const NAMELESS: &[&str] = &["utils.rs", "util.rs", "common.rs", "helpers.rs", "helper.rs", "misc.rs"];

/// Where `unsafe` may stand. The files call one unsafe function, that which loads a shared object.
const UNSAFE: &[&str] = &[
    "runtime/kernels/",
    "runtime/embed/",
    "runtime/core/",
    "compiler/codegen/",
    "tools/qc/src/model.rs",
    "bench/src/worker.rs",
];

/// What each crate may use of the others; the picture in ARCHITECTURE.md as a table. Crates at the top use any.
pub const ARROWS: &[(&str, Option<&[&str]>)] = &[
    ("qc-ir", Some(&[])),
    ("qc-arrays", Some(&["qc-ir"])),
    ("qc-calibration", Some(&[])),
    ("qc-kernels", Some(&[])),
    ("qc-embed", Some(&["qc-kernels"])),
    ("qc-runtime", Some(&["qc-embed", "qc-kernels"])),
    ("qc-dialects", Some(&["qc-ir", "qc-kernels"])),
    ("qc-frontend", Some(&["qc-dialects", "qc-ir"])),
    ("qc-passes", Some(&["qc-dialects", "qc-ir", "qc-kernels"])),
    ("qc-codegen", Some(&["qc-dialects", "qc-embed", "qc-ir", "qc-kernels", "qc-runtime"])),
    (
        "qc-compiler",
        Some(&[
            "qc-calibration",
            "qc-codegen",
            "qc-dialects",
            "qc-embed",
            "qc-frontend",
            "qc-ir",
            "qc-kernels",
            "qc-passes",
            "qc-runtime",
        ]),
    ),
    ("qc-ladder", Some(&["qc-compiler", "qc-dialects", "qc-frontend", "qc-ir", "qc-runtime"])),
    ("qc-tests", None),
    ("qc-bench", None),
    ("qc", None),
];

/// Outside crates that have one home.
const HOMES: &[(&str, &str)] =
    &[("cranelift", "qc-codegen"), ("prost", "qc-frontend"), ("libloading", "qc-runtime"), ("zip", "qc-arrays")];

/// The root of the repository.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// A source file: path from the root, and text.
pub struct File {
    /// Path with `/`.
    pub path: String,
    /// Content.
    pub text: String,
}

/// All text files of the repository.
pub fn files() -> Vec<File> {
    fn collect(root: &Path, dir: &Path, out: &mut Vec<File>) {
        let mut entries: Vec<PathBuf> =
            std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
        entries.sort();
        for path in entries {
            let name = path.file_name().map_or(String::new(), |n| n.to_string_lossy().into_owned());
            if path.is_dir() {
                if name != ".git" && name != "target" {
                    collect(root, &path, out);
                }
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let path = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                if name != "Cargo.lock" && name != ".git" {
                    out.push(File { path, text });
                }
            }
        }
    }
    let (root, mut out) = (root(), Vec::new());
    collect(&root, &root, &mut out);
    out
}

fn rust(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|f| f.path.ends_with(".rs"))
}

/// Every Rust file says in its first line what it is for, is not too long, and has a name that says something.
pub fn shape_of_files(files: &[File]) -> Vec<String> {
    let mut out = Vec::new();
    for f in rust(files) {
        if !f.text.starts_with("//! ") {
            out.push(format!("{}: the first line must be `//! ..`", f.path));
        }
        let lines = f.text.lines().count();
        if lines > MAX_FILE_LINES {
            out.push(format!("{}: {lines} lines, {MAX_FILE_LINES} are allowed", f.path));
        }
        if NAMELESS.iter().any(|n| f.path.rsplit('/').next() == Some(n)) {
            out.push(format!("{}: the name says nothing", f.path));
        }
    }
    out
}

/// Nothing in the sources can open a connection, and no crate that can is in the lock file.
pub fn no_network(files: &[File], lock: &str) -> Vec<String> {
    const NET: [&str; 4] = ["std::net", "TcpStream", "UdpSocket", "UnixStream"];
    const CRATES: [&str; 9] =
        ["reqwest", "hyper", "ureq", "curl", "tokio", "rustls", "openssl", "native-tls", "attohttpc"];
    let mut out = Vec::new();
    for f in rust(files).filter(|f| f.path != "tests/src/tidy.rs") {
        let found = NET.iter().find(|word| f.text.contains(**word));
        out.extend(found.map(|word| format!("{}: `{word}`", f.path)));
    }
    let is_in_lock = |name: &&&str| lock.contains(&format!("name = \"{name}\""));
    out.extend(CRATES.iter().filter(is_in_lock).map(|name| format!("Cargo.lock: `{name}` can use the network")));
    out
}

/// Users build with Rust and a linker: no crate compiles C, or binds to a library in C that it brings along. `lock` is
/// `Cargo.lock`.
pub fn no_c(lock: &str) -> Vec<String> {
    const BUILDERS: [&str; 7] = ["autotools", "bindgen", "cc", "cmake", "nasm-rs", "pkg-config", "vcpkg"];
    // Declarations of system calls and of other systems, in Rust.
    const DECLARATIONS: [&str; 3] = ["js-sys", "linux-raw-sys", "windows-sys"];
    let names = lock.lines().filter_map(|l| l.strip_prefix("name = \"")?.strip_suffix('"'));
    let brings_c = |name: &&str| BUILDERS.contains(name) || name.ends_with("-sys") && !DECLARATIONS.contains(name);
    names.filter(brings_c).map(|name| format!("Cargo.lock: `{name}` brings C code")).collect()
}

/// Skips are printed as `.ci/run` counts them: `SKIPPED`, a number, a colon and the reason.
pub fn skips(files: &[File]) -> Vec<String> {
    let mut out = Vec::new();
    for f in rust(files).filter(|f| f.path != "tests/src/tidy.rs") {
        for (i, line) in f.text.lines().enumerate() {
            let Some((_, said)) = line.split_once("println!(\"") else { continue };
            let counted = said.strip_prefix("SKIPPED ").and_then(|rest| rest.split_once(": "));
            let counted = counted.is_some_and(|(n, _)| n.parse::<u32>().is_ok() || n.starts_with('{'));
            if said.to_ascii_lowercase().starts_with("skip") && !counted {
                out.push(format!("{}:{}: a skip that is not counted; print `SKIPPED n: why`", f.path, i + 1));
            }
        }
    }
    out
}

struct Functions<'f> {
    path: &'f str,
    found: Vec<String>,
}

impl Functions<'_> {
    fn look(&mut self, name: &syn::Ident, span: proc_macro2::Span) {
        let lines = span.end().line + 1 - span.start().line;
        if lines > MAX_FUNCTION_LINES && !TABLES.contains(&name.to_string().as_str()) {
            let at = span.start().line;
            self.found
                .push(format!("{}:{at}: `{name}` has {lines} lines, {MAX_FUNCTION_LINES} are allowed", self.path));
        }
    }
}

impl<'a> Visit<'a> for Functions<'_> {
    fn visit_item_fn(&mut self, f: &'a syn::ItemFn) {
        self.look(&f.sig.ident, f.block.span());
        syn::visit::visit_item_fn(self, f);
    }
    fn visit_impl_item_fn(&mut self, f: &'a syn::ImplItemFn) {
        self.look(&f.sig.ident, f.block.span());
        syn::visit::visit_impl_item_fn(self, f);
    }
}

/// No function is too long.
pub fn length_of_functions(files: &[File]) -> Vec<String> {
    let mut out = Vec::new();
    for f in rust(files) {
        match syn::parse_file(&f.text) {
            Ok(file) => {
                let mut functions = Functions { path: &f.path, found: Vec::new() };
                functions.visit_file(&file);
                out.extend(functions.found);
            }
            Err(e) => out.push(format!("{}: {e}", f.path)),
        }
    }
    out
}

/// Calls `see` for every token outside comments and strings.
fn tokens(stream: TokenStream, see: &mut dyn FnMut(&TokenTree)) {
    for t in stream {
        see(&t);
        if let TokenTree::Group(g) = t {
            tokens(g.stream(), see);
        }
    }
}

/// `unsafe` stands only where it may, and a SAFETY comment (or a `# Safety` section) stands close above.
pub fn unsafe_code(files: &[File]) -> Vec<String> {
    let mut out = Vec::new();
    for f in rust(files) {
        let Ok(stream) = f.text.parse::<TokenStream>() else { continue };
        let mut lines = BTreeSet::new();
        tokens(stream, &mut |t| {
            if matches!(t, TokenTree::Ident(i) if *i == "unsafe") {
                lines.insert(t.span().start().line);
            }
        });
        let allowed = UNSAFE.iter().any(|p| f.path.starts_with(p));
        let text: Vec<&str> = f.text.lines().collect();
        for line in lines {
            if !allowed {
                out.push(format!("{}:{line}: `unsafe` may not stand here", f.path));
            } else if is_block(text[line - 1]) && !explained(&text[..line]) {
                out.push(format!("{}:{line}: no SAFETY comment", f.path));
            }
        }
    }
    out
}

/// Whether a line opens an unsafe block; types, declarations and attributes need no reason.
fn is_block(line: &str) -> bool {
    line.contains("unsafe {") || line.contains("unsafe impl")
}

/// Whether the last of `lines`, or the comment above its statement, gives the reason.
fn explained(lines: &[&str]) -> bool {
    lines.iter().rev().take(8).any(|l| l.contains("SAFETY"))
}

/// The manifests have exactly the arrows of [`ARROWS`]; `metadata` is the output of `cargo metadata --no-deps`.
///
/// # Errors
/// When the metadata cannot be read.
pub fn arrows(metadata: &str) -> Result<Vec<String>, String> {
    let json: serde_json::Value = serde_json::from_str(metadata).map_err(|e| e.to_string())?;
    let packages = json["packages"].as_array().ok_or("no packages")?;
    let mut out = Vec::new();
    for p in packages {
        let name = p["name"].as_str().unwrap_or("");
        let all = p["dependencies"].as_array().into_iter().flatten();
        let used: BTreeSet<&str> =
            all.filter(|d| d["kind"].as_str() != Some("dev")).filter_map(|d| d["name"].as_str()).collect();
        let Some((_, allowed)) = ARROWS.iter().find(|(n, _)| *n == name) else {
            out.push(format!("{name} is not in the table of the tidy test"));
            continue;
        };
        let own: BTreeSet<&str> = used.iter().copied().filter(|d| ARROWS.iter().any(|(n, _)| n == d)).collect();
        if let Some(allowed) = allowed
            && own != allowed.iter().copied().collect()
        {
            out.push(format!("{name} uses {own:?}, the table says {allowed:?}"));
        }
        if allowed.is_some() {
            for (dependency, home) in HOMES {
                if *home != name && used.iter().any(|d| d.starts_with(dependency)) {
                    out.push(format!("{name} uses {dependency}, which belongs to {home}"));
                }
            }
        }
    }
    Ok(out)
}

/// The core names no op, and code generation knows only the loop dialect.
pub fn layers(files: &[File]) -> Vec<String> {
    let mut out = Vec::new();
    for f in rust(files) {
        if f.path.starts_with("compiler/ir/src/") {
            let Ok(stream) = f.text.parse::<TokenStream>() else { continue };
            tokens(stream, &mut |t| {
                let TokenTree::Literal(l) = t else { return };
                let text = l.to_string();
                if ["\"graph.", "\"quant.", "\"loop."].iter().any(|p| text.starts_with(p)) {
                    out.push(format!("{}:{}: the core names the op {text}", f.path, l.span().start().line));
                }
            });
        }
        if f.path.starts_with("compiler/codegen/src/") {
            for (i, line) in f.text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or("");
                let other =
                    code.split("qc_dialects::").skip(1).any(|r| !r.starts_with("loops") && !r.starts_with("phase"));
                if other {
                    out.push(format!("{}:{}: code generation knows only `qc_dialects::loops`", f.path, i + 1));
                }
            }
        }
    }
    out
}

/// Every pass has a folder of file tests, every op stands in one of them.
pub fn coverage(files: &[File]) -> Vec<String> {
    let tests: Vec<&File> = files.iter().filter(|f| f.path.ends_with(".qir")).collect();
    let mut out = Vec::new();
    for pass in qc_passes::ALL {
        let folder = format!("tests/qir/{}/", pass.name.replace('-', "_"));
        let runs = |f: &&&File| f.path.starts_with(&folder) && f.text.contains(pass.name);
        if tests.iter().filter(runs).count() < 2 {
            out.push(format!("the pass {} has fewer than two tests in {folder}", pass.name));
        }
    }
    for def in qc_compiler::REGISTRY.dialects.iter().flat_map(|d| d.iter()) {
        let call = format!("{}(", def.name);
        if !tests.iter().any(|f| f.text.contains(&call)) {
            out.push(format!("no file test has the op {}", def.name));
        }
    }
    out
}

/// ARCHITECTURE.md names every crate.
pub fn architecture(files: &[File]) -> Vec<String> {
    let Some(page) = files.iter().find(|f| f.path == "ARCHITECTURE.md") else {
        return vec!["there is no ARCHITECTURE.md".into()];
    };
    let named = |name: &str| page.text.contains(&format!("(`{name}`)"));
    let missing = ARROWS.iter().filter(|(n, _)| !named(n));
    missing.map(|(n, _)| format!("ARCHITECTURE.md does not name `{n}`")).collect()
}

/// No file has a path of the machine it was written on.
pub fn paths(files: &[File]) -> Vec<String> {
    let private = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];
    let mut out = Vec::new();
    for f in files {
        for (i, line) in f.text.lines().enumerate() {
            if private.iter().any(|p| line.contains(p)) {
                out.push(format!("{}:{}: a path of one machine", f.path, i + 1));
            }
        }
    }
    out
}
