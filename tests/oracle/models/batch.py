"""Ops that look across the items of a batch, or at how many there are."""

from __future__ import annotations

import numpy as np

from models import integers
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


def summed(net: Net, x: Value) -> Value | None:
    """Running sums over the items, or sums of integers over all of them."""
    if not x.known or x.rank < 2:
        return None
    if net.chance(0.5):
        flags = {"exclusive": int(net.chance(0.3)), "reverse": int(net.chance(0.3))}
        return net.op("CumSum", x, net.const(np.asarray(net.pick([0, -x.rank]), np.int64)), **flags)
    w = integers.source(net, x)
    y = integers.with_type(net, w, net.pick([integers.I64, integers.I32])).value
    axes = net.pick([[0], [0, x.rank - 1], list(range(x.rank))])
    kind = net.pick(["ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean"])
    total = net.op("Cast", reduce(net, kind, y, axes), to=1)
    return net.op("Add", x, total) if net.chance(0.6) else total


def triangle(net: Net, x: Value) -> Value | None:
    """Of items and elements."""
    return net.op("Trilu", x, upper=net.integer(0, 1)) if x.rank == 2 and net.opset >= 14 else None


def of_others(net: Net, x: Value) -> Value | None:
    """Each item reads another, at places that are computed; every batch has a first and a last item."""
    if not x.known or x.rank < 2:
        return None
    way = net.pick(["Gather", "Gather", "GatherElements", "GatherND", "own"])
    if way == "GatherElements":
        return net.op(way, x, net.input(x.rest, integers.between(-1, 0), integers.I64), axis=0)
    if way == "GatherND":
        return net.op(way, x, net.input((1,), integers.between(-1, 0), integers.I64))
    if way == "own":
        return net.op("Gather", x, numbered(net, x), axis=0)
    return net.op("Gather", x, net.input((), integers.between(-1, 0), integers.I64), axis=0)


def numbered(net: Net, x: Value) -> Value:
    """0, 1, 2, .. of the items."""
    zero, one = (net.const(np.asarray(i, np.int64)) for i in (0, 1))
    count = net.op("Gather", net.op("Shape", x), zero, axis=0)
    return net.ops("Range", zero, count, one, like=Value("", (x.shape[0],), integers.I64))[0]


def by_number(net: Net, x: Value) -> Value | None:
    """What depends on the place of an item in the batch."""
    if x.rank != 2 or not x.known:
        return None
    row = numbered(net, x)
    column = net.op("Unsqueeze", row, ints(net, [1]))
    if net.chance(0.4):
        return net.op("Add", x, net.op("Cast", column, to=1))
    seen = net.op(net.pick(["Less", "Equal", "GreaterOrEqual"]), column, row)
    scores = net.op("MatMul", x, net.op("Transpose", x, perm=[1, 0]))
    scores = net.op("Where", seen, scores, net.const(0.0))
    return net.op("MatMul", scores, x) if net.chance(0.5) else scores


def more_items(net: Net, x: Value) -> Value | None:
    """Items repeated or in another order."""
    if not x.known or x.rank < 2:
        return None
    way = net.pick(["tile", "concat", "reverse", "expand"])
    if way == "tile":
        return net.op("Tile", x, ints(net, [2, *[1] * (x.rank - 1)]))
    if way == "concat":
        return net.op("Concat", x, net.op("Neg", x), axis=0)
    if way == "reverse":
        return net.op("Slice", x, ints(net, [-1]), ints(net, [-(2**31)]), ints(net, [0]), ints(net, [-1]))
    return net.op("Expand", x, ints(net, [net.integer(2, 3), *[1] * x.rank])) if x.rank < 4 else None


def in_columns(net: Net, x: Value) -> Value | None:
    """Truth values of all items, one column each."""
    if not x.known or x.rank < 2:
        return None
    ids = net.input((), integers.between(0, 3), integers.I64)
    like = Value("", (4, x.shape[0]))
    values = net.const(np.asarray([0, 1], np.float32))
    y = net.ops("OneHot", ids, net.const(np.asarray(4, np.int64)), values, axis=0, like=like)[0]
    return y if net.chance(0.3) or x.rank != 2 else net.op("MatMul", y, x)


MAKERS = [across, across, first_item, gram, divided_by_batch, folded, turned, vector_of_any_length, summed, summed]
MAKERS += [triangle, of_others, of_others, by_number, by_number, more_items, in_columns]
