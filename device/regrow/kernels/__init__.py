"""The integer kernels, one file per family of operators, by TFLite's builtin operator code."""

from regrow.kernels import activation, conv, dense, elementwise, pool, shape
from regrow.kernels.base import Kernel

KERNELS: dict[int, Kernel] = {
    0: elementwise.ADD,
    1: pool.AVERAGE_POOL_2D,
    3: conv.CONV_2D,
    4: conv.DEPTHWISE_CONV_2D,
    9: dense.FULLY_CONNECTED,
    17: pool.MAX_POOL_2D,
    22: shape.RESHAPE,
    25: activation.SOFTMAX,
}
