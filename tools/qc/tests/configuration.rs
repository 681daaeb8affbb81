//! Options from files: what they may say, and what wins.

#![allow(clippy::unwrap_used)]

mod support;

use support::Shell;

#[test]
fn options_come_from_files() {
    let shell = Shell::new();
    shell.write("qc.toml", b"[compile]\ntarget-cpu = \"scalar\"\nbatch = [1, 2]\n[bench]\ntime = 0.02\nthreads = 1\n");
    shell.ok("compile D/digits_qdq.onnx -o model.so -q");
    let tier = &shell.json("inspect model.so --show tier")["tier"];
    assert!(tier.to_string().contains("scalar") && !tier.to_string().contains("avx2"), "{tier}");
    shell.ok("compile D/digits_qdq.onnx -o model.so -q --target-cpu=fat --dump-config used.toml");
    assert!(shell.json("inspect model.so --show tier")["tier"].to_string().contains("avx2"));
    let used = String::from_utf8(shell.read("used.toml")).unwrap();
    for line in ["[compile]", "target-cpu = \"fat\"", "batch = [1, 2]", "quiet = true", "exact-qdq = false"] {
        assert!(used.lines().any(|l| l == line), "{line}\n{used}");
    }
    assert_eq!(shell.json("bench model.so")["threads"], 1);
    shell.write("other.toml", b"quiet = true\n");
    assert_eq!(shell.ok("compile D/digits_qdq.onnx -o model.so --config other.toml"), "");
    shell.ok("compile D/digits_qdq.onnx -o again.so --config used.toml");
    assert!(shell.json("inspect again.so --show tier")["tier"].to_string().contains("avx2"));
}

#[test]
fn mistakes_in_files_are_named() {
    let shell = Shell::new();
    for (text, expected) in [
        ("[run]\ntopkk = 3", "c.toml: run.topkk: there is no such option; `qc run --help` lists all"),
        ("topkk = 3", "c.toml: topkk: there is no such option; `qc run --help` lists all"),
        ("[runs]\ntopk = 3", "c.toml: there is no command `runs`"),
        ("[run]\nquiet = 3", "c.toml: run.quiet: give true or false"),
        ("[run]\ntopk = {}", "c.toml: run.topk: give text, a number, or a list of them"),
    ] {
        shell.write("c.toml", text.as_bytes());
        shell.qc("run model.so --config c.toml").fails(2, &format!("error: {expected}"));
    }
    shell.write("c.toml", b"[run");
    let ran = shell.qc("run model.so --config=c.toml");
    assert!(ran.status == 2 && ran.err.starts_with("error: c.toml: not a TOML file"), "{}", ran.err);
    let missing = "error: nope.toml: No such file or directory";
    shell.qc("run model.so --config nope.toml").fails(4, missing);
    shell.qc_with("run model.so", &[("QC_CONFIG", "nope.toml")]).fails(4, missing);
}
