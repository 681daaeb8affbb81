"""Formats of quantized tensors, settled after a model is complete.

While a model is built, every scale is 1 and every zero point 0. `Formats.settle` runs the model without any rounding on
random inputs and sets scales, zero points and integer biases from the ranges that it sees, as a quantizer would.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from judge import reference
from judge.expand import expand_qlinear
from models.net import Array, Model, Net, Value

#: What a quantizer does besides rounding: nothing, the work of an activation that was deleted, or it cuts values off.
STYLES = ["full", "relu", "relu6", "cut"]


@dataclass(frozen=True)
class Format:
    """Scale and zero point of a tensor."""

    scale: Value
    zero: Value
    style: str
    symmetric: bool

    @property
    def dtype(self) -> int:
        return self.zero.dtype


@dataclass(frozen=True)
class Weight:
    """Integers with scale and zero point, per tensor or along an axis."""

    ints: Value
    scale: Value
    zero: Value
    scales: Array
    axis: int | None


@dataclass
class Formats:
    """The formats of a model under construction."""

    net: Net
    dtype: int = TensorProto.UINT8
    symmetric: bool = False
    formats: dict[str, Format] = field(default_factory=dict)
    biases: list[tuple[str, str | None, Format, Weight, Array]] = field(default_factory=list)
    cache: dict[str, Array] = field(default_factory=dict)

    def stored(self, array: Array) -> Value:
        """An initializer; `const` may make a node of it, which could not be set later."""
        name = self.net.name("q")
        tensor = numpy_helper.from_array(np.asarray(array), name)
        self.net.initializers.append(tensor)
        return Value(name, np.asarray(array).shape, tensor.data_type)

    def format(self, style: str = "full", dtype: int | None = None) -> Format:
        dtype = dtype or self.dtype
        zero = self.stored(np.zeros((), helper.tensor_dtype_to_np_dtype(dtype)))
        f = Format(self.stored(np.float32(1)), zero, style, self.symmetric and style in ("full", "cut"))
        self.formats[f.scale.name] = f
        return f

    def quantize(self, x: Value, f: Format) -> Value:
        return self.net.ops("QuantizeLinear", x, f.scale, f.zero, like=Value("", x.shape, f.dtype))[0]

    def dequantize(self, x: Value, f: Format) -> Value:
        return self.net.ops("DequantizeLinear", x, f.scale, f.zero, like=Value("", x.shape))[0]

    def pair(self, x: Value, style: str = "full", f: Format | None = None) -> Value:
        f = f or self.format(style)
        return self.dequantize(self.quantize(x, f), f)

    def weight(self, a: Array, axis: int | None, dtype: int | None = None) -> Weight:
        """`a` rounded to 8 bits, per tensor (`axis` None) or with a scale per element of an axis."""
        net = self.net
        dtype = dtype or net.pick([TensorProto.INT8, TensorProto.INT8, TensorProto.UINT8])
        info = np.iinfo(helper.tensor_dtype_to_np_dtype(dtype))
        others = tuple(i for i in range(a.ndim) if i != axis) if axis is not None else None
        low = np.minimum(a.min(axis=others, keepdims=True), 0).astype(np.float64)
        high = np.maximum(a.max(axis=others, keepdims=True), 0).astype(np.float64)
        middle = (info.min + info.max + 1) // 2
        if net.chance(0.7):
            scale = np.maximum(np.maximum(-low, high) / 127, 1e-12).astype(np.float32)
            zero = np.full(scale.shape, middle)
        else:
            scale = np.maximum((high - low) / 255, 1e-12).astype(np.float32)
            zero = np.clip(np.rint(info.min - low / scale), info.min, info.max)
        ints = np.clip(np.rint(a / scale) + zero, info.min, info.max).astype(info.dtype)
        shape = (-1,) if axis is not None else ()
        s, z = scale.reshape(shape), zero.astype(info.dtype).reshape(shape)
        return Weight(self.stored(ints), self.stored(s), self.stored(z), s, axis)

    def dequantized(self, w: Weight) -> Value:
        axis = {} if w.axis is None else {"axis": w.axis}
        return self.net.ops("DequantizeLinear", w.ints, w.scale, w.zero, like=Value("", w.ints.shape), **axis)[0]

    def bias(self, b: Array, x: Format, w: Weight, pair: bool) -> Value:
        """An integer bias in steps of the products of `x` and `w`; `pair` gives it back as floats."""
        ints = self.stored(rounded(b, w.scales))
        if not pair:
            self.biases.append((ints.name, None, x, w, b))
            return ints
        scale = self.stored(np.broadcast_to(w.scales, b.shape if w.scales.ndim else ()).astype(np.float32))
        self.biases.append((ints.name, scale.name, x, w, b))
        axis = {"axis": 0} if w.scales.ndim else {}
        return self.net.ops("DequantizeLinear", ints, scale, like=Value("", b.shape), **axis)[0]

    def settle(self, model: Model) -> Model:
        """The model with scales from the ranges of its values."""
        proto = model.proto
        batch = 4 if model.symbolic else 1
        feed = model.feed(np.random.default_rng(7), batch)
        values = feed | reference.run_all(unrounded(proto, self.formats), feed)
        seen: dict[str, list[Array]] = {}
        for node in expand_qlinear(proto).graph.node:
            if node.op_type == "QuantizeLinear" and node.input[1] in self.formats:
                array = values.get(node.input[0])
                seen.setdefault(node.input[1], []).append(array if array is not None else np.zeros(1))
        chosen: dict[str, Array] = {}
        for name, f in self.formats.items():
            scale, zero = chosen_format(f, seen.get(name, []))
            chosen |= {name: scale, f.zero.name: zero}
        for ints, scale_name, f, w, b in self.biases:
            steps = (chosen[f.scale.name] * w.scales).astype(np.float32)
            chosen[ints] = rounded(b, steps)
            if scale_name:
                chosen[scale_name] = np.broadcast_to(steps, b.shape if steps.ndim else ()).astype(np.float32)
        for t in proto.graph.initializer:
            if t.name in chosen:
                t.CopyFrom(numpy_helper.from_array(np.asarray(chosen[t.name]), t.name))
        return model


def rounded(b: Array, steps: Array) -> Array:
    """A bias in 32 bits."""
    return np.clip(np.rint(b / steps.astype(np.float64)), -(2**31), 2**31 - 1).astype(np.int32)


def chosen_format(f: Format, seen: list[Array]) -> tuple[Array, Array]:
    info = np.iinfo(helper.tensor_dtype_to_np_dtype(f.dtype))
    finite = [a[np.isfinite(a)].astype(np.float64).reshape(-1) for a in seen]
    values = np.concatenate([*finite, np.zeros(1)])
    if f.style == "cut":
        low, high = np.quantile(values, 0.1), np.quantile(values, 0.8)
    else:
        low, high = values.min(), values.max()
    low, high = min(low, 0.0), max(high, 0.0)
    if f.style in ("relu", "relu6"):
        low = 0.0
    if f.style == "relu6":
        high = min(max(high, 0.5), 6.0)
    if high - low < 1e-6:
        low, high = (low, 1.0) if f.style.startswith("relu") else (-1.0, 1.0)
    if f.symmetric:
        middle = (info.min + info.max + 1) // 2
        return np.float32(max(-low, high) / (info.max - middle)), info.dtype.type(middle)
    scale = np.float32((high - low) / (info.max - info.min))
    return scale, info.dtype.type(np.clip(np.rint(info.min - low / scale), info.min, info.max))


def unrounded(model: onnx.ModelProto, formats: dict[str, Format]) -> onnx.ModelProto:
    """The model with every pair of `formats` as the activation it stands for; everything is float."""
    out = expand_qlinear(model)
    limits = {"relu_low": 0.0, "relu6_high": 6.0}
    out.graph.initializer.extend(numpy_helper.from_array(np.float32(v).reshape(()), k) for k, v in limits.items())
    for node in out.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") or node.input[1] not in formats:
            continue
        style = formats[node.input[1]].style if node.op_type == "QuantizeLinear" else "full"
        extra = {"relu": ["relu_low"], "relu6": ["relu_low", "relu6_high"]}.get(style)
        node.op_type = "Clip" if extra else "Identity"
        del node.input[1:], node.attribute[:]
        node.input.extend(extra or [])
    names = [o.name for o in out.graph.output]
    del out.graph.output[:]
    out.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    return out
