"""Makes a failing model small: fewer outputs, fewer nodes, other inputs, as long as it fails in the same way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, shape_inference

from judge import reference
from models.net import BATCH, Array, pruned, reads

#: Seconds that a model may take to become small.
TIME_LIMIT = 12.0


@dataclass
class Case:
    """A model with arrays for its inputs."""

    model: onnx.ModelProto
    feed: dict[str, Array]


Fails = Callable[[Case], bool]


def shrink(case: Case, fails: Fails, limit: float = TIME_LIMIT) -> Case:
    """The smallest case that was found."""
    end = time.monotonic() + limit
    again = True
    while again and time.monotonic() < end:
        again = False
        for smaller in candidates(case):
            if time.monotonic() > end:
                break
            if len(smaller.model.graph.node) > len(case.model.graph.node):
                continue
            if fails(smaller):
                case, again = smaller, True
                break
    return case


def candidates(case: Case) -> Iterator[Case]:
    """Smaller cases, those that promise most first."""
    graph = case.model.graph
    if len(graph.output) > 1:
        for o in graph.output:
            yield with_outputs(case, [o])
    try:
        values = reference.run_all(case.model, case.feed)
    except Exception:  # noqa: BLE001 - without its values it cannot be cut
        return
    types = known_types(case, values)
    ends = {o.name for o in graph.output}
    for node in graph.node:
        for name in node.output:
            if name in values and name not in ends and len(graph.node) > 1:
                yield with_outputs(case, [types[name]])
    computed = set(case.feed)
    for node in graph.node:
        if computed & reads(node):
            computed.update(node.output)
    for node in reversed(graph.node):
        if computed & set(node.output):
            for name in node.output:
                if name in values and name not in ends and values[name].ndim:
                    yield with_input(case, types[name], values[name])
    for node in graph.node:
        for name in node.input:
            before, after = values.get(name, case.feed.get(name)), values.get(node.output[0])
            if before is not None and after is not None and before.shape == after.shape and before.dtype == after.dtype:
                yield without(case, node, name)


def copy_of(case: Case) -> onnx.ModelProto:
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    return model


def finished(model: onnx.ModelProto, feed: dict[str, Array]) -> Case:
    """Without nodes, initializers and inputs that nothing reads."""
    model = pruned(model)
    read = {i for n in model.graph.node for i in reads(n)}
    kept = [i for i in model.graph.input if i.name in read]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    del model.graph.value_info[:]
    return Case(model, {i.name: feed[i.name] for i in kept})


def with_outputs(case: Case, outputs: list[onnx.ValueInfoProto]) -> Case:
    model = copy_of(case)
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return finished(model, case.feed)


def with_input(case: Case, value: onnx.ValueInfoProto, array: Array) -> Case:
    """A computed value becomes an input."""
    model = copy_of(case)
    for node in model.graph.node:
        for i, name in enumerate(node.output):
            if name == value.name:
                node.output[i] = f"{name}_unread"
    model.graph.input.append(value)
    return finished(model, case.feed | {value.name: array})


def without(case: Case, node: onnx.NodeProto, operand: str) -> Case:
    """A node gives its operand on to its readers."""
    model = copy_of(case)
    gone = node.output[0]
    kept = [n for n in model.graph.node if gone not in n.output]
    ends = {o.name for o in model.graph.output}
    for n in kept:
        for i, name in enumerate(n.input):
            n.input[i] = operand if name == gone else name
    if gone in ends:
        kept.append(helper.make_node("Identity", [operand], [gone]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    return finished(model, case.feed)


def known_types(case: Case, values: dict[str, Array]) -> dict[str, onnx.ValueInfoProto]:
    """Types of values as ONNX infers them, or else from their arrays."""
    try:
        inferred = shape_inference.infer_shapes(case.model)
        found = {v.name: v for v in [*inferred.graph.value_info, *inferred.graph.output]}
    except Exception:  # noqa: BLE001 - types then come from arrays
        found = {}
    symbolic = any(d.dim_param == BATCH for i in case.model.graph.input for d in i.type.tensor_type.shape.dim)
    batch = next((a.shape[0] for a in case.feed.values() if a.ndim), 0)
    for name, array in values.items():
        if name in found and found[name].type.tensor_type.HasField("shape"):
            continue
        dims: list[int | str] = list(array.shape)
        if symbolic and dims and dims[0] == batch:
            dims[0] = BATCH
        kind = helper.np_dtype_to_tensor_dtype(np.asarray(array).dtype)
        found[name] = helper.make_tensor_value_info(name, kind, dims)
    return found
