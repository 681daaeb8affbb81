//! Small Paddle programs built in code, imported and run by the interpreter.

use super::program::*;
use crate::{Disposition, ImportError, Imported, NoFiles, Options, Source, import};
use prost::Message;
use qc_ir::HostTensor;

/// A program under construction with its parameters.
pub(crate) struct Program {
    pub desc: ProgramDesc,
    params: Vec<Stored>,
}

/// A parameter: name, type number, dims, bytes.
type Stored = (String, i32, Vec<i64>, Vec<u8>);

/// A combined parameter file.
pub(crate) fn combined(mut params: Vec<Stored>) -> Vec<u8> {
    params.sort();
    let stream = |(_, data_type, dims, data): Stored| {
        let desc = TensorDesc { data_type, dims }.encode_to_vec();
        let head = [vec![0; 16], (desc.len() as i32).to_le_bytes().to_vec()].concat();
        [head, desc, data].concat()
    };
    params.into_iter().flat_map(stream).collect()
}

pub(crate) fn var(name: &str, kind: i32, data_type: i32, dims: &[i64], persistable: bool) -> VarDesc {
    let tensor = LoDTensorDesc { tensor: TensorDesc { data_type, dims: dims.to_vec() }, lod_level: None };
    let r#type = VarType { kind, tensor: (kind == 7).then_some(tensor) };
    VarDesc { name: name.into(), r#type, persistable: Some(persistable) }
}

/// Slots written as `X=a Y=b,c`.
fn slots(text: &str) -> Vec<OpVar> {
    let slot = |s: &str| {
        let (name, list) = s.split_once('=').unwrap();
        OpVar {
            parameter: name.into(),
            arguments: list.split(',').filter(|a| !a.is_empty()).map(String::from).collect(),
        }
    };
    text.split_whitespace().map(slot).collect()
}

fn attr(name: &str, kind: i32) -> OpAttr {
    OpAttr { name: name.into(), kind, ..Default::default() }
}

pub(crate) fn int(name: &str, i: i32) -> OpAttr {
    OpAttr { i: Some(i), ..attr(name, 0) }
}

pub(crate) fn float(name: &str, f: f32) -> OpAttr {
    OpAttr { f: Some(f), ..attr(name, 1) }
}

pub(crate) fn floats(name: &str, floats: &[f32]) -> OpAttr {
    OpAttr { floats: floats.to_vec(), ..attr(name, 4) }
}

pub(crate) fn ints(name: &str, ints: &[i32]) -> OpAttr {
    OpAttr { ints: ints.to_vec(), ..attr(name, 3) }
}

pub(crate) fn text(name: &str, s: &'static str) -> OpAttr {
    OpAttr { s: Some(s.as_bytes().into()), ..attr(name, 2) }
}

pub(crate) fn flag(name: &str, b: bool) -> OpAttr {
    OpAttr { b: Some(b), ..attr(name, 6) }
}

impl Program {
    /// A program with one float input `x` and one output `y`.
    pub fn new(x: &[i64]) -> Program {
        let vars = vec![var("feed", 9, 0, &[], true), var("fetch", 10, 0, &[], true), var("x", 7, 5, x, false)];
        let block = BlockDesc { vars, ops: Vec::new() };
        let desc = ProgramDesc { blocks: vec![block], version: Some(Version { version: Some(2_006_002) }) };
        let program = Program { desc, params: Vec::new() };
        program.op("feed", "X=feed", "Out=x", &[int("col", 0)])
    }

    pub fn op(mut self, op_type: &str, inputs: &str, outputs: &str, attrs: &[OpAttr]) -> Program {
        self.desc.blocks[0].ops.push(OpDesc {
            inputs: slots(inputs),
            outputs: slots(outputs),
            r#type: op_type.into(),
            attrs: attrs.to_vec(),
        });
        self
    }

    pub fn floats(mut self, name: &str, dims: &[i64], values: &[f32]) -> Program {
        self.desc.blocks[0].vars.push(var(name, 7, 5, dims, true));
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.params.push((name.into(), 5, dims.to_vec(), bytes));
        self
    }

    /// A parameter of signed bytes.
    pub fn bytes(mut self, name: &str, dims: &[i64], values: &[i8]) -> Program {
        self.desc.blocks[0].vars.push(var(name, 7, 21, dims, true));
        self.params.push((name.into(), 21, dims.to_vec(), values.iter().map(|&v| v as u8).collect()));
        self
    }

    pub fn finish(self) -> Program {
        self.op("fetch", "X=y", "Out=fetch", &[int("col", 0)])
    }

    pub fn combined(&self) -> Vec<u8> {
        combined(self.params.clone())
    }

    /// With `x` as rows of sequences.
    pub fn ragged(mut self) -> Program {
        self.desc.blocks[0].vars[2].r#type.tensor.as_mut().unwrap().lod_level = Some(1);
        self
    }

    /// As [`Program::run`], of sequences with these offsets: the results, by name.
    pub fn run_ragged(&self, x: &[f32], offsets: &[i64]) -> Vec<(String, HostTensor)> {
        let shapes = [("x.offsets".to_string(), vec![offsets.len() as i64])].into();
        let imported = self.import(&Options { shapes, ..Options::default() }).unwrap();
        let x = HostTensor::f32(imported.inputs[0].dims.clone(), x.to_vec());
        let out = qc_dialects::interpret(&imported.module, &[x, HostTensor::i64([offsets.len()], offsets.to_vec())]);
        imported.outputs.iter().map(|p| p.name.clone()).zip(out.unwrap()).collect()
    }

    pub fn import(&self, options: &Options) -> Result<Imported, Vec<ImportError>> {
        let (model, params) = (self.desc.encode_to_vec().into(), Some(self.combined().into()));
        let source = Source { name: "m".into(), model, params, files: &NoFiles };
        let imported = import(&source, options).map_err(|e| e.list)?;
        assert!(qc_ir::verify(&imported.module, &qc_dialects::REGISTRY).is_empty());
        Ok(imported)
    }

    pub fn run(&self, x: &[f32]) -> (Vec<usize>, Vec<f32>) {
        let imported = self.import(&Options::default()).unwrap();
        let x = HostTensor::f32(imported.inputs[0].dims.clone(), x.to_vec());
        let out = qc_dialects::interpret(&imported.module, &[x]).unwrap();
        (out[0].dims().to_vec(), out[0].as_f32().unwrap().to_vec())
    }

    pub fn dump(&self) -> String {
        qc_ir::print(&self.import(&Options::default()).unwrap().module, Default::default())
    }

    pub fn reasons(&self) -> Vec<String> {
        let errors = self.import(&Options::default()).unwrap_err();
        errors.iter().map(ToString::to_string).collect()
    }
}

#[test]
fn operands_are_aligned_at_an_axis() {
    let add = |dims: &[i64], axis| {
        let len = dims.iter().product::<i64>() as usize;
        Program::new(&[1, 2, 2])
            .floats("b", dims, &[10.0, 20.0][..len])
            .op("elementwise_add", "X=x Y=b", "Out=y", &[int("axis", axis)])
            .finish()
    };
    assert_eq!(add(&[2], 1).run(&[1.0, 2.0, 3.0, 4.0]).1, [11.0, 12.0, 23.0, 24.0]);
    assert_eq!(add(&[2], -1).run(&[1.0, 2.0, 3.0, 4.0]).1, [11.0, 22.0, 13.0, 24.0]);
    assert_eq!(add(&[2, 1, 1], 1).run(&[1.0, 2.0, 3.0, 4.0]).1, [11.0, 12.0, 23.0, 24.0]);
    assert!(add(&[2], 9).reasons()[0].contains("axis 9"));
}

#[test]
fn mul_flattens_its_operands() {
    let program = Program::new(&[1, 2, 2])
        .floats("w", &[2, 1], &[1.0, 10.0])
        .op("mul", "X=x Y=w", "Out=y", &[int("x_num_col_dims", 2), int("y_num_col_dims", 1)])
        .finish();
    assert_eq!(program.run(&[1.0, 2.0, 3.0, 4.0]), (vec![1, 2, 1], vec![21.0, 43.0]));
}

#[test]
fn ports_follow_their_columns() {
    let program = Program::new(&[1, 2]).op("scale", "X=x", "Out=y", &[float("scale", 2.0)]).op(
        "scale",
        "X=x",
        "Out=z",
        &[float("bias", 1.0), float("scale", 3.0), flag("bias_after_scale", false)],
    );
    let program = program.op("fetch", "X=z", "Out=fetch", &[int("col", 1)]).finish();
    let imported = program.import(&Options::default()).unwrap();
    let names: Vec<&str> = imported.outputs.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["y", "z"]);
    let out = qc_dialects::interpret(&imported.module, &[HostTensor::f32([1, 2], vec![1.0, 2.0])]).unwrap();
    assert_eq!(out[1].as_f32(), Some(&[6.0, 9.0][..]));
}

