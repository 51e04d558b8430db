"""Names that a board's firmware has anyway, in the place of those of arguments and all that is private.

MicroPython keeps each name that it meets for good, which takes some 20 bytes of the heap. Public modules,
classes, functions and attributes keep theirs, so that tracebacks can be read.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable
from itertools import chain
from typing import TypeGuard

from regrow_host.sourcecode import edited, span

WORDS = """
key value end start stop step index count items args keys values sep next chr little pop sort append bool
bytecode callable classmethod clear close copy dict dir endswith eval exec extend find format from_bytes get
globals hash id insert isalpha isdigit islower isspace issubclass isupper iter join list locals lower lstrip
main map object ord popitem pow print readline remove repr reverse rfind rindex round rsplit rstrip send set
setdefault sorted split startswith staticmethod strip sum super throw to_bytes tuple type update upper write
zip ArithmeticError AssertionError AttributeError BaseException EOFError Ellipsis Exception GeneratorExit
ImportError IndentationError IndexError KeyError KeyboardInterrupt LookupError NameError NoneType
NotImplementedError OSError OverflowError RuntimeError StopIteration SyntaxError SystemExit TypeError
ValueError ZeroDivisionError
""".split()  # noqa: SIM905
"""What .mpy files of form 6 need not spell, as all firmware has it (MicroPython's py/makeqstrdata.py)."""

_NAMED = (ast.Name, ast.arg, ast.Attribute, ast.FunctionDef, ast.ClassDef)
_FIELDS = ("id", "arg", "attr", "name")

ASKED_BY_NAME = {"trust"}
"""Arguments that users give by name, besides those that the package itself does."""


class ShortNames:
    """What the private names of a package are called, by `words`, of which `sources` are all modules.

    Two names may have one word unless they stand in one module, or in one and that of a class it inherits.
    Constants that one module takes from another are numbers in both.
    """

    def __init__(self, sources: Iterable[str]) -> None:
        modules = [list(ast.walk(ast.parse(source))) for source in sources]
        nodes = [node for module in modules for node in module]
        given = {node.arg for node in nodes if isinstance(node, ast.keyword) and node.arg}
        self._kept = {"self", *WORDS, *given, *ASKED_BY_NAME}
        counts = Counter(map(_name, nodes))
        constants = {_name(target) for node in nodes if _is_constant(node) for target in node.targets}
        imported = {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        self._numbers = {
            _name(target): f"({ast.unparse(node.value.args[0])})"
            for node in nodes
            if _is_constant(node)
            for target in node.targets
            if _name(target) in imported
        }
        private = [
            name for name, _ in counts.most_common() if re.match("_[^_]", name) and name not in constants
        ]
        together = [set(map(_name, chain(*inherited))) for inherited in _families(modules)]
        free = [word for word in WORDS if word not in counts]
        self.words: dict[str, str] = {}
        for name in private:
            near = set().union(*(names for names in together if name in names))
            taken = {self.words.get(other) for other in near}
            self.words[name] = next(word for word in free if word not in taken)

    def taken_in(self, source: str) -> str:
        """The source of a module with other names."""
        tree = ast.parse(source)
        nodes = list(ast.walk(tree))
        for node in nodes:
            if isinstance(node, ast.Name) and node.id in self._numbers:
                node.id = self._numbers[node.id] if isinstance(node.ctx, ast.Load) else f"_{node.id}"
            elif isinstance(node, ast.alias) and node.name in self._numbers:
                node.name = ""
            _rename(node, self.words)
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.Lambda):
                self._rename_arguments(node)
        return _renamed(source, tree)

    def _rename_arguments(self, function: ast.FunctionDef | ast.Lambda) -> None:
        """Each argument gets a word that nothing in the function is called."""
        nodes = [node for node in ast.walk(function) if isinstance(node, ast.Name | ast.arg)]
        taken = set(map(_name, nodes))
        words = (word for word in WORDS if word not in taken)
        arguments = [node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)]
        short = {name: next(words) for name in arguments if name not in self._kept}
        for node in nodes:
            _rename(node, short)


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
        elif isinstance(new, ast.ImportFrom):
            new.names = [alias for alias in new.names if alias.name]
            edits.append((*span(source, old), ast.unparse(new) if new.names else "pass"))
        elif _name(old) != _name(new):
            start, end = span(source, old)
            if isinstance(old, ast.Attribute):
                start = end - len(old.attr)
            if isinstance(old, ast.FunctionDef | ast.ClassDef):
                start += len("def " if isinstance(old, ast.FunctionDef) else "class ")
            edits.append((start, start + len(_name(old)), _name(new)))
    return edited(source, edits)


class _Constant(ast.Assign):
    value: ast.Call


def _families(modules: list[list[ast.AST]]) -> list[list[list[ast.AST]]]:
    """Each module with those of the classes that its classes inherit."""

    def heirs(module: list[ast.AST]) -> list[list[ast.AST]]:
        bases = {_name(base) for node in module if isinstance(node, ast.ClassDef) for base in node.bases}
        above = [other for other in modules if other is not module and bases & classes[id(other)]]
        return [module, *chain(*map(heirs, above))]

    classes = {
        id(module): {node.name for node in module if isinstance(node, ast.ClassDef)} for module in modules
    }
    return [heirs(module) for module in modules]


def _is_constant(node: ast.AST) -> TypeGuard[_Constant]:
    """Whether the compiler puts its value in the place of its name."""
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and _name(node.value.func) == "const"
    )


def _name(node: ast.AST) -> str:
    return next(
        (vars(node)[field] for field in _FIELDS if isinstance(node, _NAMED) and field in vars(node)), ""
    )


def _rename(node: ast.AST, words: dict[str, str]) -> None:
    for field in _FIELDS:
        if isinstance(node, _NAMED) and field in vars(node):
            setattr(node, field, words.get(_name(node), _name(node)))
