"""Float models that ONNX Runtime's own quantizer has quantized by the ranges of a run, as it writes and as it fuses them."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

from models import elementwise, floats, linear, movement, norms
from models.net import Model, Net, Value, normal

logging.getLogger().setLevel(logging.ERROR)

FAMILIES: list[tuple[int, list[floats.Maker]]] = [
    (6, [linear.gemm, linear.matmul, linear.matmul]),
    (1, norms.MAKERS),
    (2, [elementwise.function, elementwise.clip, elementwise.of_two]),
    (1, movement.MAKERS),
]


def heads(net: Net, x: Value) -> Value:
    """Several products that read one tensor, as attention has them, and their sum."""
    if x.rank < 2 or not x.known:
        return x
    k, n = x.rest[-1], net.integer(1, 40)
    products = [net.op("MatMul", x, net.weight(k, n)) for _ in range(net.integer(2, 3))]
    products = [net.op("Add", p, net.const(net.rng.standard_normal(n) * 0.3)) if net.chance(0.6) else p for p in products]
    y = products[0]
    for p in products[1:]:
        y = net.op("Add", y, p)
    return net.op("Relu", y) if net.chance(0.3) else y


def attention(net: Net, x: Value) -> Value:
    """An operator of ONNX Runtime that projects and attends in one."""
    if x.rank != 3 or not x.known:
        return x
    width = x.rest[-1]
    heads = net.pick([h for h in (1, 2, 3, 4) if width % h == 0])
    weight, bias = net.weight(width, 3 * width), net.const(net.rng.standard_normal(3 * width) * 0.3)
    return net.ops("Attention", x, weight, bias, domain="com.microsoft", like=x, num_heads=heads)[0]


def fused(path: Path) -> onnx.ModelProto:
    """The model as ONNX Runtime's optimizer writes it, with operators of its own."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(path.with_suffix(".fused.onnx"))
    options.log_severity_level = 4
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return onnx.load(options.optimized_model_filepath)


def make(rng: np.random.Generator) -> Model:
    """A quantized model."""
    net = Net(rng, opset=int(rng.choice([13, 17, 17, 21])))
    rest = (net.integer(2, 80),) if net.chance(0.4) else (net.integer(1, 9), net.integer(2, 80))
    x = net.input(rest, normal(net.pick([0.5, 1.0, 3.0])))
    for _ in range(net.integer(1, 3)):
        block = net.pick([heads, heads, heads, attention, None, None, None])
        x = block(net, x) if block else floats.body(net, x, net.integer(1, 3), FAMILIES)
    model = net.finish([x if x not in net.inputs else net.op("Relu", x)])
    del model.proto.graph.output[0].type.tensor_type.shape.dim[:]
    model.proto.graph.output[0].type.tensor_type.ClearField("shape")
    # The quantizer reports on stdout.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path, source = Path(folder) / "model.onnx", Path(folder) / "float.onnx"
        onnx.save(model.proto, source)
        quantize_dynamic(
            source,
            path,
            per_channel=net.chance(0.5),
            reduce_range=net.chance(0.2),
            weight_type=net.pick([QuantType.QInt8, QuantType.QUInt8]),
            extra_options={"MatMulConstBOnly": net.chance(0.8)},
        )
        proto = fused(path) if net.chance(0.4) else onnx.load(path)
        if not any(n.op_type.startswith(("DynamicQuantize", "MatMulInteger")) for n in proto.graph.node):
            raise ValueError("nothing is quantized")
        if not all(np.isfinite(onnx.numpy_helper.to_array(t)).all() for t in proto.graph.initializer):
            # What the range of NaN is, ONNX does not say.
            raise ValueError("a mask that leaves nothing")
        return Model(proto, model.inputs, model.samples)
