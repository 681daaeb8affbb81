"""Small text encoders as exporters write them: ids, masks, embeddings, blocks of attention, a pooler. Float or with pairs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from models import elementwise, norms
from models.integers import BOOL, FLOAT, I32, I64, between, typed
from models.movement import ints
from models.net import Net, Sample, Value

#: Puts a pair around a value, in a quantized model, and nothing in a float one.
Around = Callable[[Value], Value]
#: A random right side of a product, of floats or stored in 8 bits.
Weights = Callable[[int, int], Value]


def mask_sample(dtype: int) -> Sample:
    """Tokens in front that count and padding behind, at least one of them in every item."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        lengths = rng.integers(1, shape[1] + 1, shape[0])
        return np.arange(shape[1])[None] < lengths[:, None]

    return typed(Sample(draw), dtype)


class Encoder:
    """A text encoder under construction."""

    def __init__(self, net: Net, around: Around, weights: Weights, tables: Weights | None = None) -> None:
        self.net = net
        self.tables = tables
        self.around = around
        self.weights = weights
        self.tokens = net.integer(2, 9)
        self.heads = net.pick([1, 2, 3])
        self.width = self.heads * net.pick([2, 4, 5, 8])
        self.words = net.integer(5, 30)

    def row(self, n: int, scale: float = 1.0) -> Value:
        return self.net.const((self.net.rng.standard_normal(n) * scale).astype(np.float32))

    def table(self, rows: int) -> Value:
        """A row for each word, place or segment."""
        if self.tables:
            return self.tables(rows, self.width)
        return self.net.const(self.net.rng.standard_normal((rows, self.width)).astype(np.float32))

    def embedded(self, ids: Value) -> Value:
        """Words, and positions and segments or not, in one sum."""
        net = self.net
        x = net.op("Gather", self.table(self.words), ids, axis=0)
        way = net.pick(["constant", "range", "slice", "cumsum", "none"])
        if way == "constant":
            x = net.op("Add", x, net.const(net.rng.standard_normal((1, self.tokens, self.width)).astype(np.float32)))
        elif way in ("range", "slice"):
            x = net.op("Add", x, net.op("Gather", self.table(self.tokens + 3), self.numbered(ids, way), axis=0))
        elif way == "cumsum":
            # Positions as RoBERTa counts them: of tokens that are no padding.
            here = net.op("Cast", net.op("Not", net.op("Equal", ids, self.number(ids, 1))), to=I64)
            place = net.op("Mul", net.op("CumSum", here, net.const(np.asarray(1, np.int64))), here)
            place = net.op("Add", place, net.const(np.asarray(1, np.int64)))
            x = net.op("Add", x, net.op("Gather", self.table(self.tokens + 2), place, axis=0))
        if net.chance(0.5):
            dtype = net.pick([I64, I32])
            kinds = net.input((self.tokens,), typed(between(0, 1), dtype), dtype)
            if net.chance(0.2):
                kinds = net.op("Sub", ids, ids)
            x = net.op("Add", x, net.op("Gather", self.table(2), kinds, axis=0))
        return x

    def number(self, like: Value, n: int) -> Value:
        return self.net.const(np.asarray(n, np.int64 if like.dtype == I64 else np.int32))

    def numbered(self, ids: Value, way: str) -> Value:
        """0, 1, 2, .. up to the number of tokens, from the shape of the ids."""
        net = self.net
        length = net.op("Gather", net.op("Shape", ids), net.const(np.asarray(1, np.int64)), axis=0)
        if way == "range":
            zero, one = (net.const(np.asarray(i, np.int64)) for i in (0, 1))
            return net.ops("Range", zero, length, one, like=Value("", (self.tokens,), I64))[0]
        end = net.op("Unsqueeze", length, ints(net, [0]))
        stored = net.const(np.arange(self.tokens + 3, dtype=np.int64)[None])
        return net.ops("Slice", stored, ints(net, [0]), end, ints(net, [1]), like=Value("", (1, self.tokens), I64))[0]

    def normed(self, x: Value) -> Value:
        net = self.net
        if net.opset >= 17 and net.chance(0.6):
            return net.op("LayerNormalization", x, self.row(self.width), self.row(self.width), axis=-1)
        mean = norms.reduce(net, "ReduceMean", x, [-1])
        centred = net.op("Sub", x, mean)
        variance = norms.reduce(net, "ReduceMean", norms.squared(net, centred), [-1])
        y = net.op("Mul", norms.by_root(net, centred, variance), self.row(self.width))
        return net.op("Add", y, self.row(self.width))

    def mask(self, ids: Value) -> tuple[str, Value | None]:
        """Which tokens are hidden: what is added to the scores, or truth values `[N, 1, 1, S]` of those to keep."""
        net = self.net
        way = net.pick(["none", "added", "added", "where", "where", "from ids", "square"])
        if way == "none":
            return way, None
        if way == "from ids":
            seen = net.op("Not", net.op("Equal", ids, self.number(ids, 0)))
        else:
            dtype = net.pick([I64, I64, I32, FLOAT, BOOL])
            seen = net.input((self.tokens,), mask_sample(dtype), dtype)
        seen = net.op("Unsqueeze", seen, ints(net, [1, 2]))
        if way == "square":
            zero, one = (net.const(np.asarray(i, np.int64)) for i in (0, 1))
            length = net.op("Gather", net.op("Shape", ids), one, axis=0)
            row = net.ops("Range", zero, length, one, like=Value("", (self.tokens,), I64))[0]
            before = net.op("LessOrEqual", row, net.op("Unsqueeze", row, ints(net, [1])))
            return "where", net.op("And", self.true(seen), net.op("Unsqueeze", before, ints(net, [0, 1])))
        if way == "where" or (way == "from ids" and net.chance(0.5)):
            seen = self.true(seen)
            return "where", seen
        hidden = net.op("Sub", net.const(1.0), seen if seen.dtype == FLOAT else net.op("Cast", seen, to=FLOAT))
        least = net.pick([-10000.0, -1e9, float(np.finfo(np.float32).min)])
        return "added", net.op("Mul", hidden, net.const(np.float32(least)))

    def true(self, x: Value) -> Value:
        return x if x.dtype == BOOL else self.net.op("Cast", x, to=BOOL)

    def linear(self, x: Value, n: int) -> Value:
        net, k = self.net, x.rest[-1]
        y = net.op("MatMul", self.around(x), self.weights(k, n))
        sides = [y, self.row(n, 0.2)]
        return net.op("Add", *(sides if net.chance(0.5) else reversed(sides)))

    def split(self, x: Value, perm: list[int]) -> Value:
        y = self.net.op("Reshape", x, ints(self.net, [0, self.tokens, self.heads, self.width // self.heads]))
        return self.net.op("Transpose", y, perm=perm)

    def attention(self, x: Value, mask: tuple[str, Value | None]) -> Value:
        net, d = self.net, self.width // self.heads
        if net.chance(0.2):
            parts = net.ops("Split", self.linear(x, 3 * self.width), outputs=3, axis=-1, **self.count(3))
        else:
            parts = [self.linear(x, self.width) for _ in range(3)]
        late = net.chance(0.3)
        q, v = self.split(parts[0], [0, 2, 1, 3]), self.split(parts[2], [0, 2, 1, 3])
        turned = d % 2 == 0 and net.chance(0.3)
        late = late or turned
        k = self.split(parts[1], [0, 2, 1, 3] if late else [0, 2, 3, 1])
        if turned:
            angles = self.angles(d)
            q, k = self.turned(q, angles), self.turned(k, angles)
        if late:
            k = net.op("Transpose", k, perm=[0, 1, 3, 2])
        factor = net.pick(["query", "both", "scores", "division"])
        if factor in ("query", "both"):
            q = net.op("Mul", q, net.const(d ** (-0.5 if factor == "query" else -0.25)))
        if factor == "both":
            k = net.op("Mul", k, net.const(d**-0.25))
        scores = net.op("MatMul", self.around(q), self.around(k))
        if factor == "scores":
            scores = net.op("Mul", scores, net.const(d**-0.5))
        if factor == "division":
            scores = net.op("Div", scores, net.const(d**0.5))
        if net.chance(0.2):
            scores = net.op("Add", scores, self.distances())
        form, hidden = mask
        if form == "added":
            scores = net.op("Add", scores, hidden)
        elif form == "where":
            scores = net.op("Where", hidden, scores, net.const(net.pick([-10000.0, float(np.finfo(np.float32).min)])))
        y = net.op("MatMul", self.around(net.op("Softmax", scores, axis=-1)), self.around(v))
        y = net.op("Reshape", net.op("Transpose", y, perm=[0, 2, 1, 3]), ints(net, [0, 0, self.width]))
        return self.linear(y, self.width)

    def angles(self, d: int) -> tuple[Value, Value]:
        """Cosines and sines of rotary positions `[S, d]`, of an input of positions or of constants."""
        net = self.net
        rates = (10000.0 ** (-2 * np.arange(d // 2) / d)).astype(np.float32)
        if net.chance(0.5):
            places = net.input((self.tokens,), typed(between(0, 500), I64), I64)
            places = net.op("Unsqueeze", net.op("Cast", places, to=FLOAT), ints(net, [1, 3]))
        else:
            places = net.const(np.arange(self.tokens, dtype=np.float32)[:, None])
        half = net.op("Mul", places, net.const(rates))
        whole = net.op("Concat", half, half, axis=-1)
        return net.op("Cos", whole), net.op("Sin", whole)

    def turned(self, x: Value, angles: tuple[Value, Value]) -> Value:
        """Vectors of heads turned by their position."""
        net, d = self.net, self.width // self.heads
        left, right = (
            net.op("Slice", x, ints(net, [at]), ints(net, [at + d // 2]), ints(net, [3])) for at in (0, d // 2)
        )
        other = net.op("Concat", net.op("Neg", right), left, axis=-1)
        return net.op("Add", net.op("Mul", x, angles[0]), net.op("Mul", other, angles[1]))

    def distances(self) -> Value:
        """What scores gain by the distance of two tokens: `[1, heads, S, S]`."""
        net = self.net
        row = np.arange(self.tokens)
        distance = net.const(np.clip(row[:, None] - row[None] + 4, 0, 8).astype(np.int64))
        table = net.const(net.rng.standard_normal((9, self.heads)).astype(np.float32))
        by_head = net.op("Transpose", net.op("Gather", table, distance, axis=0), perm=[2, 0, 1])
        return net.op("Unsqueeze", by_head, ints(net, [0]))

    def count(self, n: int) -> dict[str, int]:
        return {"num_outputs": n} if self.net.opset >= 18 else {}

    def between(self, x: Value) -> Value:
        """The two layers behind the attention."""
        y = self.linear(x, net_width(self.net, self.width))
        f = self.net.pick([elementwise.written_out, elementwise.function])
        y = f(self.net, y) or y
        return self.linear(y, self.width)

    def block(self, x: Value, mask: tuple[str, Value | None], first: bool) -> Value:
        """With its norms in front of the layers (`first`) or behind the sums."""
        net = self.net
        for layer in (lambda y: self.attention(y, mask), self.between):
            y = layer(self.normed(x) if first else x)
            sides = [x, y]
            x = net.op("Add", *(sides if net.chance(0.5) else reversed(sides)))
            x = x if first else self.normed(x)
        return x

    def pooled(self, x: Value, mask: tuple[str, Value | None]) -> Value:
        """The first token through a tanh, or the mean of tokens."""
        net = self.net
        if net.chance(0.5):
            first = net.op("Gather", x, net.const(np.asarray(0, np.int64)), axis=1)
            return net.op("Tanh", self.linear(first, self.width))
        if mask[0] == "where" and mask[1] is not None and mask[1].shape[1:3] == (1, 1):
            seen = net.op("Cast", net.op("Squeeze", mask[1], ints(net, [1, 2])), to=FLOAT)
            seen = net.op("Unsqueeze", seen, ints(net, [2]))
            total = norms.reduce(net, "ReduceSum", net.op("Mul", x, seen), [1], 0)
            count = norms.reduce(net, "ReduceSum", seen, [1], 0)
            return net.op("Div", total, net.op("Clip", count, net.const(np.float32(1e-9))))
        return norms.reduce(net, "ReduceMean", x, [1], 0)

    def build(self) -> list[Value]:
        """The results: the pooled vector, and the tokens in most cases."""
        net = self.net
        dtype = net.pick([I64, I64, I32])
        ids = net.input((self.tokens,), typed(between(0, self.words - 1), dtype), dtype)
        x = self.embedded(ids)
        x = self.normed(x) if net.chance(0.7) else x
        mask, first = self.mask(ids), net.chance(0.4)
        for _ in range(net.integer(1, 2)):
            x = self.block(x, mask, first)
        pooled = self.pooled(x, mask)
        return [x, pooled] if net.chance(0.6) else [pooled]


def net_width(net: Net, width: int) -> int:
    return width * net.pick([1, 2, 4])


def floats(net: Net) -> list[Value]:
    return Encoder(net, lambda x: x, lambda k, n: net.weight(k, n, scale=1 / np.sqrt(k))).build()

