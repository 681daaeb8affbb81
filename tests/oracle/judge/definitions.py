"""Operators by their definition, where the evaluator of ONNX computes another thing."""

from __future__ import annotations

import math

import numpy as np
from judge.cells import GRU, LSTM, RNN
from models.net import Array
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_grid_sample import GridSample as AsOf20


class LRN(OpRun):
    """The evaluator's own takes the batch for the channels."""

    op_domain = ""

    def _run(self, x: Array, alpha: float, beta: float, bias: float, size: int) -> tuple[Array]:
        channels = x.shape[1]
        square = x.astype(np.float64) ** 2
        sums = np.empty_like(square)
        for c in range(channels):
            first, last = max(0, c - (size - 1) // 2), min(channels - 1, c + size // 2)
            sums[:, c] = square[:, first : last + 1].sum(axis=1)
        return ((x / (bias + alpha / size * sums) ** beta).astype(x.dtype),)


class BatchNormalization(OpRun):
    """The evaluator's own of operator sets 9 to 13 takes every model for one in training."""

    op_domain = ""

    def _run(self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, epsilon: float, **_: object) -> tuple[Array]:
        def wide(v: Array) -> Array:
            return v.reshape(-1, *[1] * (x.ndim - 2))

        return ((wide(scale) * (x - wide(mean)) / np.sqrt(wide(var) + epsilon) + wide(bias)).astype(x.dtype),)


class GridSample(AsOf20):
    """The evaluator's own does not know the names of modes before operator set 20."""

    def _run(self, x: Array, grid: Array, mode: str | None = None, **rest: object) -> tuple[Array]:
        return super()._run(x, grid, mode={"bilinear": "linear", "bicubic": "cubic"}.get(mode or "", mode), **rest)


class ConvTranspose(OpRun):
    """The evaluator's own knows no groups beside a given shape of the output."""

    op_domain = ""

    def _run(
        self,
        x: Array,
        weight: Array,
        bias: Array | None = None,
        auto_pad: str | None = None,
        dilations: list[int] | None = None,
        group: int | None = None,
        kernel_shape: list[int] | None = None,
        output_padding: list[int] | None = None,
        output_shape: list[int] | None = None,
        pads: list[int] | None = None,
        strides: list[int] | None = None,
    ) -> tuple[Array]:
        window, sides, groups = weight.shape[2:], x.shape[2:], group or 1
        rank = len(window)
        stride, dilation = strides or [1] * rank, dilations or [1] * rank
        more = output_padding or [0] * rank
        reach = [s * (n - 1) + d * (k - 1) + 1 for s, n, d, k in zip(stride, sides, dilation, window, strict=True)]
        if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
            output_shape = [min(s * n, r) for s, n, r in zip(stride, sides, reach, strict=True)]
        if output_shape:
            out = list(output_shape[-rank:])
            total = [max(r + m - o, 0) for r, m, o in zip(reach, more, out, strict=True)]
            begin = [t // 2 if auto_pad == "SAME_UPPER" else t - t // 2 for t in total]
        else:
            begin, end = (pads or [0] * 2 * rank)[:rank], (pads or [0] * 2 * rank)[rank:]
            out = [r + m - b - e for r, m, b, e in zip(reach, more, begin, end, strict=True)]
        wide = [max(r, b + o) for r, b, o in zip(reach, begin, out, strict=True)]
        xs = x.reshape(x.shape[0], groups, -1, *sides)
        ws = weight.reshape(groups, -1, *weight.shape[1:])
        y = np.zeros((x.shape[0], groups, weight.shape[1], *wide), x.dtype)
        for at in np.ndindex(*window):
            part = np.einsum("ngc...,gcm->ngm...", xs, ws[(slice(None), slice(None), slice(None), *at)])
            first = [a * d for a, d in zip(at, dilation, strict=True)]
            where = [slice(f, f + s * (n - 1) + 1, s) for f, s, n in zip(first, stride, sides, strict=True)]
            y[(slice(None), slice(None), slice(None), *where)] += part
        y = y[(slice(None), slice(None), slice(None), *[slice(b, b + o) for b, o in zip(begin, out, strict=True)])]
        y = y.reshape(x.shape[0], -1, *out)
        return (y if bias is None else y + bias.reshape(-1, *[1] * rank),)


FUSED = "com.microsoft"


def activated(y: Array, activation: str, alpha: float | None) -> Array:
    if activation == "Relu":
        return np.maximum(y, 0)
    if activation == "Sigmoid":
        return 1 / (1 + np.exp(-y))
    if activation == "Tanh":
        return np.tanh(y)
    assert activation == "LeakyRelu", activation
    return np.where(y < 0, y * (0.01 if alpha is None else alpha), y)


def erf_gelu(x: Array) -> Array:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / np.sqrt(2.0)))


