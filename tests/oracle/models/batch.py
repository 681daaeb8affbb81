"""Ops that look across the items of a batch, or at how many there are."""

from __future__ import annotations

import numpy as np

from models.movement import ints
from models.net import Net, Value
from models.norms import reduce


def across(net: Net, x: Value) -> Value | None:
    """Reductions and softmax that meet the items of a batch."""
    if not x.known or x.rank < 2:
        return None
    way = net.pick(["softmax", "mean", "centre", "all", "max"])
    if way == "softmax":
        return net.op("Softmax", x, axis=net.pick([0, -x.rank]))
    if way == "mean":
        return reduce(net, net.pick(["ReduceMean", "ReduceSum"]), x, [0], int(net.chance(0.5)))
    if way == "centre":
        return net.op("Sub", x, reduce(net, "ReduceMean", x, [0]))
    if way == "all":
        return net.op("Sub", x, reduce(net, "ReduceMean", x, list(range(x.rank))))
    return net.op("Div", x, net.op("Add", reduce(net, "ReduceMax", net.op("Abs", x), [0]), net.const(1.0)))


def first_item(net: Net, x: Value) -> Value | None:
    """Differences to the first item, or that item alone."""
    if not x.known or x.rank < 2:
        return None
    if net.chance(0.5):
        first = net.op("Slice", x, ints(net, [0]), ints(net, [1]), ints(net, [0]))
    else:
        first = net.op("Gather", x, ints(net, [net.pick([0, -1])]), axis=0)
    return net.op("Sub", x, first) if net.chance(0.7) else first


def gram(net: Net, x: Value) -> Value | None:
    """Products of all items with all."""
    if x.rank != 2 or not x.known:
        return None
    turned = net.op("Transpose", x, perm=[1, 0])
    return net.op("MatMul", x, turned) if net.chance(0.7) else net.op("MatMul", turned, x)


def divided_by_batch(net: Net, x: Value) -> Value | None:
    count = net.op("Gather", net.op("Shape", x), net.const(np.asarray(0, np.int64)), axis=0)
    return net.op("Div", x, net.op("Cast", count, to=1))


def folded(net: Net, x: Value) -> Value | None:
    """The batch merged with the dim behind it, for good or for a while."""
    if not x.known or x.rank < 3:
        return None
    a, *rest = x.rest
    merged = net.op("Reshape", x, ints(net, [-1, *rest]))
    if net.chance(0.3):
        return merged
    return net.ops("Reshape", net.op("Tanh", merged), ints(net, [-1, a, *rest]), like=x)[0]


def turned(net: Net, x: Value) -> Value | None:
    """The batch behind another dim."""
    if x.rank < 2:
        return None
    perm = [1, 0, *range(2, x.rank)]
    y = net.op("Transpose", x, perm=perm)
    return y if net.chance(0.4) else net.op("Transpose", net.op("Relu", y), perm=perm)


def vector_of_any_length(net: Net, x: Value) -> Value | None:
    """A constant as long as some batch, behind one dim: it belongs to the last dim, whatever the batch is."""
    if x.rank != 2 or not x.known:
        return None
    return net.op(net.pick(["Add", "Mul"]), x, net.const(net.rng.standard_normal(x.rest[0])))


MAKERS = [across, across, first_item, gram, divided_by_batch, folded, turned, vector_of_any_length]
