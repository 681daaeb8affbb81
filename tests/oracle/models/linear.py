"""Convolutions and products."""

from __future__ import annotations

import numpy as np

from models.net import Net, Value


def conv(net: Net, x: Value) -> Value | None:
    """Any groups, kernel, stride, dilation and padding, stated or by `auto_pad`; of images and of sequences."""
    if x.rank not in (3, 4) or not x.known:
        return None
    channels, dims = x.rest[0], x.rest[1:]
    group = net.pick([1, 1, 1, channels, *[g for g in (2, 3, 4) if channels % g == 0]])
    out = group * net.integer(1, max(1, 8 // group)) if group < channels else channels * net.pick([1, 1, 2])
    kernel = [net.integer(1, min(5, d)) for d in dims] if net.chance(0.5) else [net.pick([1, 3])] * len(dims)
    attributes: dict = {"group": group, "strides": [net.pick([1, 1, 2, 3]) for _ in dims]}
    kinds = ["NOTSET", "NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]
    auto = net.pick(kinds)
    if auto in ("NOTSET", "VALID") and net.chance(0.3):
        attributes["dilations"] = [net.integer(1, 2) for _ in dims]
    dilated = [(k - 1) * d + 1 for k, d in zip(kernel, attributes.get("dilations", [1] * len(dims)), strict=True)]
    if auto == "NOTSET":
        pads = [net.integer(0, k // 2) for k in dilated]
        attributes["pads"] = pads + (pads if net.chance(0.7) else [net.integer(0, k // 2) for k in dilated])
    else:
        # ONNX Runtime cannot pad a window that is smaller than its stride.
        attributes |= {
            "auto_pad": auto,
            "pads": None,
            "strides": [min(s, k) for s, k in zip(attributes["strides"], kernel, strict=True)],
        }
    sides = attributes["pads"] or [0] * (2 * len(dims))
    room = [d + sides[i] + sides[i + len(dims)] for i, d in enumerate(dims)]
    if not auto.startswith("SAME") and any(k > r for k, r in zip(dilated, room, strict=True)):
        return None
    attributes = {k: v for k, v in attributes.items() if v is not None}
    if net.chance(0.5):
        attributes["kernel_shape"] = kernel
    operands = [x, net.weight(out, channels // group, *kernel)]
    if net.chance(0.6):
        operands.append(net.const(net.rng.standard_normal(out)))
    return net.op("Conv", *operands, **attributes)


def conv_transpose(net: Net, x: Value) -> Value | None:
    """Any groups, kernel, stride, dilation and padding, stated, found, or by the size of the result."""
    if x.rank not in (3, 4) or not x.known:
        return None
    channels, dims = x.rest[0], x.rest[1:]
    group = net.pick([1, 1, channels, *[g for g in (2, 3) if channels % g == 0]])
    own = net.integer(1, max(1, 6 // group))
    kernel = [net.integer(1, 4) for _ in dims]
    strides, dilations = ([net.pick(options) for _ in dims] for options in ([1, 2, 2, 3], [1, 1, 1, 2]))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    whole = [s * (n - 1) + r for s, n, r in zip(strides, dims, reach, strict=True)]
    attributes: dict = {"group": group, "strides": strides, "dilations": dilations}
    if net.chance(0.3):
        attributes["output_padding"] = [net.integer(0, s - 1) for s in strides]
    form = net.pick(["pads", "pads", "SAME_UPPER", "SAME_LOWER", "VALID", "output_shape"])
    if form == "pads":
        attributes["pads"] = [net.integer(0, min(2, (n - 1) // 2)) for n in whole * 2]
    elif form == "output_shape":
        attributes["output_shape"] = [net.integer(max(1, n - 2), n) for n in whole]
    else:
        attributes["auto_pad"] = form
    if net.chance(0.5):
        attributes["kernel_shape"] = kernel
    operands = [x, net.weight(channels, own, *kernel)]
    if net.chance(0.6):
        operands.append(net.const(net.rng.standard_normal(own * group)))
    return net.op("ConvTranspose", *operands, **attributes)


def gemm(net: Net, x: Value) -> Value | None:
    """All attributes, with a bias of any shape or none."""
    if x.rank != 2 or not x.known:
        return None
    k, n = x.rest[0], net.integer(1, 12)
    transposed = net.chance(0.5)
    w = net.weight(*((n, k) if transposed else (k, n)), scale=1 / np.sqrt(k))
    attributes: dict = {"transB": int(transposed)}
    if net.chance(0.3):
        attributes |= {"alpha": net.uniform(0.2, 2), "beta": net.uniform(0.2, 2)}
    shape = net.pick([None, (n,), (n,), (1, n), (1,), ()])
    bias = [] if shape is None else [net.const(net.rng.standard_normal(shape).astype(np.float32))]
    return net.op("Gemm", x, w, *bias, **attributes)


def matmul(net: Net, x: Value) -> Value | None:
    """With a constant on either side, with or without batches of its own."""
    if x.rank < 2 or not x.known:
        return None
    if x.rank >= 3 and net.chance(0.25):
        rows = x.rest[-2]
        w = net.weight(net.integer(1, 8), rows, scale=1 / np.sqrt(rows))
        return net.op("MatMul", w, x)
    k, n = x.rest[-1], net.integer(1, 12)
    lead = net.pick([(), (), x.rest[:-2]]) if x.rank >= 3 else ()
    if net.chance(0.1):
        return net.op("MatMul", x, net.weight(k, scale=1 / np.sqrt(k)))
    y = net.op("MatMul", x, net.weight(*lead, k, n, scale=1 / np.sqrt(k)))
    return net.op("Add", y, net.const(net.rng.standard_normal(n))) if net.chance(0.6) else y


def product_of_computed(net: Net, x: Value) -> Value | None:
    """Scores of two computed operands, as attention has them, within the items of a batch."""
    if x.rank < 3 or not x.known:
        return None
    perm = list(range(x.rank))
    perm[-1], perm[-2] = perm[-2], perm[-1]
    y = net.op("Tanh", x) if net.chance(0.5) else x
    scores = net.op("MatMul", x, net.op("Transpose", y, perm=perm))
    if net.chance(0.5):
        scores = net.op("Div", scores, net.const(float(np.sqrt(x.rest[-1]))))
    if net.chance(0.6):
        scores = net.op("Softmax", scores, axis=-1)
    return net.op("MatMul", scores, x) if net.chance(0.7) else scores


def attention(net: Net, x: Value) -> Value | None:
    """Heads of attention, with the reshapes and transposes that exporters write."""
    if x.rank != 3 or not x.known or x.rest[1] % 2:
        return None
    tokens, width = x.rest
    heads = 2

    def project(perm: list[int]) -> Value:
        y = net.op("MatMul", x, net.weight(width, width))
        y = net.op("Add", y, net.const(net.rng.standard_normal(width) * 0.1))
        y = net.op("Reshape", y, net.const([0, tokens, heads, width // heads], np.int64))
        return net.op("Transpose", y, perm=perm)

    q, k, v = project([0, 2, 1, 3]), project([0, 2, 3, 1]), project([0, 2, 1, 3])
    scores = net.op("Mul", net.op("MatMul", q, k), net.const(1 / np.sqrt(width // heads)))
    y = net.op("MatMul", net.op("Softmax", scores, axis=-1), v)
    y = net.op("Reshape", net.op("Transpose", y, perm=[0, 2, 1, 3]), net.const([0, 0, width], np.int64))
    return net.op("Add", x, y)


def summed_products(net: Net, x: Value) -> Value | None:
    """Einsum with a constant, over one dim or with the dims in another order."""
    if x.rank < 2 or x.rank > 4 or not x.known or net.opset < 12:
        return None
    letters = "bchw"[: x.rank]
    label = letters[net.integer(1, x.rank - 1)]
    size = x.rest[letters.index(label) - 1]
    if net.chance(0.3):
        return net.op("Einsum", x, net.weight(size), equation=f"{letters},{label}->{letters}")
    return net.op("Einsum", x, net.weight(size, net.integer(1, 6)), equation=f"{letters},{label}d->{letters.replace(label, 'd')}")


def sampled(net: Net, x: Value) -> Value | None:
    """An image at places that it computes itself; between pixels, where rounding moves little."""
    if x.rank != 4 or not x.known or x.rest[0] < 2 or net.opset < 16:
        return None
    two = net.op("Slice", x, net.const([0], np.int64), net.const([2], np.int64), net.const([1], np.int64))
    grid = net.op("Transpose", net.op("Mul", net.op("Tanh", two), net.const(1.2)), perm=[0, 2, 3, 1])
    mode = net.pick(["linear", "cubic"]) if net.opset >= 20 else net.pick(["bilinear", "bicubic"])
    padding = net.pick(["zeros", "border", "reflection"])
    return net.op("GridSample", x, grid, mode=mode, padding_mode=padding, align_corners=int(net.chance(0.5)))


MAKERS = [summed_products, sampled, conv, conv, conv, conv_transpose, gemm, gemm, matmul, matmul, product_of_computed, attention]
