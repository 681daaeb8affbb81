//! A model of several shapes in every way there is to have it: one artefact with variants for all, a predictor that compiles
//! each when it sees it, and a compilation for each alone. All give the same bits.

use crate::everywhere::{run, same, shared_object, tiers};
use crate::ladder::{Failure, fail, imported};
use qc_compiler::{AnyShapeOptions, CompileError, CompileOptions, Compiler, ContextOptions, Predictor, TargetCpu};
use qc_ir::{HostTensor, Module, NoSink, seeded_inputs};

/// Batches that are compared: one that has code, and one that is dealt out.
const BATCHES: [usize; 2] = [1, 3];

/// What became of a model at several shapes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All ways agree.
    Agree,
    /// Its interface is another one at another shape, which the compiler says.
    Apart,
}

/// Compares all ways to have the model that `make` gives for a shape, by number, and a batch.
///
/// # Errors
/// The first results that differ by a bit.
pub fn agree(
    make: &(impl Fn(usize, usize) -> Module + Clone + Send + 'static),
    shapes: usize,
    options: &CompileOptions,
) -> Result<Outcome, Failure> {
    let compiler = Compiler::new(CompileOptions { target: TargetCpu::Fat, ..options.clone() });
    let import = |shape: usize, batch: Option<usize>| Ok(imported(make(shape, batch.unwrap_or(1))));
    let all = match compiler.compile_shapes("model", [0; 32], shapes, &import, &mut NoSink) {
        Ok(all) => all,
        Err(CompileError::Model { text }) if text.contains("compile them apart") => return Ok(Outcome::Apart),
        Err(e) => return Err(fail("variants", e)),
    };
    let jit = all.jit().map_err(|e| fail("variants, JIT", e))?;
    let (_dir, loaded) = shared_object(&all).map_err(|e| fail("variants, shared object", e))?;
    // There and back: what is compiled is found again, or compiled anew where little is kept.
    let order: Vec<usize> = (0..shapes).chain((0..shapes).rev()).collect();
    let cases: Vec<Case> = (0..shapes * BATCHES.len())
        .filter_map(|i| alone(options, make, i / BATCHES.len(), BATCHES[i % BATCHES.len()]).transpose())
        .collect::<Result<_, Failure>>()?;
    let names: Vec<String> = all.note().inputs.iter().map(|io| io.name.clone()).collect();
    for tier in tiers() {
        let context = ContextOptions { threads: Some(2), cpu: Some(tier.into()) };
        let open = |rung: &'static str, p: &Predictor| {
            p.context(&context).map(|cx| (rung, cx)).map_err(|e| fail(format!("{rung} on {tier}"), e))
        };
        let mut ends = [open("variants, JIT", &jit)?, open("variants, shared object", &loaded)?];
        let mut any = any_shape(options, make.clone(), shapes, &context);
        for case in order.iter().flat_map(|&shape| cases.iter().filter(move |case| case.shape == shape)) {
            let at = format!("on {tier}, shape {}, batch {}", case.shape, case.batch);
            for (rung, cx) in &mut ends {
                case.compare(&run(cx, &case.inputs)).map_err(|e| fail(format!("{rung} {at}"), e))?;
            }
            let rung = format!("any shape {at}");
            let dims = case.inputs.iter().map(HostTensor::dims);
            let given: Vec<(&str, &[usize])> = names.iter().map(String::as_str).zip(dims).collect();
            let cx = any.context(&given).map_err(|e| fail(rung.as_str(), e))?;
            case.compare(&run(cx, &case.inputs)).map_err(|e| fail(rung.as_str(), e))?;
        }
    }
    Ok(Outcome::Agree)
}

/// Inputs of a shape and batch, and what a compilation for these alone makes of them.
struct Case {
    shape: usize,
    batch: usize,
    inputs: Vec<HostTensor>,
    expected: Vec<HostTensor>,
}

impl Case {
    fn compare(&self, found: &Result<Vec<HostTensor>, String>) -> Result<(), String> {
        let found = found.as_ref().map_err(String::clone)?;
        for (i, (a, b)) in self.expected.iter().zip(found).enumerate() {
            if a.dims() != b.dims() {
                return Err(format!("output {i} has shape {:?} instead of {:?}", b.dims(), a.dims()));
            }
            same(a, b).map_err(|e| format!("output {i}: {e}"))?;
        }
        Ok(())
    }
}

/// A predictor that keeps two shapes, of the module whose inputs have the shapes asked for.
fn any_shape(
    options: &CompileOptions,
    make: impl Fn(usize, usize) -> Module + Send + 'static,
    shapes: usize,
    context: &ContextOptions,
) -> qc_compiler::AnyShape {
    let target = context.cpu.as_deref().and_then(|word| TargetCpu::parse(word).ok()).unwrap_or_default();
    let compiler = Compiler::new(CompileOptions { target, ..options.clone() });
    let options = AnyShapeOptions { kept: 2, context: context.clone() };
    compiler.any_shape_imported("model", &options, move |_, given| {
        let fits = |m: &Module| m.args(m.body()).iter().zip(given).all(|(&v, (_, dims))| *m.dims(v) == dims[..]);
        let candidates = (0..shapes).flat_map(|shape| BATCHES.map(|batch| (shape, batch)));
        let found = candidates.map(|(shape, batch)| make(shape, batch)).find(fits);
        found.map(imported).ok_or_else(|| CompileError::Option("no such shape".into()))
    })
}

/// The case of a shape and batch; none where the compiler refuses that batch.
fn alone(
    options: &CompileOptions,
    make: &impl Fn(usize, usize) -> Module,
    shape: usize,
    batch: usize,
) -> Result<Option<Case>, Failure> {
    let rung = format!("alone, shape {shape}, batch {batch}");
    let import = |batch: Option<usize>| Ok(imported(make(shape, batch.unwrap_or(1))));
    let compiler = Compiler::new(options.clone());
    let one = compiler.compile_imported("model", [0; 32], &import, &mut NoSink).map_err(|e| fail(rung.as_str(), e))?;
    let jit = one.jit().map_err(|e| fail(rung.as_str(), e))?;
    if jit.whole_batches().is_some_and(|all| !all.contains(&batch)) {
        return Ok(None);
    }
    let mut cx = jit.context(&ContextOptions::default()).map_err(|e| fail(rung.as_str(), e))?;
    let inputs = seeded_inputs(&make(shape, batch));
    let expected = run(&mut cx, &inputs).map_err(|e| fail(rung, e))?;
    Ok(Some(Case { shape, batch, inputs, expected }))
}
