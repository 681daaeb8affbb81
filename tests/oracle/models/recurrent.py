"""Recurrent networks: all cells, directions, functions, lengths and first states."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from models.net import Net, Sample, Value, normal

#: Functions that need no number, those that take one, and those that take two.
PLAIN = ["Sigmoid", "Tanh", "Relu", "Softsign", "Softplus"]
WITH_ALPHA = {"LeakyRelu": 0.1, "Elu": 0.7, "ThresholdedRelu": 0.3}
WITH_BOTH = {"Affine": (0.6, 0.1), "ScaledTanh": (1.2, 0.8), "HardSigmoid": (0.3, 0.4)}


def functions(net: Net, count: int) -> dict:
    """Names of functions, and numbers for those that take them."""
    names = [net.pick([*PLAIN, *PLAIN, *WITH_ALPHA, *WITH_BOTH]) for _ in range(count)]
    attributes: dict = {}
    if "Softplus" in names:
        # That of ONNX Runtime's cells is infinite from 89 on. What goes into gates can be bounded, a cell's state cannot.
        attributes["clip"] = 5.0
        names = [net.pick(["Tanh", "Softsign"]) if n == "Softplus" and i % 3 == 2 else n for i, n in enumerate(names)]
    attributes["activations"] = names
    alphas = [WITH_ALPHA.get(n, WITH_BOTH.get(n, (0.0,))) for n in names if n not in PLAIN]
    alphas = [a if isinstance(a, float) else a[0] for a in alphas]
    betas = [WITH_BOTH[n][1] for n in names if n in WITH_BOTH]
    # Without them, ONNX Runtime takes other numbers than those of the standard.
    if alphas:
        attributes["activation_alpha"] = alphas
    if betas:
        attributes["activation_beta"] = betas
    return attributes


def parts(net: Net, x: Value) -> Value | None:
    """`x` as items, steps, elements."""
    if not x.known or x.rank not in (2, 3, 4) or x.shape[0] != net.batch:
        return None
    if x.rank == 2:
        count = x.rest[0]
        steps = net.pick([s for s in (1, 2, 3, 4, 5, 6) if count % s == 0])
        x = net.op("Reshape", x, net.const(np.asarray([-1, steps, count // steps], np.int64)))
    elif x.rank == 4:
        x = net.op("Reshape", x, net.const(np.asarray([-1, x.rest[0], x.rest[1] * x.rest[2]], np.int64)))
    return x if x.rank == 3 and x.known and x.rest[0] <= 40 and x.rest[1] <= 300 else None


def first(net: Net, directions: int, units: int) -> Value | None:
    """The first states: none, constants, or an input of the model."""
    if net.chance(0.6):
        return None
    if isinstance(net.batch, int) and net.chance(0.6):
        return net.const(net.rng.standard_normal([directions, net.batch, units]) * 0.5)
    given = net.input((directions, units), normal(0.5))
    return net.op("Transpose", given, perm=[1, 0, 2])


def lengths(net: Net, steps: int) -> Value | None:
    """How many steps each item has: all, constants, or an input of the model."""
    if net.chance(0.7):
        return None
    if isinstance(net.batch, int) and net.chance(0.5):
        return net.const(net.rng.integers(1, steps + 1, net.batch), np.int32)
    draw = Sample(lambda rng, shape: rng.integers(1, steps + 1, shape).astype(np.int32))
    return net.input((), draw, TensorProto.INT32)


def cell(net: Net, x: Value) -> Value | None:
    """One cell in one or both directions."""
    items = parts(net, x)
    if items is None:
        return None
    (steps, inputs), x = items.rest, net.op("Transpose", items, perm=[1, 0, 2])
    kind = net.pick(["RNN", "GRU", "LSTM", "LSTM"])
    gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind]
    own = {"RNN": 1, "GRU": 2, "LSTM": 3}[kind]
    direction = net.pick(["forward", "reverse", "bidirectional"])
    directions = 2 if direction == "bidirectional" else 1
    units = net.pick([1, 3, 8, 16, 17])
    attributes: dict = {"hidden_size": units, "direction": direction}
    if net.chance(0.3):
        attributes |= functions(net, own * directions)
    if net.chance(0.25):
        attributes["clip"] = net.pick([0.3, 1.0, 5.0])
    if kind == "GRU" and net.chance(0.5):
        attributes["linear_before_reset"] = 1
    if kind == "LSTM" and net.chance(0.15):
        attributes["input_forget"] = 1
    operands: list[Value | None] = [
        x,
        net.weight(directions, gates * units, inputs, scale=1 / np.sqrt(inputs)),
        net.weight(directions, gates * units, units, scale=1 / np.sqrt(units)),
        net.const(net.rng.standard_normal([directions, 2 * gates * units]) * 0.3) if net.chance(0.7) else None,
        lengths(net, steps),
        first(net, directions, units),
    ]
    if kind == "LSTM":
        operands.append(first(net, directions, units))
        if net.chance(0.25):
            operands.append(net.const(net.rng.standard_normal([directions, 3 * units]) * 0.4))
    results = net.ops(kind, *operands, outputs=3 if kind == "LSTM" else 2, **attributes)
    if net.chance(0.25):
        last = net.op("Transpose", net.pick(results[1:]), perm=[1, 0, 2])
        return net.op("Reshape", last, net.const(np.asarray([-1, directions * units], np.int64)))
    turned = net.op("Transpose", results[0], perm=[2, 0, 1, 3])
    return net.op("Reshape", turned, net.const(np.asarray([-1, steps, directions * units], np.int64)))


MAKERS = [cell]
