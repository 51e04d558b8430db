"""Have the names of modules that come and go at the front of the heap.

MicroPython keeps every name for good, where it first meets it. Names met while such modules fill the heap
would cut in pieces what they leave behind, and an arena needs one piece.
"""

import gc
import sys

_IMPORTS = """
install: plan graph weights layouts.__init__
parts: reader pack resident
codecs.raw: codecs.__init__ octaves rice
codecs.central: codecs.__init__ generator
codecs.grid: codecs.__init__ codecs.gridkernel codecs.gridmodel octaves rice
layouts.conv: layouts.forms layouts.pixels layouts.sparse layouts.scatter layouts.channels layouts.checks quant
layouts.depthwise: layouts.channels layouts.checks quant
layouts.transpose_conv: layouts.channels layouts.checks quant
layouts.pool: layouts.checks quant
layouts.softmax: layouts.checks quant
layouts.elementwise: layouts.strides layouts.checks quant
layouts.bands: layouts.elementwise layouts.strides layouts.checks quant
layouts.reduce: layouts.strides layouts.checks quant
layouts.movement: layouts.strides layouts.checks
"""  # noqa: E501 (a line for each)
# What modules import that are named to `keep`; what is missing here costs room, nothing else. As one text,
# so that MicroPython keeps no name of what a board never imports.

GUESTS = """
install parts signing sha512 fetch mqtt probe network executor codecs.raw codecs.central codecs.grid
layouts.conv layouts.depthwise layouts.pool layouts.elementwise layouts.bands layouts.reshape
layouts.softmax kernels.eights kernels.lanes kernels.pixels kernels.pixels8 kernels.pixels4
kernels.rows kernels.single kernels.scatter kernels.once kernels.sparse kernels.layer kernels.columns
kernels.wide kernels.depthwise kernels.pool kernels.add kernels.reshape kernels.softmax
"""
# Those that come and go while a device serves its fleet.


def keep(package, modules):
    """Meet now the names of those modules of the imported package, and have room for the modules: a dict that
    grows moves back in the heap.

    The names stand in .mpy files; those of a source only the compiler knows.
    """
    root = package.__file__.rpartition("/")[0]
    coming = []
    for module in modules:
        for each in [module] + _imports(module):  # noqa: RUF005 (boards unpack nothing here)
            name = package.__name__ + "." + each
            if name not in sys.modules and name not in coming:
                _keep(name)
                for part in each.split("."):
                    _keep(part)
                coming.append(name)
                _keep_table(root + "/" + each.replace(".", "/") + ".mpy")
                gc.collect()
    for name in coming:
        sys.modules[name] = None
        setattr(package, name, None)
    for name in coming:
        del sys.modules[name]
        delattr(package, name)


def _imports(module):
    place = _IMPORTS.find(f"\n{module}: ") + 1
    return _IMPORTS[place : _IMPORTS.find("\n", place)].split()[1:] if place else []


def _keep_table(path):
    """After 4 bytes stand the counts of names and constants, then the names, each after twice its length and
    before a 0; an odd number there stands for one of the firmware's names."""
    try:
        file = open(path, "rb")  # noqa: SIM115 - it is closed below
    except OSError:
        return
    _keep(path)
    file.read(4)
    count = _number(file)
    _number(file)
    for _ in range(count):
        size = _number(file)
        if not size & 1:
            _keep(str(file.read(size >> 1), "utf-8"))
            file.read(1)
    file.close()


def _number(file):
    value = 0
    while True:
        byte = file.read(1)[0]
        value = value << 7 | byte & 127
        if byte < 128:
            return value


def _keep(name):
    getattr(None, name, None)
