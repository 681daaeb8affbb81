//! What is written as ONNX is read again as the same numbers: random models and the shipped example.

#![allow(clippy::unwrap_used)]

use qc_compiler::{CompileOptions, Compiler, ModelFile, Precision, REGISTRY, interpret, pipeline, ranges};
use qc_frontend::{Bytes, Imported, Interface, NoFiles, Options, Source, import, write_onnx};
use qc_ir::{HostTensor, Module, NoSink, Step};
use qc_ladder::random::{Mode, Recipe, build};
use qc_tests::tidy::root;
use std::collections::BTreeMap;

/// Random models of each mode.
const SEEDS: std::ops::Range<u64> = 0..300;
/// How many of them have ops that are written, at least.
const LEAST_WRITTEN: usize = 100;

fn run(m: &mut Module, options: &CompileOptions, steps: &[Step]) {
    Compiler::new(options.clone()).run(m, steps, &mut NoSink).unwrap();
}

/// A module in the form that is written.
fn portable(mut m: Module, options: &CompileOptions) -> Module {
    run(&mut m, options, &pipeline::float(options));
    if options.precision == Precision::Fp32 {
        return m;
    }
    if let Some(found) = &options.ranges {
        ranges::attach(&mut m, found).unwrap();
    }
    run(&mut m, options, &pipeline::portable(options));
    m
}

fn written(m: &Module) -> Result<Vec<u8>, Vec<String>> {
    let inputs = (0..m.args(m.body()).len()).map(|i| format!("in{i}"));
    let names = inputs.chain((0..m.returns(m.body()).len()).map(|i| format!("out{i}"))).collect();
    let interface = Interface { names, items: None, data_file: "m.data".into() };
    let op = |one: qc_frontend::Unwritten| one.op.rsplit(' ').next().unwrap_or_default().to_string();
    write_onnx(m, &interface).map(|w| w.model).map_err(|all| all.into_iter().map(op).collect())
}

fn read(model: Vec<u8>) -> Imported {
    let source = Source { name: "m".into(), model: Bytes::from(model), params: None, files: &NoFiles };
    let imported = import(&source, &Options::default()).unwrap();
    assert!(qc_ir::verify(&imported.module, &REGISTRY).is_empty());
    imported
}

/// Ops that are written in several of ONNX, whose sums are rounded elsewhere.
const SPELLED: [&str; 9] =
    ["gelu", "swish", "mish", "hard_swish", "log2", "log10", "softplus", "resample", "layer_norm"];
/// Ops that make NaN, of which a clamp in front of a quantization makes another number than its bounds do.
const NO_NUMBERS: [&str; 8] = ["acosh", "atanh", "asin", "acos", "log", "sqrt", "pow", "rem"];

fn has(m: &Module, names: &[&str]) -> bool {
    m.ops(m.body()).iter().any(|&op| names.iter().any(|name| m.def(op).name == format!("graph.{name}")))
}

fn same(a: &[HostTensor], b: &[HostTensor], exact: bool) -> bool {
    let alike = |(x, y): (&HostTensor, &HostTensor)| {
        let bits = x.dims() == y.dims() && x.data().to_bytes() == y.data().to_bytes();
        bits || !exact && qc_ir::distance(x, y).is_some_and(|far| far <= 1e-2)
    };
    a.len() == b.len() && a.iter().zip(b).all(alike)
}

#[test]
fn random_models_come_back_to_the_bit() {
    for mode in [Mode::Ranges, Mode::Pairs] {
        let (mut all, mut exact, mut refused) = (0, 0, BTreeMap::<String, usize>::new());
        for seed in SEEDS {
            let recipe = Recipe::random(seed, mode);
            let options = recipe.options();
            let own = portable(build(&recipe, 1), &options);
            let model = match written(&own) {
                Ok(model) => model,
                Err(ops) => {
                    ops.into_iter().for_each(|op| *refused.entry(op).or_default() += 1);
                    continue;
                }
            };
            let copy = read(model).module;
            let inputs = qc_ir::samples(&own, 1).remove(0);
            if has(&own, &NO_NUMBERS) {
                continue;
            }
            let is_exact = !has(&own, &SPELLED);
            let (x, y) = (interpret(&own, &inputs).unwrap(), interpret(&copy, &inputs).unwrap());
            let text = |m: &Module| qc_ir::print(m, Default::default());
            assert!(same(&x, &y, is_exact), "{mode:?} {seed}: {}\nis read again as {}", text(&own), text(&copy));
            (all, exact) = (all + 1, exact + usize::from(is_exact));
        }
        println!("{mode:?}: {all} written, {exact} to the bit; refused {refused:?}");
        assert!(all >= LEAST_WRITTEN && exact >= LEAST_WRITTEN / 2, "{mode:?}: {all} written, {exact} to the bit");
    }
}

/// The INT8 of the example, quantized by its own pairs, and of the file that is written of it.
#[test]
fn the_integers_of_the_example_come_back() {
    let file = ModelFile::open(&root().join("examples/digits/digits_qdq.onnx"), None).unwrap();
    let options = CompileOptions::default();
    let own = Compiler::new(options.clone()).import(&file, None).unwrap();
    let model = written(&portable(own.module.clone(), &options)).unwrap();
    let integers = |mut m: Module| {
        run(&mut m, &options, &pipeline::float(&options));
        run(&mut m, &options, &pipeline::int8(&options));
        let count = m.ops(m.body()).iter().filter(|&&op| m.def(op).dialect() == "quant").count();
        assert!(count > 5, "{}", qc_ir::print(&m, Default::default()));
        m
    };
    let (a, b) = (integers(own.module), integers(read(model).module));
    for inputs in qc_ir::samples(&a, 8) {
        assert_eq!(interpret(&a, &inputs).unwrap(), interpret(&b, &inputs).unwrap());
    }
}
