"""Models with QuantizeLinear/DequantizeLinear pairs, as quantizers write them."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from models import elementwise, encoders, floats, fused, integers, linear, movement, norms, recurrent, windows
from models.formats import Format, Formats
from models.net import Model, Net, Sample, Value, normal

#: Float ops between pairs: weight and makers.
BETWEEN: list[tuple[int, list[floats.Maker]]] = [
    (3, windows.MAKERS),
    (2, norms.MAKERS),
    (4, elementwise.MAKERS),
    (4, movement.MAKERS),
    (1, linear.MAKERS),
    (4, integers.MAKERS),
    (1, recurrent.MAKERS),
    (2, fused.MAKERS),
]
#: How often each style stands behind a product.
AFTER_PRODUCT = ["full", "full", "relu", "relu", "relu6", "cut"]


class Writer:
    """Adds layers with their pairs to a model."""

    def __init__(self, net: Net) -> None:
        self.net = net
        dtype = net.pick([TensorProto.UINT8, TensorProto.UINT8, TensorProto.INT8])
        if net.opset >= 21 and net.chance(0.1):
            dtype = net.pick([TensorProto.INT16, TensorProto.UINT16])
        self.formats = Formats(net, dtype, symmetric=net.chance(0.25))
        self.weights = net.pick([None, TensorProto.INT8, TensorProto.UINT8])
        self.per_channel = net.chance(0.6)
        #: Values behind a pair, with its format.
        self.behind: dict[str, Format] = {}

    def pair(self, x: Value, style: str = "full", f: Format | None = None) -> Value:
        f = f or self.formats.format(style)
        y = self.formats.pair(x, f=f)
        self.behind[y.name] = f
        return y

    def ready(self, x: Value, p: float = 0.95) -> Value:
        """`x` behind a pair, in most cases."""
        return x if x.name in self.behind or not self.net.chance(p) else self.pair(x)

    def weight(self, shape: tuple[int, ...], axis: int, fan: int):
        net = self.net
        a = (net.rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32)
        if net.chance(0.05):
            a[(slice(None),) * axis + (0,)] = net.pick([0.0, 1e-20])
        return self.formats.weight(a, axis if self.per_channel else None, self.weights)

    def bias(self, n: int, x: Value, w) -> Value:
        b = (self.net.rng.standard_normal(n) * 0.5).astype(np.float32)
        f = self.behind.get(x.name)
        if f is None or f.dtype not in (TensorProto.UINT8, TensorProto.INT8) or self.net.chance(0.4):
            return self.net.const(b)
        return self.formats.bias(b, f, w, pair=True)

    def conv(self, x: Value) -> Value | None:
        if x.rank != 4 or not x.known:
            return None
        net, c = self.net, x.rest[0]
        x = self.ready(x)
        depthwise = net.chance(0.25)
        group = c if depthwise else net.pick([1, 1, 1, 2 if c % 2 == 0 else 1])
        out = c if depthwise or net.chance(0.4) else group * net.integer(1, max(1, 12 // group))
        k = net.pick([1, 3]) if min(x.rest[1:]) >= 3 else 1
        stride = net.pick([1, 1, 1, 2])
        w = self.weight((out, c // group, k, k), 0, c // group * k * k)
        operands = [x, self.formats.dequantized(w)]
        if net.chance(0.1):
            operands[1] = net.weight(out, c // group, k, k)
            if net.chance(0.5):
                operands[1] = self.formats.pair(operands[1])
        elif net.chance(0.7):
            operands.append(self.bias(out, x, w))
        attributes = {"group": group, "strides": [stride] * 2, "pads": [k // 2] * 4}
        return net.op("Conv", *operands, **attributes)

    def conv_transpose(self, x: Value) -> Value | None:
        if x.rank != 4 or not x.known:
            return None
        net, c = self.net, x.rest[0]
        x = self.ready(x)
        group = net.pick([1, 1, 1, c, 2 if c % 2 == 0 else 1])
        own, k, stride = net.integer(1, max(1, 8 // group)), net.integer(1, 3), net.pick([1, 2, 2, 3])
        w = self.weight((c, own, k, k), 1, c // group * k * k)
        operands = [x, self.formats.dequantized(w)]
        if net.chance(0.5):
            operands.append(net.const((net.rng.standard_normal(own * group) * 0.5).astype(np.float32)))
        return net.op("ConvTranspose", *operands, group=group, strides=[stride] * 2)

    def gemm(self, x: Value) -> Value | None:
        if x.rank != 2 or not x.known:
            return None
        net, k, n = self.net, x.rest[0], self.net.integer(2, 16)
        x = self.ready(x)
        transposed = net.chance(0.6)
        w = self.weight((n, k) if transposed else (k, n), 0 if transposed else 1, k)
        operands = [x, self.formats.dequantized(w)]
        if net.chance(0.8):
            operands.append(self.bias(n, x, w))
        return net.op("Gemm", *operands, transB=int(transposed))

    def matmul(self, x: Value) -> Value | None:
        if x.rank not in (2, 3) or not x.known:
            return None
        net, k, n = self.net, x.rest[-1], self.net.integer(2, 16)
        x = self.ready(x)
        w = self.weight((k, n), 1, k)
        y = net.op("MatMul", x, self.formats.dequantized(w))
        return net.op("Add", y, self.bias(n, x, w)) if net.chance(0.6) else y

    def computed(self, x: Value) -> Value | None:
        """A product of two computed operands, each behind its pair."""
        if x.rank not in (3, 4) or not x.known:
            return None
        perm = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
        x = self.ready(x)
        y = self.pair(self.net.op("Transpose", x, perm=perm), self.net.pick(AFTER_PRODUCT))
        scores = self.pair(self.net.op("MatMul", x, y))
        scores = self.ready(self.net.op("Softmax", scores, axis=-1))
        return self.net.op("MatMul", scores, x) if self.net.chance(0.7) else scores

    def product(self, x: Value) -> Value | None:
        makers = [self.conv, self.conv, self.conv, self.gemm, self.matmul, self.matmul, self.computed, self.conv_transpose]
        maker = self.net.pick(makers)
        return maker(x)

    def residual(self, x: Value) -> Value | None:
        """`x + f(x)`, with pairs on one or both sides of the sum."""
        net, y = self.net, x
        for last in (False, True)[net.integer(0, 1) :]:
            z = self.product(y)
            if z is None:
                return None
            y = z if last else self.pair(z, net.pick(AFTER_PRODUCT))
        if y.shape != x.shape:
            return self.pair(y)
        left = self.ready(x, 0.8)
        right = self.pair(y, net.pick(AFTER_PRODUCT)) if net.chance(0.75) else y
        y = net.op("Add", *((left, right) if net.chance(0.5) else (right, left)))
        return net.op("Relu", y) if net.chance(0.3) else y

    def two_formats(self, x: Value) -> Value | None:
        """One tensor read through two pairs."""
        a = self.pair(x, self.net.pick(AFTER_PRODUCT))
        b = self.pair(x, "relu") if self.net.chance(0.7) else x
        if x.rank > 1 and self.net.chance(0.2):
            return self.net.op("Concat", a, b, axis=1)
        return self.net.op(self.net.pick(["Add", "Sub", "Mul", "Max"]), a, b)

    def joined(self, x: Value) -> Value | None:
        """A concatenation of parts with equal or different scales."""
        if x.rank < 2 or not x.known:
            return None
        f = self.formats.format() if self.net.chance(0.4) else None
        other = self.net.op(self.net.pick(["Tanh", "Relu", "Neg"]), x)
        parts = [self.pair(v, self.net.pick(AFTER_PRODUCT), f) for v in (x, other)]
        y = self.net.op("Concat", *parts, axis=self.net.integer(1, x.rank - 1))
        return self.pair(y, f=f) if f else y

    def moved(self, x: Value) -> Value | None:
        """Movement or a maximum between pairs of one format, or on the bytes themselves."""
        net = self.net
        f = self.formats.format(net.pick(["full", "full", "relu"]))
        if net.chance(0.25) and x.rank == 4 and x.known and min(x.rest[1:]) >= 2 and f.dtype in (2, 3):
            y = net.op("MaxPool", self.formats.quantize(x, f), kernel_shape=[2, 2], strides=[2, 2])
        elif net.chance(0.25) and x.rank > 1:
            perm = [0, *(int(p) + 1 for p in net.rng.permutation(x.rank - 1))]
            y = net.op("Transpose", self.formats.quantize(x, f), perm=perm)
        else:
            z = net.pick([*movement.MAKERS, windows.pool])(net, self.pair(x, f=f))
            return (
                self.pair(z, f=f if net.chance(0.7) else None)
                if z and z.dtype == TensorProto.FLOAT and z.known
                else None
            )
        z = self.formats.dequantize(y, f)
        self.behind[z.name] = f
        return z

    def between(self, x: Value) -> Value | None:
        """A float op, read through a pair."""
        makers = BETWEEN[int(self.net.rng.choice(len(BETWEEN), p=[w / 20 for w, _ in BETWEEN]))][1]
        return self.net.pick(makers)(self.net, self.ready(x, 0.85))

    def layer(self, x: Value) -> Value | None:
        """One layer and the pair behind it, in most cases."""
        makers = [self.product] * 6 + [self.residual] * 4 + [self.two_formats, self.joined, self.moved, self.moved]
        y = self.net.pick([*makers, *[self.between] * 5])(x)
        if y is None or not y.known or y.dtype != TensorProto.FLOAT or not floats.fits(y):
            return None
        if y.name in self.behind or not self.net.chance(0.9):
            return y
        if self.net.chance(0.2):
            y = self.net.op("Relu", y)
        return self.pair(y, self.net.pick(AFTER_PRODUCT))


def shape(net: Net) -> tuple[int, ...]:
    image = (net.pick([3, 4, 8, 16]), net.integer(2, 9), net.integer(2, 9))
    return net.pick([image, image, image, (net.integer(1, 6), net.pick([4, 8, 16])), (net.pick([8, 16, 32]),)])


def first(net: Net, w: Writer) -> Value:
    """The input: floats, or bytes of a stated format."""
    rest = shape(net)
    if net.chance(0.9):
        return net.input(rest, normal(net.pick([0.5, 1.0, 3.0])))
    draw = Sample(lambda rng, dims: rng.integers(0, 256, dims).astype(np.uint8))
    x = net.input(rest, draw, TensorProto.UINT8)
    scale, zero = net.const(np.float32(0.02)), net.const(np.uint8(net.pick([0, 100, 128])))
    return net.ops("DequantizeLinear", x, scale, zero, like=Value("", x.shape))[0]


def encoder(net: Net, w: Writer) -> Model:
    """A text encoder whose products, of computed operands as well, read through pairs; some are left out."""
    share = net.pick([1.0, 1.0, 0.7])

    def weights(k: int, n: int) -> Value:
        return w.formats.dequantized(w.weight((k, n), 1, k))

    def tables(rows: int, width: int) -> Value:
        a = net.rng.standard_normal((rows, width)).astype(np.float32)
        return w.formats.dequantized(w.formats.weight(a, net.pick([None, None, 0, 1]), w.weights))

    around, stored = (lambda x: w.ready(x, share)), tables if net.chance(0.6) else None
    found = encoders.Encoder(net, around, weights, stored).build()
    return w.formats.settle(net.finish(found))


def make(rng: np.random.Generator) -> Model:
    """A model with pairs."""
    net = Net(rng, opset=int(rng.choice([13, 14, 17, 17, 18, 19, 21])), ties=False)
    if net.chance(0.1):
        net.batch = net.pick([1, 2])
    w = Writer(net)
    if net.chance(0.15):
        return encoder(net, w)
    x = first(net, w)
    for _ in range(net.integer(1, 6)):
        x = w.layer(x) or x
    if x.name not in w.behind and net.chance(0.5):
        x = w.pair(x)
    found = floats.outputs(net, x if x not in net.inputs else net.op("Relu", x))
    if net.chance(0.07) and found[0].known:
        found[0] = w.formats.quantize(found[0], w.formats.format(dtype=net.pick([TensorProto.UINT8, TensorProto.INT8])))
    return w.formats.settle(net.finish(found))
