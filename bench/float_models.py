"""Makes the float models that qc-bench compares on.

usage: float_models.py OUT QDQ.onnx...     float forms of quantized models, OUT/<folder of the model>/float.onnx
       float_models.py OUT vgg16           the network of that name with seeded weights, OUT/vgg16/float.onnx

Needs the Python package onnx. In a quantized model the constants behind DequantizeLinear become float initializers and the
pairs on activations go. A pair that cannot hold negative numbers stood for the activation function in front of it, so
behind what can be negative it becomes Relu, or Clip to 6 if 6 is where it ends.
"""
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

VGG16 = [64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512, "pool"]
# Ops whose result is not negative if their (first) operand is not.
MONOTONE = ["MaxPool", "GlobalAveragePool", "Concat", "Reshape", "Squeeze", "Flatten"]


def dequantized(q, scale, zero, axis):
    """The numbers that stored integers stand for."""
    if scale.ndim:
        shape = [1] * q.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return ((q.astype(np.float32) - zero.astype(np.float32)) * scale).astype(np.float32)


def without_pairs(model):
    """The float form of a model with quantize/dequantize pairs."""
    graph = model.graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    renamed, nodes, folded, positive = {}, [], [], set()
    for node in graph.node:
        inputs = [renamed.get(name, name) for name in node.input]
        if node.op_type == "DequantizeLinear" and inputs[0] in constants:
            q, scale, zero = (constants[name] for name in inputs)
            axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
            folded.append(numpy_helper.from_array(dequantized(q, scale, zero, axis), node.output[0]))
        elif node.op_type == "QuantizeLinear":
            scale, zero = constants[inputs[1]], constants[inputs[2]]
            computed = inputs[0] in {name for n in nodes for name in n.output}
            if zero == 0 and zero.dtype == np.uint8 and computed and inputs[0] not in positive:
                six = abs(float(scale) * 255 - 6) < 0.01
                clip = [inputs[0], "zero", "six"] if six else [inputs[0]]
                nodes.append(helper.make_node("Clip" if six else "Relu", clip, [node.output[0]], node.name))
                positive.add(node.output[0])
            else:
                renamed[node.output[0]] = inputs[0]
        elif node.op_type == "DequantizeLinear":
            renamed[node.output[0]] = inputs[0]
        else:
            del node.input[:]
            node.input.extend(inputs)
            nodes.append(node)
            moved = inputs if node.op_type == "Concat" else inputs[:1]
            if node.op_type in MONOTONE and positive.issuperset(moved):
                positive.update(node.output)
    folded += [numpy_helper.from_array(np.float32(v), n) for v, n in ((0, "zero"), (6, "six"))]
    # The last tensor keeps its name, which a pair may have taken over.
    for output in graph.output:
        if output.name in renamed:
            nodes.append(helper.make_node("Identity", [renamed[output.name]], [output.name]))
    used = {name for node in nodes for name in node.input}
    initializers = [t for t in list(graph.initializer) + folded if t.name in used]
    result = helper.make_graph(nodes, graph.name, graph.input, graph.output, initializers)
    return helper.make_model(result, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def vgg16():
    """VGG16 with weights that keep the size of activations from layer to layer."""
    random = np.random.default_rng(16)
    nodes, constants = [], []

    def weight(name, shape):
        fan_in = int(np.prod(shape[1:]))
        values = (random.standard_normal(shape) * np.sqrt(2 / fan_in)).astype(np.float32)
        bias = (random.standard_normal(shape[0]) * 0.01).astype(np.float32)
        constants.extend([numpy_helper.from_array(values, name + ".w"), numpy_helper.from_array(bias, name + ".b")])
        return [name + ".w", name + ".b"]

    x, channels = "image", 3
    for i, layer in enumerate(VGG16):
        out = f"t{i}"
        if layer == "pool":
            nodes.append(helper.make_node("MaxPool", [x], [out], kernel_shape=[2, 2], strides=[2, 2]))
        else:
            inputs = [x] + weight(f"conv{i}", (layer, channels, 3, 3))
            nodes.append(helper.make_node("Conv", inputs, [out + ".c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
            nodes.append(helper.make_node("Relu", [out + ".c"], [out]))
            channels = layer
        x = out
    nodes.append(helper.make_node("Flatten", [x], ["flat"]))
    x = "flat"
    for i, (n, k) in enumerate([(4096, 25088), (4096, 4096), (1000, 4096)]):
        out = "logits" if n == 1000 else f"fc{i}.c"
        nodes.append(helper.make_node("Gemm", [x] + weight(f"fc{i}", (n, k)), [out], transB=1))
        if n != 1000:
            nodes.append(helper.make_node("Relu", [out], [f"fc{i}"]))
            x = f"fc{i}"
    value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    graph = helper.make_graph(nodes, "vgg16", [value("image", ["n", 3, 224, 224])], [value("logits", ["n", 1000])], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def main():
    out = pathlib.Path(sys.argv[1])
    for word in sys.argv[2:]:
        source = pathlib.Path(word)
        name = word if word == "vgg16" else source.resolve().parent.name
        model = vgg16() if word == "vgg16" else without_pairs(onnx.load(source))
        onnx.checker.check_model(model)
        (out / name).mkdir(parents=True, exist_ok=True)
        onnx.save(model, str(out / name / "float.onnx"))


main()