#[test]
fn same_padding_and_pools() {
    let conv = Program::new(&[1, 1, 3, 3])
        .floats("w", &[1, 1, 2, 2], &[1.0; 4])
        .op("conv2d", "Input=x Filter=w", "Output=y", &[text("padding_algorithm", "SAME"), ints("strides", &[2, 2])])
        .finish();
    let x: Vec<f32> = (1..10).map(|i| i as f32).collect();
    assert_eq!(conv.run(&x).1, [12.0, 9.0, 15.0, 9.0]);
    let pool = |attrs: &[OpAttr]| Program::new(&[1, 1, 3, 3]).op("pool2d", "X=x", "Out=y", attrs).finish();
    let global = pool(&[text("pooling_type", "avg"), ints("ksize", &[1, 1]), flag("adaptive", true)]);
    assert_eq!(global.run(&x).1, [5.0]);
    let padded = [text("pooling_type", "avg"), ints("ksize", &[2, 2]), ints("paddings", &[1, 1])];
    assert_eq!(pool(&padded).run(&x).1[0], 1.0);
    let inclusive = [&padded[..], &[flag("exclusive", false)]].concat();
    assert_eq!(pool(&inclusive).run(&x).1[0], 0.25);
    // SAME puts one row and column behind, of which Paddle 2 counts none: windows at the end divide by 2 or 1.
    let same = [text("pooling_type", "avg"), ints("ksize", &[2, 2]), text("padding_algorithm", "SAME")];
    let same = [&same[..], &[flag("exclusive", false)]].concat();
    let means = [3.0, 4.0, 4.5, 6.0, 7.0, 7.5, 7.5, 8.5, 9.0];
    assert_eq!(pool(&same).run(&x).1, means);
    let strided = [&same[..], &[ints("strides", &[2, 2])]].concat();
    assert_eq!(pool(&strided).run(&x).1, [3.0, 4.5, 7.5, 9.0]);
}

