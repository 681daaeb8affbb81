"""Runs models by qc and by ONNX Runtime, and compares."""
