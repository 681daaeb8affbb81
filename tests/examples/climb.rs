//! Climbs the ladder with one model and prints how the rungs differ: `climb MODEL [exact] [noloop] [nointerp]`.

use qc_compiler::{CompileOptions, ModelFile, interpret};
use qc_ir::{distance, seeded_inputs};
use qc_tests::ladder::{run_jit, rungs};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |w: &str| args.iter().any(|a| a == w);
    let options = CompileOptions { exact_qdq: has("exact"), ..CompileOptions::default() };
    let start = Instant::now();
    let file = ModelFile::open(args[0].as_ref(), None)?;
    let r = rungs(&file, &options)?;
    println!("compiled in {:?}", start.elapsed());
    let inputs = seeded_inputs(&r.canonical);
    let show = |name: &str, a: &[qc_ir::HostTensor], b: &[qc_ir::HostTensor]| {
        for (x, y) in a.iter().zip(b) {
            println!("{name}: distance {:?}", distance(x, y));
        }
    };
    let start = Instant::now();
    let predictor = r.compiled.jit()?;
    println!("jit in {:?}", start.elapsed());
    let mut best = None;
    for tier in ["avx512vnni", "avx2", "scalar"] {
        let start = Instant::now();
        let out = run_jit(&predictor, tier, 1, &inputs, 1)?;
        println!("{tier} ran in {:?}", start.elapsed());
        match &best {
            None => best = Some(out),
            Some(b) => show(&format!("{tier} against avx512vnni"), b, &out),
        }
    }
    let best = best.ok_or("no tier")?;
    if !has("nointerp") {
        let float = interpret(&r.canonical, &inputs)?;
        show("jit against graph interpreter", &float, &best);
        let quant = interpret(&r.fused, &inputs)?;
        show("jit against quant interpreter", &quant, &best);
    }
    if !has("noloop") {
        let start = Instant::now();
        let loops = interpret(&r.planned, &inputs)?;
        println!("loop interpreter took {:?}", start.elapsed());
        show("jit against loop interpreter", &loops, &best);
    }
    Ok(())
}
