"""Holds the judge to account: engines that are right must pass, and engines with a known fault must be caught.

Their answers are computed by ONNX Runtime on a changed model, so nothing of qc is involved.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from campaign import draw
from judge import reference, variants
from judge.engine import Engine, Options, Outcome
from judge.expand import expand_qlinear
from judge.verdict import Expectation, judge
from models.net import Array

Change = Callable[[onnx.ModelProto, dict[str, Array]], onnx.ModelProto]


class Changed(Engine):
    """ONNX Runtime on a changed model."""

    def __init__(self, change: Change) -> None:
        super().__init__(Path(), Path())
        self.change = change

    def run(self, model: bytes, feed: dict[str, Array], options: Options) -> Outcome:
        changed = self.change(onnx.load_from_string(model), feed)
        right = reference.run(changed, feed)
        # Truth values as qc writes them.
        bytes_of = {name: a.astype(np.uint8) if a.dtype == bool else a for name, a in right.items()}
        return Outcome("answer", "", bytes_of)


def as_written(model: onnx.ModelProto, feed: dict[str, Array]) -> onnx.ModelProto:
    return model


def clamps(model: onnx.ModelProto, feed: dict[str, Array]) -> onnx.ModelProto:
    """Pairs that only clamp: floats where a compiler may keep them."""
    pairs = expand_qlinear(model)
    values = feed | reference.run_all(pairs, feed)
    return variants.quantization_noise(pairs, values, np.random.default_rng(0), 0.0, 1.0)


def without_clamps(model: onnx.ModelProto, feed: dict[str, Array]) -> onnx.ModelProto:
    """Pairs dropped with their clamps."""
    changed = clamps(model, feed)
    for node in changed.graph.node:
        if node.op_type == "Clip" and node.output[0].startswith("noise"):
            node.op_type = "Identity"
            del node.input[1:]
    return changed


def without_nan(model: onnx.ModelProto, feed: dict[str, Array]) -> onnx.ModelProto:
    """Functions that lose NaN, as maxima with NaN as their second operand do."""
    return behind_outputs(model, "Max", np.float32(-3e38))


def slightly_off(model: onnx.ModelProto, feed: dict[str, Array]) -> onnx.ModelProto:
    """Outputs too large by a ten-thousandth."""
    return behind_outputs(model, "Mul", np.float32(1.0001))


def behind_outputs(model: onnx.ModelProto, kind: str, operand: np.float32) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    computed = {name for node in model.graph.node for name in node.output}
    for i, o in enumerate(changed.graph.output):
        if o.name not in computed or o.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            continue
        for node in changed.graph.node:
            for names in (node.output, node.input):
                for j, name in enumerate(names):
                    if name == o.name:
                        names[j] = f"inner_{i}"
        changed.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(operand), f"operand_{i}"))
        changed.graph.node.append(onnx.helper.make_node(kind, [f"inner_{i}", f"operand_{i}"], [o.name]))
    return changed


#: Kind of models, engine, options, and the least and the largest share of models that may be called wrong.
CHECKS: list[tuple[str, Change, tuple[str, ...], float, float]] = [
    ("float", as_written, (), 0.0, 0.0),
    ("float", slightly_off, (), 0.6, 1.0),
    ("qdq", as_written, (), 0.0, 0.0),
    ("qdq", as_written, ("--exact-qdq",), 0.0, 0.0),
    ("qdq", clamps, (), 0.0, 0.0),
    ("qdq", clamps, ("--precision", "fp32"), 0.0, 0.0),
    ("qdq", clamps, ("--exact-qdq",), 0.2, 1.0),
    ("qdq", without_clamps, (), 0.2, 1.0),
    ("qdq", without_clamps, ("--precision", "fp32"), 0.2, 1.0),
    ("qop", as_written, (), 0.0, 0.0),
    ("qop", clamps, (), 0.0, 0.0),
    ("qop", without_clamps, (), 0.2, 1.0),
    ("qop", as_written, ("--guard", "none"), 0.0, 0.0),
    ("qop", clamps, ("--guard", "none"), 0.2, 1.0),
]


def run(count: int) -> int:
    """The number of checks that fail, over `count` models each."""
    bad = 0
    for kind, change, flags, least, most in CHECKS:
        wrong = []
        for seed in range(count):
            _, case, _ = draw(kind, seed)
            verdict = judge(Changed(change), Expectation(case.model, case.feed, seed), Options(flags))
            if verdict.failed:
                wrong.append(f"{seed}: {verdict.words}")
        holds = least <= len(wrong) / count <= most
        bad += not holds
        name = f"{kind}, {change.__name__} {' '.join(flags)}".strip()
        print(f"self-check {name}: {len(wrong)} of {count} called wrong{'' if holds else ' -- NOT AS EXPECTED'}")
        if not holds:
            print("\n".join(f"    seed {w}" for w in wrong[:5]))
    return bad
