"""Recurrent operators by their definition: the evaluator of ONNX leaves out functions, lengths, clips and second directions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from models.net import Array
from onnx.reference.op_run import OpRun

Function = Callable[[Array], Array]

#: Functions by name, with the values of `alpha` and `beta` that the standard gives them; nothing for what they do not take.
FUNCTIONS: dict[str, tuple[Callable[[Array, float, float], Array], float | None, float | None]] = {
    "Sigmoid": (lambda x, a, b: 1 / (1 + np.exp(-x)), None, None),
    "Tanh": (lambda x, a, b: np.tanh(x), None, None),
    "Relu": (lambda x, a, b: np.maximum(x, 0), None, None),
    "Softsign": (lambda x, a, b: x / (1 + np.abs(x)), None, None),
    "Softplus": (lambda x, a, b: np.logaddexp(x, 0), None, None),
    "LeakyRelu": (lambda x, a, b: np.where(x < 0, a * x, x), 0.01, None),
    "ThresholdedRelu": (lambda x, a, b: np.where(x > a, x, 0), 1.0, None),
    "Elu": (lambda x, a, b: np.where(x < 0, a * np.expm1(x), x), 1.0, None),
    "Affine": (lambda x, a, b: a * x + b, 1.0, 0.0),
    "ScaledTanh": (lambda x, a, b: a * np.tanh(b * x), 1.0, 1.0),
    "HardSigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), 0.2, 0.5),
}


def functions(names: list[str], alphas: list[float] | None, betas: list[float] | None) -> Iterator[Function]:
    """The functions of the names; those that take numbers take the next ones of the lists."""
    given_alphas, given_betas = iter(alphas or []), iter(betas or [])
    for name in names:
        function, alpha, beta = FUNCTIONS[name]
        a = alpha if alpha is None else next(given_alphas, alpha)
        b = beta if beta is None else next(given_betas, beta)
        yield lambda x, f=function, a=a, b=b: f(x, a, b)


@dataclass
class Direction:
    """The weights `[gates * units, inputs]` and `[gates * units, units]` of one direction, and what else a cell reads."""

    w: Array
    r: Array
    w_bias: Array
    r_bias: Array
    peepholes: Array
    functions: list[Function]
    clip: Function
    #: `input_forget` of LSTM, `linear_before_reset` of GRU.
    variant: bool

    @property
    def units(self) -> int:
        return self.r.shape[1]

    def rows(self, gate: int) -> slice:
        return slice(gate * self.units, (gate + 1) * self.units)

    def of_input(self, x: Array, gate: int) -> Array:
        return x @ self.w[self.rows(gate)].T + self.w_bias[self.rows(gate)]

    def of_state(self, h: Array, gate: int) -> Array:
        return h @ self.r[self.rows(gate)].T + self.r_bias[self.rows(gate)]

    def sum(self, x: Array, h: Array, gate: int) -> Array:
        return self.of_input(x, gate) + self.of_state(h, gate)


def rnn(d: Direction, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    return d.functions[0](d.clip(d.sum(x, h, 0))), c


def gru(d: Direction, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    f, g = d.functions
    update, reset = f(d.clip(d.sum(x, h, 0))), f(d.clip(d.sum(x, h, 1)))
    hidden = reset * d.of_state(h, 2) if d.variant else d.of_state(reset * h, 2)
    return (1 - update) * g(d.clip(d.of_input(x, 2) + hidden)) + update * h, c


def lstm(d: Direction, x: Array, h: Array, c: Array) -> tuple[Array, Array]:
    f, g, last = d.functions
    p_input, p_output, p_forget = np.split(d.peepholes, 3)
    taken = f(d.clip(d.sum(x, h, 0) + p_input * c))
    kept = 1 - taken if d.variant else f(d.clip(d.sum(x, h, 2) + p_forget * c))
    c = kept * c + taken * g(d.clip(d.sum(x, h, 3)))
    return f(d.clip(d.sum(x, h, 1) + p_output * c)) * last(c), c


@dataclass(frozen=True)
class Cell:
    """A step of `inputs`, state and cell, with its gates and the functions it has by default."""

    step: Callable[[Direction, Array, Array, Array], tuple[Array, Array]]
    gates: int
    functions: tuple[str, ...]


CELLS = {
    "RNN": Cell(rnn, 1, ("Tanh",)),
    "GRU": Cell(gru, 3, ("Sigmoid", "Tanh")),
    "LSTM": Cell(lstm, 4, ("Sigmoid", "Tanh", "Tanh")),
}


def walk(cell: Cell, d: Direction, x: Array, lengths: Array, states: tuple[Array, Array], back: bool) -> tuple[Array, ...]:
    """All states `[steps, items, units]`, the last state and the last cell of one direction over `x`."""
    steps, items, _ = x.shape
    (h, c), every = states, np.zeros((steps, items, d.units), x.dtype)
    for i in range(steps):
        # A sequence that is read backwards begins at its own end.
        at = np.clip(lengths - 1 - i if back else np.full(items, i), 0, steps - 1)
        runs = (i < lengths)[:, None]
        next_h, next_c = cell.step(d, x[at, np.arange(items)], h, c)
        h, c = np.where(runs, next_h, h), np.where(runs, next_c, c)
        for item in np.flatnonzero(runs):
            every[at[item], item] = h[item]
    # ONNX Runtime gives zeros for a sequence without steps.
    some = (lengths > 0)[:, None]
    return every, np.where(some, h, 0), np.where(some, c, 0)


class Recurrent(OpRun):
    op_domain = ""

    def of(self, kind: str, x: Array, w: Array, r: Array, *rest: Array | None, **given: object) -> tuple[Array, ...]:
        """The results of an operator; `rest` is bias, lengths, first state, first cell, peepholes."""
        cell = CELLS[kind]
        bias, lengths, first_h, first_c, peepholes = [*rest, *[None] * (5 - len(rest))]
        if given.get("layout"):
            raise NotImplementedError("items before steps")
        steps, items, _ = x.shape
        directions, units = r.shape[0], r.shape[2]
        bias = np.zeros((directions, 2 * cell.gates * units), x.dtype) if bias is None else bias
        peepholes = np.zeros((directions, 3 * units), x.dtype) if peepholes is None else peepholes
        lengths = np.full(items, steps) if lengths is None else lengths
        zeros = np.zeros((directions, items, units), x.dtype)
        first_h, first_c = (zeros if a is None else a for a in (first_h, first_c))
        names = given.get("activations") or list(cell.functions) * directions
        chosen = list(functions(names, given.get("activation_alpha"), given.get("activation_beta")))
        limit = given.get("clip") or np.inf
        results = []
        for i in range(directions):
            w_bias, r_bias = np.split(bias[i], 2)
            own = chosen[i * len(cell.functions) : (i + 1) * len(cell.functions)]
            variant = bool(given.get("input_forget") or given.get("linear_before_reset"))
            d = Direction(w[i], r[i], w_bias, r_bias, peepholes[i], own, lambda v: np.clip(v, -limit, limit), variant)
            back = i == 1 or given.get("direction") == "reverse"
            results.append(walk(cell, d, x, lengths, (first_h[i], first_c[i]), back))
        every, h, c = zip(*results, strict=True)
        found = (np.stack(every, axis=1), np.stack(h), np.stack(c))
        return found[: len(self.onnx_node.output)]


class RNN(Recurrent):
    def _run(self, *operands: Array | None, **given: object) -> tuple[Array, ...]:
        return self.of("RNN", *operands, **given)


class GRU(Recurrent):
    def _run(self, *operands: Array | None, **given: object) -> tuple[Array, ...]:
        return self.of("GRU", *operands, **given)


class LSTM(Recurrent):
    def _run(self, *operands: Array | None, **given: object) -> tuple[Array, ...]:
        return self.of("LSTM", *operands, **given)
