//! ONNX models.

pub(crate) mod proto;
pub(crate) mod tensor;
