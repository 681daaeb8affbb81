"""Loops and scans of known rounds, as exporters write them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from models.net import Dim, Net, Value
from models.recurrent import parts

FLOAT, BOOL, I64 = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64


def info(name: str, dtype: int = FLOAT, shape: tuple[Dim, ...] | None = None) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)


def shaped(net: Net, found: list[Value], shapes: list[tuple]) -> list[Value]:
    """Results of a node with a shape of their own each."""
    own = [Value(v.name, shape) for v, shape in zip(found, shapes, strict=True)]
    net.drop(found)
    net.values.extend(own)
    return own


def scan(net: Net, x: Value) -> Value | None:
    """A state that goes through the steps of a sequence, forwards or backwards."""
    items = parts(net, x)
    if items is None or items.rest[0] < 2:
        return None
    steps, width = items.rest
    first = net.op("Gather", items, net.const(np.asarray(net.integer(0, steps - 1), np.int64)), axis=1)
    s, step, name = net.name("s"), net.name("x"), net.name("scan")
    factor = helper.make_node("Constant", [], [f"{name}_f"], value_float=net.uniform(0.2, 0.9))
    nodes = [
        factor,
        helper.make_node("Mul", [s, f"{name}_f"], [f"{name}_m"]),
        helper.make_node("Add", [f"{name}_m", step], [f"{name}_a"]),
        helper.make_node(net.pick(["Tanh", "Sigmoid", "Softsign"]), [f"{name}_a"], [f"{name}_n"]),
        helper.make_node("Sub", [f"{name}_n", step], [f"{name}_y"]),
    ]
    body = helper.make_graph(nodes, name, [info(s), info(step)], [info(f"{name}_n"), info(f"{name}_y")])
    backwards = int(net.chance(0.4))
    attributes: dict = {"num_scan_inputs": 1, "scan_input_axes": [1], "scan_output_axes": [1]}
    attributes |= {"scan_input_directions": [backwards], "scan_output_directions": [net.pick([0, backwards])]}
    found = net.ops("Scan", first, items, outputs=2, like=items, body=body, **attributes)
    last, rows = shaped(net, found, [(items.shape[0], width), items.shape])
    return last if net.chance(0.3) else rows


def loop(net: Net, x: Value) -> Value | None:
    """Rounds over a value, and sometimes what each round has of it."""
    if not x.known or x.rank < 2:
        return None
    rounds, every = net.integer(1, 4), net.chance(0.4)
    name, v = net.name("loop"), net.name("v")
    nodes = [
        helper.make_node("Identity", [f"{name}_go"], [f"{name}_on"]),
        helper.make_node("Cast", [f"{name}_i"], [f"{name}_r"], to=FLOAT),
        helper.make_node(net.pick(["Tanh", "Sigmoid", "Abs"]), [v], [f"{name}_t"]),
        helper.make_node("Add", [f"{name}_t", f"{name}_r"], [f"{name}_n"]),
    ]
    ins = [info(f"{name}_i", I64, ()), info(f"{name}_go", BOOL, ()), info(v)]
    outs = [info(f"{name}_on", BOOL), info(f"{name}_n")] + ([info(f"{name}_t")] if every else [])
    body = helper.make_graph(nodes, name, ins, outs)
    trips, go = net.const(np.asarray(rounds, np.int64)), net.const(np.asarray(True))
    found = net.ops("Loop", trips, go, x, outputs=1 + every, like=x, body=body)
    results = shaped(net, found, [x.shape, (rounds, *x.shape)][: 1 + every])
    if not every or x.rank > 3 or net.chance(0.3):
        return results[0]
    return net.op("Transpose", results[1], perm=[1, 0, *range(2, x.rank + 1)])


MAKERS = [scan, scan, loop]
