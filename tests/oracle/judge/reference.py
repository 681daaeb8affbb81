"""ONNX Runtime as a judge: no graph optimizations, one thread, every operator as its own kernel computes it."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from judge.definitions import DEFINITIONS
from models.net import Array

ort.set_default_logger_severity(4)

#: Operators that make floats of numbers that they say the type of; of f32 unless they say otherwise.
MADE = {"HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix"}


def session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.use_deterministic_compute = True
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def run(model: onnx.ModelProto, feed: dict[str, Array]) -> dict[str, Array]:
    """The outputs of a model by name."""
    s = session(model)
    names = [o.name for o in s.get_outputs()]
    own = {i.name for i in s.get_inputs()}
    return dict(zip(names, s.run(names, {k: v for k, v in feed.items() if k in own}), strict=True))


def run_all(model: onnx.ModelProto, feed: dict[str, Array]) -> dict[str, Array]:
    """Every value that a node of the model computes."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    have = {o.name for o in model.graph.output}
    for node in model.graph.node:
        watched.graph.output.extend(onnx.ValueInfoProto(name=o) for o in node.output if o and o not in have)
    return run(watched, feed)


def double(model: onnx.ModelProto, feed: dict[str, Array]) -> dict[str, Array] | None:
    """The outputs in double precision by the evaluator of ONNX itself; nothing if it cannot run the model."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)

    def widen(t: onnx.TensorProto) -> None:
        if t.data_type == TensorProto.FLOAT:
            t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t).astype(np.float64), t.name))

    for t in wide.graph.initializer:
        widen(t)
    for node in wide.graph.node:
        if node.op_type in MADE:
            node.attribute.append(onnx.helper.make_attribute("output_datatype", TensorProto.DOUBLE))
        for a in node.attribute:
            widen(a.t)
            if node.op_type == "Cast" and a.name == "to" and a.i == TensorProto.FLOAT:
                a.i = TensorProto.DOUBLE
    for info in [*wide.graph.input, *wide.graph.output]:
        if info.type.tensor_type.elem_type == TensorProto.FLOAT:
            info.type.tensor_type.elem_type = TensorProto.DOUBLE
    arrays = {k: v.astype(np.float64) if v.dtype == np.float32 else v for k, v in feed.items()}
    try:
        outputs = ReferenceEvaluator(wide, new_ops=DEFINITIONS).run(None, arrays)
    except Exception:  # noqa: BLE001 - it raises whatever numpy raises
        return None
    return {o.name: np.asarray(a) for o, a in zip(wide.graph.output, outputs, strict=True)}
