"""Models of operators on quantized tensors, and of integers whose scale is measured in every run."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, numpy_helper

from models import elementwise, floats, fused, movement, qdq
from models.formats import Format, Formats, Weight
from models.net import Model, Net, Value, normal

MICROSOFT = "com.microsoft"


class Writer:
    """Adds operators on quantized tensors to a model; every value has its format."""

    def __init__(self, net: Net) -> None:
        self.net = net
        dtype = net.pick([TensorProto.UINT8, TensorProto.UINT8, TensorProto.INT8])
        self.formats = Formats(net, dtype, symmetric=net.chance(0.2))
        # Signed activations go with signed weights in ONNX Runtime.
        unsigned = [TensorProto.INT8, TensorProto.INT8, TensorProto.UINT8]
        self.weights = net.pick(unsigned) if dtype == TensorProto.UINT8 else TensorProto.INT8
        self.per_channel = net.chance(0.5)
        self.known: list[tuple[Value, Format]] = []

    def keep(self, x: Value, f: Format) -> tuple[Value, Format]:
        self.known.append((x, f))
        return x, f

    def quantized(self, x: Value, style: str = "full") -> tuple[Value, Format]:
        f = self.formats.format(style)
        return self.keep(self.formats.quantize(x, f), f)

    def op(self, kind: str, shape: tuple, f: Format, *operands: Value | None, domain: str = MICROSOFT, **attributes):
        like = Value("", shape, f.dtype)
        return self.keep(self.net.ops(kind, *operands, domain=domain, like=like, **attributes)[0], f)

    def after(self) -> Format:
        return self.formats.format(self.net.pick(qdq.AFTER_PRODUCT))

    def weight(self, shape: tuple[int, ...], axis: int, fan: int) -> Weight:
        a = (self.net.rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32)
        return self.formats.weight(a, axis if self.per_channel else None, self.weights)

    def bias(self, n: int, f: Format, w: Weight) -> list[Value]:
        if self.net.chance(0.3):
            return []
        b = (self.net.rng.standard_normal(n) * 0.5).astype(np.float32)
        return [self.formats.bias(b, f, w, pair=False)]

    def conv(self, x: Value, f: Format):
        if x.rank != 4:
            return None
        net, c = self.net, x.rest[0]
        group = net.pick([1, 1, c])
        out = c if group == c else net.integer(1, 12)
        k = net.pick([1, 3]) if min(x.rest[1:]) >= 3 else 1
        stride = net.pick([1, 1, 2])
        w, y = self.weight((out, c // group, k, k), 0, c // group * k * k), self.after()
        dims = [(d + 2 * (k // 2) - k) // stride + 1 for d in x.rest[1:]]
        attributes = {"group": group, "strides": [stride] * 2, "pads": [k // 2] * 4}
        operands = [x, f.scale, f.zero, w.ints, w.scale, w.zero, y.scale, y.zero, *self.bias(out, f, w)]
        return self.op("QLinearConv", (x.shape[0], out, *dims), y, *operands, domain="", **attributes)

    def matmul(self, x: Value, f: Format):
        if x.rank not in (2, 3):
            return None
        k, n = x.rest[-1], self.net.integer(2, 16)
        w, y = self.weight((k, n), 1, k), self.after()
        operands = [x, f.scale, f.zero, w.ints, w.scale, w.zero, y.scale, y.zero]
        return self.op("QLinearMatMul", (*x.shape[:-1], n), y, *operands, domain="")

    def gemm(self, x: Value, f: Format):
        if x.rank != 2:
            return None
        k, n = x.rest[0], self.net.integer(2, 16)
        w, y = self.weight((n, k), 0, k), self.after()
        operands = [x, f.scale, f.zero, w.ints, w.scale, w.zero, *(self.bias(n, f, w) or [None]), y.scale, y.zero]
        return self.op("QGemm", (x.shape[0], n), y, *operands, transB=1)

    def binary(self, x: Value, f: Format):
        same = [(v, g) for v, g in self.known if v.shape == x.shape and v != x]
        other, g = self.net.pick(same) if same else (x, f)
        y = self.after()
        kind = self.net.pick(["QLinearAdd", "QLinearAdd", "QLinearMul"])
        return self.op(kind, x.shape, y, x, f.scale, f.zero, other, g.scale, g.zero, y.scale, y.zero)

    def residual(self, x: Value, f: Format):
        """`x + f(x)`, where `f` keeps the shape."""
        if x.rank != 4:
            return None
        c = x.rest[0]
        w, z, y = self.weight((c, c, 1, 1), 0, c), self.after(), self.after()
        operands = [x, f.scale, f.zero, w.ints, w.scale, w.zero, z.scale, z.zero, *self.bias(c, f, w)]
        v, _ = self.op("QLinearConv", x.shape, z, *operands, domain="")
        return self.op("QLinearAdd", x.shape, y, x, f.scale, f.zero, v, z.scale, z.zero, y.scale, y.zero)

    def concat(self, x: Value, f: Format):
        if x.rank < 2:
            return None
        axis = 1
        near = [
            (v, g) for v, g in self.known if v.rank == x.rank and v.shape[0] == x.shape[0] and v.rest[1:] == x.rest[1:]
        ]
        parts = [(x, f), self.net.pick(near)]
        y = self.formats.format()
        operands = [o for v, g in parts for o in (v, g.scale, g.zero)]
        width = sum(v.rest[0] for v, _ in parts)
        return self.op("QLinearConcat", (x.shape[0], width, *x.rest[1:]), y, y.scale, y.zero, *operands, axis=axis)

    def pool(self, x: Value, f: Format):
        if x.rank != 4:
            return None
        y = self.formats.format()
        operands = [x, f.scale, f.zero, y.scale, y.zero]
        if self.net.chance(0.5):
            return self.op("QLinearGlobalAveragePool", (*x.shape[:2], 1, 1), y, *operands, channels_last=0)
        if min(x.rest[1:]) < 3:
            return None
        pad, stride, ceil = self.net.integer(0, 1), self.net.integer(1, 2), int(self.net.chance(0.2))
        rooms = [d + 2 * pad - 3 for d in x.rest[1:]]
        dims = [(-(-r // stride) if ceil else r // stride) + 1 for r in rooms]
        # A window that begins in the padding behind the map does not count.
        dims = [d - int((d - 1) * stride >= i + pad) for d, i in zip(dims, x.rest[1:], strict=True)]
        attributes = {"kernel_shape": [3, 3], "pads": [pad] * 4, "strides": [stride] * 2, "ceil_mode": ceil}
        attributes["count_include_pad"] = int(self.net.chance(0.3))
        return self.op("QLinearAveragePool", (*x.shape[:2], *dims), y, *operands, **attributes)

    def function(self, x: Value, f: Format):
        y = self.formats.format()
        operands = [x, f.scale, f.zero, y.scale, y.zero]
        if self.net.chance(0.4):
            return self.op("QLinearLeakyRelu", x.shape, y, *operands, alpha=self.net.uniform(0.05, 0.4))
        return self.op("QLinearSigmoid", x.shape, y, *operands)

    def move(self, x: Value, f: Format):
        """Movement of bytes keeps their format."""
        if x.rank == 4 and min(x.rest[1:]) >= 2 and self.net.chance(0.5):
            dims = [(d - 2) // 2 + 1 for d in x.rest[1:]]
            return self.op("MaxPool", (*x.shape[:2], *dims), f, x, domain="", kernel_shape=[2, 2], strides=[2, 2])
        makers = [movement.reshape, movement.transpose, movement.flatten, movement.slice_]
        y = self.net.pick(makers)(self.net, x)
        return self.keep(y, f) if y is not None and y.known and floats.fits(y) else None

    def through_floats(self, x: Value, f: Format):
        """A float op between, behind DequantizeLinear."""
        z = self.net.pick(elementwise.MAKERS)(self.net, self.formats.dequantize(x, f))
        return self.quantized(z) if z is not None and z.known and z.dtype == TensorProto.FLOAT else None

    def layer(self, x: Value, f: Format):
        products = [self.conv] * 4 + [self.gemm] * 2 + [self.matmul] * 2
        makers = [
            *products,
            *[self.residual, self.binary] * 2,
            self.concat,
            self.pool,
            self.pool,
            self.function,
            self.move,
        ]
        return self.net.pick([*makers, self.move, self.through_floats])(x, f)


def chain(net: Net) -> Model:
    """A network whose every tensor is quantized."""
    w = Writer(net)
    x, f = w.quantized(net.input(qdq.shape(net), normal(net.pick([0.5, 1.0, 3.0]))))
    for _ in range(net.integer(1, 6)):
        x, f = w.layer(x, f) or (x, f)
    last = x if net.chance(0.1) else w.formats.dequantize(x, f)
    return w.formats.settle(net.finish([last]))


def measured(net: Net) -> Model:
    """DynamicQuantizeLinear in front of integer products."""
    image = net.chance(0.4)
    if net.chance(0.7):
        net.batch = net.pick([1, 1, 2])
    x = net.input(qdq.shape(net) if image else (net.integer(1, 24),) if net.chance(0.7) else (net.integer(1, 9), net.integer(1, 700)), normal(net.pick([0.5, 2.0])))
    if image and x.rank == 4:
        x = net.op("Relu", x) if net.chance(0.5) else x
    ints, scale, zero = net.ops("DynamicQuantizeLinear", x, outputs=3)
    fan, out = (x.rest[0], net.integer(1, 9)) if x.rank != 3 else (x.rest[-1], net.integer(1, 9))
    shape = (out, fan, 1, 1) if x.rank == 4 else (fan, out)
    products = []
    for _ in range(1 if x.rank == 4 else net.pick([1, 1, 2, 3])):
        axis = 1 if x.rank != 4 and net.chance(0.4) else None
        w = Formats(net).weight((net.rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32), axis)
        # A left side without a zero point is a product of the integers as they are.
        zeros = (zero, w.zero) if net.chance(0.9) else (zero,)
        y = net.op("ConvInteger" if x.rank == 4 else "MatMulInteger", ints, w.ints, *zeros)
        y = net.op("Cast", y, to=TensorProto.FLOAT)
        if net.chance(0.8):
            y = net.op("Mul", y, net.op("Mul", scale, w.scale))
        else:
            y = net.op("Mul", net.op("Mul", y, scale), w.scale)
        if x.rank != 4 and net.chance(0.5):
            y = net.op("Add", y, net.const(net.rng.standard_normal(out) * 0.3))
        products.append(net.op("Relu", y) if net.chance(0.3) else y)
    return net.finish(products)


def right_side(net: Net, k: int, n: int) -> list[Value | None]:
    """Stored integers `[k, n]`, their scales, and their zero points or nothing."""
    w = Formats(net).weight(
        (net.rng.standard_normal((k, n)) / np.sqrt(k)).astype(np.float32), net.pick([None, None, 1])
    )
    centred = w.ints.dtype == TensorProto.INT8 and net.chance(0.5)
    array = next(numpy_helper.to_array(t) for t in net.initializers if t.name == w.zero.name)
    return [w.ints, w.scale, None if centred and not array.any() else w.zero]


def real(net: Net) -> Model:
    """Products of integers that give floats: ONNX Runtime's fused operators, one behind the other."""
    if net.chance(0.6):
        net.batch = net.pick([1, 1, 2])
    tokens, heads = net.integer(1, 6), net.pick([1, 2])
    x = net.input((tokens, heads * net.integer(1, 6)), normal(net.pick([0.5, 2.0])))
    formats = Formats(net, net.pick([TensorProto.UINT8, TensorProto.UINT8, TensorProto.INT8]))
    for _ in range(net.integer(1, 3)):
        k, n = x.rest[-1], net.integer(1, 9)
        way = net.pick(["measured", "fused", "stored", "attention"])
        bias = net.const(net.rng.standard_normal(n).astype(np.float32)) if net.chance(0.6) else None
        like = Value("", (*x.shape[:-1], n))
        b, scale, zero = right_side(net, k, n)
        if way == "fused":
            x = net.ops("DynamicQuantizeMatMul", x, b, scale, zero, bias, domain=MICROSOFT, like=like)[0]
            continue
        if way == "measured":
            a, a_scale, a_zero = net.ops("DynamicQuantizeLinear", x, outputs=3)
        else:
            f = formats.format()
            a, a_scale, a_zero = formats.quantize(x, f), f.scale, f.zero
        if way == "attention" and k % heads == 0:
            b, scale, zero = right_side(net, k, 3 * k)
            bias = net.const((net.rng.standard_normal(3 * k) * 0.2).astype(np.float32))
            mask = fused.keep_some(net, tokens)
            operands = [a, b, bias, a_scale, scale, mask, a_zero, zero]
            like = Value("", x.shape)
            x = net.ops("QAttention", *operands, domain=MICROSOFT, like=like, num_heads=heads)[0]
        else:
            operands = [a, b, a_scale, scale, a_zero, zero, bias]
            x = net.ops("MatMulIntegerToFloat", *operands, domain=MICROSOFT, like=like)[0]
        x = net.op("Relu", x) if net.chance(0.2) else x
    return formats.settle(net.finish([x]))


def make(rng: np.random.Generator) -> Model:
    """A model of integer operators."""
    net = Net(rng, opset=int(rng.choice([13, 14, 17, 18])))
    if net.chance(0.1):
        net.batch = net.pick([1, 2])
    return net.pick([chain] * 7 + [measured, real, real])(net)
