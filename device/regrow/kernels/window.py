"""Where the windows of convolution and pooling lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from regrow.kernels.base import need, need_activation

Array = NDArray[Any]

SAME = 0


@dataclass(frozen=True)
class Axis:
    """One axis: windows of `size` taps, `dilation` apart, every `stride`, over `given` values."""

    given: int
    size: int
    stride: int
    dilation: int
    same: bool

    @property
    def reach(self) -> int:
        return (self.size - 1) * self.dilation + 1

    @property
    def count(self) -> int:
        span = self.given if self.same else self.given - self.reach + 1
        return -(-span // self.stride)

    @property
    def padding(self) -> tuple[int, int]:
        """Values missing before and after the input."""
        total = max(0, (self.count - 1) * self.stride + self.reach - self.given) if self.same else 0
        return total // 2, total - total // 2


def axes(
    shape: tuple[int, ...],
    size: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: int,
) -> tuple[Axis, Axis]:
    """The axes y and x of an NHWC shape."""
    y, x = (
        Axis(given, taps, step, gap, padding == SAME)
        for given, taps, step, gap in zip(shape[1:3], size, stride, dilation, strict=True)
    )
    return y, x


def need_windows(y: Axis, x: Axis, padding: int, activation: int) -> None:
    need(padding <= 1, f"has the unknown padding {padding}")
    need_activation(activation)
    for axis in (y, x):
        need(min(axis.size, axis.stride, axis.dilation) > 0, "has a stride, dilation or filter of 0")
        need(axis.count > 0, "has a filter larger than its input")


def pad(images: Array, y: Axis, x: Axis, value: int) -> Array:
    """(n, h, w, c) with `value` where windows reach over the border."""
    if y.padding == x.padding == (0, 0):
        return images
    return np.pad(images, ((0, 0), y.padding, x.padding, (0, 0)), constant_values=value)


def windows(padded: Array, y: Axis, x: Axis) -> Array:
    """A view (n, rows, columns, taps y, taps x, c) of a padded (n, h, w, c)."""
    n, h, w, c = padded.strides
    return as_strided(
        padded,
        (len(padded), y.count, x.count, y.size, x.size, padded.shape[3]),
        (n, h * y.stride, w * x.stride, h * y.dilation, w * x.dilation, c),
        writeable=False,
    )
