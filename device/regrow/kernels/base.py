"""What all kernels share: their type, the checks of a node, and work cut into pieces.

Arrays in a run have the samples as their first axis and the tensor's shape after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regrow.errors import PackError

if TYPE_CHECKING:
    from regrow.graph import Node, Tensor

Array = NDArray[Any]

TILE = 1 << 16
"""Bytes of weights that are grown at one time."""
PIECE = 1 << 21
"""Bytes of scratch that a kernel works in at one time."""
INT8 = np.dtype(np.int8)
INT32 = np.dtype(np.int32)


class WeightSource(Protocol):
    """What a kernel asks of the weights of one tensor (regrow.weights.Weights has it)."""

    count: int

    @property
    def scales(self) -> Array: ...

    def rewind(self) -> None: ...

    def read_levels(self, buffer: Array) -> None: ...


Open = Callable[[int], WeightSource]
"""Weight number -> the weights of that tensor."""


@dataclass(frozen=True)
class Kernel:
    """`check` raises PackError with what a node has wrong; `run` takes the values of its inputs (None for
    weights and absent ones) and gives those of its outputs."""

    name: str
    check: Callable[[Node], None]
    run: Callable[[Node, Sequence[Array | None], Open], list[Array]]


def need(holds: bool, otherwise: str) -> None:
    if not holds:
        raise PackError(otherwise)


def need_form(node: Node, inputs: tuple[int, ...], option_bytes: int, optional: int = 0) -> None:
    """The node has one output, one of these counts of inputs, and that many option bytes."""
    need(len(node.inputs) in inputs, f"has {len(node.inputs)} inputs")
    need(len(node.outputs) == 1, f"has {len(node.outputs)} outputs")
    given = len(node.options)
    fits = given in (option_bytes, option_bytes + optional)
    need(fits, f"has {given} option bytes instead of {option_bytes}")


def values(tensor: Tensor | None) -> Tensor:
    """The tensor, which must be int8 with a scale and no weights."""
    if tensor is None:
        raise PackError("lacks an input")
    need(not is_weights(tensor), "uses weights where it needs values")
    need(tensor.dtype == INT8, f"uses {tensor.dtype} where it needs int8")
    need(tensor.scale > 0, "uses a tensor without a scale")
    return tensor


def filters(tensor: Tensor | None, rank: int) -> Tensor:
    """The tensor, which must be int8 weights of that rank."""
    if tensor is None or not is_weights(tensor):
        raise PackError("has a filter that is no weight tensor")
    need(tensor.dtype == INT8, f"has {tensor.dtype} weights instead of int8")
    need(len(tensor.shape) == rank, f"has a filter of rank {len(tensor.shape)} instead of {rank}")
    return tensor


def weight_zero_point(node: Node, at: int) -> int | None:
    """The zero point of the weights, which stands last in the options of networks that were uint8."""
    return int.from_bytes(node.options[at:], "little", signed=True) if len(node.options) > at else None


def need_bias(node: Node, channels: int) -> None:
    """The third input, if there is one, is a constant int32 bias per channel."""
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return
    bias = node.inputs[2]
    fits = bias.data is not None and bias.dtype == INT32 and bias.shape == (channels,)
    need(fits, f"has a bias that is no int32 constant of shape ({channels},)")


def need_shape(tensor: Tensor, shape: tuple[int, ...]) -> None:
    need(tensor.shape == shape, f"gives shape {tensor.shape} where its inputs give {shape}")


def need_activation(code: int) -> None:
    need(code <= 3, f"has the unknown activation {code}")


def is_weights(tensor: Tensor) -> bool:
    return tensor.kind == 1


def weights_of(node: Node, open_weights: Open, channels: int) -> tuple[WeightSource, Array]:
    """The weights of a node's filter, at their start, and the scale of each output channel (float32)."""
    tensor = filters(node.inputs[1], len(node.inputs[1].shape) if node.inputs[1] else 0)
    weights = open_weights(tensor.number)
    scales = np.asarray(weights.scales, np.float32)
    if weights.count != tensor.size or scales.size not in (1, channels):
        raise PackError(
            f"weights {tensor.number} hold {weights.count} values and {scales.size} scales, "
            f"but the graph needs {tensor.size} values in {channels} channels"
        )
    weights.rewind()
    return weights, np.broadcast_to(scales, (channels,))


def grow(weights: WeightSource, count: int, zero_point: int = 0) -> Array:
    """The next `count` levels less their zero point, int16."""
    levels = np.empty(count, np.int8)
    weights.read_levels(levels)
    return levels.astype(np.int16) - zero_point


def bias_of(node: Node, channels: int) -> Array:
    """int64 (channels,); zeros where the node has none."""
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if bias is None or bias.data is None:
        return np.zeros(channels, np.int64)
    return bias.data.astype(np.int64)


def tiles(rows: int, row_bytes: int) -> Iterator[slice]:
    """Rows of weights in tiles of at most TILE bytes (one row, where that is more)."""
    step = max(1, TILE // row_bytes)
    return (slice(start, min(start + step, rows)) for start in range(0, rows, step))


def pieces(samples: int, rows: int, row_bytes: int) -> Iterator[tuple[slice, slice]]:
    """samples x rows of an output in pieces that take at most PIECE bytes (one row, where that is more)."""
    whole = max(1, PIECE // (rows * row_bytes))
    step = rows if rows * row_bytes <= PIECE else max(1, PIECE // row_bytes)
    for sample in range(0, samples, whole):
        for row in range(0, rows, step):
            yield slice(sample, sample + whole), slice(row, min(row + step, rows))


def exact_float(terms: int) -> np.dtype[Any]:
    """The float in which a sum of that many products of a byte and a level (up to 2^15 each) is exact."""
    return np.dtype(np.float32 if terms << 15 <= 1 << 24 else np.float64)


def multipliers(image: Tensor, output: Tensor, scales: Array, product: type[np.floating[Any]]) -> Array:
    """Input scale * weight scale / output scale per channel, in double; the product has its own type."""
    products: Array = np.multiply(image.scale, scales, dtype=product)
    return products.astype(np.float64) / output.scale
