"""Run a board module's viper functions in CPython and prove that they are 32-bit safe.

A board's viper int is 32 bits wide and wraps silently; the unix port's is 64 bits, so running a kernel
there proves nothing about overflow. `load(path)` compiles the viper functions of a MicroPython source file
(with its module-level `const` names, and nothing else of it) into CPython functions that raise `WidthError`
where a board would differ:

* a value, intermediate or argument outside -2**31 .. 2**31 - 1, a shift by other than 0..31;
* a literal outside the small ints of a 32-bit board (-2**30 .. 2**30 - 1): viper there takes it for an
  object;
* a word loaded through `ptr32` with its top bit set: negative on a board, positive on the 64-bit unix port.
  Keep stored words below 2**31, or load signed words as two halves through `ptr16`;
* an index outside the buffer, or a pointer not aligned to its item.

    kernels = viper32.load("micropython/regrow/kernels.py")
    kernels.fill(bytearray(8), 3)          # buffers: bytes, bytearray, memoryview, array, numpy arrays

Modelled: the annotations `int bool ptr8 ptr16 ptr32`, int arithmetic, comparisons, `range`, `int(x)`,
`ptr8(uint(pointer) + bytes)`, `int(uint(pointer) - uint(pointer))`, and calls of other viper functions of the
file. Loads through ptr8 and ptr16 are unsigned, stores truncate, as in viper. Not modelled: other uint
arithmetic (a TypeError).
"""

import ast
import builtins
import functools
import types
from pathlib import Path


class WidthError(ArithmeticError):
    """A board with 32-bit ints would compute something else here."""


class Int(int):
    """An int that must stay within 32 signed bits."""

    def __new__(cls, value=0):
        value = int(value)
        if not -(1 << 31) <= value < 1 << 31:
            raise WidthError(f"{value} does not fit in 32 bits")
        return super().__new__(cls, value)


def _checked(operator):
    plain = getattr(int, operator)

    def method(self, *others):
        result = plain(self, *others)
        return result if result is NotImplemented else Int(result)

    return method


for _name in ("add", "sub", "mul", "floordiv", "mod", "and", "or", "xor"):
    for _side in ("", "r"):
        setattr(Int, f"__{_side}{_name}__", _checked(f"__{_side}{_name}__"))
for _name in ("neg", "pos", "invert", "abs"):
    setattr(Int, f"__{_name}__", _checked(f"__{_name}__"))


def _shift(name):
    plain = getattr(int, name)

    def method(self, amount):
        if not 0 <= amount < 32:
            raise WidthError(f"shift by {amount}")
        return Int(plain(self, amount))

    return method


Int.__lshift__, Int.__rshift__ = _shift("__lshift__"), _shift("__rshift__")


class Address:
    """A place in a buffer: what `uint(pointer)` gives."""

    def __init__(self, view, offset):
        self.view, self.offset = view, offset

    def __add__(self, count):
        return Address(self.view, self.offset + int(count))

    def __sub__(self, count):
        if isinstance(count, Address):
            return Int(self.offset - count.offset)
        return Address(self.view, self.offset - int(count))


class Pointer:
    """A checked pointer to unsigned little-endian items of `size` bytes."""

    size = 1

    def __init__(self, target):
        if isinstance(target, Pointer):
            target = target.address
        if not isinstance(target, Address):
            target = Address(memoryview(target).cast("B"), 0)
        if target.offset % self.size:
            raise WidthError(f"a pointer to {self.size}-byte items at byte {target.offset}")
        self.address = target

    def _place(self, index):
        start = self.address.offset + int(index) * self.size
        if not 0 <= start <= len(self.address.view) - self.size:
            raise WidthError(f"item {int(index)} of a buffer of {len(self.address.view)} bytes")
        return slice(start, start + self.size)

    def __getitem__(self, index):
        value = int.from_bytes(self.address.view[self._place(index)], "little")
        if value >> 31:
            raise WidthError(f"loaded word {value:#x} is negative on a board and positive on the unix port")
        return Int(value)

    def __setitem__(self, index, value):
        value = int(Int(value)) & ((1 << 8 * self.size) - 1)
        self.address.view[self._place(index)] = value.to_bytes(self.size, "little")


class Ptr16(Pointer):
    size = 2


class Ptr32(Pointer):
    size = 4


def _literal(value):
    if not -(1 << 30) <= value < 1 << 30:
        raise WidthError(f"the literal {value} is no small int on a 32-bit board")
    return Int(value)


def _uint(value):
    if not isinstance(value, Pointer):
        raise TypeError("viper32 models uint() of a pointer only")
    return value.address


def _range(*bounds):
    return map(Int, builtins.range(*bounds))


_NAMES = {
    "ptr8": Pointer,
    "ptr16": Ptr16,
    "ptr32": Ptr32,
    "uint": _uint,
    "int": Int,
    "range": _range,
    "const": _literal,
    "_literal": _literal,
}


def _viper(function):
    """Convert arguments as viper does on the way in, and the result on the way out."""
    kinds = dict(function.__annotations__)
    kinds.pop("return", None)

    @functools.wraps(function)
    def call(*values):
        if len(values) != len(kinds):
            raise TypeError(f"{function.__name__} takes {len(kinds)} annotated arguments, got {len(values)}")
        result = function(*(kind(value) for kind, value in zip(kinds.values(), values, strict=True)))
        return int(result) if isinstance(result, Int) else result

    return call


class _Literals(ast.NodeTransformer):
    def visit_Constant(self, node):
        if type(node.value) is not int:
            return node
        return ast.copy_location(ast.Call(ast.Name("_literal", ast.Load()), [node], []), node)


def _is_viper(node):
    return isinstance(node, ast.FunctionDef) and any("viper" in ast.unparse(d) for d in node.decorator_list)


def _is_constant(node):
    return isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("const(")


def load(path):
    """The viper functions and `const` names of the MicroPython source file at `path`, as a namespace."""
    tree = ast.parse(Path(path).read_text())
    body = [node for node in tree.body if _is_viper(node) or _is_constant(node)]
    for node in body:
        if _is_viper(node):
            node.decorator_list = [ast.Name("_viper", ast.Load())]
            node.body = [_Literals().visit(statement) for statement in node.body]
    names = dict(_NAMES, _viper=_viper)
    module = ast.fix_missing_locations(ast.Module(body, []))
    exec(compile(module, str(path), "exec"), names)
    return types.SimpleNamespace(**{name: value for name, value in names.items() if name not in _NAMES})
