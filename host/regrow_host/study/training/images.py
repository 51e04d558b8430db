"""How images are varied in training. All are (n, height, width[, channels])."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def shift_and_flip(random: np.random.Generator, x: Array, reach: int = 4) -> Array:
    """Every image shifted by up to `reach` pixels over its reflection, half mirrored, a square cut."""
    height, width = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="reflect")
    result = np.empty_like(x)
    for i, (down, right) in enumerate(random.integers(0, 2 * reach + 1, (len(x), 2))):
        result[i] = padded[i, down : down + height, right : right + width]
    mirrored = random.random(len(x)) < 0.5
    result[mirrored] = result[mirrored, :, ::-1]
    for image, (down, right) in zip(result, random.integers(0, height - 8, (len(x), 2)), strict=True):
        image[down : down + 8, right : right + 8] = image.mean((0, 1))
    return result


def distort(random: np.random.Generator, x: Array) -> Array:
    """Every image (n, h, w) turned, scaled, slanted and shifted a little, by bilinear interpolation."""
    count, (height, width) = len(x), x.shape[1:]
    angle, slant = random.uniform(-0.26, 0.26, count), random.uniform(-0.2, 0.2, count)
    scale, shift = random.uniform(0.85, 1.15, (2, count)), random.uniform(-2, 2, (2, count))
    down, right = np.mgrid[:height, :width].astype(np.float32)
    down, right = down - (height - 1) / 2, right - (width - 1) / 2
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    row = (cos * down + sin * right) * scale[0][:, None, None] + shift[0][:, None, None]
    column = (cos * right - sin * down + slant[:, None, None] * down) * scale[1][:, None, None]
    column = column + shift[1][:, None, None] + (width - 1) / 2
    return _sample(x.astype(np.float32), row + (height - 1) / 2, column)


def _sample(x: Array, row: Array, column: Array) -> Array:
    """x at fractional places (n, h, w), 0 outside."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    row, column = np.clip(row + 1, 0, x.shape[1] + 0.999), np.clip(column + 1, 0, x.shape[2] + 0.999)
    top, left = row.astype(int), column.astype(int)
    low, near = row - top, column - left
    n = np.arange(len(x))[:, None, None]
    above = padded[n, top, left] * (1 - near) + padded[n, top, left + 1] * near
    below = padded[n, top + 1, left] * (1 - near) + padded[n, top + 1, left + 1] * near
    return np.asarray(above * (1 - low) + below * low)
