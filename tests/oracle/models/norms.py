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
    operands = [added(net, x), net.const(net.rng.standard_normal(shape))]
    if net.chance(0.7):
        operands.append(net.const(net.rng.standard_normal(shape)))
    attributes = {"axis": axis if net.chance(0.5) else axis - x.rank, "epsilon": net.pick([1e-5, 1e-12, 0.1])}
    if net.chance(0.8):
        return net.op("LayerNormalization", *operands, **attributes)
    # The mean and the inverse deviation are results, too.
    return net.pick(net.ops("LayerNormalization", *operands, outputs=3, **attributes))


def added(net: Net, x: Value) -> Value:
    """A sum in front of a norm, which others may read as well; or nothing."""
    same = [v for v in net.values if v.shape == x.shape and v.dtype == x.dtype and v != x]
    return net.op("Add", x, net.pick(same)) if same and net.chance(0.6) else x


def skip_norm(net: Net, x: Value) -> Value | None:
    """ONNX Runtime's norms with a residual; the sum is a result of its own."""
    if x.rank != 3 or not x.known:
        return None
    width = x.rest[-1]
    simplified = net.chance(0.4)
    same = [v for v in net.values if v.shape == x.shape and v.dtype == x.dtype]
    skip = net.pick(same) if net.chance(0.7) else net.const(net.rng.standard_normal(x.rest))
    operands: list[Value | None] = [x, skip, net.const(net.rng.standard_normal(width))]
    if not simplified:
        operands.append(net.const(net.rng.standard_normal(width)) if net.chance(0.7) else None)
    if net.chance(0.5):
        operands.append(net.const(net.rng.standard_normal(width)))
    while operands[-1] is None:
        operands.pop()
    kind = "SkipSimplifiedLayerNormalization" if simplified else "SkipLayerNormalization"
    attributes = {"epsilon": net.pick([1e-12, 1e-3])} if net.chance(0.5) else {}
    outputs = net.ops(kind, *operands, outputs=4, domain="com.microsoft", like=x, **attributes)
    net.drop(outputs[1:3])
    return outputs[3] if net.chance(0.3) else outputs[0]


def group_norm(net: Net, x: Value) -> Value | None:
    if x.rank not in (3, 4) or not x.known or net.opset < 21:
        return None
    c = x.rest[0]
    groups = net.pick([g for g in range(1, c + 1) if c % g == 0])
    scale, bias = (net.const(net.rng.standard_normal(c)) for _ in range(2))
    return net.op("GroupNormalization", x, scale, bias, num_groups=groups, epsilon=1e-3)


def rms_norm(net: Net, x: Value) -> Value | None:
    if x.rank < 2 or not x.known or net.opset < 23:
        return None
    return net.op("RMSNormalization", x, net.const(net.rng.standard_normal(x.rest[-1])), axis=-1)


def layer_norm_written_out(net: Net, x: Value) -> Value | None:
    """As exporters wrote it before there was an operator."""
    if x.rank < 2 or not x.known:
        return None
    axes = list(range(net.integer(1, x.rank - 1) - x.rank, 0))
    x = added(net, x)
    scale, bias = (net.const(net.rng.standard_normal(x.rest[axes[0] :])) for _ in range(2))
    which = net.pick(["torch", "line", "product", "mean square"])
    if which == "mean square":
        mean = reduce(net, "ReduceMean", squared(net, x), axes)
        return net.op("Mul", scale, by_root(net, x, mean))
    mean = reduce(net, "ReduceMean", x, axes)
    centred = net.op("Sub", x, mean)
    other = net.op("Sub", x, mean) if net.chance(0.3) else centred
    variance = reduce(net, "ReduceMean", squared(net, other), axes)
    if which == "line":
        inverse = net.op("Reciprocal", net.op("Sqrt", net.op("Add", variance, net.const(1e-3))))
        factor = net.op("Mul", inverse, scale)
        return net.op("Add", net.op("Mul", x, factor), net.op("Sub", bias, net.op("Mul", mean, factor)))
    y = net.op("Mul", by_root(net, centred, variance), scale)
    return net.op("Add", y, bias) if net.chance(0.5) else net.op("Add", bias, y)


