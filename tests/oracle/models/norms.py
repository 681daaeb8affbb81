"""Normalizations, softmax and reductions within the items of a batch."""

from __future__ import annotations

import numpy as np

from models.net import Net, Value


def batch_norm(net: Net, x: Value) -> Value | None:
    if x.rank < 2 or not x.known:
        return None
    c = x.rest[0]
    scale, bias, mean = (net.const(net.rng.standard_normal(c)) for _ in range(3))
    variance = net.const(net.rng.uniform(0.1, 2, c))
    return net.op("BatchNormalization", x, scale, bias, mean, variance, epsilon=net.pick([1e-5, 1e-3]))


def layer_norm(net: Net, x: Value) -> Value | None:
    if x.rank < 2 or not x.known or net.opset < 17:
        return None
    axis = net.integer(1, x.rank - 1)
    shape = x.rest[axis - 1 :]
    operands = [x, net.const(net.rng.standard_normal(shape))]
    if net.chance(0.7):
        operands.append(net.const(net.rng.standard_normal(shape)))
    return net.op("LayerNormalization", *operands, axis=axis if net.chance(0.5) else axis - x.rank)


def rms_norm(net: Net, x: Value) -> Value | None:
    if x.rank < 2 or not x.known or net.opset < 23:
        return None
    return net.op("RMSNormalization", x, net.const(net.rng.standard_normal(x.rest[-1])), axis=-1)


def layer_norm_written_out(net: Net, x: Value) -> Value | None:
    """As exporters wrote it before there was an operator."""
    if x.rank < 2 or not x.known:
        return None
    mean = reduce(net, "ReduceMean", x, [-1])
    centred = net.op("Sub", x, mean)
    power = net.op("Pow", centred, net.const(2.0)) if net.chance(0.5) else net.op("Mul", centred, centred)
    deviation = net.op("Sqrt", net.op("Add", reduce(net, "ReduceMean", power, [-1]), net.const(1e-5)))
    y = net.op("Mul", net.op("Div", centred, deviation), net.const(net.rng.standard_normal(x.rest[-1])))
    return net.op("Add", y, net.const(net.rng.standard_normal(x.rest[-1])))


def instance_norm(net: Net, x: Value) -> Value | None:
    if x.rank not in (3, 4) or not x.known:
        return None
    scale, bias = (net.const(net.rng.standard_normal(x.rest[0])) for _ in range(2))
    return net.op("InstanceNormalization", x, scale, bias, epsilon=1e-5)


def lrn(net: Net, x: Value) -> Value | None:
    if x.rank != 4:
        return None
    return net.op("LRN", x, size=net.pick([1, 3, 5]), alpha=net.uniform(1e-4, 1), beta=0.75, bias=net.pick([1.0, 2.0]))


def softmax(net: Net, x: Value) -> Value | None:
    """Over any axis but the first."""
    if x.rank < 2:
        return None
    axis = net.integer(1, x.rank - 1)
    return net.op("Softmax", x, axis=axis if net.chance(0.5) else axis - x.rank)


def reduce(net: Net, kind: str, x: Value, axes: list[int], keepdims: int = 1) -> Value:
    """A reduction, with its axes as an attribute or an operand as the operator set wants it."""
    as_operand = net.opset >= (13 if kind == "ReduceSum" else 18)
    if as_operand:
        return net.op(kind, x, net.const(axes, np.int64), keepdims=keepdims)
    return net.op(kind, x, axes=axes, keepdims=keepdims)


def reduction(net: Net, x: Value) -> Value | None:
    """Over some axes behind the first."""
    if x.rank < 2:
        return None
    kinds = [
        "ReduceMean",
        "ReduceMean",
        "ReduceSum",
        "ReduceMax",
        "ReduceMin",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
    ]
    some = [a for a in range(1, x.rank) if net.chance(0.5)] or [x.rank - 1]
    axes = [a if net.chance(0.5) else a - x.rank for a in some]
    return reduce(net, net.pick(kinds), x, axes, int(net.chance(0.6)))


MAKERS = [
    batch_norm,
    batch_norm,
    layer_norm,
    rms_norm,
    layer_norm_written_out,
    instance_norm,
    lrn,
    softmax,
    reduction,
    reduction,
]
