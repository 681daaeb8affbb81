"""Results whose rows only a run counts: positions, what a condition keeps, chosen boxes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from models.net import Net, Sample, Value

I64 = TensorProto.INT64


def mask(net: Net, shape: tuple) -> Value:
    """Truth values, mostly some of them true, that no rounding changes."""
    p = net.pick([0.1, 0.4, 0.9])
    draw = Sample(lambda rng, dims: rng.random(dims) < p)
    return net.declare(Value(net.name("mask"), shape, TensorProto.BOOL), draw)


def positions(net: Net, x: Value) -> list[Value]:
    """Where a mask of the items holds, and what stands there."""
    held = mask(net, x.shape)
    found = net.ops("NonZero", held, like=Value("", (x.rank, None), I64))[0]
    if net.chance(0.3):
        return [found]
    rows = net.ops("Transpose", found, like=Value("", (None, x.rank), I64), perm=[1, 0])[0]
    kept = net.ops("GatherND", x, rows, like=Value("", (None,)))[0]
    if net.chance(0.5):
        kept = net.ops(net.pick(["Tanh", "Relu", "Neg"]), kept, like=Value("", (None,)))[0]
    return [kept, rows] if net.chance(0.5) else [kept]


def kept(net: Net, x: Value) -> list[Value]:
    """The parts along an axis that a condition keeps."""
    axis = net.pick([None, *range(1, x.rank)])
    if axis is None:
        condition = mask(net, (int(np.prod(x.rest)),))
        return [net.ops("Compress", x, condition, like=Value("", (None,)))[0]]
    condition = mask(net, (x.rest[axis - 1],))
    like = Value("", (*x.shape[:axis], None, *x.shape[axis + 1 :]))
    y = net.ops("Compress", x, condition, like=like, axis=axis)[0]
    return [net.ops("Sigmoid", y, like=like)[0] if net.chance(0.5) else y]


def boxes(net: Net, x: Value) -> list[Value]:
    """Boxes that overlap no better one, and their scores."""
    count, classes = net.integer(2, 30), net.integer(1, 3)

    def corners(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        low = rng.random((*shape[:-1], 2))
        return np.concatenate([low, low + rng.random((*shape[:-1], 2)) * 0.5], axis=-1).astype(np.float32)

    def order(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return (rng.permuted(np.broadcast_to(np.arange(shape[-1]), shape), axis=-1) / shape[-1]).astype(np.float32)

    given = net.declare(Value(net.name("boxes"), (1, count, 4)), Sample(corners))
    scores = net.declare(Value(net.name("scores"), (1, classes, count)), Sample(order))
    numbers = [net.integer(1, 8), net.uniform(0.2, 0.8), net.pick([0.01, 0.31])]
    limits = [net.const(np.asarray(n, np.int64 if i == 0 else np.float32)) for i, n in enumerate(numbers)]
    like = Value("", (None, 3), I64)
    center = int(net.chance(0.3))
    rows = net.ops("NonMaxSuppression", given, scores, *limits, like=like, center_point_box=center)[0]
    if net.chance(0.4):
        return [rows]
    column = net.ops("Gather", rows, net.const(np.asarray(2, np.int64)), like=Value("", (None,), I64), axis=1)[0]
    flat = net.op("Reshape", given, net.const([count, 4], np.int64))
    chosen = net.ops("Gather", flat, column, like=Value("", (None, 4)), axis=0)[0]
    return [rows, chosen] if net.chance(0.5) else [chosen]


MAKERS = [positions, positions, kept, kept, boxes]
