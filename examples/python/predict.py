"""Classifies a picture with a model that qc compiled, by ctypes alone: no package is needed.

    qc compile examples/digits/digits_qdq.onnx --name digits -o digits.so
    python3 examples/python/predict.py digits.so examples/digits/seven.f32

The file holds the model's input as raw 32-bit floats, here 8 x 8 grey values from 0 to 1.
"""
import ctypes
import json
import os
import sys
from array import array


def load(path, prefix):
    """The functions of a compiled model, with the types ctypes cannot know."""
    # A name without a folder would be looked for among the libraries of the system.
    lib = ctypes.CDLL(os.path.abspath(path))
    signatures = {
        "create": (ctypes.c_int, [ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p]),
        "destroy": (None, [ctypes.c_void_p]),
        "bind_input": (ctypes.c_int, [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]),
        "output": (ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t]),
        "run": (ctypes.c_int, [ctypes.c_void_p]),
        "last_error": (ctypes.c_char_p, [ctypes.c_void_p]),
        "strerror": (ctypes.c_char_p, [ctypes.c_int]),
        "tier": (ctypes.c_char_p, [ctypes.c_void_p]),
        "json": (ctypes.c_char_p, []),
    }
    functions = {}
    for name, (result, arguments) in signatures.items():
        functions[name] = getattr(lib, f"{prefix}_{name}")
        functions[name].restype, functions[name].argtypes = result, arguments
    return functions


def main():
    if len(sys.argv) != 3:
        sys.exit(f"usage: {sys.argv[0]} digits.so picture.f32")
    model = load(sys.argv[1], "digits")
    about = json.loads(model["json"]())
    context = ctypes.c_void_p()

    def check(status):
        if status != 0:
            text = model["last_error"](context) if context else model["strerror"](status)
            sys.exit(text.decode())

    pixels = array("f")
    with open(sys.argv[2], "rb") as file:
        pixels.frombytes(file.read())
    needed = 1
    for size in about["inputs"][0]["shape"]:
        needed *= size
    if len(pixels) != needed:
        sys.exit(f"{sys.argv[2]}: {len(pixels)} numbers, {needed} are needed")

    check(model["create"](ctypes.byref(context), None))
    # The model reads our array in place: it has to live until the last run.
    check(model["bind_input"](context, 0, pixels.buffer_info()[0], 1))
    check(model["run"](context))
    classes = about["outputs"][0]["shape"][-1]
    scores = (ctypes.c_float * classes).from_address(model["output"](context, 0))
    best = max(range(classes), key=lambda i: scores[i])
    print(f"class {best}, score {scores[best]:.9g}, computed on {model['tier'](context).decode()}")
    model["destroy"](context)


main()
