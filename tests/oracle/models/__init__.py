"""Random ONNX models, one module per family."""
