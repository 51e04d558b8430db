"""The integer kernels, one file per family of operators, by TFLite's builtin operator code."""

from regrow.kernels import (
    activation,
    conv,
    dense,
    elementwise,
    lookup,
    movement,
    pool,
    reduce,
    shape,
    transpose_conv,
)
from regrow.kernels.base import Kernel

KERNELS: dict[int, Kernel] = {
    0: elementwise.ADD,
    1: pool.AVERAGE_POOL_2D,
    2: movement.CONCATENATION,
    3: conv.CONV_2D,
    4: conv.DEPTHWISE_CONV_2D,
    9: dense.FULLY_CONNECTED,
    17: pool.MAX_POOL_2D,
    18: elementwise.MUL,
    22: shape.RESHAPE,
    25: activation.SOFTMAX,
    34: movement.PAD,
    39: movement.TRANSPOSE,
    40: reduce.MEAN,
    41: elementwise.SUB,
    45: movement.STRIDED_SLICE,
    56: lookup.ARG_MAX,
    67: transpose_conv.TRANSPOSE_CONV,
    74: reduce.SUM,
    97: movement.RESIZE_NEAREST_NEIGHBOR,
    255: lookup.LOOKUP,
}
