"""What numpy's kernels run but the board's cannot, whose sums have 31 bits."""

from __future__ import annotations

from collections.abc import Callable

from regrow.graph import Node

from .tflite import OPERATOR_CODES, WEIGHT_OPERATORS, ModelError

MAX_TERMS = 16384  # products of 8 bits that stay within 30 bits when summed
ADD_RANGE = 1 << 20  # what ADD and SUB scale their inputs up by
LARGEST = 1 << 30  # of a sum before or after it is scaled

LAYERS = {OPERATOR_CODES[name] for name in WEIGHT_OPERATORS}
SUMS = {OPERATOR_CODES[name] for name in ("ADD", "SUB")}
IMAGES = {
    OPERATOR_CODES[name]
    for name in ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "AVERAGE_POOL_2D", "MAX_POOL_2D")
}
MUL = OPERATOR_CODES["MUL"]
REDUCERS = {OPERATOR_CODES[name] for name in ("MEAN", "SUM")}


def check(code: int, node: Node, refuse: Callable[[str], ModelError]) -> None:
    """Raise what `refuse` makes of the first limit that the node passes."""
    x, *others = (tensor for tensor in node.inputs if tensor is not None)
    output = node.outputs[0]
    if code in IMAGES and x.shape[0] != 1:
        raise refuse(f"takes {x.shape[0]} images at once, boards run batch 1")
    if code in LAYERS:
        terms = others[0].size // output.shape[-1]
        if terms > MAX_TERMS:
            raise refuse(f"has {terms} weights per channel, the limit is {MAX_TERMS}")
    elif code in (*SUMS, MUL):
        product = ADD_RANGE * x.scale * others[0].scale if code == MUL else max(x.scale, others[0].scale)
        if output.scale < 2 * product / ADD_RANGE:
            raise refuse("has an output scale far below the scales of its inputs")
    elif code in REDUCERS:
        largest = 255 * (x.size // output.size)
        if largest > LARGEST or largest * x.scale / output.scale > LARGEST:
            raise refuse("sums up more than 30 bits hold")
