"""Float models: a chain of ops with branches, several readers, inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from models import batch, counted, elementwise, encoders, fused, integers, linear, loops, movement, norms, recurrent, signals, windows
from models.net import BATCH, Model, Net, Sample, Value, normal

Maker = Callable[[Net, Value], Value | None]

#: Makers of ordinary ops, by family, with the weight of the family.
FAMILIES: list[tuple[int, list[Maker]]] = [
    (5, linear.MAKERS),
    (2, windows.MAKERS),
    (3, norms.MAKERS),
    (5, elementwise.MAKERS),
    (4, movement.MAKERS),
    (6, integers.MAKERS),
    (3, fused.MAKERS),
    (2, recurrent.MAKERS),
    (2, signals.MAKERS),
    (1, loops.MAKERS),
]
#: Largest number of elements of an item, and elements of a large plane.
MOST, PLANE = 4000, (400, 300)
#: Types of outputs.
RESULTS = [TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL]


def body(net: Net, x: Value, count: int, families: list[tuple[int, list[Maker]]] = FAMILIES) -> Value:
    """Adds `count` ops to a model, mostly each behind the last."""
    total = sum(w for w, _ in families)
    weights = [w / total for w, _ in families]
    for _ in range(count):
        makers = families[int(net.rng.choice(len(families), p=weights))][1]
        source = x
        if net.chance(0.15):
            source = net.pick([v for v in net.values if v.dtype == TensorProto.FLOAT and v.rank] or [x])
        y = net.pick(makers)(net, source)
        if y is not None and y.dtype == TensorProto.FLOAT and fits(y):
            x = y
    return x


def fits(y: Value) -> bool:
    return not y.known or (all(d > 0 for d in y.rest) and np.prod(y.rest) <= MOST)


def special(net: Net) -> Sample:
    """Values with some NaN and infinities among them."""
    found = net.pick([[np.nan], [np.inf], [-np.inf], [np.nan, np.inf, -np.inf]])

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        a = rng.standard_normal(shape).astype(np.float32)
        where = rng.random(shape) < 0.1
        a[where] = rng.choice(np.asarray(found, np.float32), size=int(where.sum()))
        return a

    return Sample(draw)


def shape(net: Net) -> tuple[int, ...]:
    """Dims of an item: of an image, a sequence or a vector."""
    image = (net.integer(1, 8), net.integer(1, 9), net.integer(1, 9))
    return net.pick([image, image, image, (net.integer(1, 6), net.pick([4, 6, 8])), (net.integer(1, 16),)])


def outputs(net: Net, last: Value) -> list[Value]:
    """The last value, and sometimes others, read or not."""
    found = [last]
    computed = net.of_inputs()
    for v in reversed(net.values):
        if v.dtype in (RESULTS if net.ties else RESULTS[:1]) and v not in found and v not in net.inputs:
            if v.name not in computed and not net.chance(0.02):
                continue
            if net.chance(0.4 if v.name not in net.read else 0.08):
                found.append(v)
    return found[:4]


def usual(net: Net) -> Model:
    x = net.input(shape(net), normal(net.pick([0.5, 1.0, 3.0])))
    if net.chance(0.2):
        net.input(x.rest)
    return net.finish(outputs(net, body(net, x, net.integer(1, 9))))


def meeting(net: Net) -> Model:
    """Items of a batch that meet somewhere."""
    x = body(net, net.input(shape(net)), net.integer(0, 3))
    y = net.pick(batch.MAKERS)(net, x)
    x = x if y is None or not y.rank else y
    if x.rank and x.shape[0] == BATCH:
        x = body(net, x, net.integer(0, 2))
    return net.finish(outputs(net, x if x not in net.inputs else net.op("Relu", x)))


def not_finite(net: Net) -> Model:
    """NaN and infinities through functions, pools and movement."""
    x = net.input(shape(net), special(net))
    simple: list[tuple[int, list[Maker]]] = [
        (6, [elementwise.function, elementwise.with_parameters, elementwise.clip, elementwise.with_constant]),
        (2, [movement.reshape, movement.transpose, movement.slice_, movement.concat]),
    ]
    y = body(net, x, net.integer(1, 3), simple)
    return net.finish([y if y != x else net.op("Relu", x)])


def of_counted_rows(net: Net) -> Model:
    """Results the number of whose rows only a run tells."""
    net.batch = net.pick([1, 2, 3])
    x = body(net, net.input(shape(net)), net.integer(0, 2))
    x = net.op("Relu", x) if x in net.inputs else x
    if x.rank < 2 or not x.known:
        return net.finish([x])
    return net.finish(net.pick(counted.MAKERS)(net, x))


def large(net: Net) -> Model:
    """Means and norms over many elements that lie far from 0."""
    net.batch = 1
    x = net.input((1, *PLANE), normal(1.0, net.pick([0.0, 100.0, 1000.0])))
    way = net.pick(["mean", "pool", "instance", "layer"])
    if way == "mean":
        return net.finish([norms.reduce(net, "ReduceMean", x, [2, 3])])
    if way == "pool":
        return net.finish([net.op("GlobalAveragePool", x)])
    if way == "instance":
        return net.finish([net.op("InstanceNormalization", x, net.const([1.5]), net.const([0.5]))])
    y = net.op("Reshape", x, net.const([1, -1], np.int64))
    ones = net.const(np.ones(int(np.prod(PLANE)), np.float32))
    return net.finish([net.op("LayerNormalization", y, ones, axis=-1)])


def encoder(net: Net) -> Model:
    """A text encoder."""
    return net.finish(encoders.floats(net))


def make(rng: np.random.Generator) -> Model:
    """A float model."""
    net = Net(rng, opset=int(rng.choice([13, 14, 17, 17, 18, 20, 21, 23])))
    if net.chance(0.15):
        net.batch = net.pick([1, 1, 2, 4])
    kind = net.pick([usual] * 14 + [meeting] * 5 + [of_counted_rows] * 2 + [not_finite] * 2 + [encoder] * 4 + [large] * (1 if net.chance(0.5) else 0))
    if kind is large:
        net.opset = 17
    return kind(net)
