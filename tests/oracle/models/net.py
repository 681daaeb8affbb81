"""A small builder of ONNX models: ops are added one by one, and the shape of every value is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, shape_inference

T = TypeVar("T")
Dim = int | str | None
Array = NDArray[np.generic]

#: Name of the symbolic first dim.
BATCH = "N"


@dataclass(frozen=True)
class Value:
    """A tensor of the model."""

    name: str
    shape: tuple[Dim, ...]
    dtype: int = TensorProto.FLOAT

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def known(self) -> bool:
        """Whether all dims but a symbolic first one are numbers."""
        return self.rank > 0 and self.shape[0] is not None and all(isinstance(d, int) for d in self.shape[1:])

    @property
    def rest(self) -> tuple[int, ...]:
        """The dims behind the first."""
        return tuple(d for d in self.shape[1:] if isinstance(d, int))


@dataclass
class Sample:
    """How the values of an input are drawn, as `shape -> array`."""

    draw: Callable[[np.random.Generator, tuple[int, ...]], Array]


@dataclass
class Model:
    """A finished model, with a source of inputs for any batch."""

    proto: onnx.ModelProto
    inputs: list[Value]
    samples: dict[str, Sample]
    #: The shape of every value, as ONNX infers it.
    shapes: dict[str, tuple[Dim, ...]] = field(default_factory=dict)

    def agrees(self, values: dict[str, Array]) -> bool:
        """Whether computed values have the shapes that ONNX infers. Windows that begin in padding differ, for one."""
        for name in values.keys() & self.shapes.keys():
            stated, found = self.shapes[name], values[name].shape
            if len(stated) != len(found) or any(
                isinstance(s, int) and s != d for s, d in zip(stated, found, strict=True)
            ):
                return False
        return True

    @property
    def symbolic(self) -> bool:
        return any(BATCH in v.shape for v in self.inputs)

    def feed(self, rng: np.random.Generator, batch: int) -> dict[str, Array]:
        """Arrays for all inputs."""
        feed = {}
        for v in self.inputs:
            shape = tuple(batch if d == BATCH else int(d or 0) for d in v.shape)
            feed[v.name] = self.samples[v.name].draw(rng, shape)
        return feed


def normal(scale: float = 1.0, offset: float = 0.0) -> Sample:
    return Sample(lambda rng, shape: (rng.standard_normal(shape) * scale + offset).astype(np.float32))


@dataclass
class Net:
    """A model under construction."""

    rng: np.random.Generator
    opset: int = 17
    batch: Dim = BATCH
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[Value] = field(default_factory=list)
    samples: dict[str, Sample] = field(default_factory=dict)
    values: list[Value] = field(default_factory=list)
    read: set[str] = field(default_factory=set)
    constants: dict[str, Array] = field(default_factory=dict)
    #: Functions that the model brings along, in the domain `local`.
    functions: list[onnx.FunctionProto] = field(default_factory=list)
    #: Whether floats may be asked to be equal. The answer changes where rounding to steps is left out.
    ties: bool = True
    count: int = 0

    # Chance.

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, p: float) -> bool:
        return bool(self.rng.random() < p)

    def integer(self, low: int, high: int) -> int:
        """From `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    # Values.

    def name(self, hint: str) -> str:
        self.count += 1
        return f"{hint}_{self.count}"

    def input(self, rest: Sequence[int], sample: Sample | None = None, dtype: int = TensorProto.FLOAT) -> Value:
        """An input of the model with the batch in front of `rest`."""
        v = Value(self.name("in"), (self.batch, *rest), dtype)
        return self.declare(v, sample)

    def declare(self, v: Value, sample: Sample | None = None) -> Value:
        self.inputs.append(v)
        self.samples[v.name] = sample or normal()
        self.values.append(v)
        return v

    def const(self, array: Array | Sequence[int] | float, dtype: type | None = None) -> Value:
        """A constant: an initializer, or the result of a Constant node."""
        a = np.asarray(array, dtype=dtype or (np.float32 if np.asarray(array).dtype == np.float64 else None))
        name = self.name("c")
        tensor = numpy_helper.from_array(np.asarray(a, order="C"), name)
        if self.chance(0.15):
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.initializers.append(tensor)
        self.constants[name] = a
        return Value(name, a.shape, tensor.data_type)

    def weight(self, *shape: int, scale: float | None = None) -> Value:
        """A random weight whose products keep the size of values, sometimes as a small computation of constants."""
        fan = int(np.prod(shape[1:])) or 1
        a = (self.rng.standard_normal(shape) * (scale or (1.0 / np.sqrt(fan)))).astype(np.float32)
        if self.chance(0.05):
            a[self.integer(0, shape[0] - 1)] = self.pick([0.0, 1e-20])
        return self.folded(a) if self.chance(0.1) else self.const(a)

    def folded(self, a: Array) -> Value:
        """The constant `a` as the result of nodes that a compiler has to fold."""
        way = self.pick(["transpose", "reshape", "concat", "double", "scaled", "identity"])
        if way == "transpose":
            perm = [int(p) for p in self.rng.permutation(a.ndim)]
            return self.op("Transpose", self.const(a.transpose(np.argsort(perm)) if a.ndim else a), perm=perm)
        if way == "reshape":
            return self.op("Reshape", self.const(a.reshape(-1)), self.const(list(a.shape), np.int64))
        if way == "concat" and a.shape[0] > 1:
            return self.op("Concat", self.const(a[:1]), self.const(a[1:]), axis=0)
        if way == "double":
            return self.op("Cast", self.const(a, np.float64), to=TensorProto.FLOAT)
        if way == "scaled":
            return self.op("Mul", self.const(a * np.float32(0.5)), self.const(2.0))
        return self.op("Identity", self.const(a))

    def op(self, kind: str, *operands: Value | None, outputs: int = 1, domain: str = "", **attributes) -> Value:
        """Adds a node and gives its first result."""
        return self.ops(kind, *operands, outputs=outputs, domain=domain, **attributes)[0]

    def ops(
        self,
        kind: str,
        *operands: Value | None,
        outputs: int = 1,
        domain: str = "",
        like: Value | None = None,
        **attributes,
    ) -> list[Value]:
        """Adds a node and gives all its results; `like` states type and shape where ONNX cannot infer them."""
        names = [self.name(kind.lower()) for _ in range(outputs)]
        ins = [o.name if o else "" for o in operands]
        node = helper.make_node(kind, ins, names, name=names[0] + "_node", domain=domain, **attributes)
        types = self.infer(node, [o for o in operands if o]) if like is None else None
        self.nodes.append(node)
        self.read.update(ins)
        out = []
        for name in names:
            v = Value(name, like.shape, like.dtype) if like else value_of(name, types[name] if types else None)
            self.values.append(v)
            out.append(v)
        return out

    def drop(self, values: Sequence[Value]) -> None:
        """Keeps results from being read, such as those that ONNX Runtime does not compute."""
        self.values = [v for v in self.values if v not in values]

    def infer(self, node: onnx.NodeProto, operands: list[Value]) -> dict[str, onnx.TypeProto]:
        schema = onnx.defs.get_schema(node.op_type, self.opset, node.domain)
        types = {o.name: helper.make_tensor_type_proto(o.dtype, list(o.shape)) for o in operands}
        known = {
            o.name: numpy_helper.from_array(self.constants[o.name], o.name)
            for o in operands
            if o.name in self.constants
        }
        return shape_inference.infer_node_outputs(schema, node, types, known, opset_imports=self.opsets())

    def opsets(self) -> list[onnx.OperatorSetIdProto]:
        own = [helper.make_opsetid("local", 1)] if self.functions else []
        return [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1), *own]

    def of_inputs(self) -> set[str]:
        """Names of values that depend on an input of the model."""
        found = {v.name for v in self.inputs}
        for node in self.nodes:
            if found & reads(node):
                found.update(node.output)
        return found

    def finish(self, outputs: Sequence[Value]) -> Model:
        """The model with these outputs."""
        ins = [helper.make_tensor_value_info(v.name, v.dtype, list(v.shape)) for v in self.inputs]
        outs = [helper.make_tensor_value_info(v.name, v.dtype, list(v.shape) if v.rank else []) for v in outputs]
        graph = helper.make_graph(self.nodes, "oracle", ins, outs, self.initializers)
        ir = 8 if self.opset <= 18 else 9 if self.opset <= 20 else 10 if self.opset <= 22 else 11
        proto = helper.make_model(graph, opset_imports=self.opsets(), ir_version=ir, functions=self.functions)
        return Model(pruned(proto), self.inputs, self.samples, {v.name: v.shape for v in self.values})


def value_of(name: str, kind: onnx.TypeProto | None) -> Value:
    assert kind is not None, f"no type of {name}"
    tensor = kind.tensor_type
    dims = tensor.shape.dim
    shape = tuple(d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in dims)
    return Value(name, shape, tensor.elem_type)


def reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node reads, those that its branches take from outside included."""
    found = set(node.input)
    for attribute in node.attribute:
        if attribute.HasField("g"):
            inside = {o for n in attribute.g.node for o in n.output}
            found |= {i for n in attribute.g.node for i in reads(n)} - inside
    return found


def pruned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Removes nodes and initializers that no output depends on."""
    wanted = {o.name for o in model.graph.output}
    kept = []
    for node in reversed(model.graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= reads(node)
    out = onnx.ModelProto()
    out.CopyFrom(model)
    del out.graph.node[:]
    out.graph.node.extend(reversed(kept))
    stored = [t for t in model.graph.initializer if t.name in wanted]
    del out.graph.initializer[:]
    out.graph.initializer.extend(stored)
    return out
