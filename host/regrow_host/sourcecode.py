"""Changing the source of a Python module here and there."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from itertools import accumulate


def span(source: str, node: ast.AST) -> tuple[int, int]:
    """Where a node of the source's tree begins and ends, in characters."""
    starts = [0, 0, *accumulate(len(line) for line in source.splitlines(keepends=True))]
    first, last = vars(node)["lineno"], vars(node)["end_lineno"]
    return starts[first] + vars(node)["col_offset"], starts[last] + vars(node)["end_col_offset"]


def edited(source: str, edits: Iterable[tuple[int, int, str]]) -> str:
    """The source with other text from one place to another."""
    for start, end, text in sorted(edits, reverse=True):
        source = source[:start] + text + source[end:]
    return source
