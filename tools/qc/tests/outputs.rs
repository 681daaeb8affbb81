//! What is written: to regular files only, never over an input or a file of others, whole or not at all.

#![allow(clippy::unwrap_used)]

mod support;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::Duration;
use support::{Shell, digits};

#[test]
fn inputs_are_never_written_over() {
    let shell = Shell::new();
    std::fs::copy(digits().join("digits.onnx"), shell.path("m.so")).unwrap();
    std::fs::copy(digits().join("digits.onnx"), shell.path("m.onnx")).unwrap();
    std::fs::copy(digits().join("train.npz"), shell.path("x.npz")).unwrap();
    std::fs::hard_link(shell.path("m.onnx"), shell.path("same.json")).unwrap();
    shell.ok("calibrate m.onnx --data x.npz -o r.json -q");
    std::fs::create_dir(shell.path("paddle")).unwrap();
    for name in ["model", "params"] {
        std::fs::copy(digits().join("paddle_float").join(name), shell.path("paddle").join(name)).unwrap();
    }
    shell.ok("opt m.onnx --to imported -o m.qir");
    std::fs::create_dir(shell.path("qat")).unwrap();
    for entry in std::fs::read_dir(digits().join("paddle_qat")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, shell.path("qat").join(path.file_name().unwrap())).unwrap();
    }
    let text = "this is an input of the same command; write to another file";
    for (line, path) in [
        ("compile m.so -o m.so", "m.so"),
        ("compile m.onnx -o out.so --ranges r.json --json=r.json", "r.json"),
        ("compile m.onnx -o out.so --json=same.json", "same.json"),
        ("calibrate m.onnx --data x.npz -o m.onnx", "m.onnx"),
        ("calibrate m.onnx --data x.npz -o x.npz", "x.npz"),
        ("calibrate paddle --data x.npz -o paddle/params", "paddle/params"),
        // Files of parameters, which are known when the model has been read.
        ("opt qat/__model__ --to imported -o qat/c1_w", "qat/c1_w"),
        ("run m.onnx -i x.npz -o x.npz", "x.npz"),
        ("run m.onnx -i image:x.npz -o m.onnx", "m.onnx"),
        ("opt m.qir -o m.qir", "m.qir"),
        ("bench m.onnx --export-trace m.onnx", "m.onnx"),
        ("accuracy m.onnx --data x.npz --predictions x.npz", "x.npz"),
        ("check m.onnx --dump-config m.onnx", "m.onnx"),
    ] {
        let before = shell.read(path);
        shell.qc(line).fails(2, &format!("error: {path}: {text}"));
        assert!(shell.read(path) == before, "{line}");
    }
    let twice = "error: r2.json: two results would be written here";
    shell.qc("calibrate m.onnx --data x.npz -o r2.json --json=r2.json").fails(2, twice);
}

#[test]
fn paths_are_looked_at_before_the_work() {
    let shell = Shell::new();
    shell.write("file", b"old");
    symlink("file", shell.path("link.so")).unwrap();
    assert!(Command::new("mkfifo").arg(shell.path("pipe.so")).status().unwrap().success());
    // The models do not exist, so that nothing but the paths can be what is refused.
    for (line, status, text) in [
        ("calibrate none.onnx --data D/train.npz -o nodir/r.json", 4, "nodir/r.json: No such file or directory"),
        ("compile none.onnx -o /dev/null", 4, "/dev/null: this is a device; results are written to regular files only"),
        ("compile none.onnx -o link.so", 4, "link.so: this is a link to file; name the file itself"),
        ("compile none.onnx -o pipe.so", 4, "pipe.so: this is a pipe; results are written to regular files only"),
        ("run none.onnx -o .", 4, ".: this is no name of a file"),
        (
            "compile none.onnx -o a.onnx",
            2,
            "a.onnx: what is compiled is a shared object, whose name must end in .so; write a.so, or an .onnx file by `qc quantize`",
        ),
    ] {
        shell.qc(line).fails(status, &format!("error: {text}"));
    }
    shell.write("m.h", b"#pragma once\n");
    let text = "error: m.h: this header is not qc's and would be overwritten; move it, or choose another name";
    shell.qc("compile D/digits_qdq.onnx -o m.so").fails(4, text);
    assert_eq!(shell.read("m.h"), b"#pragma once\n");
    assert_eq!(shell.read("file"), b"old");
    shell.ok("compile D/digits_qdq.onnx -o own.so -q");
    shell.ok("compile D/digits_qdq.onnx -o own.so -q");
}

#[test]
fn files_have_the_permissions_of_the_users_umask() {
    let shell = Shell::new();
    for (mask, mode) in [("077", 0o600), ("027", 0o640), ("022", 0o644)] {
        let qc = env!("CARGO_BIN_EXE_qc");
        let line = format!("umask {mask}; {qc} compile {}/digits_qdq.onnx -q -o m.so", digits().display());
        assert!(Command::new("sh").args(["-c", &line]).current_dir(shell.dir.path()).status().unwrap().success());
        for name in ["m.so", "m.h"] {
            let found = std::fs::metadata(shell.path(name)).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, mode, "{name}: {found:o}");
        }
    }
}

#[test]
fn a_signal_leaves_all_or_nothing() {
    let shell = Shell::new();
    let mut ended = 0;
    for i in 0..30u64 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_qc"))
            .args(["compile", &format!("{}/digits_qdq.onnx", digits().display()), "-o", "m.so"])
            .current_dir(shell.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(3 * i));
        let signal = ["-INT", "-TERM", "-HUP"][(i % 3) as usize];
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).stderr(Stdio::null()).status().unwrap();
        let status = child.wait().unwrap();
        ended += u32::from(sent.success() && status.code().is_none());
        let mut names: Vec<String> = std::fs::read_dir(shell.dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert!(names.is_empty() || names == ["m.h", "m.so"], "{i}: {names:?}");
        for name in names {
            std::fs::remove_file(shell.path(&name)).unwrap();
        }
    }
    assert!(ended > 0, "no command was ended by its signal");
}