class BiasGelu(OpRun):
    op_domain = FUSED

    def _run(self, x: Array, bias: Array) -> tuple[Array]:
        return (erf_gelu(x + bias).astype(x.dtype),)


class Gelu(OpRun):
    op_domain = FUSED
    #: ONNX has another operator of this name.
    op_schema = None

    def _run(self, x: Array) -> tuple[Array]:
        return (erf_gelu(x).astype(x.dtype),)


class FastGelu(OpRun):
    op_domain = FUSED

    def _run(self, x: Array, bias: Array | None = None) -> tuple[Array]:
        x = x if bias is None else x + bias
        return (x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),)


class QuickGelu(OpRun):
    op_domain = FUSED

    def _run(self, x: Array, alpha: float | None = None) -> tuple[Array]:
        return (x / (1 + np.exp(-(1.702 if alpha is None else alpha) * x)),)


class FusedMatMul(OpRun):
    op_domain = FUSED

    def _run(self, a: Array, b: Array, alpha: float | None = None, transB: int | None = None) -> tuple[Array]:  # noqa: N803
        return (np.matmul(a, b.swapaxes(-1, -2) if transB else b) * (1.0 if alpha is None else alpha),)


class FusedGemm(OpRun):
    op_domain = FUSED

    def _run(
        self, a: Array, b: Array, c: Array, activation: str | None = None, activation_alpha: float | None = None
    ) -> tuple[Array]:
        return (activated(a @ b + c, activation or "", activation_alpha),)


def attended(q: Array, k: Array, v: Array, mask: Array | None, heads: int, scale: float | None, causal: bool) -> Array:
    """Queries `[b, s, h * d]` on keys and values `[b, t, h * d]`; a mask `[b, t]` has 1 for the keys that are read."""
    b, s, width = q.shape
    t, d = k.shape[1], width // heads
    q, k, v = (x.reshape(b, -1, heads, d).transpose(0, 2, 1, 3) for x in (q, k, v))
    scores = q @ k.transpose(0, 1, 3, 2) * (1 / np.sqrt(d) if scale is None else scale)
    if mask is not None:
        scores = scores + np.where(mask[:, None, None, :] != 0, 0.0, -10000.0)
    if causal:
        scores = np.where(np.tril(np.ones((s, t))) != 0, scores, -np.inf)
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True) @ v
    return y.transpose(0, 2, 1, 3).reshape(b, s, width)


class Attention(OpRun):
    op_domain = FUSED
    op_schema = None

    def _run(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        mask: Array | None = None,
        num_heads: int | None = None,
        unidirectional: int | None = None,
        scale: float | None = None,
    ) -> tuple[Array]:
        q, k, v = np.split(x @ weight + bias, 3, axis=-1)
        return (attended(q, k, v, mask, num_heads or 1, scale, bool(unidirectional)),)


class MultiHeadAttention(OpRun):
    op_domain = FUSED

    def _run(
        self,
        q: Array,
        k: Array,
        v: Array,
        bias: Array | None = None,
        mask: Array | None = None,
        num_heads: int | None = None,
    ) -> tuple[Array]:
        parts = [0.0, 0.0, 0.0] if bias is None else np.split(bias, 3)
        q, k, v = (x + part for x, part in zip((q, k, v), parts, strict=True))
        return (attended(q, k, v, mask, num_heads or 1, None, False),)


def normed(x: Array, scale: Array, bias: Array | None, epsilon: float) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    y = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + epsilon) * scale
    return y if bias is None else y + bias


class SkipLayerNormalization(OpRun):
    op_domain = FUSED

    def _run(
        self,
        x: Array,
        skip: Array,
        scale: Array,
        beta: Array | None = None,
        bias: Array | None = None,
        epsilon: float | None = None,
    ) -> tuple[Array, ...]:
        total = x + skip if bias is None else x + skip + bias
        y = normed(total, scale, beta, 1e-12 if epsilon is None else epsilon)
        return y, np.zeros(()), np.zeros(()), total


class EmbedLayerNormalization(OpRun):
    op_domain = FUSED

    def _run(
        self,
        ids: Array,
        segments: Array | None,
        words: Array,
        positions: Array,
        kinds: Array | None,
        scale: Array,
        bias: Array,
        epsilon: float | None = None,
    ) -> tuple[Array, Array]:
        total = words[ids] + positions[: ids.shape[1]]
        if segments is not None and kinds is not None:
            total = total + kinds[segments]
        return normed(total, scale, bias, 1e-12 if epsilon is None else epsilon), np.zeros(())


DEFINITIONS: list[type[OpRun]] = [LRN, BatchNormalization, BiasGelu, Gelu, FastGelu, QuickGelu, FusedMatMul, FusedGemm]
DEFINITIONS += [Attention, MultiHeadAttention, SkipLayerNormalization, EmbedLayerNormalization]
DEFINITIONS += [ConvTranspose, GridSample, RNN, GRU, LSTM]
