"""Operators by their definition, where the evaluator of ONNX computes another thing."""

from __future__ import annotations

import numpy as np
from models.net import Array
from onnx.reference.op_run import OpRun


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


DEFINITIONS: list[type[OpRun]] = [LRN, BatchNormalization]
