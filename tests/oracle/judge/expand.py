"""Rewrites operators on quantized tensors by their definition: DequantizeLinear, a float operator, QuantizeLinear.

Only neighbours of a model are made from this form; the right values are those of the operators themselves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

#: Float operator and number of (tensor, scale, zero point) operands of each operator with `(.., out scale, out zero)`.
SIMPLE = {
    "QLinearAdd": ("Add", 2),
    "QLinearMul": ("Mul", 2),
    "QLinearAveragePool": ("AveragePool", 1),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", 1),
    "QLinearSigmoid": ("Sigmoid", 1),
    "QLinearLeakyRelu": ("LeakyRelu", 1),
    "QLinearMatMul": ("MatMul", 2),
    "QLinearSoftmax": ("Softmax", 1),
    "QLinearReduceMean": ("ReduceMean", 1),
}


class Expander:
    """The nodes of a model in expanded form."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.out = onnx.ModelProto()
        self.out.CopyFrom(model)
        self.stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self.stored[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.nodes: list[onnx.NodeProto] = []
        self.count = 0

    def add(self, kind: str, inputs: list[str], output: str | None = None, **attributes: object) -> str:
        self.count += 1
        name = output or f"expanded_{self.count}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def floats(self, operands: list[str], axis: int = 0) -> str:
        """A tensor with scale and zero point as floats."""
        scale = self.stored.get(operands[1])
        per_axis = {"axis": axis} if scale is not None and scale.ndim and scale.size > 1 else {}
        return self.add("DequantizeLinear", [o for o in operands if o], **per_axis)

    def quantize(self, value: str, scale: str, zero: str, output: str) -> None:
        self.add("QuantizeLinear", [value, scale, *([zero] if zero else [])], output)

    def bias(self, name: str, scales: tuple[str, str]) -> str:
        x, w = (self.stored[s] for s in scales)
        factor = (np.asarray(x, np.float64).reshape(-1) * np.asarray(w, np.float64).reshape(-1)).astype(np.float32)
        self.count += 1
        array = (self.stored[name] * factor).astype(np.float32)
        self.out.graph.initializer.append(numpy_helper.from_array(array, f"bias_{self.count}"))
        return f"bias_{self.count}"

    def simple(self, node: onnx.NodeProto) -> None:
        kind, count = SIMPLE[node.op_type]
        ins = list(node.input)
        values = []
        for i in range(count):
            rank = self.stored[ins[3 * i]].ndim if ins[3 * i] in self.stored else 2
            values.append(self.floats(ins[3 * i : 3 * i + 3], axis=rank - 1))
        ignored = ("channels_last", "opset")
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute if a.name not in ignored}
        if kind == "AveragePool" and attributes.get("ceil_mode") and attributes.get("count_include_pad"):
            values = [self.padded(values[0], attributes)]
        y = self.add(kind, values, **attributes)
        zero = ins[3 * count + 1] if len(ins) > 3 * count + 1 else ""
        self.quantize(y, ins[3 * count], zero, node.output[0])

    def padded(self, value: str, attributes: dict[str, object]) -> str:
        """The input of a pool with its padding. QLinearAveragePool divides by whole windows; AveragePool leaves out what
        the last ones have behind the padding."""
        kernel = attributes["kernel_shape"]
        strides = attributes.pop("strides", [1] * len(kernel))
        pads = attributes.pop("pads", [0] * 2 * len(kernel))
        ends = [p + s - 1 for p, s in zip(pads[len(kernel) :], strides, strict=True)]
        attributes.update(strides=strides, ceil_mode=0)
        self.count += 1
        array = np.array([0, 0, *pads[: len(kernel)], 0, 0, *ends], np.int64)
        self.out.graph.initializer.append(numpy_helper.from_array(array, f"pads_{self.count}"))
        return self.add("Pad", [value, f"pads_{self.count}"])

    def conv(self, node: onnx.NodeProto) -> None:
        ins = list(node.input)
        operands = [self.floats(ins[:3]), self.floats(ins[3:6])]
        if len(ins) > 8 and ins[8]:
            operands.append(self.bias(ins[8], (ins[1], ins[4])))
        y = self.add("Conv", operands, **{a.name: helper.get_attribute_value(a) for a in node.attribute})
        self.quantize(y, ins[6], ins[7], node.output[0])

    def gemm(self, node: onnx.NodeProto) -> None:
        ins = list(node.input) + [""] * (9 - len(node.input))
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        operands = [self.floats(ins[:3]), self.floats(ins[3:6], axis=0 if attributes.get("transB") else 1)]
        if ins[6]:
            operands.append(self.bias(ins[6], (ins[1], ins[4])))
        # alpha scales the product only, and the bias is stored in steps of alpha * a_scale * b_scale.
        attributes.pop("beta", None)
        if not ins[7]:
            self.add("Gemm", operands, node.output[0], **attributes)
        else:
            self.quantize(self.add("Gemm", operands, **attributes), ins[7], ins[8], node.output[0])

    def concat(self, node: onnx.NodeProto) -> None:
        ins = list(node.input)
        parts = [self.floats(ins[i : i + 3]) for i in range(2, len(ins), 3)]
        y = self.add("Concat", parts, **{a.name: helper.get_attribute_value(a) for a in node.attribute})
        self.quantize(y, ins[0], ins[1], node.output[0])


    def real(self, node: onnx.NodeProto) -> None:
        """A product of integers that gives floats."""
        a, b, a_scale, b_scale, a_zero, b_zero, bias = [*node.input, "", "", ""][:7]
        operands = [self.floats([a, a_scale, a_zero]), self.floats([b, b_scale, b_zero], axis=1)]
        if bias:
            self.add("Add", [self.add("MatMul", operands), bias], node.output[0])
        else:
            self.add("MatMul", operands, node.output[0])

    def measured(self, node: onnx.NodeProto) -> None:
        """The same with a left side that is quantized by its own range."""
        x, b, b_scale, b_zero, bias = [*node.input, "", ""][:5]
        a, scale, zero = (f"{node.output[0]}_{part}" for part in ("ints", "scale", "zero"))
        self.nodes.append(helper.make_node("DynamicQuantizeLinear", [x], [a, scale, zero]))
        ins = [a, b, scale, b_scale, zero, b_zero, bias]
        self.real(helper.make_node("MatMulIntegerToFloat", ins, [node.output[0]]))

    def attention(self, node: onnx.NodeProto) -> None:
        x, w, bias, x_scale, w_scale, mask, x_zero, w_zero = [*node.input, "", ""][:8]
        operands = [self.floats([x, x_scale, x_zero]), self.floats([w, w_scale, w_zero], axis=1), bias, mask]
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        ins = operands if mask else operands[:3]
        made = helper.make_node("Attention", ins, [node.output[0]], domain="com.microsoft", **attributes)
        self.nodes.append(made)


def expand_qlinear(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model in expanded form; unchanged where it has no operators on quantized tensors."""
    e = Expander(model)
    special: dict[str, Callable[[onnx.NodeProto], None]] = {
        "QLinearConv": e.conv,
        "QGemm": e.gemm,
        "QLinearConcat": e.concat,
        "DynamicQuantizeMatMul": e.measured,
        "MatMulIntegerToFloat": e.real,
        "QAttention": e.attention,
    } | {kind: e.simple for kind in SIMPLE}
    for node in model.graph.node:
        if node.op_type in special:
            special[node.op_type](node)
        else:
            e.nodes.append(node)
    del e.out.graph.node[:]
    e.out.graph.node.extend(e.nodes)
    return e.out
