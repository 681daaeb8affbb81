"""Pools."""

from __future__ import annotations

import numpy as np

from models.net import Net, Value


def pool(net: Net, x: Value) -> Value | None:
    """Maximum and average with any padding, in ceil mode too, of maps down to the size of a window."""
    if x.rank not in (3, 4, 5) or not x.known:
        return None
    dims = x.rest[1:]
    kind = net.pick(["MaxPool", "AveragePool"])
    kernel = [net.integer(1, min(4, d)) for d in dims]
    attributes: dict = {"kernel_shape": kernel, "strides": [net.pick([1, 2, 2, 3]) for _ in dims]}
    if net.chance(0.2):
        # ONNX Runtime cannot pad a window that is smaller than its stride.
        attributes["strides"] = [min(s, k) for s, k in zip(attributes["strides"], kernel, strict=True)]
        attributes["auto_pad"] = net.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
    else:
        pads = [net.integer(0, k // 2) for k in kernel]
        attributes["pads"] = pads + (pads if net.chance(0.7) else [net.integer(0, k // 2) for k in kernel])
        attributes["ceil_mode"] = int(net.chance(0.35))
    if net.opset >= 19 and not attributes.get("ceil_mode") and "auto_pad" not in attributes and net.chance(0.2):
        dilations = [net.integer(1, 2) for _ in dims]
        if all((k - 1) * a + 1 <= d for k, a, d in zip(kernel, dilations, dims, strict=True)):
            attributes["dilations"] = dilations
    if kind == "AveragePool" and net.chance(0.4):
        attributes["count_include_pad"] = 1
    return net.op(kind, x, **attributes)


def global_pool(net: Net, x: Value) -> Value | None:
    if x.rank not in (3, 4, 5) or not x.known:
        return None
    return net.op(net.pick(["GlobalAveragePool", "GlobalAveragePool", "GlobalMaxPool"]), x)


def volume(net: Net, x: Value) -> Value | None:
    """Through a window of three dims, the channels taken for planes."""
    if x.rank != 4 or not x.known:
        return None
    c, h, w = x.rest
    v = net.op("Reshape", x, net.const([0, 1, c, h, w] if net.chance(0.7) or c % 2 else [0, 2, c // 2, h, w], np.int64))
    y = pool(net, v) if net.chance(0.4) else conv3d(net, v)
    if y is None or not y.known:
        return None
    return net.op("Reshape", y, net.const([0, -1, *y.rest[2:]], np.int64))


def conv3d(net: Net, x: Value) -> Value | None:
    """A convolution of volumes, or a transposed one."""
    c, *dims = x.rest
    kernel = [net.integer(1, min(3, d)) for d in dims]
    strides = [net.pick([1, 1, 2]) for _ in dims]
    pads = [net.integer(0, k - 1) for k in kernel]
    groups = c if net.chance(0.3) else 1
    attributes: dict = {"strides": strides, "pads": [*pads, *pads], "group": groups}
    out = groups * net.integer(1, 2)
    bias = [net.weight(out)] if net.chance(0.6) else []
    if net.chance(0.3):
        spread = [(d - 1) * s + k for d, s, k in zip(dims, strides, kernel, strict=True)]
        if any(n <= 2 * p for n, p in zip(spread, pads, strict=True)):
            return None
        return net.op("ConvTranspose", x, net.weight(c, out // groups, *kernel), *bias, **attributes)
    return net.op("Conv", x, net.weight(out, c // groups, *kernel), *bias, **attributes)


def norm_pool(net: Net, x: Value) -> Value | None:
    """Norms under windows or of whole planes."""
    if x.rank != 4 or not x.known or net.opset < 18:
        return None
    if net.chance(0.4):
        return net.op("GlobalLpPool", x, p=net.pick([1, 2, 3]))
    kernel = [net.integer(1, min(3, d)) for d in x.rest[1:]]
    return net.op("LpPool", x, kernel_shape=kernel, strides=[net.pick([1, 2]) for _ in kernel], p=net.pick([1, 2, 3]))


def blocks(net: Net, x: Value) -> Value | None:
    """Overlapping blocks joined to an image."""
    if not x.known or x.rank < 2 or net.opset < 18:
        return None
    (kh, kw), (h, w) = [net.integer(1, 3) for _ in range(2)], [net.integer(3, 6) for _ in range(2)]
    places = (h - kh + 1) * (w - kw + 1)
    values = int(np.prod(x.rest))
    channels = min(3, values)
    flat = net.op("Reshape", x, net.const([-1, values], np.int64))
    rows = net.op("MatMul", flat, net.weight(values, channels * kh * kw * places))
    columns = net.op("Reshape", rows, net.const([-1, channels * kh * kw, places], np.int64))
    sizes = [net.const(v, np.int64) for v in ([h, w], [kh, kw])]
    return net.ops("Col2Im", columns, *sizes, like=Value("", (x.shape[0], channels, h, w)))[0]


MAKERS = [volume, pool, pool, pool, global_pool, norm_pool, blocks]
