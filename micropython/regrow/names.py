"""Have the names of modules that come and go at the front of the heap.

MicroPython keeps every name for good, where it first meets it. Names met while such modules fill the heap
would cut in pieces what they leave behind, and an arena needs one piece.
"""

import gc
import os
import sys

WRITERS = {
    "": (
        "resident",
        "reader",
        "pack",
        "parts",
        "graph",
        "weights",
        "octaves",
        "rice",
        "quant",
        "install",
        "network",
        "executor",
    ),
    ".codecs": ("__init__", "raw", "central", "grid", "gridkernel", "gridmodel"),
    ".layouts": (
        "__init__",
        "checks",
        "channels",
        "strides",
        "window",
        "conv",
        "forms",
        "depthwise",
        "pool",
        "add",
        "elementwise",
        "reshape",
        "softmax",
    ),
}
"""The modules that write a resident form."""

GUESTS = {
    "": ("signing", "sha512", "fetch", "mqtt", "probe", "generator"),
    ".kernels": (
        "__init__",
        "eights",
        "lanes",
        "rows",
        "sparse",
        "layer",
        "columns",
        "wide",
        "depthwise",
        "pool",
        "add",
        "reshape",
        "softmax",
    ),
}
"""Those that come and go as well while a device serves its fleet."""


def keep(package, parts):
    """Meet now the names of those modules in the imported package, and have room for the modules: a dict that
    grows moves back in the heap.

    The names stand in .mpy files; those of a source only the compiler knows.
    """
    folder = package.__file__.rpartition("/")[0]
    coming = []
    for part, modules in parts.items():
        path = folder + part.replace(".", "/")
        _keep(part[1:])
        for file in os.listdir(path):
            module, _, kind = file.partition(".")
            if kind == "mpy" and module in modules:
                _keep(module)
                _keep_table(path + "/" + file)
                coming.append(package.__name__ + part + "." + module)
            gc.collect()
    coming = [name for name in coming if name not in sys.modules]
    for name in coming:
        sys.modules[name] = None
        setattr(package, name, None)
    for name in coming:
        del sys.modules[name]
        delattr(package, name)


def _keep_table(path):
    """After 4 bytes stand the counts of names and constants, then the names, each after twice its length and
    before a 0; an odd number there stands for one of the firmware's names."""
    _keep(path)
    with open(path, "rb") as file:
        file.read(4)
        count = _number(file)
        _number(file)
        for _ in range(count):
            size = _number(file)
            if not size & 1:
                _keep(str(file.read(size >> 1), "utf-8"))
                file.read(1)


def _number(file):
    value = 0
    while True:
        byte = file.read(1)[0]
        value = value << 7 | byte & 127
        if byte < 128:
            return value


def _keep(name):
    getattr(None, name, None)
