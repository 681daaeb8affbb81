//! The JSON form of a Paddle 3 program, as far as it is read.

use serde::Deserialize;
use serde_json::Value;

/// A whole file.
#[derive(Deserialize)]
pub(super) struct File {
    /// Magic and version.
    pub base_code: BaseCode,
    /// The program.
    pub program: Program,
}

/// What wrote the file.
#[derive(Deserialize)]
pub(super) struct BaseCode {
    /// `pir`.
    pub magic: String,
    /// Version of the format, not of Paddle.
    #[serde(default)]
    pub version: i64,
}

/// The regions of the program; the first block of the first is the main one.
#[derive(Deserialize)]
pub(super) struct Program {
    pub regions: Vec<Region>,
}

/// Blocks; more than one only with control flow.
#[derive(Deserialize)]
pub(super) struct Region {
    #[serde(default)]
    pub blocks: Vec<Block>,
}

/// Ops in executable order.
#[derive(Deserialize)]
pub(super) struct Block {
    #[serde(default)]
    pub ops: Vec<Node>,
}

/// One op.
#[derive(Deserialize)]
pub(super) struct Node {
    /// `p` for a parameter, else the number of the dialect, a dot and the name.
    #[serde(rename = "#")]
    pub name: String,
    /// Operands.
    #[serde(rename = "I", default)]
    pub operands: Vec<Operand>,
    /// Results: a list, or the only one of a parameter.
    #[serde(rename = "O", default)]
    pub results: Results,
    /// Attributes: objects with `N` and `AT`, or the plain values of a parameter.
    #[serde(rename = "A", default)]
    pub attrs: Vec<Value>,
    /// Attributes besides: of a parameter whether it is stored, needs no gradient and is trained.
    #[serde(rename = "OA", default)]
    pub others: Vec<Value>,
    /// Bodies of control flow.
    #[serde(default)]
    pub regions: Vec<Region>,
}

/// The value an operand is; 0 for one left out.
#[derive(Deserialize)]
pub(super) struct Operand {
    #[serde(rename = "%")]
    pub id: i64,
}

/// One or several results.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Results {
    One(NewValue),
    Many(Vec<NewValue>),
}

impl Default for Results {
    fn default() -> Results {
        Results::Many(Vec::new())
    }
}

impl Results {
    /// All of them.
    pub fn list(&self) -> &[NewValue] {
        match self {
            Results::One(one) => std::slice::from_ref(one),
            Results::Many(list) => list,
        }
    }
}

/// A result with its type.
#[derive(Deserialize)]
pub(super) struct NewValue {
    #[serde(rename = "%")]
    pub id: i64,
    /// `{"#": "0.t_..", "D": ..}`, or `"NULL"` for a result left out.
    #[serde(rename = "TT", default)]
    pub ty: Value,
}

/// The last part of a tagged value's tag, and its payload: `("a_i32", 1)`, `("t_dtensor", [..])`.
pub(super) fn tagged(v: &Value) -> Option<(&str, &Value)> {
    let tag = v.get("#")?.as_str()?;
    let payload = v.get("D").or_else(|| v.get("VD")).unwrap_or(&Value::Null);
    Some((tag.rsplit('.').next().unwrap_or(tag), payload))
}

/// The Paddle type number of an element type, by the word behind `t_` or in an attribute.
pub(super) fn type_number(word: &str) -> Option<i32> {
    Some(match word {
        "bool" => 0,
        "i16" | "int16" => 1,
        "i32" | "int32" => 2,
        "i64" | "int64" => 3,
        "f16" | "float16" => 4,
        "f32" | "float32" => 5,
        "f64" | "float64" => 6,
        "u8" | "uint8" => 20,
        "i8" | "int8" => 21,
        "bf16" | "bfloat16" => 22,
        _ => return None,
    })
}

/// Type number and dims of a dense tensor type.
pub(super) fn dense(ty: &Value) -> Option<(i32, Vec<i64>)> {
    let ("t_dtensor", payload) = tagged(ty)? else { return None };
    let parts = payload.as_array()?;
    let (word, _) = tagged(parts.first()?)?;
    let dims: Option<Vec<i64>> = parts.get(1)?.as_array()?.iter().map(Value::as_i64).collect();
    // A type that is not known here is refused where a tensor of it is needed.
    Some((type_number(word.strip_prefix("t_")?).unwrap_or(-1), dims?))
}

/// The number of tensors of a list type.
pub(super) fn list_len(ty: &Value) -> Option<usize> {
    let ("t_vec", payload) = tagged(ty)? else { return None };
    Some(payload.as_array()?.len())
}
