//! Small Paddle 3 programs built in code, imported and run by the interpreter.

use crate::{ImportError, Imported, NoFiles, Options, Source, import};
use qc_ir::HostTensor;
use serde_json::{Value, json};

/// A program under construction.
pub(crate) struct Pir {
    ops: Vec<Value>,
    params: Vec<(String, Vec<i64>, Vec<f32>)>,
    last: i64,
}

fn dense(dims: &[i64]) -> Value {
    json!({"#": "0.t_dtensor", "D": [{"#": "0.t_f32"}, dims, "NCHW", [], 0]})
}

/// An attribute: its name, the word of its type and its payload.
pub(crate) fn attr(name: &str, ty: &str, value: Value) -> Value {
    json!({"N": name, "AT": {"#": ty, "D": value}})
}

/// A list of 32-bit integers.
pub(crate) fn ints(name: &str, values: &[i64]) -> Value {
    let items: Vec<Value> = values.iter().map(|v| json!({"#": "0.a_i32", "D": v})).collect();
    attr(name, "0.a_array", json!(items))
}

impl Pir {
    /// A program with one float input `x`, which is value 1.
    pub fn new(x: &[i64]) -> Pir {
        let pir = Pir { ops: Vec::new(), params: Vec::new(), last: 0 };
        pir.op("1.data", &[], &[attr("name", "0.a_str", json!("x")), attr("shape", "1.a_intarray", json!(x))], x)
    }

    /// The id of the value made last.
    pub fn last(&self) -> i64 {
        self.last
    }

    /// Appends an op with one result.
    pub fn op(mut self, name: &str, operands: &[i64], attrs: &[Value], dims: &[i64]) -> Pir {
        self.last += 1;
        let operands: Vec<Value> = operands.iter().map(|id| json!({"%": id})).collect();
        self.ops.push(json!({"#": name, "I": operands, "A": attrs, "O": [{"%": self.last, "TT": dense(dims)}]}));
        self
    }

    /// Appends an op whose result is a list of tensors, taken apart by `builtin.split` if `apart`.
    pub fn list(mut self, name: &str, operands: &[i64], attrs: &[Value], parts: &[&[i64]], apart: bool) -> Pir {
        let list = self.last + 1;
        let operands: Vec<Value> = operands.iter().map(|id| json!({"%": id})).collect();
        let types: Vec<Value> = parts.iter().map(|d| dense(d)).collect();
        let ty = json!({"#": "0.t_vec", "D": types});
        self.ops.push(json!({"#": name, "I": operands, "A": attrs, "O": [{"%": list, "TT": ty}]}));
        self.last = list;
        if apart {
            let results: Vec<Value> = (1..).zip(&types).map(|(i, ty)| json!({"%": list + i, "TT": ty})).collect();
            self.ops.push(json!({"#": "0.split", "I": [{"%": list}], "A": [], "O": results}));
            self.last += parts.len() as i64;
        }
        self
    }

    /// Appends an op with several results.
    pub fn many(mut self, name: &str, operands: &[i64], attrs: &[Value], results: &[&[i64]]) -> Pir {
        let operands: Vec<Value> = operands.iter().map(|id| json!({"%": id})).collect();
        let list = (self.last + 1..).zip(results);
        let list: Vec<Value> = list.map(|(id, dims)| json!({"%": id, "TT": dense(dims)})).collect();
        self.ops.push(json!({"#": name, "I": operands, "A": attrs, "O": list}));
        self.last += results.len() as i64;
        self
    }

    /// A list of integers as an operand.
    pub fn int_array(self, values: &[i64]) -> Pir {
        let items: Vec<Value> = values.iter().map(|v| json!({"#": "0.a_i64", "D": v})).collect();
        let attrs = [attr("value", "0.a_array", json!(items)), attr("dtype", "1.a_dtype", json!("int64"))];
        self.op("1.full_int_array", &[], &attrs, &[values.len() as i64])
    }

    /// A number as an operand.
    pub fn full(self, value: f64, dtype: &str) -> Pir {
        let attrs = [
            attr("shape", "1.a_intarray", json!([1])),
            attr("value", "0.a_f64", json!(value)),
            attr("dtype", "1.a_dtype", json!(dtype)),
        ];
        self.op("1.full", &[], &attrs, &[1])
    }

    pub fn param(mut self, name: &str, dims: &[i64], values: &[f32]) -> Pir {
        self.last += 1;
        self.ops
            .push(json!({"#": "p", "A": [0, 1, 1, name], "O": {"%": self.last, "TT": dense(dims)}, "OA": [1, 0, 1]}));
        self.params.push((name.into(), dims.to_vec(), values.to_vec()));
        self
    }