/// A frozen quantization-aware program: integer weights between a fake quantize and a fake dequantize.
pub(crate) fn frozen_program(weights: &[f32]) -> Program {
    Program::new(&[-1, 1, 1, 2])
        .floats("x.scale", &[1], &[2.0])
        .floats("w", &[2, 1, 1, 1], weights)
        .floats("w.scale", &[2], &[0.5, 0.25])
        .op(
            "fake_quantize_range_abs_max",
            "X=x InScale=x.scale",
            "Out=xq OutScale=x.scale",
            &[int("bit_length", 8), flag("is_test", true)],
        )
        .op("conv2d", "Input=xq Filter=w", "Output=c", &[])
        .op(
            "fake_channel_wise_dequantize_max_abs",
            "X=c Scales=w.scale,x.scale",
            "Out=y",
            &[ints("quant_bits", &[8, 8])],
        )
        .finish()
}

#[test]
fn frozen_programs_become_quantize_dequantize_pairs() {
    let program = frozen_program(&[127.0, -64.0]);
    let dump = program.dump();
    assert!(dump.contains("q<i8, [0.015748031], [0], -127, 127>"), "{dump}");
    assert!(!dump.contains("graph.mul") && !dump.contains("graph.div"), "{dump}");
    assert_eq!(dump.matches("graph.dequantize").count(), 2);
    let report = program.import(&Options::default()).unwrap().report;
    assert_eq!(report[2].disposition, Disposition::Folded("it is part of the weight's scale"));
    // 1.0 is 63.5 steps, which round to 64; 5.0 is clamped to 127.
    let (_, y) = program.run(&[1.0, 5.0]);
    let real = |q: f32, w: f32, s: f32| q * 2.0 / 127.0 * (w * s / 127.0);
    let want = [real(64.0, 127.0, 0.5), real(127.0, 127.0, 0.5), real(64.0, -64.0, 0.25), real(127.0, -64.0, 0.25)];
    assert!(y.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{y:?} {want:?}");
}

#[test]
fn weights_that_are_no_integers_are_computed_literally() {
    let program = frozen_program(&[127.0, -63.5]);
    let dump = program.dump();
    assert!(dump.contains("graph.mul") && dump.contains("graph.div"), "{dump}");
    let (_, y) = program.run(&[1.0, 5.0]);
    let want = 127.0 * 2.0 / 127.0 * (-63.5 * 0.25 / 127.0);
    assert!((y[3] - want).abs() < 1e-6, "{y:?} {want}");
}

#[test]
fn dynamic_scales_are_refused_with_a_reason() {
    let program =
        Program::new(&[1, 2]).op("fake_quantize_abs_max", "X=x", "Out=y OutScale=s", &[int("bit_length", 8)]).finish();
    assert!(program.reasons()[0].contains("measured anew"));
    let bits = Program::new(&[1, 2])
        .floats("s", &[1], &[1.0])
        .op("fake_quantize_dequantize_moving_average_abs_max", "X=x InScale=s", "Out=y", &[int("bit_length", 4)])
        .finish();
    assert!(bits.reasons()[0].contains("4 bits"));
}

#[test]
fn linear_pairs_have_the_threshold_as_scale() {
    let program = Program::new(&[1, 2])
        .floats("s", &[1], &[127.0])
        .op("quantize_linear", "X=x Scale=s", "Y=q", &[int("bit_length", 8), int("quant_axis", -1)])
        .op("dequantize_linear", "X=q Scale=s", "Y=y", &[int("bit_length", 8), int("quant_axis", -1)])
        .finish();
    assert_eq!(program.run(&[1.4, -500.0]).1, [1.0, -128.0]);
}

#[test]
fn everything_wrong_is_listed_at_once() {
    let mut program = Program::new(&[-1, 2])
        .floats("w", &[2, 2], &[1.0; 4])
        .op("gather_tree", "X=x", "Out=a", &[])
        .op("generate_proposals", "X=x", "Out=b", &[])
        .op("elementwise_add", "X=a Y=b", "Out=c", &[])
        .op("mul", "X=c Y=w", "Out=y", &[])
        .finish();
    let reasons = program.reasons();
    assert_eq!(reasons.len(), 2, "{reasons:#?}");
    assert!(reasons[0].starts_with("node \"gather_tree:a\" (gather_tree): this op is not supported"));
    // With parameters missing too, both kinds are told.
    program.params.clear();
    let reasons = program.reasons();
    assert_eq!(reasons.len(), 3, "{reasons:#?}");
    assert!(reasons[0].starts_with("parameter \"w\" (float32 [2, 2], 16 bytes): missing"));
}

#[test]
fn activations_have_the_parameters_of_their_version() {
    let close = |a: &[f32], b: &[f32]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6);
    let one = |version: i64, op_type: &str, attrs: &[OpAttr]| {
        let mut program = Program::new(&[1, 2]).op(op_type, "X=x", "Out=y", attrs).finish();
        program.desc.version = Some(Version { version: Some(version) });
        program.run(&[-2.0, 1.0]).1
    };
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    // 2.x computes swish and hard_swish with fixed numbers, 1.x with those of the attributes.
    let swish = |beta: f32| [-2.0 * sigmoid(-2.0 * beta), sigmoid(beta)];
    assert!(close(&one(1_008_005, "swish", &[float("beta", 2.0)]), &swish(2.0)));
    assert!(close(&one(2_006_002, "swish", &[float("beta", 2.0)]), &swish(1.0)));
    let offset = [float("offset", 1.0), float("threshold", 4.0), float("scale", 2.0)];
    assert!(close(&one(1_008_005, "hard_swish", &offset), &[0.0, 1.0]));
    assert!(close(&one(2_006_002, "hard_swish", &offset), &[-1.0 / 3.0, 2.0 / 3.0]));
    assert!(close(&one(2_006_002, "hard_sigmoid", &[]), &[0.1, 0.7]));
    assert!(close(&one(2_006_002, "leaky_relu", &[]), &[-0.04, 1.0]));
    assert!(close(&one(2_006_002, "square", &[]), &[4.0, 1.0]));
    assert!(close(&one(2_006_002, "gelu", &[flag("approximate", true)]), &[-0.045_402_3, 0.841_192]));
    let prelu = |mode: &'static str, alpha: &[f32]| {
        Program::new(&[1, 2, 2])
            .floats("a", &[alpha.len() as i64], alpha)
            .op("prelu", "X=x Alpha=a", "Out=y", &[text("mode", mode)])
            .finish()
    };
    let x = [-1.0, 2.0, -3.0, -4.0];
    assert_eq!(prelu("all", &[0.5]).run(&x).1, [-0.5, 2.0, -1.5, -2.0]);
    assert_eq!(prelu("channel", &[0.5, 0.25]).run(&x).1, [-0.5, 2.0, -0.75, -1.0]);
    assert_eq!(prelu("element", &[0.5, 1.0, 0.25, 2.0]).run(&x).1, [-0.5, 2.0, -0.75, -8.0]);
}

