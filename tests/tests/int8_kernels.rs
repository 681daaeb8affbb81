//! Single INT8 kernels of Paddle, with inputs and results recorded from it: every vector whose op exists here matches to
//! the last bit, or differs for a reason that [`allowed`] states.
//!
//! The vectors are found as [`golden::shared`] says; without them the test is skipped, and the skip is printed. Each is
//! made into a graph with quantize/dequantize pairs, as a model that holds the op would be imported, and run on all
//! tiers of this machine.

#![allow(clippy::unwrap_used)]

use qc_compiler::{CompileError, CompileOptions, Compiler, ContextOptions, Guard, TargetCpu};
use qc_dialects::graph::activation::Function;
use qc_dialects::graph::quantize::quantize;
use qc_dialects::graph::{
    Add, AvgPool, Clip, Constant, Conv2d, Dequantize, GlobalAvgPool, Matmul, MaxPool, Mul, Quantize, Relu, Reshape,
    Transpose,
};
use qc_dialects::{graph, phase};
use qc_ir::{
    Attrs, Builder, Data, Elem, HostTensor, Module, NoSink, OpDef, Quant, RegionId, Store, TensorTy, Type, ValueId,
};
use qc_ladder::ladder;
use qc_tests::golden;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// One recorded kernel call.
struct Case {
    op: String,
    /// 1: the result is scaled in one step and the bias of a convolution is i32; 3: bias and activation in f32.
    era: i64,
    attrs: Json,
    inputs: BTreeMap<String, HostTensor>,
    out: HostTensor,
}

impl Case {
    fn number(&self, name: &str) -> Option<f32> {
        self.attrs[name].as_f64().map(|x| x as f32)
    }

    fn scale(&self, name: &str) -> f32 {
        self.number(name).unwrap()
    }

    fn ints(&self, name: &str) -> Vec<i64> {
        self.attrs[name].as_array().into_iter().flatten().filter_map(Json::as_i64).collect()
    }

    fn flag(&self, name: &str) -> bool {
        self.attrs[name].as_bool().unwrap_or(false)
    }

    fn activation(&self) -> &str {
        let own = self.attrs["fuse_activation"].as_str().unwrap_or("");
        if own.is_empty() { self.attrs["activation_type"].as_str().unwrap_or("") } else { own }
    }

    /// Scales of the weights: numbers per unit, one or one per output channel.
    fn weight_scales(&self) -> Vec<f32> {
        self.attrs["Scale_weights"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
    }

    /// Whether the result is f32.
    fn is_float(&self) -> bool {
        self.out.as_f32().is_some()
    }
}

/// The format of a tensor stored like `t` with `scale` steps per unit.
fn format(t: &HostTensor, scale: f32) -> Quant {
    let store = if matches!(t.data(), Data::I8(_)) { Store::I8 } else { Store::U8 };
    Quant::per_tensor(store, 1.0 / scale, 0)
}

/// A graph under construction. Its inputs are the numbers that recorded integers stand for.
struct Maker {
    m: Module,
    body: RegionId,
    inputs: Vec<HostTensor>,
}

impl Maker {
    fn op(&mut self, def: &'static OpDef, operands: &[ValueId], attrs: Attrs) -> ValueId {
        let mut slots: Vec<Option<ValueId>> = operands.iter().copied().map(Some).collect();
        slots.resize(def.operands.len(), None);
        let mut b = Builder::at_end(&mut self.m, self.body);
        let made = b.create(def, &slots, attrs).unwrap();
        self.m.result(made)
    }

    /// An input of the model, quantized and dequantized in its format.
    fn input(&mut self, t: &HostTensor, scale: f32) -> ValueId {
        let format = format(t, scale);
        let real: Vec<f32> = (0..t.len()).map(|i| t.int(i).unwrap() as f32 * format.scale(0)).collect();
        let real = HostTensor::f32(t.dims(), real);
        let v = self.plain(&real);
        self.pair(v, format)
    }

    fn plain(&mut self, t: &HostTensor) -> ValueId {
        let v = self.m.add_arg(self.body, Type::Tensor(TensorTy::new(Elem::F32, t.dims())));
        self.m.set_name(v, &format!("x{}", self.inputs.len()));
        self.inputs.push(t.clone());
        v
    }

