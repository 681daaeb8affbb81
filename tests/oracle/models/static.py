"""Float models that ONNX Runtime's own quantizer has quantized on random data, in both of its formats."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_dynamic, quantize_static

from models import elementwise, encoders, floats, integers, linear, movement, norms, recurrent, windows
from models.net import Array, Model, Net, Value, normal

logging.getLogger().setLevel(logging.ERROR)

FAMILIES: list[tuple[int, list[floats.Maker]]] = [
    (6, [linear.conv, linear.conv, linear.gemm, linear.matmul]),
    (2, windows.MAKERS),
    (1, norms.MAKERS),
    (
        4,
        [
            elementwise.function,
            elementwise.clip,
            elementwise.of_two,
            elementwise.written_out,
            elementwise.squeeze_excitation,
        ],
    ),
    (2, movement.MAKERS),
    (2, integers.MAKERS),
    (1, recurrent.MAKERS),
]
BYTES = [QuantType.QUInt8, QuantType.QUInt8, QuantType.QInt8]


class Samples(CalibrationDataReader):
    """Three random batches."""

    def __init__(self, model: Model, rng: np.random.Generator) -> None:
        batch = 2 if model.symbolic else 1
        self.feeds: Iterator[dict[str, Array]] = iter([model.feed(rng, batch) for _ in range(3)])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.feeds, None)


def block(net: Net, x: Value) -> Value:
    """A residual block of an image net, whose activations the quantizer folds into ranges."""
    if x.rank != 4 or not x.known:
        return x
    c = x.rest[0]
    y = x
    for _ in range(net.integer(1, 2)):
        y = net.op("Conv", y, net.weight(c, c, 3, 3), net.const(net.rng.standard_normal(c) * 0.3), pads=[1] * 4)
        y = net.op("Relu", y) if net.chance(0.7) else net.op("Clip", y, net.const(0.0), net.const(6.0))
    y = net.op("Add", x, y)
    return net.op("Relu", y) if net.chance(0.4) else y


def make(rng: np.random.Generator) -> Model:
    """A quantized model."""
    net = Net(rng, opset=int(rng.choice([13, 17, 17, 21])), ties=False)
    if net.chance(0.3):
        return quantized(net, net.finish(encoders.floats(net)))
    return quantized(net, network(net))


def network(net: Net) -> Model:
    """A chain of layers for images."""
    x = net.input((net.pick([3, 4, 8]), net.integer(3, 8), net.integer(3, 8)), normal(net.pick([0.5, 1.0, 3.0])))
    for _ in range(net.integer(1, 3)):
        x = block(net, x) if net.chance(0.5) else floats.body(net, x, net.integer(1, 3), FAMILIES)
    model = net.finish([x if x not in net.inputs else net.op("Relu", x)])
    del model.proto.graph.output[0].type.tensor_type.shape.dim[:]
    model.proto.graph.output[0].type.tensor_type.ClearField("shape")
    return model


def measured(net: Net, model: Model) -> Model:
    """Quantized without samples: the scales of activations are measured in every run."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "model.onnx"
        kind = net.pick([QuantType.QUInt8, QuantType.QInt8])
        quantize_dynamic(model.proto, path, per_channel=net.chance(0.4), weight_type=kind)
        return Model(onnx.load(path), model.inputs, model.samples)


def quantized(net: Net, model: Model) -> Model:
    """The model as ONNX Runtime's quantizer writes it."""
    if net.chance(0.2):
        return measured(net, model)
    of_integers = net.chance(0.4)
    activations = net.pick(BYTES)
    # The quantizer reports on stdout.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder) / "model.onnx"
        quantize_static(
            model.proto,
            path,
            Samples(model, net.rng),
            quant_format=QuantFormat.QOperator if of_integers else QuantFormat.QDQ,
            per_channel=net.chance(0.5),
            activation_type=activations,
            weight_type=QuantType.QInt8 if activations == QuantType.QInt8 else net.pick(BYTES),
            calibrate_method=net.pick(
                [CalibrationMethod.MinMax, CalibrationMethod.MinMax, CalibrationMethod.Percentile]
            ),
            extra_options={"ActivationSymmetric": net.chance(0.2), "QDQKeepRemovableActivations": net.chance(0.2)},
        )
        return Model(onnx.load(path), model.inputs, model.samples)
