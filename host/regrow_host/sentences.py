"""What a board's errors say, taken out of its modules: it stays in flash until an error says it."""

from __future__ import annotations

import ast

from regrow_host.sourcecode import edited, span

SHORTEST = 20
"""Characters of a text that is worth taking out."""


class Sentences:
    """The sentences of a package, one a line of `text`; `errors.say` on the board finds them there."""

    def __init__(self) -> None:
        self.text = ""

    def taken_from(self, source: str) -> str:
        """The source of a module with `say(place in the text, values...)` for each sentence of an error.

        A sentence is an argument of an exception that the module imports from `errors`.
        """
        tree = ast.parse(source)
        imports = [
            node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module == "errors"
        ]
        errors = {alias.name for node in imports for alias in node.names}
        edits = [
            (*span(source, text), self._say(text))
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in errors
            for argument in node.args
            for text in _texts(argument)
        ]
        if edits:
            edits += [(*span(source, node), f"{ast.unparse(node)}, say") for node in imports]
        return edited(source, edits)

    def _say(self, node: ast.Constant | ast.JoinedStr) -> str:
        pieces = node.values if isinstance(node, ast.JoinedStr) else [node]
        values = [ast.unparse(each.value) for each in pieces if isinstance(each, ast.FormattedValue)]
        place = len(self.text)
        self.text += "".join(map(_template, pieces)) + "\n"
        return f"say({', '.join([str(place), *values])})"


def _texts(node: ast.expr) -> list[ast.Constant | ast.JoinedStr]:
    """The long texts that an argument may be."""
    if isinstance(node, ast.IfExp):
        return _texts(node.body) + _texts(node.orelse)
    if isinstance(node, ast.JoinedStr):
        return [node]
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) >= SHORTEST:
        return [node]
    return []


def _template(piece: ast.expr) -> str:
    """A piece of an f-string as str.format takes it."""
    if isinstance(piece, ast.FormattedValue):
        return "{" + ("" if piece.conversion < 0 else "!" + chr(piece.conversion)) + "}"
    assert isinstance(piece, ast.Constant)
    return str(piece.value).replace("{", "{{").replace("}", "}}")