    fn pair(&mut self, v: ValueId, format: Quant) -> ValueId {
        let id = self.m.intern_quant(format);
        let q = self.op(Quantize::DEF, &[v], Attrs::new().with("quant", id));
        self.op(Dequantize::DEF, &[q], Attrs::new())
    }

    fn constant(&mut self, elem: Elem, t: HostTensor) -> ValueId {
        let ty = TensorTy::new(elem, t.dims());
        let c = self.m.consts.add("c", ty, Arc::new(t));
        self.op(Constant::DEF, &[], Attrs::new().with("value", c))
    }

    /// A weight as Paddle stores it in INT8: rounded, s8, `scales` along `axis`.
    fn weight(&mut self, w: &HostTensor, scales: &[f32], axis: usize) -> ValueId {
        let inner: usize = w.dims()[axis + 1..].iter().product();
        let scale = |i: usize| scales[if scales.len() == 1 { 0 } else { i / inner % scales.len() }];
        let stored = |(i, x): (usize, &f32)| (x * scale(i)).round_ties_even().clamp(-128.0, 127.0) as i8;
        let data = w.as_f32().unwrap().iter().enumerate().map(stored).collect();
        let format = Quant {
            axis: (scales.len() > 1).then_some(axis),
            scales: scales.iter().map(|s| 1.0 / s).collect(),
            ..Quant::per_tensor(Store::I8, 1.0, 0)
        };
        let id = self.m.intern_quant(format);
        let c = self.constant(Elem::Quant(id), HostTensor::new(w.dims(), Data::I8(data)).unwrap());
        self.op(Dequantize::DEF, &[c], Attrs::new())
    }

    fn bias(&mut self, case: &Case) -> Option<ValueId> {
        let b = case.inputs.get("Bias")?;
        Some(self.constant(Elem::F32, HostTensor::f32([b.len()], b.as_f32().unwrap().to_vec())))
    }

    fn reshaped(&mut self, v: ValueId, dims: &[usize]) -> ValueId {
        let shape: Vec<i64> = dims.iter().map(|&d| d as i64).collect();
        self.op(Reshape::DEF, &[v], Attrs::new().with("shape", shape))
    }

    /// The activation of a case; its threshold is in steps of the result where the old library scales before it.
    fn activated(&mut self, case: &Case, v: ValueId) -> ValueId {
        let (alpha, beta) = (case.number("fuse_alpha").unwrap_or(0.0), case.number("fuse_beta").unwrap_or(0.0));
        let function = match case.activation() {
            "" => return v,
            "relu" => return self.op(Relu::DEF, &[v], Attrs::new()),
            "relu6" => {
                let steps = if case.era == 1 && !case.is_float() { case.scale("Scale_out") } else { 1.0 };
                let max = if beta != 0.0 { beta } else { alpha / steps };
                let max = if max == 0.0 { 6.0 } else { max };
                return self.op(Clip::DEF, &[v], Attrs::new().with("min", 0.0f32).with("max", max));
            }
            "leaky_relu" => Function::LeakyRelu { alpha },
            "hard_sigmoid" => Function::HardSigmoid { alpha, beta },
            "hard_swish" => Function::HardSwish { offset: 3.0, threshold: 6.0, scale: 6.0 },
            "gelu_erf" => Function::Gelu { tanh: false },
            "tanh" => Function::Tanh,
            other => panic!("no activation `{other}`"),
        };
        let (def, attrs) = function_op(function);
        self.op(def, &[v], attrs)
    }

