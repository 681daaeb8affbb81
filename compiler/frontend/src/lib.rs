//! Reads ONNX and PaddlePaddle models into the graph dialect.