def squared(net: Net, x: Value) -> Value:
    return net.op("Pow", x, net.const(2.0)) if net.chance(0.5) else net.op("Mul", x, x)


def by_root(net: Net, x: Value, variance: Value) -> Value:
    """`x / sqrt(variance + epsilon)`."""
    root = net.op("Sqrt", net.op("Add", variance, net.const(1e-3)))
    if net.chance(0.5):
        return net.op("Div", x, root)
    inverse = net.op("Reciprocal", root) if net.chance(0.5) else net.op("Div", net.const(1.0), root)
    return net.op("Mul", x, inverse)


def instance_norm(net: Net, x: Value) -> Value | None:
    if x.rank not in (3, 4) or not x.known:
        return None
    scale, bias = (net.const(net.rng.standard_normal(x.rest[0])) for _ in range(2))
    # ONNX Runtime multiplies value and mean by the inverse deviation before it subtracts, far apart from 0 for one element.
    epsilon = 1e-5 if np.prod(x.rest[1:]) > 1 else 0.5
    return net.op("InstanceNormalization", x, scale, bias, epsilon=epsilon)


def lrn(net: Net, x: Value) -> Value | None:
    if x.rank != 4:
        return None
    return net.op("LRN", x, size=net.pick([1, 3, 5]), alpha=net.uniform(1e-4, 1), beta=0.75, bias=net.pick([1.0, 2.0]))


def softmax(net: Net, x: Value) -> Value | None:
    """Over any axis but the first, with a factor and a mask or without."""
    if x.rank < 2:
        return None
    axis = net.integer(1, x.rank - 1)
    if net.chance(0.4):
        x = net.op("Div", x, net.const(2.0)) if net.chance(0.5) else net.op("Mul", x, net.const(0.125))
    if x.known and net.chance(0.5):
        shape = tuple(d if net.chance(0.6) else 1 for d in x.rest)
        least = net.pick([-10000.0, -3.4028235e38, -np.inf])
        mask = np.where(net.rng.random(shape) < 0.3, np.float32(least), np.float32(0))
        if np.isinf(least):
            mask[(slice(None),) * (axis - 1) + (0,)] = 0  # A row that is masked fully is NaN, and all behind it.
        sides = [x, net.const(mask.astype(np.float32))]
        x = net.op("Add", *(sides if net.chance(0.7) else reversed(sides)))
    return net.op("Softmax", x, axis=axis if net.chance(0.5) else axis - x.rank)


def log_softmax(net: Net, x: Value) -> Value | None:
    """Logarithms of probabilities along an axis, or a division by a norm."""
    if x.rank < 2:
        return None
    axis = net.integer(1, x.rank - 1)
    if net.chance(0.3):
        return net.op("LpNormalization", net.op("Add", x, net.const(0.25)), axis=axis, p=net.pick([1, 2]))
    return net.op("LogSoftmax", x, axis=axis)


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
        "ReduceLogSumExp",
        "ReduceLogSumExp",
    ]
    some = [a for a in range(1, x.rank) if net.chance(0.5)] or [x.rank - 1]
    axes = [a if net.chance(0.5) else a - x.rank for a in some]
    return reduce(net, net.pick(kinds), x, axes, int(net.chance(0.6)))


MAKERS = [
    batch_norm,
    batch_norm,
    layer_norm,
    layer_norm,
    rms_norm,
    layer_norm_written_out,
    layer_norm_written_out,
    skip_norm,
    group_norm,
    softmax,
    instance_norm,
    lrn,
    log_softmax,
    log_softmax,
    softmax,
    reduction,
    reduction,
]
