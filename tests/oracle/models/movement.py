"""Ops that move elements and compute nothing."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from models.net import Net, Sample, Value


def ints(net: Net, values: list[int]) -> Value:
    return net.const(values, np.int64)


def reshape(net: Net, x: Value) -> Value | None:
    """Within the items: dims merge or split, written with 0 or -1 in front."""
    if not x.known or x.rank < 2:
        return None
    rest = list(x.rest)
    if len(rest) > 1 and net.chance(0.5):
        i = net.integer(0, len(rest) - 2)
        new = [*rest[:i], rest[i] * rest[i + 1], *rest[i + 2 :]]
    else:
        i = net.integer(0, len(rest) - 1)
        d = next((d for d in (2, 3) if rest[i] % d == 0), 1)
        new = [*rest[:i], d, rest[i] // d, *rest[i + 1 :]]
    if len(new) > 4:
        return None
    if net.chance(0.3):
        return net.op("Reshape", x, ints(net, [-1, *new]))
    hidden = [-1 if j == net.integer(0, len(new) - 1) else d for j, d in enumerate(new)]
    return net.op("Reshape", x, ints(net, [0, *(hidden if hidden.count(-1) == 1 else new)]))


def transpose(net: Net, x: Value) -> Value | None:
    """The batch stays in front."""
    if x.rank < 3:
        return None
    return net.op("Transpose", x, perm=[0, *(int(p) + 1 for p in net.rng.permutation(x.rank - 1))])


def slice_(net: Net, x: Value) -> Value | None:
    if x.rank < 2 or not x.known:
        return None
    axis = net.integer(1, x.rank - 1)
    d = x.rest[axis - 1]
    begin = net.integer(0, d - 1)
    end = net.pick([net.integer(begin + 1, d), 2**31 - 1, -1 if begin < d - 1 else d])
    step = net.pick([1, 1, 2])
    if net.chance(0.2):
        begin, end, step = net.integer(0, d - 1), net.pick([-(2**31), -d - 1]), net.pick([-1, -1, -2])
    return net.op("Slice", x, ints(net, [begin]), ints(net, [end]), ints(net, [axis]), ints(net, [step]))


def concat(net: Net, x: Value) -> Value | None:
    """With others of its kind, itself or a constant in between."""
    if x.rank < 2 or not x.known:
        return None
    axis = net.integer(1, x.rank - 1)
    near = [
        v
        for v in net.values
        if v.known
        and v.rank == x.rank
        and v.dtype == x.dtype
        and all(a == b for i, (a, b) in enumerate(zip(v.shape, x.shape, strict=True)) if i != axis)
    ]
    parts = [x, *(net.pick(near or [x]) for _ in range(net.integer(1, 2)))]
    return net.op("Concat", *parts, axis=axis if net.chance(0.6) else axis - x.rank)


def split(net: Net, x: Value) -> Value | None:
    if x.rank < 2 or not x.known:
        return None
    axis = net.integer(1, x.rank - 1)
    d = x.rest[axis - 1]
    if d < 2:
        return None
    if d % 2 == 0 and net.chance(0.5):
        if net.opset >= 18:
            parts = net.ops("Split", x, outputs=2, axis=axis, num_outputs=2)
        else:
            parts = net.ops("Split", x, outputs=2, axis=axis)
    else:
        first = net.integer(1, d - 1)
        parts = net.ops("Split", x, ints(net, [first, d - first]), outputs=2, axis=axis)
    if parts[0].shape == parts[1].shape and net.chance(0.4):
        return net.op("Mul", parts[0], net.op("Sigmoid", parts[1]))
    return net.pick(parts)


def pad(net: Net, x: Value) -> Value | None:
    if x.rank < 3 or not x.known:
        return None
    pads = np.zeros((2, x.rank), np.int64)
    for axis in range(1, x.rank):
        if net.chance(0.5):
            pads[:, axis] = net.integer(0, 2), net.integer(0, 2)
    mode = net.pick(["constant", "constant", "reflect", "edge", "wrap" if net.opset >= 19 else "edge"])
    if mode == "reflect":
        # ONNX Runtime mirrors once.
        pads[:, 1:] = np.minimum(pads[:, 1:], np.asarray(x.rest) - 1)
    value = [net.const(net.pick([0.0, 1.0, -2.0]))] if mode == "constant" and net.chance(0.6) else []
    return net.op("Pad", x, net.const(pads.reshape(-1)), *value, mode=mode)


def resize(net: Net, x: Value) -> Value | None:
    """Planes or sequences in another size, by scales or sizes."""
    if x.rank not in (3, 4) or not x.known or net.opset < 13:
        return None
    dims = x.rest[1:]
    mode = net.pick(["nearest", "nearest", "linear", "linear", "cubic"])
    ways = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"]
    attributes: dict = {"mode": mode, "coordinate_transformation_mode": net.pick(ways)}
    if mode == "nearest":
        attributes["nearest_mode"] = net.pick(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
    if mode == "cubic" and (x.rank != 4 or min(dims) < 2):
        return None
    if mode != "nearest" and net.opset >= 18 and x.rank == 4 and net.chance(0.3):
        attributes["antialias"] = 1
    if mode == "cubic" and net.chance(0.3):
        attributes["cubic_coeff_a"] = -0.5
        attributes["exclude_outside"] = int(net.chance(0.5))
    if mode == "nearest" or x.shape[0] is None or net.chance(0.6):
        # Factors whose coordinates no rounding moves to another element.
        scales = [1.0, 1.0, *(net.pick([0.5, 1.0, 2.0, 2.0, 4.0]) for _ in dims)]
        if any(int(d * s) < 1 for d, s in zip(dims, scales[2:], strict=True)):
            return None
        return net.op("Resize", x, None, net.const(scales), **attributes)
    if not isinstance(x.shape[0], int):
        return None
    sizes = [*x.shape[:2], *(net.integer(1, 12) for _ in dims)]
    return net.op("Resize", x, None, None, ints(net, sizes), **attributes)


def shape_of_one(net: Net, x: Value) -> Value | None:
    """Ops that add or take away dims of 1."""
    if not x.known:
        return None
    ones = [i + 1 for i, d in enumerate(x.rest) if d == 1]
    if ones and net.chance(0.7):
        return net.op("Squeeze", x, ints(net, [net.pick(ones)]))
    if x.rank >= 4:
        return None
    return net.op("Unsqueeze", x, ints(net, [net.integer(1, x.rank)]))


def flatten(net: Net, x: Value) -> Value | None:
    return net.op("Flatten", x, axis=1) if x.rank > 2 and x.known else None


def depth(net: Net, x: Value) -> Value | None:
    if x.rank != 4 or not x.known:
        return None
    c, h, w = x.rest
    if c % 4 == 0 and net.chance(0.6):
        return net.op("DepthToSpace", x, blocksize=2, mode=net.pick(["DCR", "CRD"]))
    return net.op("SpaceToDepth", x, blocksize=2) if h % 2 == 0 and w % 2 == 0 else None


def expand(net: Net, x: Value) -> Value | None:
    if not x.known or not any(d == 1 for d in x.rest):
        return None
    return net.op("Expand", x, ints(net, [1, *(net.integer(2, 4) if d == 1 else d for d in x.rest)]))


def tile(net: Net, x: Value) -> Value | None:
    if not x.known or x.rank < 2 or np.prod(x.rest) > 500:
        return None
    return net.op("Tile", x, ints(net, [1, *(net.pick([1, 2]) for _ in x.rest)]))


def gather(net: Net, x: Value) -> Value | None:
    if not x.known or x.rank < 2:
        return None
    axis = net.integer(1, x.rank - 1)
    d = x.rest[axis - 1]
    indices = [net.integer(-d, d - 1) for _ in range(net.integer(1, 3))]
    if len(indices) == 1 and x.rank > 2 and net.chance(0.5):
        return net.op("Gather", x, net.const(np.asarray(indices[0], np.int64)), axis=axis)
    return net.op("Gather", x, ints(net, indices), axis=axis)


def shuffle(net: Net, x: Value) -> Value | None:
    """Channels of groups, shuffled."""
    if x.rank != 4 or not x.known or x.rest[0] % 2:
        return None
    c, h, w = x.rest
    y = net.op("Reshape", x, ints(net, [-1, 2, c // 2, h, w]))
    y = net.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    return net.op("Reshape", y, ints(net, [-1, c, h, w]))


def shape_arithmetic(net: Net, x: Value) -> Value | None:
    """A Flatten as exporters write it: Shape, Gather, Unsqueeze, Concat, Reshape."""
    if x.rank < 3 or not x.known:
        return None
    first = net.op("Gather", net.op("Shape", x), net.const(np.asarray(0, np.int64)), axis=0)
    target = net.op("Concat", net.op("Unsqueeze", first, ints(net, [0])), ints(net, [-1]), axis=0)
    return net.ops("Reshape", x, target, like=Value("", (x.shape[0], int(np.prod(x.rest)))))[0]


def center(net: Net, x: Value) -> Value | None:
    """The middle of some axes, or zeros around them."""
    if not x.known or x.rank < 2 or net.opset < 18:
        return None
    axes = [a for a in range(1, x.rank) if net.chance(0.6)] or [1]
    sizes = [max(1, x.rest[a - 1] + net.integer(-3, 3)) for a in axes]
    shape = list(x.shape)
    for axis, size in zip(axes, sizes, strict=True):
        shape[axis] = size
    return net.ops("CenterCropPad", x, ints(net, sizes), like=Value("", tuple(shape)), axes=axes)[0]


def backwards(net: Net, x: Value) -> Value | None:
    """The first steps of each item from the last to the first."""
    if not x.known or x.rank < 2:
        return None
    steps = x.rest[0]
    draw = Sample(lambda rng, shape: rng.integers(1, steps + 1, shape).astype(np.int64))
    lengths = net.input((), draw, TensorProto.INT64)
    return net.ops("ReverseSequence", x, lengths, like=x, batch_axis=0, time_axis=1)[0]


def stored(net: Net, x: Value) -> Value | None:
    """Rows of a constant stored where indices say."""
    if not x.known or x.rank != 2 or net.opset < 16:
        return None
    d, count = x.rest[0], net.integer(1, 3)
    turned = net.op("Transpose", x, perm=[1, 0])
    places = net.rng.permutation(d)[:count].reshape(-1, 1)
    if len(places) < count:
        return None
    updates = net.op("Transpose", net.op("Slice", x, ints(net, [0]), ints(net, [count]), ints(net, [1])), perm=[1, 0])
    updates = net.op("Tanh", updates)
    reduction = net.pick(["none", "add", "mul"])
    y = net.ops("ScatterND", turned, net.const(places, np.int64), updates, like=turned, reduction=reduction)[0]
    return net.op("Transpose", y, perm=[1, 0])


MAKERS = [reshape, transpose, slice_, concat, concat, split, pad, shape_of_one, flatten, flatten, depth, expand, tile]
MAKERS += [gather, shuffle, shape_arithmetic, pad, resize, resize, center, backwards, stored]
