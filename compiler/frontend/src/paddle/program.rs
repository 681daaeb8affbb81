//! The part of Paddle's `ProgramDesc` schema that the importer reads, written by hand for `prost`.
//!
//! The schema is proto2: lists of numbers are written unpacked, and most scalars may be absent. Fields that are not
//! listed (call stacks, version maps) are skipped while decoding.

use crate::wire::{Field, Message};
use prost::bytes::Bytes;

/// A program file.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ProgramDesc {
    #[prost(message, repeated, tag = "1")]
    pub blocks: Vec<BlockDesc>,
    #[prost(message, optional, tag = "4")]
    pub version: Option<Version>,
}

/// The writer's version: major * 1 000 000 + minor * 1 000 + patch, 0 for 1.x.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Version {
    #[prost(int64, optional, tag = "1")]
    pub version: Option<i64>,
}

/// Variables and ops; block 0 is the main one.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct BlockDesc {
    #[prost(message, repeated, tag = "3")]
    pub vars: Vec<VarDesc>,
    #[prost(message, repeated, tag = "4")]
    pub ops: Vec<OpDesc>,
}

/// A variable.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VarDesc {
    #[prost(string, required, tag = "1")]
    pub name: String,
    #[prost(message, required, tag = "2")]
    pub r#type: VarType,
    #[prost(bool, optional, tag = "3")]
    pub persistable: Option<bool>,
}

/// The type of a variable; only dense tensors are read further.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct VarType {
    #[prost(int32, required, tag = "1")]
    pub kind: i32,
    #[prost(message, optional, tag = "3")]
    pub tensor: Option<LoDTensorDesc>,
}

/// A dense tensor with its number of sequence levels.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LoDTensorDesc {
    #[prost(message, required, tag = "1")]
    pub tensor: TensorDesc,
    #[prost(int32, optional, tag = "2")]
    pub lod_level: Option<i32>,
}

/// Element type and dims; an unknown dim is -1.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TensorDesc {
    #[prost(int32, required, tag = "1")]
    pub data_type: i32,
    #[prost(int64, repeated, packed = "false", tag = "2")]
    pub dims: Vec<i64>,
}

/// One operator application.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OpDesc {
    #[prost(message, repeated, tag = "1")]
    pub inputs: Vec<OpVar>,
    #[prost(message, repeated, tag = "2")]
    pub outputs: Vec<OpVar>,
    #[prost(string, required, tag = "3")]
    pub r#type: String,
    #[prost(message, repeated, tag = "4")]
    pub attrs: Vec<OpAttr>,
}

/// The variables of one slot.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OpVar {
    #[prost(string, required, tag = "1")]
    pub parameter: String,
    #[prost(string, repeated, tag = "2")]
    pub arguments: Vec<String>,
}

/// An attribute; `kind` says which field holds the value.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OpAttr {
    #[prost(string, required, tag = "1")]
    pub name: String,
    #[prost(int32, required, tag = "2")]
    pub kind: i32,
    #[prost(int32, optional, tag = "3")]
    pub i: Option<i32>,
    #[prost(float, optional, tag = "4")]
    pub f: Option<f32>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    pub s: Option<Bytes>,
    #[prost(int32, repeated, packed = "false", tag = "6")]
    pub ints: Vec<i32>,
    #[prost(float, repeated, packed = "false", tag = "7")]
    pub floats: Vec<f32>,
    #[prost(bool, optional, tag = "10")]
    pub b: Option<bool>,
    #[prost(int64, optional, tag = "13")]
    pub l: Option<i64>,
    #[prost(int64, repeated, packed = "false", tag = "15")]
    pub longs: Vec<i64>,
    #[prost(double, repeated, packed = "false", tag = "16")]
    pub float64s: Vec<f64>,
    /// One or several variables that the value comes from.
    #[prost(string, repeated, tag = "17")]
    pub var_name: Vec<String>,
    #[prost(string, repeated, tag = "18")]
    pub vars_name: Vec<String>,
    #[prost(double, optional, tag = "19")]
    pub float64: Option<f64>,
    #[prost(message, optional, tag = "20")]
    pub scalar: Option<Scalar>,
}

impl OpAttr {
    /// The variables that the value comes from, when it is not stored.
    pub fn variables(&self) -> &[String] {
        if self.var_name.is_empty() { &self.vars_name } else { &self.var_name }
    }
}

/// A number of any kind.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(crate) struct Scalar {
    #[prost(int32, required, tag = "1")]
    pub kind: i32,
    #[prost(bool, optional, tag = "2")]
    pub b: Option<bool>,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(double, optional, tag = "4")]
    pub r: Option<f64>,
}

/// The schema as [`crate::wire::check`] wants it.
pub(crate) static PROGRAM: Message = Message {
    name: "ProgramDesc",
    bytes: size_of::<ProgramDesc>(),
    fields: &[(1, Field::Message(&BLOCK)), (4, Field::Message(&VERSION))],
};

static VERSION: Message = Message { name: "Version", bytes: size_of::<Version>(), fields: &[(1, Field::Number(1))] };

static BLOCK: Message = Message {
    name: "BlockDesc",
    bytes: size_of::<BlockDesc>(),
    fields: &[(3, Field::Message(&VAR)), (4, Field::Message(&OP))],
};

static VAR: Message = Message {
    name: "VarDesc",
    bytes: size_of::<VarDesc>(),
    fields: &[(1, Field::Text), (2, Field::Message(&VAR_TYPE))],
};

static VAR_TYPE: Message =
    Message { name: "VarType", bytes: size_of::<VarType>(), fields: &[(3, Field::Message(&LOD_TENSOR))] };

static LOD_TENSOR: Message =
    Message { name: "LoDTensorDesc", bytes: size_of::<LoDTensorDesc>(), fields: &[(1, Field::Message(&TENSOR_DESC))] };

/// A `TensorDesc` alone, as it stands in a parameter file.
pub(crate) static TENSOR_DESC: Message =
    Message { name: "TensorDesc", bytes: size_of::<TensorDesc>(), fields: &[(2, Field::Number(8))] };

static OP: Message = Message {
    name: "OpDesc",
    bytes: size_of::<OpDesc>(),
    fields: &[
        (1, Field::Message(&OP_VAR)),
        (2, Field::Message(&OP_VAR)),
        (3, Field::Text),
        (4, Field::Message(&OP_ATTR)),
    ],
};

static OP_VAR: Message =
    Message { name: "OpDesc.Var", bytes: size_of::<OpVar>(), fields: &[(1, Field::Text), (2, Field::Text)] };

static OP_ATTR: Message = Message {
    name: "OpDesc.Attr",
    bytes: size_of::<OpAttr>(),
    fields: &[
        (1, Field::Text),
        (6, Field::Number(4)),
        (7, Field::Number(1)),
        (15, Field::Number(8)),
        (16, Field::Number(1)),
        (17, Field::Text),
        (18, Field::Text),
        (20, Field::Message(&SCALAR)),
    ],
};

static SCALAR: Message = Message { name: "Scalar", bytes: size_of::<Scalar>(), fields: &[] };
