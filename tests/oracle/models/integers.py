"""Integers and truth values between floats: indices, masks, counts, and what is computed of them.

Every maker reads floats, inputs of other types or constants, and gives floats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper

from models.movement import ints
from models.net import Net, Sample, Value
from models.norms import reduce

FLOAT, BOOL, I64, I32 = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64, TensorProto.INT32
#: Types of integers, those of indices more often than bytes.
TYPES = [I64, I64, I64, I32, I32, TensorProto.INT8, TensorProto.UINT8]


@dataclass(frozen=True)
class Whole:
    """Integers with bounds that hold for all of them, so that none overflows its type."""

    value: Value
    low: int
    high: int


def between(low: int, high: int) -> Sample:
    """Integers of a range, both ends included."""
    return Sample(lambda rng, shape: rng.integers(low, high + 1, shape).astype(np.int64))


def typed(sample: Sample, dtype: int) -> Sample:
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    return Sample(lambda rng, shape: sample.draw(rng, shape).astype(kind))


def truth_sample(p: float) -> Sample:
    return Sample(lambda rng, shape: rng.random(shape) < p)


def fits(dtype: int, low: int, high: int) -> bool:
    info = np.iinfo(helper.tensor_dtype_to_np_dtype(dtype))
    return bool(info.min <= low and high <= info.max)


# Sources of integers.


def source(net: Net, x: Value) -> Whole:
    """Integers of the shape of `x`: an input, a constant, or made of `x`."""
    way = net.pick(["input", "input", "constant", "cast", "truth", "largest" if net.ties else "truth"])
    dtype = net.pick(TYPES)
    low = 0 if dtype == TensorProto.UINT8 else net.pick([0, -3, -20])
    high = net.pick([1, 5, 20])
    if way == "input":
        return Whole(net.input(x.rest, typed(between(low, high), dtype), dtype), low, high)
    if way == "constant":
        shape = (1, *x.rest)
        a = net.rng.integers(low, high + 1, shape).astype(helper.tensor_dtype_to_np_dtype(dtype))
        return Whole(net.const(a), low, high)
    if way == "truth":
        return Whole(net.op("Cast", truth(net, x), to=dtype), 0, 1)
    if way == "largest":
        # The same place of every row: the sum along a row of what is its largest.
        top = net.op("Equal", x, reduce(net, "ReduceMax", x, [-1]))
        return Whole(net.op("Cast", top, to=dtype), 0, 1)
    bounded = net.op("Clip", net.op("Mul", x, net.const(3.0)), net.const(float(low)), net.const(float(high)))
    return Whole(net.op("Cast", bounded, to=dtype), low, high)


def with_type(net: Net, w: Whole, dtype: int) -> Whole:
    """The same numbers in another type that has them."""
    if w.value.dtype == dtype:
        return w
    return Whole(net.op("Cast", w.value, to=dtype), w.low, w.high)


def constant(net: Net, w: Whole, low: int, high: int) -> tuple[Value, int, int]:
    """A constant of the type of `w`: one number, a row, or all elements of an item."""
    kind = helper.tensor_dtype_to_np_dtype(w.value.dtype)
    shape = net.pick([(), (), (1,), w.value.shape[-1:], (1, *w.value.rest)])
    shape = tuple(d for d in shape if isinstance(d, int))
    a = net.rng.integers(low, high + 1, shape)
    return net.const(a.astype(kind)), int(a.min()), int(a.max())


def arithmetic(net: Net, w: Whole) -> Whole:
    """Sums, differences, products, quotients and remainders with a constant."""
    x, kind = w.value, net.pick(["Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Pow", "Clip", "Abs", "Neg", "Sign"])
    unsigned = x.dtype == TensorProto.UINT8
    if kind in ("Abs", "Sign"):
        most = max(abs(w.low), abs(w.high))
        y = net.op(kind, x)
        return Whole(y, 0, most) if kind == "Abs" else Whole(y, -1 if w.low < 0 else 0, 1)
    if kind == "Neg":
        return w if unsigned else Whole(net.op("Neg", x), -w.high, -w.low)
    if kind == "Clip":
        low, high = sorted((net.integer(w.low, w.high), net.integer(w.low, w.high)))
        dtype = helper.tensor_dtype_to_np_dtype(x.dtype)
        return Whole(net.op("Clip", x, net.const(dtype.type(low)), net.const(dtype.type(high))), low, high)
    if kind == "Pow":
        if x.dtype not in (I32, I64) or max(abs(w.low), abs(w.high)) > 1000:
            return w
        most = max(w.low**2, w.high**2)
        return Whole(net.op("Pow", x, net.const(np.asarray(2, helper.tensor_dtype_to_np_dtype(x.dtype)))), 0, most)
    if kind in ("Div", "Mod"):
        c, low, high = constant(net, w, 1, net.pick([2, 3, 7]))
        if kind == "Mod":
            return Whole(net.op("Mod", x, c), 0, high - 1)
        if not unsigned and net.chance(0.3):
            c = net.op("Neg", c)
        most = max(abs(w.low), abs(w.high))
        return Whole(net.op("Div", x, c), 0 if unsigned else -most, most)
    c, low, high = constant(net, w, 0 if unsigned else -4, 4)
    if kind in ("Min", "Max"):
        sides = [x, c] if net.chance(0.7) else [c, x]
        f = min if kind == "Min" else max
        return Whole(net.op(kind, *sides), f(w.low, low), f(w.high, high))
    ends = {
        "Add": [w.low + low, w.high + high],
        "Sub": [w.low - high, w.high - low],
        "Mul": [a * b for a in (w.low, w.high) for b in (low, high)],
    }[kind]
    if not fits(x.dtype, min(ends), max(ends)):
        return w
    sides = [x, c] if kind == "Sub" or net.chance(0.7) else [c, x]
    return Whole(net.op(kind, *sides), min(ends), max(ends))


def counted(net: Net, w: Whole) -> Whole:
    """Sums along an axis, or all sums up to each place."""
    x = with_type(net, w, net.pick([I64, I32])).value
    axis = net.integer(1, x.rank - 1)
    many = x.shape[axis]
    if not isinstance(many, int):
        return w
    most = many * max(abs(w.low), abs(w.high))
    if not fits(x.dtype, -most, most):
        return w
    if net.chance(0.5):
        flags = {"exclusive": int(net.chance(0.3)), "reverse": int(net.chance(0.3))}
        place = net.pick([axis, axis - x.rank])
        return Whole(net.op("CumSum", x, net.const(np.asarray(place, np.int64)), **flags), -most, most)
    kind = net.pick(["ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceL1"])
    return Whole(reduce(net, kind, x, [axis]), -most, most)


def moved(net: Net, w: Whole) -> Whole:
    """Movement within the items that keeps the shape or turns it."""
    x = w.value
    way = net.pick(["slice", "transpose", "trilu", "expand", "concat", "reshape", "where"])
    if way == "transpose" and x.rank > 2:
        perm = [0, *(int(p) + 1 for p in net.rng.permutation(x.rank - 1))]
        return Whole(net.op("Transpose", x, perm=perm), w.low, w.high)
    if way == "trilu" and x.rank > 2 and net.opset >= 14:
        k = [net.const(np.asarray(net.integer(-1, 1), np.int64))] if net.chance(0.5) else []
        y = net.op("Trilu", x, *k, upper=net.integer(0, 1))
        return Whole(y, min(w.low, 0), max(w.high, 0))
    if way == "slice" and x.rest[-1] > 1:
        return Whole(net.op("Slice", x, ints(net, [1]), ints(net, [99]), ints(net, [-1])), w.low, w.high)
    if way == "concat":
        return Whole(net.op("Concat", x, x, axis=-1), w.low, w.high)
    if way == "where":
        dtype = helper.tensor_dtype_to_np_dtype(x.dtype)
        other = net.const(np.asarray(net.integer(w.low, w.high), dtype))
        sides = [x, other] if net.chance(0.5) else [other, x]
        return Whole(net.op("Where", truth(net, x), *sides), w.low, w.high)
    if way == "expand" and x.rest[-1] == 1:
        return Whole(net.op("Expand", x, ints(net, [1, *x.rest[:-1], 3])), w.low, w.high)
    return w


def whole(net: Net, x: Value, most: int = 3) -> Whole:
    """Integers computed in some steps."""
    w = source(net, x)
    if w.value.shape != x.shape:  # A constant that holds for all items.
        zeros = net.op("Cast", net.op("Mul", x, net.const(0.0)), to=w.value.dtype)
        w = Whole(net.op("Add", zeros, w.value), w.low, w.high)
    for _ in range(net.integer(0, most)):
        before = w
        w = net.pick([arithmetic, arithmetic, counted, moved])(net, w)
        if not w.value.known or w.value.rank < 2:
            return before
    return w


# Truth values.


def truth(net: Net, x: Value, depth: int = 0) -> Value:
    """Truth values of the shape of `x`."""
    ways = ["compare", "compare", "input", "integers", "constant"]
    ways += ["both", "not", "cast", "odd"] if depth < 2 else []
    way = net.pick(ways)
    if x.dtype not in (FLOAT, I64, I32) or not x.known or x.rank < 2:
        way = "cast"
    kind = net.pick(["Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal"])
    if kind == "Equal" and x.dtype == FLOAT and not net.ties:
        kind = "Less"
    if x.dtype != FLOAT and way in ("compare", "odd"):
        way = "integers"
    if way == "compare":
        same = [v for v in net.values if v.shape == x.shape and v.dtype == x.dtype]
        other = net.pick(same) if same and net.chance(0.3) else net.const(net.pick([0.0, 0.3, -0.7]))
        return net.op(kind, *([x, other] if net.chance(0.7) else [other, x]))
    if way == "input":
        return net.input(x.rest, truth_sample(net.pick([0.2, 0.5, 0.9])), BOOL)
    if way == "constant":
        dtype = np.float32 if x.dtype == FLOAT else helper.tensor_dtype_to_np_dtype(x.dtype)
        row = net.const(net.rng.integers(-2, 3, x.rest[-1:]).astype(dtype))
        return net.op(kind, x, row)
    if way == "integers":
        dtype = x.dtype if x.dtype != FLOAT else net.pick([I64, I32])
        kinds = helper.tensor_dtype_to_np_dtype(dtype)
        y = x if x.dtype != FLOAT else net.input(x.rest, typed(between(-3, 3), dtype), dtype)
        return net.op(kind, y, net.const(np.asarray(net.integer(-1, 2), kinds)))
    if way == "both":
        sides = [truth(net, x, depth + 1), truth(net, x, depth + 1)]
        return net.op(net.pick(["And", "Or", "Xor", "Equal"]), *sides)
    if way == "not":
        return net.op("Not", truth(net, x, depth + 1))
    if way == "odd":
        return net.op("IsNaN", x) if net.chance(0.5) else infinite(net, x)
    return net.op("Cast", x, to=BOOL)


def infinite(net: Net, x: Value) -> Value:
    """Whether elements are infinite, of a tensor that has some: quotients with 0 behind a Relu."""
    y = net.op("Div", x, net.op("Relu", x)) if net.chance(0.5) else x
    signs = {"detect_negative": net.integer(0, 1), "detect_positive": net.integer(0, 1)}
    return net.op("IsInf", y, **(signs if net.chance(0.5) else {}))


# Makers: floats in, floats out.


def chosen(net: Net, x: Value) -> Value | None:
    """One of two values by truth values, a constant or another tensor."""
    if not x.known or x.rank < 2:
        return None
    condition = truth(net, x)
    same = [v for v in net.values if v.shape == x.shape and v.dtype == x.dtype]
    row = net.const(net.rng.standard_normal(x.rest[-1:]).astype(np.float32))
    other = net.pick([net.const(net.pick([0.0, -1.0, 2.5])), row, net.pick(same)])
    return net.op("Where", condition, *([x, other] if net.chance(0.6) else [other, x]))


def mask(net: Net, x: Value) -> Value | None:
    """Truth values or integers as factors, or as large negative numbers that are added in front of a softmax."""
    if not x.known or x.rank < 2:
        return None
    seen = truth(net, x)
    factor = net.op("Cast", seen, to=FLOAT)
    if net.chance(0.4):
        return net.op("Mul", x, factor)
    hidden = net.op("Sub", net.const(1.0), factor)
    scores = net.op("Add", x, net.op("Mul", hidden, net.const(net.pick([-10000.0, -1e9]))))
    return net.op("Softmax", scores, axis=-1)


def numbers(net: Net, x: Value) -> Value | None:
    """Integers as floats."""
    if not x.known or x.rank < 2:
        return None
    y = net.op("Cast", whole(net, x).value, to=FLOAT)
    return net.op("Add", x, net.op("Mul", y, net.const(0.1))) if y.shape == x.shape and net.chance(0.6) else y


def discrete(net: Net, x: Value) -> Value | None:
    """Functions that jump."""
    kind = net.pick(["Floor", "Ceil", "Round", "Sign"])
    y = net.op("Mul", x, net.const(net.pick([1.7, 3.3]))) if net.chance(0.6) else x
    y = net.op(kind, y)
    return net.op("Sub", x, y) if net.chance(0.4) else y


def running_sum(net: Net, x: Value) -> Value | None:
    if not x.known or x.rank < 2:
        return None
    axis = net.integer(1, x.rank - 1)
    flags = {"exclusive": int(net.chance(0.3)), "reverse": int(net.chance(0.3))}
    place = net.const(np.asarray(net.pick([axis, axis - x.rank]), net.pick([np.int64, np.int32])))
    return net.op("CumSum", x, place, **flags)


def triangle(net: Net, x: Value) -> Value | None:
    if x.rank < 3 or net.opset < 14:
        return None
    k = [net.const(np.asarray(net.integer(-2, 2), np.int64))] if net.chance(0.5) else []
    return net.op("Trilu", x, *k, upper=net.integer(0, 1))


def embedding(net: Net, x: Value) -> Value | None:
    """Rows of a constant table, at computed places."""
    if not x.known or x.rank not in (2, 3):
        return None
    rows, width = net.integer(2, 12), net.integer(1, 8)
    ids = places(net, x, rows)
    if ids.rank > 3 or not ids.known:
        return None
    y = net.op("Gather", net.weight(rows, width, scale=1.0), ids, axis=0)
    if y.rank > 4:
        return None
    if net.chance(0.3):
        y = net.op("Add", y, net.op("Gather", net.weight(rows, width, scale=1.0), ids, axis=0))
    return y


def places(net: Net, x: Value, count: int) -> Value:
    """Integers from 0 to `count - 1`, or those from behind, which are negative."""
    negative = net.chance(0.3)
    if net.chance(0.5):
        dtype = net.pick([I64, I32])
        return net.input(x.rest, typed(between(-count if negative else 0, count - 1), dtype), dtype)
    w = with_type(net, whole(net, x, 2), net.pick([I64, I32]))
    dtype = helper.tensor_dtype_to_np_dtype(w.value.dtype).type
    if net.chance(0.5):
        return net.op("Mod", w.value, net.const(dtype(count)))
    return net.op("Clip", w.value, net.const(dtype(-count if negative else 0)), net.const(dtype(count - 1)))


def elements(net: Net, x: Value) -> Value | None:
    """Elements along an axis at places that differ by element."""
    if not x.known or x.rank < 2:
        return None
    axis = net.integer(1, x.rank - 1)
    places_ = net.input(x.rest, between(-x.rest[axis - 1], x.rest[axis - 1] - 1), I64)
    if net.chance(0.3):
        places_ = net.op("Cast", places_, to=I32)
    return net.op("GatherElements", x, places_, axis=net.pick([axis, axis - x.rank]))


def by_item(net: Net, x: Value) -> Value | None:
    """Rows of each item at its own places."""
    if not x.known or x.rank < 3:
        return None
    ids = net.input((net.integer(1, 4), 1), between(-x.rest[0], x.rest[0] - 1), I64)
    return net.op("GatherND", x, ids, batch_dims=1)


def at_constant_places(net: Net, x: Value) -> Value | None:
    """Elements that a constant mask names: NonZero and Gather."""
    if not x.known or x.rank < 2:
        return None
    d = x.rest[-1]
    kept = net.rng.random(d) < 0.6
    kept[net.integer(0, d - 1)] = True
    kind = net.pick([np.float32, np.bool_, np.int64])
    found = net.op("NonZero", net.const(kept.astype(kind)))
    shape = (*x.shape[:-1], int(kept.sum()))
    return net.ops("Gather", x, net.op("Reshape", found, ints(net, [-1])), axis=x.rank - 1, like=Value("", shape))[0]


def one_hot(net: Net, x: Value) -> Value | None:
    if not x.known or x.rank not in (2, 3):
        return None
    depth = net.integer(2, 6)
    ids = places(net, x, depth + net.integer(0, 1))
    if ids.rank > 3:
        return None
    if ids.dtype == I32:  # ONNX Runtime's operator has no indices of 32 bits.
        ids = net.op("Cast", ids, to=I64)
    values = net.const(np.asarray(net.pick([[0, 1], [-1, 2]]), np.float32))
    size = net.const(np.asarray(net.pick([depth, [depth]]), np.int64))
    axis = net.pick([-1, ids.rank - 1, 1])
    at = axis % (ids.rank + 1)
    like = Value("", (*ids.shape[:at], depth, *ids.shape[at:]))
    return net.ops("OneHot", ids, size, values, axis=axis, like=like)[0]


def positions(net: Net, x: Value) -> Value | None:
    """A row of numbers as long as an axis, from its shape, added to all items."""
    if not x.known or x.rank < 2:
        return None
    length = net.op("Gather", net.op("Shape", x), net.const(np.asarray(x.rank - 1, np.int64)), axis=0)
    start, step = net.const(np.asarray(0, np.int64)), net.const(np.asarray(1, np.int64))
    row = net.ops("Range", start, length, step, like=Value("", x.shape[-1:], I64))[0]
    if net.chance(0.4):
        return net.op("Add", x, net.op("Gather", net.weight(x.rest[-1], scale=1.0), row, axis=0))
    if net.chance(0.5):
        # The upper triangle or a window, as comparisons of two rows of numbers.
        d = x.rest[-1]
        other = net.op("Unsqueeze", row, ints(net, [1]))
        seen = net.op(net.pick(["Less", "GreaterOrEqual", "Equal"]), other, row)
        weights = net.op("Where", seen, net.const(net.rng.standard_normal((d, d)).astype(np.float32)), net.const(0.0))
        return net.op("MatMul", x, weights)
    return net.op("Add", x, net.op("Mul", net.op("Cast", row, to=FLOAT), net.const(0.1)))


def repeated(net: Net, x: Value) -> Value | None:
    """Integers or truth values, expanded or tiled, as factors."""
    if not x.known or x.rank < 2:
        return None
    w = source(net, x)
    if w.value.shape != x.shape:
        return None
    y = net.op("Unsqueeze", w.value, ints(net, [1]))
    shape = [1, net.integer(1, 3), *[1] * (x.rank - 1)]
    y = net.op(net.pick(["Expand", "Tile"]), y, ints(net, shape))
    return net.op("Add", net.op("Unsqueeze", x, ints(net, [1])), net.op("Cast", y, to=FLOAT)) if x.rank < 4 else None


def reduced(net: Net, x: Value) -> Value | None:
    """Sums, products and extremes of integers, or whether all or any are true."""
    if not x.known or x.rank < 2:
        return None
    w = source(net, x)
    kind = net.pick(["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceMean", "ReduceSumSquare"])
    y = w.value if kind in ("ReduceMax", "ReduceMin") else with_type(net, w, net.pick([I64, I32])).value
    if kind == "ReduceProd":
        y = net.op("Mod", y, net.const(helper.tensor_dtype_to_np_dtype(y.dtype).type(3)))
    axes = [a for a in range(1, y.rank) if net.chance(0.6)] or [y.rank - 1]
    if kind == "ReduceProd" and np.prod([y.rest[a - 1] for a in axes]) > 18:
        return None
    y = net.op("Cast", reduce(net, kind, y, axes), to=FLOAT)
    if y.shape[0] == x.shape[0] and net.chance(0.5):
        return net.op("Add", x, net.op("Mul", y, net.const(0.05)))
    return y


def place(net: Net, x: Value) -> Value | None:
    """Where the largest or the least integer is, or a running product of small numbers."""
    if not x.known or x.rank < 2:
        return None
    axis = net.integer(1, x.rank - 1)
    if net.opset >= 13 and net.chance(0.8):
        y = net.op("Cast", net.op("Mul", x, net.const(4.0)), to=I32)
        kind = net.pick(["ArgMax", "ArgMin"])
        y = net.op(kind, y, axis=axis, keepdims=1, select_last_index=int(net.chance(0.4)))
        return net.op("Add", x, net.op("Mul", net.op("Cast", y, to=FLOAT), net.const(0.05)))
    return net.op("Hardmax", net.op("Round", net.op("Mul", x, net.const(8.0))), axis=axis) if net.opset >= 13 else None


def ordered(net: Net, x: Value) -> Value | None:
    """The largest or the least along an axis with their places, or values stored where constants say."""
    if not x.known or x.rank < 2 or net.opset < 13:
        return None
    axis = net.integer(1, x.rank - 1)
    if net.chance(0.6):
        # Whole numbers, many of them equal, so that no rounding changes an order.
        whole = net.op("Round", net.op("Mul", x, net.const(4.0)))
        k = net.const([net.integer(1, x.rest[axis - 1])], np.int64)
        values, places = net.ops("TopK", whole, k, outputs=2, axis=axis, largest=int(net.chance(0.6)))
        return net.op("Add", values, net.op("Cast", places, to=FLOAT))
    size = x.rest[axis - 1]
    indices = net.rng.integers(-size, size, (1, *x.rest))
    indices = np.repeat(indices, 1, axis=0)
    kind = net.pick(["none", "add", "mul", "max", "min"]) if net.opset >= 18 else net.pick(["none", "add"] if net.opset >= 16 else ["none"])
    if kind == "none" and size > 0:
        # An order of duplicates is not promised where the last one stays.
        indices = np.argsort(net.rng.random((1, *x.rest)), axis=axis)
    updates = net.rng.standard_normal((1, *x.rest)).astype(np.float32)
    extra = {} if net.opset < 16 else {"reduction": kind}
    return net.op("ScatterElements", x, net.const(indices, np.int64), net.const(updates), axis=axis, **extra)


MAKERS = [chosen, chosen, mask, mask, numbers, numbers, discrete, running_sum, triangle, embedding, embedding, elements]
MAKERS += [ordered, ordered, place, place, by_item, at_constant_places, one_hot, positions, positions, repeated, reduced, reduced]
