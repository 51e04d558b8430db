"""ARG_MAX."""

from micropython import const

from ..errors import PackError
from ..graph import INT32
from .checks import value
from .strides import strides

_INT64 = const(4)


def lay(op, out):
    if len(op.inputs) != 1 or len(op.outputs) != 1 or len(op.options) != 1:
        raise PackError("an ARG_MAX of the graph does not have an input, an output and an option")
    x, y, axis = value(op.inputs[0]), op.outputs[0], op.options[0]
    if y.dtype not in (INT32, _INT64):
        raise PackError(f"an ARG_MAX of the graph gives dtype {y.dtype} where int32 or int64 is needed")
    if axis >= len(x.shape) or y.shape != x.shape[:axis] + x.shape[axis + 1 :]:
        raise PackError("an ARG_MAX of the graph has an axis or shapes that do not fit")
    yield 0
    inner = strides(x.shape)[axis]
    size = x.shape[axis]
    out.params(x.place, y.place, y.count // inner, size, inner, y.size // y.count)
