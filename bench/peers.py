"""Times one model on one peer engine and prints one line of JSON. Called by qc-bench, once per round.

usage: peers.py ov|ort MODEL.onnx SECONDS THREADS [NAME[1,128] ...]

The last are shapes of inputs that leave dims open; other open dims are 1.
"""
import importlib.metadata
import json
import os
import re
import sys
import time

import numpy as np

PACKAGES = {"ov": "openvino", "ort": "onnxruntime"}


def resident_mb():
    """Resident memory of this process."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024 / 1e6


def package_mb(name):
    """Installed size of an engine, without what it depends on."""
    files = importlib.metadata.files(name) or []
    return sum(os.path.getsize(f.locate()) for f in files if f.locate().exists()) / 1e6


def fill(shape, dtype):
    """The same numbers that the qc worker feeds."""
    n = int(np.prod(shape))
    i = (np.arange(n, dtype=np.uint64) * 7919 % 255).reshape(shape)
    return (i % 2).astype(dtype) if "int" in dtype else i.astype(np.float32) / 64 - 2


def stated(words):
    """Shapes by name."""
    shapes = {}
    for word in words:
        name, dims = re.fullmatch(r"(.*)\[(.*)\]", word).groups()
        shapes[name] = [int(d) for d in dims.split(",")]
    return shapes


def openvino(path, threads, shapes):
    import openvino as ov
    core = ov.Core()
    model = core.read_model(path)
    inputs = {}
    for port in model.inputs:
        dims = [1 if d.is_dynamic else d.get_length() for d in port.get_partial_shape()]
        name = port.get_any_name()
        inputs[name] = fill(shapes.get(name, dims), port.get_element_type().to_dtype().name)
    model.reshape({k: list(v.shape) for k, v in inputs.items()})
    # Without the hint, this engine computes what is float in bfloat16.
    config = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
              "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    request = core.compile_model(model, "CPU", config).create_infer_request()
    for name, value in inputs.items():
        request.set_tensor(name, ov.Tensor(value))
    return lambda: request.infer()


def onnxruntime(path, threads, shapes):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {}
    for i in session.get_inputs():
        dims = [d if isinstance(d, int) else 1 for d in i.shape]
        inputs[i.name] = fill(shapes.get(i.name, dims), i.type.removeprefix("tensor(").removesuffix(")"))
    return lambda: session.run(None, inputs)


def main():
    engine, path, seconds, threads = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    before = resident_mb()
    __import__(PACKAGES[engine])
    begin = time.perf_counter()
    run = {"ov": openvino, "ort": onnxruntime}[engine](path, threads, stated(sys.argv[5:]))
    run()
    load_ms = (time.perf_counter() - begin) * 1e3
    end = time.perf_counter() + 0.5
    while time.perf_counter() < end:
        run()
    times = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    times.sort()
    print(json.dumps({
        "median_ms": times[len(times) // 2], "min_ms": times[0], "runs": len(times), "load_ms": load_ms,
        "memory_mb": resident_mb() - before,
        "files_mb": os.path.getsize(path) / 1e6 + package_mb(PACKAGES[engine]),
    }))


main()
