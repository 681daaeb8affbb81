//! The part of ONNX's protobuf schema that the importer reads, written by hand for `prost`.
//!
//! Fields that are not listed are skipped while decoding. The bodies of `If`, `Loop` and `Scan` are graphs in attributes; how deep
//! they nest is bounded by `wire`.

use crate::wire::{Field, Message};
use prost::bytes::Bytes;

/// A model file.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ModelProto {
    #[prost(int64, tag = "1")]
    pub ir_version: i64,
    #[prost(string, tag = "2")]
    pub producer_name: String,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSetIdProto>,
    #[prost(message, repeated, tag = "25")]
    pub functions: Vec<FunctionProto>,
}

/// An operator of the model's own, written out.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FunctionProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, repeated, tag = "4")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    pub output: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    pub node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "9")]
    pub opset_import: Vec<OperatorSetIdProto>,
    #[prost(string, tag = "10")]
    pub domain: String,
    /// Attributes with their defaults.
    #[prost(message, repeated, tag = "11")]
    pub attribute_proto: Vec<AttributeProto>,
}

/// Which version of an operator set the nodes follow.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    pub domain: String,
    #[prost(int64, tag = "2")]
    pub version: i64,
}

/// Nodes in topological order, constants, inputs and outputs.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<ValueInfoProto>,
}

/// One operator application.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, tag = "3")]
    pub name: String,
    #[prost(string, tag = "4")]
    pub op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    pub domain: String,
}

/// A named attribute; `kind` says which field holds the value (0 in files older than IR version 2).
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct AttributeProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(float, tag = "2")]
    pub f: f32,
    #[prost(int64, tag = "3")]
    pub i: i64,
    #[prost(bytes = "bytes", tag = "4")]
    pub s: Bytes,
    #[prost(message, optional, boxed, tag = "5")]
    pub t: Option<Box<TensorProto>>,
    #[prost(message, optional, boxed, tag = "6")]
    pub g: Option<Box<GraphProto>>,
    #[prost(float, repeated, tag = "7")]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    pub ints: Vec<i64>,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    pub strings: Vec<Bytes>,
    #[prost(int32, tag = "20")]
    pub kind: i32,
    /// Inside a function: the attribute of the calling node that stands for this one.
    #[prost(string, tag = "21")]
    pub ref_attr_name: String,
}

/// A constant.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub data_type: i32,
    #[prost(float, repeated, tag = "4")]
    pub float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    pub int32_data: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    pub int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "bytes", tag = "9")]
    pub raw_data: Bytes,
    #[prost(double, repeated, tag = "10")]
    pub double_data: Vec<f64>,
    #[prost(message, repeated, tag = "13")]
    pub external_data: Vec<StringStringEntryProto>,
    #[prost(int32, tag = "14")]
    pub data_location: i32,
}

/// A key and a value, as in `external_data`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

/// Name and type of a graph input or output.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ValueInfoProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub r#type: Option<TypeProto>,
}

/// A type; only tensors are read.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub tensor_type: Option<TensorTypeProto>,
}

/// Element type and shape.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    pub elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShapeProto>,
}

/// A shape.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    pub dim: Vec<DimensionProto>,
}

/// A number, a name, or neither.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct DimensionProto {
    #[prost(int64, optional, tag = "1")]
    pub dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub dim_param: Option<String>,
}

/// The schema as [`crate::wire::check`] wants it.
pub(crate) static MODEL: Message = Message {
    name: "ModelProto",
    bytes: size_of::<ModelProto>(),
    fields: &[
        (1, Field::Number(1)),
        (2, Field::Text),
        (7, Field::Message(&GRAPH)),
        (8, Field::Message(&OPERATOR_SET)),
        (25, Field::Message(&FUNCTION)),
    ],
};

static FUNCTION: Message = Message {
    name: "FunctionProto",
    bytes: size_of::<FunctionProto>(),
    fields: &[
        (1, Field::Text),
        (4, Field::Text),
        (5, Field::Text),
        (7, Field::Message(&NODE)),
        (9, Field::Message(&OPERATOR_SET)),
        (10, Field::Text),
        (11, Field::Message(&ATTRIBUTE)),
    ],
};

static OPERATOR_SET: Message = Message {
    name: "OperatorSetIdProto",
    bytes: size_of::<OperatorSetIdProto>(),
    fields: &[(1, Field::Text), (2, Field::Number(1))],
};

static GRAPH: Message = Message {
    name: "GraphProto",
    bytes: size_of::<GraphProto>(),
    fields: &[
        (1, Field::Message(&NODE)),
        (2, Field::Text),
        (5, Field::Message(&TENSOR)),
        (11, Field::Message(&VALUE_INFO)),
        (12, Field::Message(&VALUE_INFO)),
    ],
};

static NODE: Message = Message {
    name: "NodeProto",
    bytes: size_of::<NodeProto>(),
    fields: &[
        (1, Field::Text),
        (2, Field::Text),
        (3, Field::Text),
        (4, Field::Text),
        (5, Field::Message(&ATTRIBUTE)),
        (7, Field::Text),
    ],
};

static ATTRIBUTE: Message = Message {
    name: "AttributeProto",
    bytes: size_of::<AttributeProto>(),
    fields: &[
        (1, Field::Text),
        (5, Field::Message(&TENSOR)),
        (6, Field::Message(&GRAPH)),
        (7, Field::Number(1)),
        (8, Field::Number(8)),
        (9, Field::Text),
        (21, Field::Text),
    ],
};

pub(crate) static TENSOR: Message = Message {
    name: "TensorProto",
    bytes: size_of::<TensorProto>(),
    fields: &[
        (1, Field::Number(8)),
        (4, Field::Number(1)),
        (5, Field::Number(4)),
        (7, Field::Number(8)),
        (8, Field::Text),
        (10, Field::Number(1)),
        (13, Field::Message(&STRING_PAIR)),
    ],
};

static STRING_PAIR: Message = Message {
    name: "StringStringEntryProto",
    bytes: size_of::<StringStringEntryProto>(),
    fields: &[(1, Field::Text), (2, Field::Text)],
};

static VALUE_INFO: Message = Message {
    name: "ValueInfoProto",
    bytes: size_of::<ValueInfoProto>(),
    fields: &[(1, Field::Text), (2, Field::Message(&TYPE))],
};

static TYPE: Message =
    Message { name: "TypeProto", bytes: size_of::<TypeProto>(), fields: &[(1, Field::Message(&TENSOR_TYPE))] };

static TENSOR_TYPE: Message = Message {
    name: "TypeProto.Tensor",
    bytes: size_of::<TensorTypeProto>(),
    fields: &[(1, Field::Number(1)), (2, Field::Message(&SHAPE))],
};

static SHAPE: Message = Message {
    name: "TensorShapeProto",
    bytes: size_of::<TensorShapeProto>(),
    fields: &[(1, Field::Message(&DIMENSION))],
};

static DIMENSION: Message = Message {
    name: "TensorShapeProto.Dimension",
    bytes: size_of::<DimensionProto>(),
    fields: &[(1, Field::Number(1)), (2, Field::Text)],
};