#[test]
fn transposed_convolutions_are_as_large_as_their_version_and_attributes_say() {
    let size = |version: i64, attrs: &[OpAttr]| {
        let attrs = [attrs, &[ints("strides", &[2, 2])]].concat();
        let mut program = Program::new(&[1, 1, 2, 2])
            .floats("w", &[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0])
            .op("conv2d_transpose", "Input=x Filter=w", "Output=y", &attrs)
            .finish();
        program.desc.version = Some(Version { version: Some(version) });
        program.run(&[1.0, 0.0, 0.0, 10.0])
    };
    let whole = vec![1.0, 2.0, 0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 10.0, 20.0, 0.0, 0.0, 30.0, 40.0];
    assert_eq!(size(2_006_002, &[]), (vec![1, 1, 4, 4], whole.clone()));
    assert_eq!(size(2_006_002, &[ints("output_padding", &[1, 0])]).0, [1, 1, 5, 4]);
    // Version 1 does not know it.
    assert_eq!(size(1_008_005, &[ints("output_padding", &[1, 0])]), (vec![1, 1, 4, 4], whole));
    assert_eq!(size(2_006_002, &[ints("output_size", &[4, 5])]).0, [1, 1, 4, 5]);
    let padded = size(2_006_002, &[ints("paddings", &[1, 0, 0, 1])]);
    assert_eq!(padded, (vec![1, 1, 3, 3], vec![3.0, 4.0, 0.0, 0.0, 0.0, 10.0, 0.0, 0.0, 30.0]));
}

