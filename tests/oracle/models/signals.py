"""Sound: Fourier transforms, spectra of frames, windows and mel filters."""

from __future__ import annotations

import numpy as np

from models.net import Net, Value


def samples(net: Net, x: Value) -> Value | None:
    """`x` as batch, samples, one number each."""
    if not x.known or x.rank < 2 or net.opset < 17:
        return None
    return net.op("Reshape", x, net.const([0, -1, 1] if x.rank == 2 else [-1, int(np.prod(x.rest)), 1], np.int64))


def transform(net: Net, x: Value) -> Value | None:
    """A transform along an axis, of as many samples as there are or of another number, and sometimes back."""
    if not x.known or x.rank not in (2, 3) or net.opset < 17:
        return None
    real = net.op("Unsqueeze", x, net.const([x.rank], np.int64))
    axis = net.integer(1, x.rank - 1)
    length = net.pick([None, None, x.rest[axis - 1] + net.integer(1, 4), max(1, x.rest[axis - 1] - 1)])
    onesided = net.chance(0.5)
    spectrum = dft(net, real, axis, length, onesided=int(onesided))
    if spectrum is None or spectrum.rest[axis - 1] < 2 or net.chance(0.6):
        return spectrum
    signal = dft(net, spectrum, axis, None, inverse=1)
    if signal is None or onesided:
        return signal
    # Back from a whole spectrum come the samples. What else comes is 0 but for rounding: imaginary parts, and padding.
    count = min(x.rest[axis - 1], signal.rest[axis - 1])
    starts, ends, axes = (net.const(v, np.int64) for v in ([0, 0], [count, 1], [axis, -1]))
    return net.op("Slice", signal, starts, ends, axes)


def dft(net: Net, x: Value, axis: int, length: int | None, onesided: int = 0, inverse: int = 0) -> Value | None:
    count = length or x.rest[axis - 1]
    bins = count // 2 + 1 if onesided else count
    like = Value("", (*x.shape[:axis], bins, *x.shape[axis + 1 : -1], 2))
    samples = net.const(np.asarray(length, np.int64)) if length else None
    attributes: dict = {"onesided": onesided, "inverse": inverse}
    if net.opset < 20:
        return net.ops("DFT", x, samples, like=like, axis=axis, **attributes)[0]
    return net.ops("DFT", x, samples, net.const(np.asarray(axis, np.int64)), like=like, **attributes)[0]


def window(net: Net, size: int) -> Value | None:
    """Weights of a frame: none, a window that an operator makes, or numbers."""
    kinds = [None, "numbers", "HammingWindow"]
    # The ends of the others are 0 but for rounding, and a short window has nothing else.
    kind = net.pick([*kinds, "HannWindow", "BlackmanWindow"] if size >= 4 else kinds)
    if kind is None:
        return None
    if kind == "numbers":
        return net.const(net.rng.random(size))
    return net.ops(kind, net.const(np.asarray(size, np.int64)), like=Value("", (size,)), periodic=int(net.chance(0.6)))[0]


def frames(net: Net, x: Value) -> Value | None:
    """Spectra of frames, their squares, and mel filters over them."""
    signal = samples(net, x)
    if signal is None or not signal.known or signal.rest[0] < 4:
        return None
    size, step = net.integer(2, min(32, signal.rest[0])), net.integer(1, 8)
    onesided = int(net.chance(0.8))
    count, bins = (signal.rest[0] - size) // step + 1, size // 2 + 1 if onesided else size
    operands = [net.const(np.asarray(step, np.int64)), window(net, size), net.const(np.asarray(size, np.int64))]
    like = Value("", (signal.shape[0], count, bins, 2))
    spectrum = net.ops("STFT", signal, *operands, like=like, onesided=onesided)[0]
    if not onesided or net.chance(0.5):
        return spectrum
    square = net.op("Mul", spectrum, spectrum)
    power = net.op("ReduceSum", square, net.const([3], np.int64), keepdims=0)
    return net.op("MatMul", power, mel(net, size) if net.chance(0.6) else net.weight(bins, 5))


def mel(net: Net, size: int) -> Value:
    """The matrix of mel filters for transforms of `size` samples."""
    filters, rate = net.integer(1, 8), net.pick([8000, 16000])
    numbers = [np.asarray(v, np.int64) for v in (filters, size, rate)]
    edges = [np.asarray(v, np.float32) for v in (net.uniform(0, 200), net.uniform(1000, rate / 2 - 1))]
    operands = [net.const(v) for v in [*numbers, *edges]]
    return net.ops("MelWeightMatrix", *operands, like=Value("", (size // 2 + 1, filters)))[0]


MAKERS = [transform, frames]
