"""Operators that move values and change none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from regrow.errors import PackError
from regrow.kernels.base import Array, Kernel, Open, is_weights, need, need_form

if TYPE_CHECKING:
    from regrow.graph import Node


def _check_reshape(node: Node) -> None:
    need_form(node, (1, 2), 0)
    x, output = node.inputs[0], node.outputs[0]
    if x is None or is_weights(x):
        raise PackError("lacks an input")
    need(x.size == output.size, f"turns shape {x.shape} into {output.shape}")
    need(x.dtype == output.dtype, f"turns {x.dtype} into {output.dtype}")


def _run_reshape(node: Node, inputs: Sequence[Array | None], _: Open) -> list[Array]:
    assert inputs[0] is not None
    return [inputs[0].reshape(-1, *node.outputs[0].shape)]


RESHAPE = Kernel("RESHAPE", _check_reshape, _run_reshape)