#[test]
fn the_first_programs_have_their_version_elsewhere() {
    let mut program = frozen_program(&[127.0, -64.0]);
    let today = program.run(&[1.0, 5.0]);
    program.desc.version = None;
    let mut model = program.desc.encode_to_vec();
    // Paddle 1.3 wrote the version as field 2, and booleans of attributes as integers.
    model.extend([0x12, 2, 0x08, 0]);
    let source =
        Source { name: "m".into(), model: model.into(), params: Some(program.combined().into()), files: &NoFiles };
    let imported = import(&source, &Options::default()).unwrap();
    assert!(imported.format.contains("version 1.x"), "{}", imported.format);
    let x = HostTensor::f32([1, 1, 1, 2], vec![1.0, 5.0]);
    let out = qc_dialects::interpret(&imported.module, &[x]).unwrap();
    assert_eq!(out[0].as_f32().unwrap(), today.1);
    program.desc.blocks[0].ops[1].attrs.retain(|a| a.name != "is_test");
    program.desc.blocks[0].ops[1].attrs.push(int("is_test", 1));
    assert_eq!(program.run(&[1.0, 5.0]), today);
}

#[test]
fn attributes_may_be_variables() {
    let program = Program::new(&[1, 2, 3])
        .op("fill_constant", "", "Out=n", &[ints("shape", &[1]), int("dtype", 2), float("value", 3.0)])
        .op("fill_constant", "", "Out=m", &[ints("shape", &[1]), int("dtype", 2), float("value", 2.0)]);
    let mut shape = attr("shape", 14);
    shape.vars_name = vec!["n".into(), "m".into()];
    let program = program.op("reshape2", "X=x", "Out=a", &[shape]);
    let mut factor = attr("scale", 13);
    factor.var_name = vec!["m".into()];
    let program = program.op("scale", "X=a", "Out=y", &[factor]).finish();
    assert_eq!(program.run(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), (vec![3, 2], vec![2.0, 4.0, 6.0, 8.0, 10.0, 12.0]));
}

