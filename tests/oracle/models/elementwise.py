"""Functions of single elements and of two operands."""

from __future__ import annotations

import numpy as np

from models.net import Net, Value

#: Functions with the first operator set that has them.
PLAIN = [("Abs", 6), ("Cos", 7), ("Erf", 9), ("Exp", 6), ("Neg", 6), ("Sigmoid", 6), ("Sin", 7), ("Softsign", 1), ("Tanh", 6), ("Relu", 6)]
PLAIN += [("Atan", 7), ("Asinh", 9), ("Ceil", 6), ("Floor", 6), ("Mish", 18), ("Round", 11), ("Sign", 9), ("Softplus", 1)]
PLAIN += [("Relu", 6), ("Relu", 6), ("HardSwish", 14), ("HardSwish", 14), ("Gelu", 20), ("Gelu", 20)]


def function(net: Net, x: Value) -> Value | None:
    kind = net.pick([name for name, since in PLAIN if since <= net.opset])
    if kind == "Gelu" and net.chance(0.5):
        return net.op(kind, x, approximate="tanh")
    return net.op(kind, x)


def with_parameters(net: Net, x: Value) -> Value | None:
    kind = net.pick(["LeakyRelu", "Elu", "Celu", "Selu", "HardSigmoid", "Shrink", "ThresholdedRelu"])
    if kind == "Shrink":
        return net.op(kind, x, lambd=net.uniform(0.1, 0.8), bias=net.uniform(-0.2, 0.5))
    if kind == "HardSigmoid":
        return net.op(kind, x, alpha=net.uniform(0.1, 0.5), beta=net.uniform(0.2, 0.8))
    if kind == "Selu" or net.chance(0.3):
        return net.op(kind, x)
    return net.op(kind, x, alpha=net.uniform(0.05, 1.5))


def clip(net: Net, x: Value) -> Value | None:
    low = net.const(net.uniform(-1, 0)) if net.chance(0.8) else None
    high = net.const(net.pick([6.0, 0.5, 1.0])) if net.chance(0.8) else None
    return net.op("Clip", x, low, high) if high else net.op("Clip", x, *([low] if low else []))


def of_positive(net: Net, x: Value) -> Value | None:
    """Functions that need positive arguments, behind something that makes them so."""
    positive = net.op("Add", net.op(net.pick(["Abs", "Sigmoid", "Relu"]), x), net.const(net.pick([0.5, 1.0])))
    kind = net.pick(["Sqrt", "Reciprocal", "Pow", "Div", "Log", "Mod", "Acosh", "Sinh", "Atanh", "Asin", "Acos", "Tan", "Cosh"])
    if kind == "Pow":
        return net.op("Pow", positive, net.const(net.pick([0.5, 2.0, 3.0, -0.5, 1.7])) if net.chance(0.6) else net.op("Tanh", x))
    if kind == "Mod":
        return net.op("Mod", x, positive, fmod=1)
    if kind == "Acosh":
        return net.op("Acosh", net.op("Add", positive, net.const(1.0)))
    if kind in ("Sinh", "Cosh"):
        return net.op(kind, net.op("Clip", x, net.const(-3.0), net.const(3.0)) if net.opset >= 11 else net.op("Tanh", x))
    if kind in ("Atanh", "Asin", "Acos", "Tan"):
        return net.op(kind, net.op("Mul", net.op("Tanh", x), net.const(0.9)))
    return net.op("Div", x, positive) if kind == "Div" else net.op(kind, positive)


def prelu(net: Net, x: Value) -> Value | None:
    if x.rank < 2 or not x.known:
        return None
    slope = net.rng.uniform(-0.2, 0.5, (x.rest[0], *[1] * (x.rank - 2)))
    return net.op("PRelu", x, net.const(slope))


