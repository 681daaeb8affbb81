"""Times one model on one peer engine and prints one line of JSON. Called by qc-bench, once per round.

usage: peers.py ov|ort MODEL.onnx SECONDS THREADS
"""
import importlib.metadata
import json
import os
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


def fill(shape):
    """The same numbers that the qc worker feeds."""
    n = int(np.prod(shape))
    i = np.arange(n, dtype=np.uint64)
    return ((i * 7919) % 255).astype(np.float32).reshape(shape) / 64 - 2


def openvino(path, threads):
    import openvino as ov
    core = ov.Core()
    model = core.read_model(path)
    inputs = {}
    for port in model.inputs:
        dims = [1 if d.is_dynamic else d.get_length() for d in port.get_partial_shape()]
        inputs[port.get_any_name()] = fill(dims)
    model.reshape({k: list(v.shape) for k, v in inputs.items()})
    # Without the hint, this engine computes what is float in bfloat16.
    config = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
              "INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    request = core.compile_model(model, "CPU", config).create_infer_request()
    for name, value in inputs.items():
        request.set_tensor(name, ov.Tensor(value))
    return lambda: request.infer()


def onnxruntime(path, threads):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {i.name: fill([1 if not isinstance(d, int) else d for d in i.shape]) for i in session.get_inputs()}
    return lambda: session.run(None, inputs)


def main():
    engine, path, seconds, threads = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    before = resident_mb()
    __import__(PACKAGES[engine])
    begin = time.perf_counter()
    run = {"ov": openvino, "ort": onnxruntime}[engine](path, threads)
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