#[test]
fn control_flow_and_sequences_are_named_as_what_they_are() {
    let mut program = Program::new(&[-1, 2])
        .op("sequence_slice", "X=x", "Out=a", &[])
        .op("while", "X=a", "Out=b StepScopes=s", &[attr("sub_block", 8)])
        .op("read_from_array", "X=b", "Out=y", &[])
        .finish();
    let inner = |op_type: &str| OpDesc {
        inputs: slots("X=q"),
        outputs: slots("Out=r"),
        r#type: op_type.into(),
        attrs: Vec::new(),
    };
    program.desc.blocks.push(BlockDesc { vars: Vec::new(), ops: vec![inner("relu"), inner("beam_search")] });
    let told = ["sequence_slice:a", "while:b", "read_from_array:y", "beam_search:r"];
    let words = ["ragged", "control flow", "arrays of tensors", "inside control flow: this op on ragged"];
    let check = |reasons: &[String]| {
        assert_eq!(reasons.len(), 4, "{reasons:#?}");
        for ((reason, node), word) in reasons.iter().zip(told).zip(words) {
            assert!(reason.contains(node) && reason.contains(word), "{reason}");
        }
    };
    check(&program.reasons());
    // Without the shape of an input the list is the same, behind what is said of the input.
    program.desc.blocks[0].vars[2].r#type.tensor.as_mut().unwrap().tensor.dims = vec![-1, -1];
    check(&program.reasons()[1..]);
    program.desc.blocks[0].vars[2].r#type.tensor.as_mut().unwrap().lod_level = Some(2);
    assert!(program.reasons()[0].contains("\"x\": its sequences are made of sequences"));
}

