"""RESIZE_NEAREST_NEIGHBOR."""

from array import array

from ..errors import PackError
from .checks import image, single
from .strides import varints


def lay(op, out):
    """The record holds where each row and each column of the output stands in the input, in bytes."""
    x, y = single(op)
    height, width, depth = image(x)
    rows, columns, same = image(y)
    maps = varints(op.options)
    if depth != same or len(maps) != rows + columns:
        raise PackError("a RESIZE_NEAREST_NEIGHBOR of the graph has shapes or options that do not fit")
    if max(maps[:rows]) >= height or max(maps[rows:]) >= width:
        raise PackError("a RESIZE_NEAREST_NEIGHBOR of the graph takes values beyond its input")
    if x.scale != y.scale or x.zero_point != y.zero_point:
        raise PackError("a RESIZE_NEAREST_NEIGHBOR of the graph has an output in other units than its input")
    yield 4 * len(maps)
    out.params(x.place, y.place, rows, columns, depth, 4 * len(maps))
    out.write(array("i", [row * width * depth for row in maps[:rows]]))
    out.write(array("i", [column * depth for column in maps[rows:]]))