    pub fn fetch(self, id: i64, dims: &[i64]) -> Pir {
        let attrs = [attr("name", "0.a_str", json!("fetch_name_0")), attr("col", "0.a_i32", json!(0))];
        self.op("1.fetch", &[id], &attrs, dims)
    }

    pub fn json(&self) -> Vec<u8> {
        let block = json!({"#": "block_0", "args": [], "ops": self.ops});
        let program = json!({"regions": [{"#": "region_0", "blocks": [block]}]});
        let code = json!({"magic": "pir", "trainable": true, "version": 4});
        json!({"base_code": code, "program": program}).to_string().into_bytes()
    }

    pub fn combined(&self) -> Vec<u8> {
        let bytes = |v: &[f32]| v.iter().flat_map(|x| x.to_le_bytes()).collect();
        crate::paddle::tests::combined(
            self.params.iter().map(|(n, d, v)| (n.clone(), 5, d.clone(), bytes(v))).collect(),
        )
    }

    fn import(&self, params: bool) -> Result<Imported, Vec<ImportError>> {
        let params = params.then(|| self.combined().into());
        let source = Source { name: "m".into(), model: self.json().into(), params, files: &NoFiles };
        let imported = import(&source, &Options::default()).map_err(|e| e.list)?;
        assert!(qc_ir::verify(&imported.module, &qc_dialects::REGISTRY).is_empty());
        Ok(imported)
    }

    fn run(&self, x: &[f32]) -> (Vec<usize>, Vec<f32>) {
        let imported = self.import(true).unwrap();
        let x = HostTensor::f32(imported.inputs[0].dims.clone(), x.to_vec());
        let out = qc_dialects::interpret(&imported.module, &[x]).unwrap();
        (out[0].dims().to_vec(), out[0].as_f32().unwrap().to_vec())
    }

    fn reasons(&self, params: bool) -> Vec<String> {
        self.import(params).unwrap_err().iter().map(ToString::to_string).collect()
    }
}

/// A convolution, a norm, a pool whose window is an operand, a split and a concat.
pub(crate) fn small() -> Pir {
    let p = Pir::new(&[-1, 1, 2, 2]).param("w", &[2, 1, 1, 1], &[1.0, 10.0]).param("a.mean", &[2], &[0.0, 10.0]);
    let p = p.param("b.var", &[2], &[1.0, 4.0]).param("scale", &[2], &[1.0, 2.0]).param("bias", &[2], &[0.0, 1.0]);
    let conv = [ints("strides", &[1, 1]), ints("paddings", &[0, 0]), attr("groups", "0.a_i32", json!(1))];
    let p = p.op("1.conv2d", &[1, 2], &conv, &[-1, 2, 2, 2]);
    let norm = [attr("epsilon", "0.a_f32", json!(0.0)), attr("data_format", "0.a_str", json!("NCHW"))];
    let p = p.op("1.batch_norm_", &[7, 3, 4, 5, 6], &norm, &[-1, 2, 2, 2]).int_array(&[2, 2]);
    let pool = [attr("pooling_type", "0.a_str", json!("max")), ints("strides", &[2, 2])];
    let p = p.op("1.pool2d", &[8, 9], &pool, &[-1, 2, 1, 1]).full(1.0, "int32");
    let halves: [&[i64]; 2] = [&[-1, 1, 1, 1], &[-1, 1, 1, 1]];
    let p = p.list("1.split_with_num", &[10, 11], &[attr("num", "0.a_i32", json!(2))], &halves, true);
    let p = p.list("0.combine", &[14, 13], &[], &halves, false).full(1.0, "int32");
    let p = p.op("1.concat", &[15, 16], &[], &[-1, 2, 1, 1]);
    let last = p.last();
    p.fetch(last, &[-1, 2, 1, 1])
}

#[test]
fn operands_and_lists_become_slots() {
    let p = small();
    // The largest element is 4; the second channel is (40 - 10) / 2 * 2 + 1. The halves change places.
    assert_eq!(p.run(&[1.0, 4.0, 3.0, 2.0]), (vec![1, 2, 1, 1], vec![31.0, 4.0]));
    let imported = p.import(true).unwrap();
    assert!(imported.inputs[0].batched);
    assert_eq!(imported.outputs[0].name, "fetch_name_0");
    let report: Vec<(&str, &str)> = imported.report.iter().map(|r| (&*r.node, &*r.op_type)).collect();
    assert_eq!(report[0], ("conv2d:%7", "pd_op.conv2d"));
    assert!(report.contains(&("full_int_array:%9", "pd_op.full_int_array")));
    assert!(imported.format.contains("Paddle 3") && imported.format.contains("version 4"));
}