#[test]
fn names_may_be_written_twice() {
    let program = Program::new(&[1, 2])
        .op("relu", "X=x", "Out=a", &[])
        .op("scale", "X=a", "Out=a", &[float("scale", 2.0)])
        .op("assign", "X=a", "Out=y", &[])
        .finish();
    assert_eq!(program.run(&[-1.0, 3.0]).1, [0.0, 6.0]);
}

#[test]
fn dropout_scales_where_training_did_not() {
    let program = |attrs: &[OpAttr]| Program::new(&[1, 2]).op("dropout", "X=x", "Out=y", attrs).finish();
    let p = float("dropout_prob", 0.25);
    assert_eq!(program(std::slice::from_ref(&p)).run(&[4.0, 8.0]).1, [3.0, 6.0]);
    assert_eq!(program(&[p, text("dropout_implementation", "upscale_in_train")]).run(&[4.0, 8.0]).1, [4.0, 8.0]);
}

#[test]
fn slices_lose_the_axes_they_are_told_to() {
    let program = Program::new(&[1, 3, 2])
        .op(
            "slice",
            "Input=x",
            "Out=y",
            &[ints("axes", &[1]), ints("starts", &[-1]), ints("ends", &[100]), ints("decrease_axis", &[1])],
        )
        .finish();
    assert_eq!(program.run(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), (vec![1, 2], vec![5.0, 6.0]));
}

#[test]
fn inputs_are_bounded_by_the_size_of_the_program() {
    let import = |inputs: usize, limit: u64| {
        let names = vec!["x"; inputs].join(",");
        let program = Program::new(&[1, 2]).op("concat", &format!("X={names}"), "Out=y", &[int("axis", 1)]);
        let limits = qc_ir::Limits { inputs: limit, ..qc_ir::Limits::default() };
        program.finish().import(&Options { limits, ..Options::default() })
    };
    assert!(import(2000, 2048).is_ok());
    let errors = import(5000, 2048).unwrap_err();
    let [ImportError::Limit(over)] = errors.as_slice() else { panic!("{errors:?}") };
    assert!(over.limit == qc_ir::Limit::Inputs && import(5000, over.found).is_ok(), "{over}");
}

#[test]
fn the_batch_is_blamed_before_the_model() {
    let model = |batch| {
        let reshape = ints("shape", &[2, 6]);
        Program::new(&[batch, 4]).op("reshape2", "X=x", "Out=y", &[reshape]).finish().reasons().join("")
    };
    let text = model(-1);
    assert!(text.contains("batch 1: state another with `--shape x=?,4`") && !text.contains("not valid"), "{text}");
    assert!(model(1).contains("the model is not valid"), "{}", model(1));
}

#[test]
fn layer_norm_has_its_statistics_where_they_are_read() {
    let norm = |outputs: &str| {
        Program::new(&[1, 2, 4])
            .floats("s", &[8], &[2.0; 8])
            .floats("b", &[8], &[0.0, 1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0])
            .op("layer_norm", "X=x Scale=s Bias=b", outputs, &[int("begin_norm_axis", 1), float("epsilon", 0.0)])
            .finish()
    };
    let x = [1.0, 3.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0];
    assert_eq!(norm("Y=y Mean=m Variance=v").run(&x), (vec![1, 2, 4], vec![-2.0, 3.0, 0.0, 5.0, -2.0, 3.0, 0.0, 5.0]));
    assert_eq!(norm("Y=n Mean=y Variance=v").run(&x), (vec![1], vec![2.0]));
    assert_eq!(norm("Y=n Mean=m Variance=y").run(&x), (vec![1], vec![1.0]));
    let bad = Program::new(&[1, 4]).op("layer_norm", "X=x", "Y=y", &[int("begin_norm_axis", 2)]).finish();
    assert!(bad.reasons()[0].contains("begin_norm_axis is 2"), "{:?}", bad.reasons());
}
