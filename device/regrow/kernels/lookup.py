"""LOOKUP, which stands for every elementwise function of one tensor of 8 bits, and ARG_MAX."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from regrow.errors import PackError
from regrow.kernels.base import INT8, Array, Kernel, Open, need, need_form, need_shape, values

if TYPE_CHECKING:
    from regrow.graph import Node


def _check_lookup(node: Node) -> None:
    need_form(node, (2,), 1)
    x, table, output = values(node.inputs[0]), node.inputs[1], values(node.outputs[0])
    need_shape(output, x.shape)
    if table is None or table.data is None or table.nbytes != 256 or table.size != 256:
        raise PackError("has a table that is no constant of 256 bytes")


def _run_lookup(node: Node, inputs: Sequence[Array | None], _: Open) -> list[Array]:
    x, table = inputs
    assert x is not None
    assert table is not None
    return [table.reshape(-1).view(INT8)[x.view(np.uint8)]]


def _check_arg_max(node: Node) -> None:
    need_form(node, (1,), 1)
    x, output, axis = values(node.inputs[0]), node.outputs[0], node.options[0]
    need(axis < len(x.shape), f"has the axis {axis} for an input of shape {x.shape}")
    need(output.dtype in (np.int32, np.int64), f"gives {output.dtype} where int32 or int64 is needed")
    need_shape(output, (*x.shape[:axis], *x.shape[axis + 1 :]))


def _run_arg_max(node: Node, inputs: Sequence[Array | None], _: Open) -> list[Array]:
    """The first of the largest values."""
    assert inputs[0] is not None
    return [inputs[0].argmax(node.options[0] + 1).astype(node.outputs[0].dtype)]


LOOKUP = Kernel("LOOKUP", _check_lookup, _run_lookup)
ARG_MAX = Kernel("ARG_MAX", _check_arg_max, _run_arg_max)
