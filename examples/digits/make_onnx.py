#!/usr/bin/env python3
"""Makes digits.onnx and digits_qdq.onnx from weights.npz; needs numpy and onnx.

The network is the one in paddle_float: convolutions with batch norm, a residual block, max pool, relu6, global
average pool, fully connected. The QDQ model has u8 activations per tensor, with ranges measured on train.npz, and s8
weights per output channel; batch norm is folded into the weights there.

    python3 make_onnx.py        writes both models beside this file, the same bytes every time
"""
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
W = dict(np.load(HERE / "weights.npz"))
EPSILON = 1e-5


def folded(conv, bn):
    """Weight and bias of a convolution and the batch norm behind it."""
    factor = W[bn + "_s"] / np.sqrt(W[bn + "_v"] + EPSILON)
    return W[conv + "_w"] * factor[:, None, None, None], W[bn + "_o"] - W[bn + "_m"] * factor


def conv2d(x, weight, bias):
    """A convolution of stride 1 that keeps the size."""
    pad = weight.shape[2] // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, weight, optimize=True) + bias[:, None, None]


def relu(x):
    return np.maximum(x, 0)


def tensors(image):
    """Every tensor that the QDQ model quantizes, by name."""
    t = {"image": image}
    t["stem"] = relu(conv2d(image, *folded("c1", "b1")))
    t["left"] = relu(conv2d(t["stem"], *folded("c2", "b2")))
    t["right"] = conv2d(t["left"], *folded("c3", "b3"))
    t["sum"] = relu(t["stem"] + t["right"])
    n, c, h, w = t["sum"].shape
    t["pooled"] = t["sum"].reshape(n, c, h // 2, 2, w // 2, 2).max(axis=(3, 5))
    t["wide"] = np.clip(conv2d(t["pooled"], *folded("c4", "b4")), 0, 6)
    t["mixed"] = relu(conv2d(t["wide"], W["c5_w"], W["c5_b"]))
    t["mean"] = t["mixed"].mean(axis=(2, 3), keepdims=True)
    t["logits"] = t["mean"][:, :, 0, 0] @ W["f1_w"] + W["f1_b"]
    return t


class Graph:
    """Nodes and constants of a model under construction."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, name, value):
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, op, inputs, output, **attributes):
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def save(self, path, name):
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 1, 8, 8])
        prob = helper.make_tensor_value_info("prob", TensorProto.FLOAT, ["n", 10])
        graph = helper.make_graph(self.nodes, name, [image], [prob], self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], producer_name="make_onnx.py")
        model.ir_version = 8
        onnx.checker.check_model(model)
        path.write_bytes(model.SerializeToString())
        print(f"{path.name}: {path.stat().st_size} bytes")


def float_model():
    g = Graph()

    def conv(x, name, out):
        return g.node("Conv", [x, g.constant(name + "_w", W[name + "_w"])], out, pads=[1] * 4, kernel_shape=[3, 3])

    def norm(x, name, out):
        parameters = [g.constant(f"{name}_{k}", W[f"{name}_{k}"]) for k in "somv"]
        return g.node("BatchNormalization", [x] + parameters, out, epsilon=EPSILON)

    stem = g.node("Relu", [norm(conv("image", "c1", "c1"), "b1", "b1")], "stem")
    left = g.node("Relu", [norm(conv(stem, "c2", "c2"), "b2", "b2")], "left")
    right = norm(conv(left, "c3", "c3"), "b3", "right")
    total = g.node("Relu", [g.node("Add", [stem, right], "add")], "sum")
    pooled = g.node("MaxPool", [total], "pooled", kernel_shape=[2, 2], strides=[2, 2])
    bounds = [g.constant("zero", np.float32(0)), g.constant("six", np.float32(6))]
    wide = g.node("Clip", [norm(conv(pooled, "c4", "c4"), "b4", "b4")] + bounds, "wide")
    weight, bias = g.constant("c5_w", W["c5_w"]), g.constant("c5_b", W["c5_b"])
    mixed = g.node("Relu", [g.node("Conv", [wide, weight, bias], "c5", kernel_shape=[1, 1])], "mixed")
    flat = g.node("Flatten", [g.node("GlobalAveragePool", [mixed], "mean")], "flat")
    logits = g.node("Gemm", [flat, g.constant("f1_w", W["f1_w"]), g.constant("f1_b", W["f1_b"])], "logits")
    g.node("Softmax", [logits], "prob", axis=1)
    g.save(HERE / "digits.onnx", "digits")


def qdq_model():
    g = Graph()
    scales = {}
    ranges = {name: (min(float(t.min()), 0), max(float(t.max()), 0)) for name, t in
              tensors(np.load(HERE / "train.npz")["image"]).items()}

    def quantized(x, name):
        low, high = ranges[name]
        scales[name] = np.float32((high - low) / 255)
        zero = np.uint8(np.clip(np.rint(-low / scales[name]), 0, 255))
        format = [g.constant(name + "_scale", scales[name]), g.constant(name + "_zero", zero)]
        q = g.node("QuantizeLinear", [x] + format, name + "_q")
        return g.node("DequantizeLinear", [q] + format, name + "_dq")

    def weights(name, weight, bias, source, axis):
        """Dequantized weight and bias, one scale per index of `axis`."""
        others = tuple(i for i in range(weight.ndim) if i != axis)
        scale = (np.abs(weight).max(axis=others) / 127).astype(np.float32)
        shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
        stored = np.clip(np.rint(weight / scale.reshape(shape)), -127, 127).astype(np.int8)
        of_bias = (scale * scales[source]).astype(np.float32)
        bias = np.rint(bias / of_bias).astype(np.int32)
        out = []
        for part, value, s, kind in [("w", stored, scale, np.int8), ("b", bias, of_bias, np.int32)]:
            inputs = [g.constant(f"{name}_{part}", value), g.constant(f"{name}_{part}_scale", s),
                      g.constant(f"{name}_{part}_zero", np.zeros(len(s), kind))]
            out.append(g.node("DequantizeLinear", inputs, f"{name}_{part}_dq", axis=axis if part == "w" else 0))
        return out

    def conv(x, source, name, weight, bias, out):
        pad, size = weight.shape[2] // 2, weight.shape[2]
        inputs = [x] + weights(name, weight, bias, source, 0)
        return g.node("Conv", inputs, out, pads=[pad] * 4, kernel_shape=[size, size])

    image = quantized("image", "image")
    stem = quantized(g.node("Relu", [conv(image, "image", "c1", *folded("c1", "b1"), "c1")], "stem"), "stem")
    left = quantized(g.node("Relu", [conv(stem, "stem", "c2", *folded("c2", "b2"), "c2")], "left"), "left")
    right = quantized(conv(left, "left", "c3", *folded("c3", "b3"), "right"), "right")
    total = quantized(g.node("Relu", [g.node("Add", [stem, right], "add")], "sum"), "sum")
    ranges["pooled"] = ranges["sum"]
    pooled = quantized(g.node("MaxPool", [total], "pooled", kernel_shape=[2, 2], strides=[2, 2]), "pooled")
    bounds = [g.constant("zero", np.float32(0)), g.constant("six", np.float32(6))]
    wide = conv(pooled, "pooled", "c4", *folded("c4", "b4"), "c4")
    wide = quantized(g.node("Clip", [wide] + bounds, "wide"), "wide")
    mixed = conv(wide, "wide", "c5", W["c5_w"], W["c5_b"], "c5")
    mixed = quantized(g.node("Relu", [mixed], "mixed"), "mixed")
    mean = quantized(g.node("GlobalAveragePool", [mixed], "mean"), "mean")
    flat = g.node("Flatten", [mean], "flat")
    logits = g.node("Gemm", [flat] + weights("f1", W["f1_w"], W["f1_b"], "mean", 1), "logits")
    g.node("Softmax", [quantized(logits, "logits")], "prob", axis=1)
    g.save(HERE / "digits_qdq.onnx", "digits_qdq")


float_model()
qdq_model()