def written_out(net: Net, x: Value) -> Value | None:
    """Functions as exporters spell them with several nodes."""
    which = net.pick(["silu", "gelu", "hard_swish", "mish_like", "gelu_tanh"])
    if which == "silu":
        return net.op("Mul", x, net.op("Sigmoid", x))
    if which == "gelu":
        inner = net.op("Div", x, net.const(np.sqrt(2.0))) if net.chance(0.5) else scaled(net, x, np.sqrt(0.5))
        return gated(net, x, net.op("Erf", inner))
    if which == "hard_swish":
        gate = net.op("Clip", net.op("Add", x, net.const(3.0)), net.const(0.0), net.const(6.0))
        return net.op("Div", net.op("Mul", x, gate), net.const(6.0))
    if which == "mish_like":
        return net.op("Mul", x, net.op("Tanh", net.op("Relu", x)))
    c, k = 0.044715, np.sqrt(2 / np.pi)
    form = net.pick(["cube", "power", "square"])
    if form == "square":
        line = net.op("Add", scaled(net, net.op("Mul", x, x), c * k), net.const(k))
        return gated(net, x, net.op("Tanh", net.op("Mul", x, line)))
    square = net.op("Mul", x, x)
    cube = net.op("Pow", x, net.const(3.0)) if form == "power" else net.op("Mul", square, x)
    return gated(net, x, net.op("Tanh", scaled(net, net.op("Add", x, scaled(net, cube, c)), k)))


def scaled(net: Net, x: Value, factor: float) -> Value:
    """A product with a constant on either side."""
    sides = [x, net.const(factor)]
    return net.op("Mul", *(sides if net.chance(0.5) else reversed(sides)))


def gated(net: Net, x: Value, f: Value) -> Value:
    """`x * (1 + f) / 2` in one of its orders."""
    order = net.integer(0, 3)
    if order == 3:
        return net.op("Mul", net.op("Add", scaled(net, f, 0.5), net.const(0.5)), x)
    gate = net.op("Add", f, net.const(1.0))
    if order == 0:
        return scaled(net, net.op("Mul", x, gate), 0.5)
    if order == 1:
        return net.op("Mul", scaled(net, x, 0.5), gate)
    return net.op("Mul", x, scaled(net, gate, 0.5))


def with_constant(net: Net, x: Value) -> Value | None:
    """A constant that broadcasts, on either side."""
    if not x.known:
        return None
    kind = net.pick(["Add", "Add", "Mul", "Mul", "Sub", "Div", "Max", "Min"])
    shape = net.pick([(), (1,), x.rest[-1:], (1, *x.rest), x.rest, (x.rest[0] if x.rest else 1, *[1] * (x.rank - 2))])
    a = net.rng.standard_normal(shape).astype(np.float32)
    if kind == "Div":
        a = np.where(np.abs(a) < 0.2, np.float32(0.5), a)
    if kind == "Mul" and net.chance(0.1):
        a = np.zeros_like(a)
    c = net.folded(a) if net.chance(0.2) and a.ndim else net.const(a)
    left = net.chance(0.25) and kind != "Div"
    return net.op(kind, c, x) if left else net.op(kind, x, c)


def of_two(net: Net, x: Value) -> Value | None:
    """Two computed values of one shape, which other nodes may read as well."""
    same = [v for v in net.values if v.shape == x.shape and v.dtype == x.dtype and v != x]
    other = net.pick(same) if same else net.op("Tanh", x)
    kind = net.pick(["Add", "Add", "Add", "Mul", "Sub", "Max", "Min", "Sum", "Mean"])
    if kind in ("Sum", "Mean", "Max", "Min") and net.chance(0.3):
        return net.op(kind, x, other, net.op("Abs", x))
    return net.op(kind, x, other)


def squeeze_excitation(net: Net, x: Value) -> Value | None:
    if x.rank != 4 or not x.known:
        return None
    c = x.rest[0]
    y = net.op("GlobalAveragePool", x)
    y = net.op("Relu", net.op("Conv", y, net.weight(max(1, c // 2), c, 1, 1)))
    y = net.op("Conv", y, net.weight(c, max(1, c // 2), 1, 1))
    return net.op("Mul", x, net.op(net.pick(["Sigmoid", "HardSigmoid"]), y))


MAKERS = [function, function, function, with_parameters, clip, of_positive, prelu, written_out, with_constant]
MAKERS += [with_constant, of_two, of_two, squeeze_excitation]
