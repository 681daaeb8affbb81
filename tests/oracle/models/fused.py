"""Operators of `com.microsoft`, local functions and branches that are known."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from models.integers import I32, between, typed
from models.movement import ints
from models.net import Net, Sample, Value

DOMAIN = "com.microsoft"
#: Domain of the functions that a model brings along.
LOCAL = "local"


def normal(net: Net, *shape: int, scale: float = 1.0) -> Value:
    return net.const((net.rng.standard_normal(shape) * scale).astype(np.float32))


def gelu(net: Net, x: Value) -> Value | None:
    if not x.known or x.rank < 2:
        return None
    kind = net.pick(["Gelu", "BiasGelu", "FastGelu", "FastGelu", "QuickGelu"])
    if kind == "QuickGelu":
        return net.ops(kind, x, like=x, domain=DOMAIN, **({"alpha": 1.3} if net.chance(0.5) else {}))[0]
    bias = [normal(net, x.rest[-1])] if kind == "BiasGelu" or (kind == "FastGelu" and net.chance(0.5)) else []
    return net.ops(kind, x, *bias, like=x, domain=DOMAIN)[0]


def matmul(net: Net, x: Value) -> Value | None:
    """Products with transposes and a factor, with a constant or with itself."""
    if not x.known or x.rank < 3:
        return None
    factor = {"alpha": net.uniform(0.1, 1.0)} if net.chance(0.7) else {}
    if net.chance(0.5):
        shape = (*x.shape[:-1], x.shape[-2])
        return net.ops("FusedMatMul", x, x, like=Value("", shape), domain=DOMAIN, transB=1, **factor)[0]
    k, n, turned = x.rest[-1], net.integer(1, 8), net.integer(0, 1)
    w = net.weight(*((n, k) if turned else (k, n)), scale=1 / np.sqrt(k))
    return net.ops("FusedMatMul", x, w, like=Value("", (*x.shape[:-1], n)), domain=DOMAIN, transB=turned, **factor)[0]


def dense(net: Net, x: Value) -> Value | None:
    """A product or a convolution with its activation."""
    if not x.known:
        return None
    activation = net.pick([("Relu", None), ("Sigmoid", None), ("Tanh", None), ("LeakyRelu", [0.2])])
    if x.rank == 2:
        k, n = x.rest[0], net.integer(1, 8)
        more = {} if activation[1] is None else {"activation_alpha": activation[1][0]}
        w, like = net.weight(k, n, scale=1 / np.sqrt(k)), Value("", (x.shape[0], n))
        return net.ops("FusedGemm", x, w, normal(net, n), like=like, domain=DOMAIN, activation=activation[0], **more)[0]
    if x.rank != 4 or min(x.rest[1:]) < 3:
        return None
    out, (c, h, w_) = net.integer(1, 6), x.rest
    like = Value("", (x.shape[0], out, h, w_))
    more = {} if activation[1] is None else {"activation_params": activation[1]}
    operands = [x, net.weight(out, c, 3, 3), normal(net, out)]
    if net.chance(0.3):
        operands.append(normal(net, 1, out, h, w_))
        if net.batch != 1:
            operands.pop()
    attributes = {"pads": [1] * 4, "kernel_shape": [3, 3], "activation": activation[0], **more}
    return net.ops("FusedConv", *operands, like=like, domain=DOMAIN, **attributes)[0]


def attention(net: Net, x: Value) -> Value | None:
    """One operator for the projections, the heads and the softmax, with a mask of either form."""
    if not x.known or x.rank != 3:
        return None
    tokens, width = x.rest
    heads = net.pick([h for h in (1, 2, 4) if width % h == 0])
    weight = net.weight(width, 3 * width, scale=1 / np.sqrt(width))
    operands: list[Value | None] = [x, weight, normal(net, 3 * width, scale=0.1)]
    mask = keep_some(net, tokens)
    attributes: dict = {"num_heads": heads}
    if mask is not None:
        operands.append(mask)
    elif net.chance(0.3):
        attributes["unidirectional"] = 1
    if net.chance(0.2):
        attributes["scale"] = 0.4
    return net.ops("Attention", *operands, like=x, domain=DOMAIN, **attributes)[0]


def keep_some(net: Net, tokens: int) -> Value | None:
    """Which tokens are read, 1 or 0, the first always; or nothing."""
    if net.chance(0.5):
        return None

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        a = (rng.random(shape) < 0.7).astype(np.int32)
        a[..., 0] = 1
        return a

    return net.input((tokens,), Sample(draw), TensorProto.INT32)


def heads(net: Net, x: Value) -> Value | None:
    """Attention of queries, keys and values that other nodes make."""
    if not x.known or x.rank != 3:
        return None
    width = x.rest[-1]
    count = net.pick([h for h in (1, 2, 4) if width % h == 0])
    q, k, v = (net.op("MatMul", x, net.weight(width, width, scale=1 / np.sqrt(width))) for _ in range(3))
    operands: list[Value | None] = [q, k, v]
    bias = net.chance(0.4)
    if bias:
        operands.append(normal(net, 3 * width, scale=0.1))
    mask = keep_some(net, x.rest[0])
    if mask is not None:
        operands += [mask] if bias else [None, mask]
    return net.ops("MultiHeadAttention", *operands, like=x, domain=DOMAIN, num_heads=count)[0]


def embedded(net: Net, x: Value) -> Value | None:
    """Word, position and segment vectors and their norm as one operator."""
    if not x.known or x.rank < 2:
        return None
    tokens, width, words = net.integer(1, 8), net.pick([4, 6, 8]), 11
    ids = net.input((tokens,), typed(between(0, words - 1), I32), I32)
    segments = net.input((tokens,), typed(between(0, 1), I32), I32) if net.chance(0.6) else None
    tables = [normal(net, words, width), normal(net, 9, width), normal(net, 2, width) if segments else None]
    norm = [normal(net, width), normal(net, width)]
    outputs = net.ops(
        "EmbedLayerNormalization",
        *[ids, segments, *tables, *norm],
        outputs=2,
        domain=DOMAIN,
        like=Value("", (net.batch, tokens, width)),
        epsilon=1e-5,
    )
    net.drop(outputs[1:])
    return outputs[0]


def function(net: Net, x: Value) -> Value | None:
    """A function that the model brings along, sometimes with another in it."""
    name = net.name("own")
    inner = net.pick(["Tanh", "Sigmoid", "Relu"])
    nodes = [
        helper.make_node(inner, ["a"], ["t"]),
        helper.make_node("Mul", ["t", "b"], ["m"]),
        helper.make_node("Add", ["m", "a"], ["y"]),
    ]
    if net.chance(0.3) and net.functions:
        other = net.pick(net.functions)
        nodes[0] = helper.make_node(other.name, ["a", "b"], ["t"], domain=LOCAL)
    sets = [helper.make_opsetid("", net.opset), helper.make_opsetid(LOCAL, 1)]
    net.functions.append(helper.make_function(LOCAL, name, ["a", "b"], ["y"], nodes, sets))
    return net.ops(name, x, net.const(net.pick([0.5, -1.5])), like=x, domain=LOCAL)[0]


def branch(net: Net, x: Value) -> Value | None:
    """An If whose condition is a constant or comes from the rank or a dim of a value; branches read values outside."""
    if not x.known or x.rank < 2:
        return None
    way = net.pick(["constant", "shape", "rank"])
    if way == "constant":
        condition = net.const(np.asarray(net.chance(0.5)))
    else:
        sizes = net.op("Shape", x)
        number = net.op("Size", sizes) if way == "rank" else net.op("Gather", sizes, net.const(np.asarray(1, np.int64)))
        condition = net.op("Equal", number, net.const(np.asarray(net.pick([x.rank, x.rest[0], 3]), np.int64)))
    kinds = [net.pick(["Tanh", "Relu", "Neg", "Sigmoid"]) for _ in range(2)]
    graphs = [one_node(net, kind, x) for kind in kinds]
    net.read.add(x.name)
    return net.ops("If", condition, like=x, then_branch=graphs[0], else_branch=graphs[1])[0]


def one_node(net: Net, kind: str, x: Value) -> onnx.GraphProto:
    y = net.name("inside")
    nodes = [helper.make_node(kind, [x.name], [y])]
    if net.chance(0.5):
        nodes.append(helper.make_node("Mul", [y, y], [y + "_square"]))
    last = nodes[-1].output[0]
    return helper.make_graph(nodes, net.name("branch"), [], [helper.make_tensor_value_info(last, x.dtype, None)])


def row_of_tokens(net: Net, x: Value) -> Value | None:
    """An image or a vector as a sequence, so that attention may follow."""
    if not x.known or x.rank == 3 or np.prod(x.rest) % 4:
        return None
    y = net.op("Reshape", x, ints(net, [0, -1, 4]))
    y = Value(y.name, (x.shape[0], int(np.prod(x.rest)) // 4, 4))
    return net.pick([attention, heads])(net, y) if y.rest[0] <= 40 else None


MAKERS = [gelu, gelu, matmul, dense, attention, attention, heads, heads, embedded, function, branch, row_of_tokens]
