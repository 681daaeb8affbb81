"""Neighbours of a model: what other right computations of it may give.

A float model is rounded differently by every implementation. A neighbour multiplies every float value by `1 + e` with
e around the spacing of f32, so what it differs by is what rounding may differ by, cancellation included.

A quantized model may be computed with some of its pairs as clamps only, and with another rounding where values lie
between two steps. A neighbour replaces some pairs by `Clip` and adds a part of a step in front of the others.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx
from onnx import helper, numpy_helper

from models.net import Array

#: Noise of float values, relative: the spacing of f32 above 1.
FLOAT_NOISE = 2.0**-23

#: Operators that make spectra.
TRANSFORMS = {"DFT", "STFT"}

#: Part of a step of 16 bits that float arithmetic in another order may make.
WIDE_STEPS = 0.05

#: Operands that are parameters and not values, by op: noise on them changes what a model means.
PARAMETERS = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "Pow": (1,),
    "Pad": (1, 2, 3),
    "Resize": (1, 2, 3),
    "Cast": (),
}


class Rewriter:
    """A copy of a model whose values get other nodes in front of their readers."""

    def __init__(self, model: onnx.ModelProto, values: dict[str, Array], rng: np.random.Generator) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(model)
        self.values = dict(values)
        self.rng = rng
        self.stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.stored[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.count = 0
        self.prefix = "noise"
        while any(o.startswith(self.prefix) for n in model.graph.node for o in n.output):
            self.prefix += "_"

    def constant(self, array: Array) -> str:
        self.count += 1
        name = f"{self.prefix}c{self.count}"
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, kind: str, *operands: str) -> onnx.NodeProto:
        self.count += 1
        return helper.make_node(kind, list(operands), [f"{self.prefix}{self.count}"])

    def readers(self) -> dict[str, list[onnx.NodeProto]]:
        found: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.model.graph.node:
            for name in node.input:
                found[name].append(node)
        return found

    def set_nodes(self, nodes: list[onnx.NodeProto]) -> None:
        del self.model.graph.node[:]
        self.model.graph.node.extend(nodes)


def float_noise(model: onnx.ModelProto, values: dict[str, Array], rng: np.random.Generator) -> onnx.ModelProto:
    """The model with every float value that a node reads multiplied by `1 + e`; to spectra a share of their largest is added.

    A transform's sums cancel out: what is 0 in them comes as rounding of their terms.
    """
    r = Rewriter(model, values, rng)
    spectra = {o for node in r.model.graph.node if node.op_type in TRANSFORMS for o in node.output}
    noisy: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []
    for node in r.model.graph.node:
        fixed = PARAMETERS.get(node.op_type, ())
        for i, name in enumerate(node.input):
            array = r.values.get(name, r.stored.get(name))
            if not name or array is None or array.dtype != np.float32 or not array.size:
                continue
            if i in fixed or node.op_type.startswith(("QLinear", "QGemm")):
                continue
            if name not in noisy:
                e = 1.0 + FLOAT_NOISE * rng.choice([-1.0, 0.0, 1.0], size=array.shape)
                added = r.node("Mul", name, r.constant(e.astype(np.float32)))
                nodes.append(added)
                noisy[name] = added.output[0]
                if name in spectra:
                    e = FLOAT_NOISE * np.abs(array).max() * rng.choice([-1.0, 0.0, 1.0], size=array.shape)
                    nodes.append(r.node("Add", noisy[name], r.constant(e.astype(np.float32))))
                    noisy[name] = nodes[-1].output[0]
            node.input[i] = noisy[name]
        nodes.append(node)
    r.set_nodes(nodes)
    return r.model


def quantization_noise(
    model: onnx.ModelProto,
    values: dict[str, Array],
    rng: np.random.Generator,
    steps: float,
    clamps: float,
) -> onnx.ModelProto:
    """The model with a share `clamps` of its pairs as `Clip`, and up to `steps` of a step added before the others.

    What is computed from constants and shapes only is a constant: its roundings are data.
    """
    r = Rewriter(model, values, rng)
    outputs = {o.name for o in model.graph.output}
    readers = r.readers()
    nodes: list[onnx.NodeProto] = []
    renamed: dict[str, str] = {}
    fixed = {"", *r.stored}
    for node in r.model.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
        if node.op_type == "Shape" or fixed.issuperset(reads(node)):
            fixed.update(node.output)
            nodes.append(node)
            continue
        array = r.values.get(node.input[0]) if node.input and node.input[0] not in r.stored else None
        if array is None or node.op_type not in ("QuantizeLinear", "DynamicQuantizeLinear"):
            nodes.append(node)
            continue
        if node.op_type == "DynamicQuantizeLinear":
            finite = array[np.isfinite(array)]
            step = float(max(finite.max(initial=0.0), 0.0) - min(finite.min(initial=0.0), 0.0)) / 255
            nodes.extend(with_noise(r, node, array, np.float32(step), steps))
            continue
        zero = r.stored.get(node.input[2]) if len(node.input) > 2 else None
        # Pairs of 16 bits are computed as written, whatever the options; their steps are small, so that float arithmetic
        # in another order is a part of one.
        wide = zero is not None and zero.dtype.itemsize == 2
        followers = readers[node.output[0]]
        pairs = [f for f in followers if is_pair(r, node, f)]
        if not wide and pairs and len(pairs) == len(followers) and node.output[0] not in outputs and rng.random() < clamps:
            clip = r.node("Clip", node.input[0], *(r.constant(b) for b in bounds(r, node)))
            nodes.append(clip)
            for pair in pairs:
                pair.op_type, pair.domain = "Identity", ""
                del pair.input[1:], pair.attribute[:]
            renamed[node.output[0]] = clip.output[0]
            continue
        scale = r.stored.get(node.input[1])
        if scale is None:
            nodes.append(node)
            continue
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        nodes.extend(with_noise(r, node, array, along(scale, array, axis), WIDE_STEPS if wide else steps))
    r.set_nodes(nodes)
    return r.model


def reads(node: onnx.NodeProto) -> set[str]:
    """The values that a node reads, those in its branches included."""
    found = set(node.input)
    for graph in (a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH):
        inside = {o for n in graph.node for o in n.output} | {t.name for t in graph.initializer}
        found |= {name for n in graph.node for name in reads(n)} - inside
    return found


def along(scale: Array, array: Array, axis: int) -> Array:
    """A scale per tensor or along an axis, in a shape that broadcasts with the tensor."""
    if scale.size == 1:
        return scale.reshape(())
    return scale.reshape([-1 if i == axis % array.ndim else 1 for i in range(array.ndim)])


def with_noise(r: Rewriter, node: onnx.NodeProto, array: Array, step: Array, steps: float) -> list[onnx.NodeProto]:
    noise = (r.rng.uniform(-steps, steps, size=array.shape) * step).astype(np.float32)
    added = r.node("Add", node.input[0], r.constant(noise))
    node.input[0] = added.output[0]
    return [added, node]


def is_pair(r: Rewriter, quantize: onnx.NodeProto, reader: onnx.NodeProto) -> bool:
    """Whether a DequantizeLinear takes back what a QuantizeLinear did, per tensor."""
    if reader.op_type != "DequantizeLinear" or len(reader.input) != len(quantize.input):
        return False
    own, other = ([r.stored.get(name) for name in n.input[1:]] for n in (quantize, reader))
    if any(a is None or b is None or a.size != 1 or not np.array_equal(a, b) for a, b in zip(own, other, strict=True)):
        return False
    return True


def bounds(r: Rewriter, node: onnx.NodeProto) -> tuple[Array, Array]:
    """The smallest and the largest value that a pair lets through; its scale is per tensor."""
    scale = np.float32(r.stored[node.input[1]].reshape(-1)[0])
    zero = r.stored[node.input[2]].reshape(-1)[0] if len(node.input) > 2 else np.uint8(0)
    info = np.iinfo(zero.dtype)
    low, high = (np.float32((int(b) - int(zero)) * float(scale)) for b in (info.min, info.max))
    return np.asarray(low), np.asarray(high)


def step_of_output(model: onnx.ModelProto, name: str) -> float:
    """The largest step between two values of an output that comes out of a quantizer, and 0 for floats."""
    makers = {o: n for n in model.graph.node for o in n.output}
    stored = {t.name: t for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            stored[node.output[0]] = node.attribute[0].t
    movement = {"Reshape", "Transpose", "Slice", "Flatten", "Squeeze", "Unsqueeze", "Identity", "MaxPool", "Split"}
    node = makers.get(name)
    while node is not None and node.op_type in movement:
        node = makers.get(node.input[0])
    if node is None or node.op_type == "QuantizeLinear":
        return 1.0 if node is not None else 0.0
    if node.op_type.startswith(("QLinear", "QGemm")):
        return 1.0
    if node.op_type == "DequantizeLinear" and node.input[1] in stored:
        return float(np.max(numpy_helper.to_array(stored[node.input[1]])))
    return 0.0
