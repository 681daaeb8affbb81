"""Pools."""

from __future__ import annotations

from models.net import Net, Value


def pool(net: Net, x: Value) -> Value | None:
    """Maximum and average with any padding, in ceil mode too, of maps down to the size of a window."""
    if x.rank not in (3, 4) or not x.known:
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
    if kind == "AveragePool" and net.chance(0.4):
        attributes["count_include_pad"] = 1
    return net.op(kind, x, **attributes)


def global_pool(net: Net, x: Value) -> Value | None:
    if x.rank not in (3, 4) or not x.known:
        return None
    return net.op(net.pick(["GlobalAveragePool", "GlobalAveragePool", "GlobalMaxPool"]), x)


MAKERS = [pool, pool, pool, global_pool]