    /// The result: f32 as it is, integers by way of their format.
    fn result(&mut self, case: &Case, v: ValueId, scale: f32) -> ValueId {
        if case.is_float() { v } else { self.pair(v, format(&case.out, scale)) }
    }
}

fn function_op(f: Function) -> (&'static OpDef, Attrs) {
    match f {
        Function::LeakyRelu { alpha } => (graph::LeakyRelu::DEF, Attrs::new().with("alpha", alpha)),
        Function::HardSigmoid { alpha, beta } => {
            (graph::HardSigmoid::DEF, Attrs::new().with("alpha", alpha).with("beta", beta))
        }
        Function::HardSwish { .. } => (graph::HardSwish::DEF, Attrs::new()),
        Function::Gelu { .. } => (graph::Gelu::DEF, Attrs::new()),
        _ => (graph::Tanh::DEF, Attrs::new()),
    }
}

/// Pads of a window as top, left, bottom, right.
fn pads(case: &Case, input: &[usize], kernel: [usize; 2]) -> Vec<i64> {
    let p = case.ints("paddings");
    let strides = case.ints("strides");
    match (case.attrs["padding_algorithm"].as_str(), &p[..]) {
        (Some("SAME"), _) => {
            let total = |i: usize| {
                let (size, s) = (input[2 + i] as i64, strides[i]);
                (((size + s - 1) / s - 1) * s + kernel[i] as i64 - size).max(0)
            };
            let (y, x) = (total(0), total(1));
            vec![y / 2, x / 2, y - y / 2, x - x / 2]
        }
        (Some("VALID"), _) => vec![0; 4],
        (_, &[y, x]) => vec![y, x, y, x],
        (_, &[top, bottom, left, right]) => vec![top, left, bottom, right],
        (_, other) => panic!("pads {other:?}"),
    }
}

fn convolution(k: &mut Maker, case: &Case) -> ValueId {
    let (x, w) = (&case.inputs["Input"], &case.inputs["Filter"]);
    let xv = k.input(x, case.scale("Scale_in"));
    let mut operands = vec![xv, k.weight(w, &case.weight_scales(), 0)];
    operands.extend(k.bias(case));
    let attrs = Attrs::new()
        .with("strides", case.ints("strides"))
        .with("pads", pads(case, x.dims(), [w.dims()[2], w.dims()[3]]))
        .with("dilations", case.ints("dilations"))
        .with("groups", case.attrs["groups"].as_i64().unwrap_or(1).max(1));
    let mut v = k.op(Conv2d::DEF, &operands, attrs);
    if let Some(res) = case.inputs.get("ResidualData").filter(|_| case.flag("fuse_residual_connection")) {
        let res = k.input(res, case.scale("Scale_in_eltwise"));
        v = k.op(Add::DEF, &[v, res], Attrs::new());
    }
    let v = k.activated(case, v);
    k.result(case, v, case.scale("Scale_out"))
}

fn layer(k: &mut Maker, case: &Case) -> ValueId {
    let (x, w) = (&case.inputs["Input"], &case.inputs["W"]);
    let lead = case.attrs["in_num_col_dims"].as_u64().unwrap_or(1) as usize;
    let mut dims = x.dims()[..lead].to_vec();
    dims.push(x.dims()[lead..].iter().product());
    let flat = x.reshaped(dims).unwrap();
    let xv = k.input(&flat, case.scale("Scale_in"));
    let mut operands = vec![xv, k.weight(w, &case.weight_scales(), 1)];
    operands.extend(k.bias(case));
    let v = k.op(Matmul::DEF, &operands, Attrs::new());
    let v = k.activated(case, v);
    k.result(case, v, case.scale("Scale_out"))
}

fn pool(k: &mut Maker, case: &Case) -> ValueId {
    let x = &case.inputs["X"];
    let xv = k.input(x, 1.0);
    let kernel = case.ints("ksize");
    let average = case.attrs["pooling_type"] == "avg";
    let v = if case.flag("global_pooling") || (case.flag("adaptive") && kernel == [1, 1]) {
        assert!(average);
        k.op(GlobalAvgPool::DEF, &[xv], Attrs::new())
    } else {
        let size = [kernel[0] as usize, kernel[1] as usize];
        let attrs = Attrs::new()
            .with("kernel", kernel)
            .with("strides", case.ints("strides"))
            .with("pads", pads(case, x.dims(), size))
            .with("ceil_mode", case.flag("ceil_mode"));
        k.op(if average { AvgPool::DEF } else { MaxPool::DEF }, &[xv], attrs)
    };
    k.result(case, v, 1.0)
}

/// A product of two computed matrices, each perhaps cut and transposed first.
fn product(k: &mut Maker, case: &Case) -> ValueId {
    let mut operand = |slot: &str| {
        let t = &case.inputs[slot];
        let v = k.input(t, case.scale(&format!("Scale_{}", slot.to_lowercase())));
        let cut = case.ints(&format!("fused_reshape_{slot}"));
        if cut.is_empty() {
            return v;
        }
        let dims: Vec<usize> =
            cut.iter().zip(t.dims().iter().chain([&0])).map(|(&c, &d)| if c == 0 { d } else { c as usize }).collect();
        let v = k.reshaped(v, &dims);
        k.op(Transpose::DEF, &[v], Attrs::new().with("perm", case.ints(&format!("fused_transpose_{slot}"))))
    };
    let (x, y) = (operand("X"), operand("Y"));
    let attrs = Attrs::new().with("transpose_a", case.flag("trans_x")).with("transpose_b", case.flag("trans_y"));
    let v = k.op(Matmul::DEF, &[x, y], attrs);
    let alpha = k.constant(Elem::F32, HostTensor::f32(Vec::new(), vec![case.number("matmul_alpha").unwrap_or(1.0)]));
    let v = k.op(Mul::DEF, &[v, alpha], Attrs::new());
    k.result(case, v, case.scale("Scale_out"))
}

fn build(case: &Case) -> (Module, Vec<HostTensor>) {
    let mut m = Module::new("kernel", phase::IMPORTED);
    let f = m.add_func("main", &[]);
    let body = m.body();
    let mut k = Maker { m, body, inputs: Vec::new() };
    let v = match case.op.as_str() {
        "quantize" => {
            let x = k.plain(&case.inputs["Input"]);
            k.result(case, x, case.scale("Scale"))
        }
        "conv2d" | "fused_conv2d" => convolution(&mut k, case),
        "fc" => layer(&mut k, case),
        "pool2d" => pool(&mut k, case),
        "fused_matmul" => product(&mut k, case),
        "fused_elementwise_add" => {
            let x = k.input(&case.inputs["X"], case.scale("scale_x"));
            let y = k.input(&case.inputs["Y"], case.scale("scale_y"));
            let v = k.op(Add::DEF, &[x, y], Attrs::new());
            k.result(case, v, case.scale("scale_out"))
        }
        other => panic!("no op `{other}`"),
    };
    k.m.set_returns(body, &[v]);
    k.m.func_mut(f).outputs = vec!["y".into()];
    (k.m, k.inputs)
}

/// Why a case may differ, and by how much: steps of the result, and percent of its elements; or for f32 results the part
/// of the largest magnitude.
enum Allowed {
    Exact,
    Steps(f64, &'static str),
    Float(f32, &'static str),
}

fn allowed(case: &Case) -> Allowed {
    let bias = "a bias is rounded to units of the accumulator, where Paddle adds it in f32";
    let smooth = !matches!(case.activation(), "" | "relu" | "relu6");
    match (case.op.as_str(), case.is_float()) {
        (op, true) if op != "fc" && case.era == 1 => {
            Allowed::Float(1e-4, "a bias is added in f32, where Paddle rounds it to units of the accumulator")
        }
        (_, true) => {
            Allowed::Float(1e-6, "formats hold scales, where Paddle divides by their reciprocals: the last bits differ")
        }
        ("fc", false) => Allowed::Steps(1.0, bias),
        ("fused_conv2d", false) if case.era == 3 => Allowed::Steps(1.0, bias),
        (_, false) if smooth => Allowed::Steps(1.0, bias),
        ("fused_elementwise_add", _) => Allowed::Steps(0.5, "sums round once, where Paddle rounds each summand to f32"),
        _ => Allowed::Exact,
    }
}

/// Runs a case on all tiers and compares.
fn check(case: &Case) -> Result<&'static str, String> {
    let (module, inputs) = build(case);
    let batch = inputs[0].dims()[0];
    let import = |_: Option<usize>| {
        let mut imported = ladder::imported(module.clone());
        imported.fixed_batch = Some(batch as i64);
        imported.inputs.iter_mut().chain(&mut imported.outputs).for_each(|p| p.batched = false);
        Ok::<_, CompileError>(imported)
    };
    // A kernel alone between floats may not be worth it; here it is the integers that are compared.
    let options = CompileOptions { target: TargetCpu::Fat, guard: Guard::None, ..CompileOptions::default() };
    let compiler = Compiler::new(options);
    let compiled = compiler.compile_imported("kernel", [0; 32], &import, &mut NoSink).map_err(|e| e.to_string())?;
    let jit = compiled.jit().map_err(|e| e.to_string())?;
    let mut first: Option<HostTensor> = None;
    for tier in ladder::tiers() {
        let mut cx =
            jit.context(&ContextOptions { threads: Some(1), cpu: Some(tier.into()) }).map_err(|e| e.to_string())?;
        let out = ladder::run(&mut cx, &inputs)?.remove(0);
        if let Some(first) = &first {
            ladder::same(first, &out).map_err(|e| format!("{tier}: {e}"))?;
        }
        first.get_or_insert(out);
    }
    compare(case, &first.ok_or("no tier")?)
}

fn compare(case: &Case, got: &HostTensor) -> Result<&'static str, String> {
    let real = got.as_f32().ok_or("the result is no float")?;
    if let Allowed::Float(tolerance, reason) = allowed(case) {
        let got = HostTensor::f32(case.out.dims(), real.to_vec());
        let d = qc_ir::distance(&case.out, &got).ok_or("the types differ")?;
        let equal = case.out.as_f32() == got.as_f32();
        return match () {
            () if equal => Ok("equal"),
            () if d <= tolerance => Ok(reason),
            () => Err(format!("differs by {d:e} of the largest magnitude")),
        };
    }
    let scale = ["Scale_out", "scale_out", "Scale"].iter().find_map(|n| case.number(n).filter(|_| case.op != "pool2d"));
    let scale = if case.op == "fused_elementwise_add" { case.number("scale_out") } else { scale }.unwrap_or(1.0);
    let q = format(&case.out, scale);
    let steps =
        |i: usize| (i64::from(quantize(real[i], q.scale(0), 0, q.lo, q.hi)) - case.out.int(i).unwrap()).unsigned_abs();
    let differ = (0..real.len()).filter(|&i| steps(i) != 0).count();
    let largest = (0..real.len()).map(steps).max().unwrap_or(0);
    let percent = 100.0 * differ as f64 / real.len() as f64;
    match allowed(case) {
        _ if differ == 0 => Ok("equal"),
        Allowed::Steps(most, reason) if largest <= 1 && percent <= most => Ok(reason),
        _ => Err(format!("{differ} of {} elements differ, by up to {largest} steps", real.len())),
    }
}

fn cases(path: &Path) -> Vec<Case> {
    let list: Json = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let bytes = std::fs::read(path.with_extension("npz")).unwrap();
    let mut npz = qc_arrays::Archive::new(&bytes).unwrap();
    let names = npz.names();
    let one = |(i, c): (usize, &Json)| {
        let prefix = format!("{i}|in|");
        let slots = names.iter().filter_map(|n| n.strip_prefix(&prefix));
        let inputs = slots.map(|s| (s.to_string(), npz.get(&format!("{prefix}{s}")).unwrap())).collect();
        Case {
            op: c["op"].as_str().unwrap().into(),
            era: c["era"].as_i64().unwrap(),
            attrs: c["attrs"].clone(),
            inputs,
            out: npz.get(&format!("{i}|out")).unwrap(),
        }
    };
    list.as_array().unwrap().iter().enumerate().map(one).collect()
}

#[test]
fn recorded_kernels() {
    let Some(shared) = golden::shared() else {
        println!("SKIPPED 104: the vectors are not on this machine (QC_SHARED)");
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(shared.join("spec/models/int8_kernels"))
        .unwrap()
        .map(|f| f.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    files.sort();
    let (mut outcomes, mut failures) = (BTreeMap::<&str, usize>::new(), Vec::new());
    for path in &files {
        for (i, case) in cases(path).iter().enumerate() {
            match check(case) {
                Ok(outcome) => *outcomes.entry(outcome).or_default() += 1,
                Err(e) => failures.push(format!("{} {i} ({}, era {}): {e}", path.display(), case.op, case.era)),
            }
        }
    }
    println!("{outcomes:#?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(outcomes.values().sum::<usize>(), 104);
}
