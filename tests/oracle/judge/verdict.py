"""Compares what qc answers with ONNX Runtime, within what right computations of the model may differ by.

The tolerance of every output is measured on the model itself: neighbours of it (`variants`) are run by ONNX Runtime,
and what they differ by from the model as written is its spread, as largest difference and as root mean square.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx

from judge import reference, variants
from judge.engine import Engine, Options, Outcome
from judge.expand import expand_qlinear
from models.net import Array


@dataclass(frozen=True)
class Tolerance:
    """Multiples of the spread, of the output's step and of its largest value that a difference may have."""

    spread_max: float
    spread_rms: float
    step_max: float
    #: The share of elements that may be a whole step off, besides two of them.
    flips: float
    relative: float


#: Float arithmetic in another order. The spread is that of single errors of the size of f32's spacing, sums have more.
FLOAT = Tolerance(16, 16, 0, 0, 2e-6)
#: A written file by ONNX Runtime, whose fast operators add up a mean of many numbers one after the other.
WRITTEN = Tolerance(16, 16, 0, 0, 1e-5)
#: Pairs dropped or rounded in other places, which makes errors of the size of the spread or smaller.
ROUNDED = Tolerance(4, 3, 2, 0.36, 2e-5)
#: The pairs as written: only what lies next to the middle of two steps may be rounded the other way.
EXACT = Tolerance(4, 4, 1, 0.03, 1e-5)
#: Integer operators, computed as such, give the same bytes.
EQUAL = Tolerance(0, 0, 0, 0, 0)
#: Operators of which this holds: of the others `docs/models.md` says what they may differ by.
SAME_BYTES = {
    "QuantizeLinear",
    "DequantizeLinear",
    "QLinearConv",
    "QLinearMatMul",
    "QGemm",
    "QLinearMul",
    "QLinearConcat",
}
SAME_BYTES |= {"QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearSigmoid", "QLinearLeakyRelu"}
SAME_BYTES |= {"MaxPool", "Reshape", "Transpose", "Slice", "Flatten", "Constant"}
#: Operators whose results jump.
JUMPS = {"Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "Floor", "Ceil", "Round", "Sign", "Cast"}


def products_are_exact() -> bool:
    """Whether ONNX Runtime's products of bytes do not saturate here, as they do without VNNI instructions."""
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


@dataclass
class Spread:
    """Right values of an output, and what computations of it may differ by."""

    right: Array
    largest: float = 0.0
    rms: float = 0.0
    #: Elements that are not finite in some neighbours only.
    unstable: Array = field(default_factory=lambda: np.zeros(()))


@dataclass
class Verdict:
    """`status` is `right`, `wrong`, `refused`, `blamed` or `broken`."""

    status: str
    words: str = ""

    @property
    def failed(self) -> bool:
        return self.status in ("wrong", "blamed", "broken")


class Expectation:
    """What ONNX Runtime says about a model and its inputs."""

    def __init__(self, model: onnx.ModelProto, feed: dict[str, Array], seed: int) -> None:
        self.model = model
        self.feed = feed
        self.seed = seed
        self.literal = reference.run(model, feed)

    @cached_property
    def pairs(self) -> onnx.ModelProto:
        """The model with operators on quantized tensors as pairs around float operators."""
        return expand_qlinear(self.model)

    @cached_property
    def values(self) -> dict[str, Array]:
        return self.feed | reference.run_all(self.pairs, self.feed)

    @cached_property
    def quantized(self) -> bool:
        return any("Quantize" in n.op_type or n.op_type.startswith(("QLinear", "QGemm")) for n in self.model.graph.node)

    @cached_property
    def jumps(self) -> bool:
        """Whether results jump at a threshold, which they do in few neighbours only."""
        return any(n.op_type in JUMPS for n in self.model.graph.node)

    @cached_property
    def finite(self) -> bool:
        return all(np.isfinite(a).all() for a in self.values.values() if a.dtype.kind == "f")

    @cached_property
    def same_bytes(self) -> bool:
        """Whether all operators are of integers, and of those that are computed as ONNX Runtime computes them."""
        kinds = {n.op_type for n in self.model.graph.node}
        integer = any(k.startswith(("QLinear", "QGemm")) for k in kinds)
        stored = {t.name for t in self.model.graph.initializer}
        products = [n for n in self.model.graph.node if n.op_type == "QLinearMatMul"]
        if any(n.input[3] not in stored for n in products):
            # A product whose right side is computed is one of integers only where its operands and result have formats.
            return False
        return integer and kinds <= SAME_BYTES and products_are_exact()

    def check(self) -> None:
        """Raises what ONNX Runtime raises if it cannot run the model and its neighbours, or if a value is empty."""
        if any(not a.size for a in self.values.values()):
            raise ValueError("an empty tensor")
        if any(a.dtype == np.float32 and ((np.abs(a) > 1e30) & (np.abs(a) < 3e38)).any() for a in self.values.values()):
            raise ValueError("sums may overflow, by their order")
        _ = (self.rounded, self.exact, self.clamped) if self.quantized else self.floats

    def spread(self, right: dict[str, Array], neighbours: Iterable[onnx.ModelProto]) -> dict[str, Spread]:
        found = {name: Spread(array, unstable=np.zeros(array.shape, bool)) for name, array in right.items()}
        for model in neighbours:
            for name, other in reference.run(model, self.feed).items():
                s = found[name]
                if other.shape != s.right.shape or other.dtype == bool or s.right.dtype == bool:
                    continue
                d, odd = difference(other, s.right)
                s.unstable = s.unstable | odd
                s.largest = max(s.largest, float(d.max(initial=0.0)))
                s.rms = max(s.rms, float(np.sqrt(np.mean(d**2))) if d.size else 0.0)
        return found

    def quantization(self, steps: float, clamps: Iterable[float]) -> dict[str, Spread]:
        rng = np.random.default_rng(self.seed)

        def make(share: float) -> onnx.ModelProto:
            return variants.quantization_noise(self.pairs, self.values, rng, steps, share)

        clamps = [*clamps] * (4 if self.jumps else 1)
        return self.spread(self.literal, (make(share) for share in clamps))

    @cached_property
    def floats(self) -> dict[str, Spread]:
        rng = np.random.default_rng(self.seed)
        noisy = (variants.float_noise(self.pairs, self.values, rng) for _ in range(8 if self.jumps else 2))
        return self.spread(self.literal, noisy)

    @cached_property
    def rounded(self) -> dict[str, Spread]:
        return self.quantization(0.5, (0.0, 0.0, 1.0, 0.5, 0.5))

    @cached_property
    def exact(self) -> dict[str, Spread]:
        return self.quantization(0.004, (0.0, 0.0, 0.0))

    @cached_property
    def clamped(self) -> dict[str, Spread] | None:
        """The model with clamps for all pairs, if none is left."""
        rng = np.random.default_rng(self.seed)
        twin = variants.quantization_noise(self.pairs, self.values, rng, 0.0, 1.0)
        if any("Quantize" in n.op_type and n.op_type != "DequantizeLinear" for n in twin.graph.node):
            return None
        values = self.feed | reference.run_all(twin, self.feed)
        noisy = (variants.float_noise(twin, values, rng) for _ in range(2))
        return self.spread(reference.run(twin, self.feed), noisy)

    @cached_property
    def double(self) -> dict[str, Spread] | None:
        """The outputs in double precision, unless they are others than ONNX Runtime's by more than rounding.

        There is no bound where results jump, and where values are not finite: cells of ONNX Runtime make numbers of NaN.
        """
        right = reference.double(self.model, self.feed)
        if right is None or list(right) != list(self.literal):
            return None
        found = {}
        for name, spread in self.floats.items():
            if right[name].shape != spread.right.shape:
                return None
            d, odd = difference(right[name], spread.right)
            scale = np.abs(spread.right[np.isfinite(spread.right)]).max(initial=0.0)
            # ONNX Runtime's functions end in 0 a little early.
            close = not odd.any() and d.max(initial=0.0) <= 1e-3 * scale + 1e-6
            if not close and not self.jumps and self.finite:
                return None
            found[name] = dataclasses.replace(spread, right=right[name])
        return found

    def bounds(self, options: Options) -> tuple[dict[str, Spread], Tolerance]:
        if not self.quantized:
            return self.floats, WRITTEN if options.written else FLOAT
        if "--exact-qdq" in options.flags:
            return self.exact, EXACT
        if "fp32" in options.flags and self.clamped is not None:
            return self.clamped, Tolerance(16, 16, 0, 0, 1e-5)
        if options.flags == ("--guard", "none") and self.same_bytes:
            return self.rounded, EQUAL
        return self.rounded, ROUNDED


def difference(a: Array, b: Array) -> tuple[Array, Array]:
    """Distances where both are finite, and where only one is, or both differ in kind.

    The largest finite floats count as infinite: they are what Clip makes of infinities where it has no bound.
    """
    a, b = a.astype(np.float64), b.astype(np.float64)
    largest = float(np.finfo(np.float32).max)
    a, b = (np.where(np.abs(v) == largest, np.copysign(np.inf, v), v) for v in (a, b))
    with np.errstate(all="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        odd = ~same & ~(np.isfinite(a) & np.isfinite(b))
        return np.where(same | odd, 0.0, np.abs(a - b)), odd


def judge(engine: Engine, expected: Expectation, options: Options) -> Verdict:
    """Runs qc on the model of `expected` and says whether it is right."""
    outcome = engine.run(expected.model.SerializeToString(), expected.feed, options)
    if outcome.status != "answer":
        return Verdict(outcome.status, outcome.said)
    spreads, tolerance = expected.bounds(options)
    verdict = compare(expected.model, outcome, spreads, tolerance)
    if verdict.failed and not expected.quantized and expected.double is not None:
        # ONNX Runtime rounds, too. Where it disagrees, double precision decides.
        second = compare(expected.model, outcome, expected.double, tolerance)
        return verdict if second.failed else second
    return verdict


def compare(model: onnx.ModelProto, outcome: Outcome, spreads: dict[str, Spread], tolerance: Tolerance) -> Verdict:
    if list(outcome.outputs) != list(spreads):
        return Verdict("wrong", f"outputs {list(outcome.outputs)}, right are {list(spreads)}")
    for name, spread in spreads.items():
        step = variants.step_of_output(model, name) if tolerance.step_max else 0.0
        words = wrong_in(outcome.outputs[name], spread, tolerance, step)
        if words:
            return Verdict("wrong", f"output {name}: {words}")
    return Verdict("right")


def wrong_in(got: Array, spread: Spread, t: Tolerance, step: float) -> str:
    """What is wrong in an output, in words; nothing if it is right."""
    right = spread.right
    if got.shape != right.shape:
        return f"shape {list(got.shape)}, right is {list(right.shape)}"
    # Truth values are bytes, 0 or 1.
    wanted = np.dtype(np.uint8) if right.dtype == bool else right.dtype
    if got.dtype != wanted and wanted.kind in "iu":
        return f"elements are {got.dtype}, right are {wanted}"
    if wanted.kind in "iu":
        t = dataclasses.replace(t, relative=0.0)
    if not right.size:
        return ""
    d, odd = difference(got, right)
    odd = odd & ~spread.unstable
    if odd.any():
        i = int(odd.argmax())
        return f"{got.reshape(-1)[i]} at {i}, right is {right.reshape(-1)[i]}"
    finite = np.abs(right[np.isfinite(right)].astype(np.float64))
    scale = float(finite.max(initial=0.0)) + 1e-37
    d = np.where(spread.unstable, 0.0, d)
    i, worst, rms = int(d.argmax()), float(d.max()), float(np.sqrt(np.mean(d**2)))
    allowed = t.spread_max * spread.largest + t.step_max * step + t.relative * scale
    flips = step * float(np.sqrt((2 + t.flips * d.size) / d.size))
    allowed_rms = t.spread_rms * spread.rms + flips + t.relative * scale
    if worst <= allowed * (1 + 1e-6) and rms <= allowed_rms * (1 + 1e-6):
        return ""
    off = f"{got.reshape(-1)[i]:.8g} at {i}, right is {right.reshape(-1)[i]:.8g}"
    return (
        f"{off}; largest difference {worst:.2e} ({allowed:.2e} allowed), "
        f"root mean square {rms:.2e} ({allowed_rms:.2e} allowed), of values up to {scale:.2e}"
    )
