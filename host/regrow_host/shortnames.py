"""Names that a board's firmware has anyway, in the place of those of arguments and private attributes.

MicroPython keeps each name that it meets for good, which takes some 20 bytes of the heap. Modules, classes,
functions and what others may use keep their names, so that tracebacks can be read.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable

from regrow_host.sourcecode import edited, span

WORDS = """
key value end start stop step index count items args keys values sep next chr little pop sort append
bool bytecode callable classmethod clear close copy dict dir endswith eval exec extend find format
from_bytes get globals hash id insert isalpha isdigit islower isspace issubclass isupper iter join
list locals lower lstrip main map object ord popitem pow print readline remove repr reverse rfind
rindex round rsplit rstrip send set setdefault sorted split startswith staticmethod strip sum super
throw to_bytes tuple type update upper write zip ArithmeticError AssertionError AttributeError
BaseException EOFError Ellipsis Exception GeneratorExit ImportError IndentationError IndexError
KeyError KeyboardInterrupt LookupError NameError NoneType NotImplementedError OSError OverflowError
RuntimeError StopIteration SyntaxError SystemExit TypeError ValueError ZeroDivisionError
acos acosh asin asinh atan atan2 atanh ceil copysign cos cosh degrees erf erfc exp expm1 fabs floor
fmod frexp gamma isfinite isinf isnan ldexp lgamma log log10 log2 modf radians sin sinh sqrt tan
tanh trunc choice getrandbits randint random randrange seed uniform heapify heappop heappush
""".split()  # noqa: SIM905
"""What .mpy files of form 6 need not spell (MicroPython's py/makeqstrdata.py), and names of modules that
firmware for boards has."""

ASKED_BY_NAME = {"trust"}
"""Arguments that users give by name, besides those that the package itself does."""


class ShortNames:
    """What the private attributes of a package are called, of which `sources` are all modules."""

    def __init__(self, sources: Iterable[str]) -> None:
        nodes = [node for source in sources for node in ast.walk(ast.parse(source))]
        given = {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
        self._kept = {"self", *WORDS, *given, *ASKED_BY_NAME}
        defined = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        attributes = Counter(node.attr for node in nodes if isinstance(node, ast.Attribute))
        private = [name for name, _ in attributes.most_common() if re.match("_[^_]", name)]
        free = [word for word in WORDS if word not in attributes and word not in defined]
        self._attributes = dict(zip((name for name in private if name not in defined), free, strict=False))

    def taken_in(self, source: str) -> str:
        """The source of a module with other names."""
        tree = ast.parse(source)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute):
                node.attr = self._attributes.get(node.attr, node.attr)
            elif isinstance(node, ast.ClassDef):
                self._rename_attributes(node)
            elif isinstance(node, ast.FunctionDef | ast.Lambda):
                self._rename_arguments(node)
        return _renamed(source, tree)

    def _rename_attributes(self, node: ast.ClassDef) -> None:
        """Those that stand in the body of a class."""
        for each in node.body:
            for target in each.targets if isinstance(each, ast.Assign) else ():
                if isinstance(target, ast.Name):
                    target.id = self._attributes.get(target.id, target.id)

    def _rename_arguments(self, function: ast.FunctionDef | ast.Lambda) -> None:
        """Each argument gets a word that nothing in the function is called."""
        inside = list(ast.walk(function))
        names = [node for node in inside if isinstance(node, ast.Name)]
        arguments = [node for node in inside if isinstance(node, ast.arg)]
        taken = {node.id for node in names} | {node.arg for node in arguments}
        words = (word for word in WORDS if word not in taken)
        for old in [each.arg for each in ast.walk(function.args) if isinstance(each, ast.arg)]:
            if old in self._kept:
                continue
            new = next(words)
            for name in names:
                name.id = new if name.id == old else name.id
            for argument in arguments:
                argument.arg = new if argument.arg == old else argument.arg


def _renamed(source: str, tree: ast.Module) -> str:
    """The source with the names of a tree that was the source's. Else it stays as it is: for MicroPython
    a tuple in parentheses, as ast.unparse writes it, is another thing than one without.
    """
    edits = []
    texts: set[ast.AST] = set()  # whose insides have no places before Python 3.12
    for old, new in zip(ast.walk(ast.parse(source)), ast.walk(tree), strict=True):
        if old in texts:
            continue
        if isinstance(old, ast.JoinedStr):
            texts.update(ast.walk(old))
            edits.append((*span(source, old), ast.unparse(new)))
        elif _name(old) != _name(new):
            start, end = span(source, old)
            if isinstance(old, ast.Attribute):
                start = end - len(old.attr)
            if isinstance(old, ast.arg):
                end = start + len(old.arg)
            edits.append((start, end, _name(new)))
    return edited(source, edits)


def _name(node: ast.AST) -> str:
    return getattr(node, "id", "") or getattr(node, "attr", "") or getattr(node, "arg", "") or ""
