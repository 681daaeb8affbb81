"""Makes the models that qc-bench compares on.

usage: networks.py OUT QDQ.onnx...    float forms of quantized models, OUT/<folder of the model>/float.onnx
       networks.py OUT NETWORK...     networks with seeded weights, OUT/NETWORK/{float,qdq_u8s8}.onnx;
                                      NETWORK is vgg16, vgg19 or resnet101

Needs the packages of requirements.txt. In a quantized model the constants behind DequantizeLinear become float
initializers and the pairs on activations go. A pair that cannot hold negative numbers stood for the activation function
in front of it, so behind what can be negative it becomes Relu, or Clip to 6 if 6 is where it ends. A network with seeded
weights is quantized by ONNX Runtime: u8 activations with the smallest and largest value of eight random pictures, s8
weights per channel.
"""
import pathlib
import sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

# Channels of the convolutions between poolings.
VGG = {
    "vgg16": [[64] * 2, [128] * 2, [256] * 3, [512] * 3, [512] * 3],
    "vgg19": [[64] * 2, [128] * 2, [256] * 4, [512] * 4, [512] * 4],
}
# Bottleneck blocks of the four stages.
RESNET = {"resnet101": [3, 4, 23, 3]}
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


class Network:
    """A graph with seeded weights that keep the size of activations from layer to layer."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.constants = [], []

    def node(self, op, inputs, **attributes):
        """Adds a node; returns its result."""
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [out], f"{op}.{len(self.nodes)}", **attributes))
        return out

    def weights(self, shape, gain):
        """A weight and a bias; `gain` is the size of results over that of operands."""
        name = f"c{len(self.constants)}"
        weight = self.random.standard_normal(shape) * (gain * np.sqrt(2 / np.prod(shape[1:])))
        bias = self.random.standard_normal(shape[0]) * 0.01
        for suffix, values in ((".w", weight), (".b", bias)):
            self.constants.append(numpy_helper.from_array(values.astype(np.float32), name + suffix))
        return [name + ".w", name + ".b"]

    def conv(self, x, channels, to, kernel, stride=1, relu=True, gain=1.0):
        """A convolution that keeps the size but for its stride, and Relu."""
        inputs = [x] + self.weights((to, channels, kernel, kernel), gain)
        y = self.node("Conv", inputs, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4)
        return self.node("Relu", [y]) if relu else y

    def dense(self, x, k, n):
        """A fully connected layer."""
        return self.node("Gemm", [x] + self.weights((n, k), 1.0), transB=1)

    def model(self, logits):
        """The model whose result is `logits`."""
        self.nodes.append(helper.make_node("Identity", [logits], ["logits"], "result"))
        value = lambda name, shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        ends = [value("image", ["n", 3, 224, 224])], [value("logits", ["n", 1000])]
        graph = helper.make_graph(self.nodes, "network", *ends, self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def vgg(groups):
    """VGG16 and VGG19."""
    net, x, channels = Network(16), "image", 3
    for group in groups:
        for to in group:
            x, channels = net.conv(x, channels, to, 3), to
        x = net.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    x = net.node("Flatten", [x])
    for n, k in ((4096, 25088), (4096, 4096)):
        x = net.node("Relu", [net.dense(x, k, n)])
    return net.model(net.dense(x, 4096, 1000))


def resnet(stages):
    """Residual networks of bottleneck blocks, batch normalization folded, the stride in the 3x3 convolution."""
    net = Network(101)
    x = net.conv("image", 3, 64, 7, stride=2)
    x, channels = net.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4), 64
    for stage, blocks in enumerate(stages):
        width = 64 << stage
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            y = net.conv(x, channels, width, 1)
            y = net.conv(y, width, width, 3, stride)
            y = net.conv(y, width, 4 * width, 1, relu=False, gain=0.3)
            if block == 0:
                x = net.conv(x, channels, 4 * width, 1, stride, relu=False)
            x, channels = net.node("Relu", [net.node("Add", [y, x])]), 4 * width
    x = net.node("Flatten", [net.node("GlobalAveragePool", [x])])
    return net.model(net.dense(x, channels, 1000))


class Pictures(CalibrationDataReader):
    """Random pictures, one at a time."""

    def __init__(self):
        random = np.random.default_rng(8)
        self.pictures = iter([random.standard_normal((1, 3, 224, 224)).astype(np.float32) for _ in range(8)])

    def get_next(self):
        picture = next(self.pictures, None)
        return None if picture is None else {"image": picture}


def save(model, folder):
    """Writes the float form."""
    onnx.checker.check_model(model)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "float.onnx"
    onnx.save(model, str(path))
    return path


def main():
    out = pathlib.Path(sys.argv[1])
    for word in sys.argv[2:]:
        if word not in VGG and word not in RESNET:
            save(without_pairs(onnx.load(word)), out / pathlib.Path(word).resolve().parent.name)
            continue
        path = save(vgg(VGG[word]) if word in VGG else resnet(RESNET[word]), out / word)
        types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantized = str(path.with_name("qdq_u8s8.onnx"))
        quantize_static(str(path), quantized, Pictures(), quant_format=QuantFormat.QDQ, per_channel=True, **types)


main()