#[test]
fn further_results_of_a_norm_can_be_read() {
    let norm = |result: i64, dims: &[i64]| {
        let p = Pir::new(&[1, 2, 4]).param("s", &[4], &[2.0; 4]).param("b", &[4], &[0.0, 1.0, 2.0, 3.0]);
        let attrs = [attr("epsilon", "0.a_f32", json!(0.0)), attr("begin_norm_axis", "0.a_i32", json!(2))];
        let p = p.many("1.layer_norm", &[1, 2, 3], &attrs, &[&[1, 2, 4], &[2], &[2]]);
        p.fetch(4 + result, dims).run(&[1.0, 3.0, 1.0, 3.0, 0.0, 4.0, 4.0, 0.0])
    };
    assert_eq!(norm(0, &[1, 2, 4]), (vec![1, 2, 4], vec![-2.0, 3.0, 0.0, 5.0, -2.0, 3.0, 4.0, 1.0]));
    assert_eq!(norm(1, &[2]), (vec![2], vec![2.0, 2.0]));
    assert_eq!(norm(2, &[2]), (vec![2], vec![1.0, 4.0]));
}

#[test]
fn integers_do_not_pass_through_floats() {
    // 16777217 has no f32: as floats the two would be equal.
    let p = Pir::new(&[1, 2]).full(16_777_217.0, "int64").full(16_777_216.0, "int64");
    let p = p.op("1.subtract", &[2, 3], &[], &[1]);
    let p = p.op("1.cast", &[4], &[attr("dtype", "1.a_dtype", json!("float32"))], &[1]);
    let p = p.op("1.add", &[1, 5], &[], &[1, 2]).fetch(6, &[1, 2]);
    assert_eq!(p.run(&[0.0, 1.0]).1, [1.0, 2.0]);
}

#[test]
fn numbers_that_json_cannot_write_are_words() {
    let p = Pir::new(&[1, 2]).full(0.5, "float32");
    let infinite = json!({"N": "value", "AT": {"#": "0.a_f64", "VD": "INF"}});
    let p = p.op("1.full", &[], &[attr("shape", "1.a_intarray", json!([])), infinite], &[]);
    let p = p.op("1.clip", &[1, 2, 3], &[], &[1, 2]).fetch(4, &[1, 2]);
    assert_eq!(p.run(&[0.0, 1e30]).1, [0.5, 1e30]);
}

#[test]
fn missing_parameters_and_unknown_ops_are_told_together() {
    let p = Pir::new(&[1, 2]).param("w", &[2, 2], &[1.0; 4]).op("1.matmul", &[1, 2], &[], &[1, 2]);
    let path = attr("struct_name", "0.a_str", json!("/Head/TopK/"));
    let p = p.op("1.unfold", &[3], &[path], &[1, 2]).op("1.while", &[4], &[], &[1, 2]).op("3.mine", &[5], &[], &[1, 2]);
    let p = p.fetch(6, &[1, 2]);
    let reasons = p.reasons(false);
    assert_eq!(reasons.len(), 5, "{reasons:#?}");
    assert!(reasons[0].contains(".pdiparams"), "{}", reasons[0]);
    assert!(reasons[1].starts_with("parameter \"w\" (float32 [2, 2], 16 bytes): missing"), "{}", reasons[1]);
    assert!(reasons[2].starts_with("node \"Head/TopK/unfold:%4\" (pd_op.unfold): this op is not supported"));
    assert!(reasons[3].contains("control flow") && reasons[4].contains("custom operator"));
    assert_eq!(p.reasons(true), reasons[2..]);
}

#[test]
fn contradictions_name_the_op() {
    let undefined = Pir::new(&[1, 2]).op("1.relu", &[9], &[], &[1, 2]).fetch(2, &[1, 2]);
    assert!(undefined.reasons(true)[0].contains("pd_op.relu %2 (operand %9"), "{:?}", undefined.reasons(true));
    let lists = Pir::new(&[1, 2]).list("0.combine", &[1, 1], &[], &[&[1, 2]], false);
    let nested = lists.list("0.combine", &[2, 2], &[], &[&[1, 2]], false).fetch(3, &[1, 2]);
    assert!(nested.reasons(true)[0].contains("no tensor"));
    let extra = Pir::new(&[1, 2]).op("1.relu", &[1, 1], &[], &[1, 2]).fetch(2, &[1, 2]);
    assert!(extra.reasons(true)[0].contains("operand 1 is not known"));
    let source = Source {
        name: "m".into(),
        model: b"{\"base_code\": {\"magic\": \"pir\"}"[..].into(),
        params: None,
        files: &NoFiles,
    };
    let text = import(&source, &Options::default()).unwrap_err().to_string();
    assert!(text.contains("broken model file") && text.contains("line 1"), "{text}");
}
