"""Small `.tflite` networks with seeded random weights, built layer by layer."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
from numpy.typing import NDArray
from regrow_host import tflite
from regrow_host.tflite import Model, Operator, Subgraph, Tensor

Array = NDArray[Any]
Mode = Literal["int8", "float32", "float16", "dynamic"]

NONE, RELU, RELU6 = 0, 1, 3
SAME, VALID = 0, 1


class Builder:
    """A chain of layers; every method adds one behind `self.last` and returns the builder.

    Mode `int8` quantizes everything, `float16` keeps the weights in float16 behind DEQUANTIZE operators,
    `dynamic` has float32 activations and int8 weights, but for depthwise layers (as TFLite's converter did).
    """

    def __init__(self, shape: tuple[int, ...], mode: Mode = "int8", seed: int = 0) -> None:
        self.mode = mode
        self.random = np.random.default_rng(seed)
        self.tensors: list[Tensor] = []
        self.operators: list[Operator] = []
        self.last = self.activation("input", shape, 1 / 128)
        self.inputs = [self.last]

    def model(self) -> Model:
        return Model([Subgraph(self.tensors, self.operators, tuple(self.inputs), (self.last,))])

    def bytes(self) -> bytes:
        return tflite.build(self.model())

    def activation(
        self, name: str, shape: tuple[int, ...], scale: float, zero_point: int | None = None
    ) -> int:
        tensor = Tensor(name, shape, "float32")
        if self.mode == "int8":
            zero_point = int(self.random.integers(-128, 128)) if zero_point is None else zero_point
            scales, zero_points = np.array([scale], np.float32), np.array([zero_point], np.int64)
            tensor = Tensor(name, shape, "int8", scales, zero_points)
        return self.add_tensor(tensor)

    def add_tensor(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def operator(
        self, name: str, inputs: list[int], shape: tuple[int, ...], options: Any, scale: float
    ) -> Builder:
        output = self.activation(f"{name}_{len(self.operators)}", shape, scale)
        code = tflite.OPERATOR_CODES[name]
        self.operators.append(Operator(code, tuple(inputs), (output,), options))
        self.last = output
        return self

    def like_input(
        self, name: str, shape: tuple[int, ...], options: Any, extra: tuple[int, ...] = ()
    ) -> Builder:
        """An operator whose output has the scale and the zero point of its input."""
        source = self.last
        self.operator(name, [source, *extra], shape, options, 1)
        output = self.tensors[self.last]
        output.scales, output.zero_points = self.tensors[source].scales, self.tensors[source].zero_points
        return self

    def weights(self, shape: tuple[int, ...], axis: int) -> tuple[int, Array]:
        """Tensor index and real values of random weights."""
        values = self.random.normal(0, 1 / math.sqrt(math.prod(shape) / shape[axis]), shape).astype(
            np.float32
        )
        name = f"weights_{len(self.tensors)}"
        if self.mode == "float32" or (self.mode == "dynamic" and axis == 3):
            return self.add_tensor(Tensor(name, shape, "float32", data=values)), values
        if self.mode == "float16":
            half = self.add_tensor(Tensor(name, shape, "float16", data=values.astype(np.float16)))
            whole = self.add_tensor(Tensor(name + "_float32", shape, "float32"))
            code = tflite.OPERATOR_CODES["DEQUANTIZE"]
            self.operators.append(Operator(code, (half,), (whole,), schema.DequantizeOptionsT()))
            return whole, values
        axes = tuple(i for i in range(len(shape)) if i != axis % len(shape))
        limits = np.abs(values).max(axes, keepdims=True) if self.mode == "int8" else np.abs(values).max()
        scales = (limits / 127).astype(np.float32)
        levels = np.rint(values / scales).astype(np.int8)
        flat = scales.reshape(-1)
        tensor = Tensor(name, shape, "int8", flat, np.zeros(len(flat), np.int64), axis % len(shape), levels)
        return self.add_tensor(tensor), values

    def layer(
        self, name: str, taps: tuple[int, ...], axis: int, shape: tuple[int, ...], options: Any
    ) -> Builder:
        """An operator with weights of the shape `taps` and a bias; the output's scale fits most sums."""
        source = self.last
        index, _ = self.weights(taps, axis)
        bias = self.random.normal(0, 0.1, taps[axis])
        tensor = Tensor(f"bias_{len(self.tensors)}", bias.shape, "float32", data=bias.astype(np.float32))
        scale = 1.0
        if self.mode == "int8":
            x, scales = self.tensors[source].scales, self.tensors[index].scales
            tensor.dtype, tensor.scales, tensor.zero_points = (
                "int32",
                x * scales,
                np.zeros(len(scales), np.int64),
            )
            tensor.data = np.rint(bias / tensor.scales).astype(np.int32)
            scale = float(x[0])
        return self.operator(name, [source, index, self.add_tensor(tensor)], shape, options, scale)

    def conv(
        self, channels: int, size: int = 3, stride: int = 1, padding: int = SAME, activation: int = RELU
    ) -> Builder:
        *_, depth = self.tensors[self.last].shape
        options = schema.Conv2DOptionsT(padding, stride, stride, activation, 1, 1)
        shape = (1, *self._window(size, stride, padding), channels)
        return self.layer("CONV_2D", (channels, size, size, depth), 0, shape, options)

    def depthwise(
        self, size: int = 3, stride: int = 1, padding: int = SAME, activation: int = RELU, multiplier: int = 1
    ) -> Builder:
        channels = self.tensors[self.last].shape[-1] * multiplier
        options = schema.DepthwiseConv2DOptionsT(padding, stride, stride, multiplier, activation, 1, 1)
        shape = (1, *self._window(size, stride, padding), channels)
        return self.layer("DEPTHWISE_CONV_2D", (1, size, size, channels), 3, shape, options)

    def dense(self, units: int, activation: int = NONE) -> Builder:
        terms = math.prod(self.tensors[self.last].shape)
        options = schema.FullyConnectedOptionsT(activation)
        return self.layer("FULLY_CONNECTED", (units, terms), 0, (1, units), options)

    def pool(self, name: str = "AVERAGE_POOL_2D", size: int = 2, stride: int = 2) -> Builder:
        options = schema.Pool2DOptionsT(VALID, stride, stride, size, size, NONE)
        *_, channels = self.tensors[self.last].shape
        return self.like_input(name, (1, *self._window(size, stride, VALID), channels), options)

    def add(self, other: int, activation: int = NONE) -> Builder:
        x = self.tensors[self.last]
        scale = 2 * float(x.scales[0]) if len(x.scales) else 1
        return self.operator("ADD", [self.last, other], x.shape, schema.AddOptionsT(activation), scale)

    def reshape(self, *shape: int) -> Builder:
        target = np.array(shape, np.int32)
        index = self.add_tensor(Tensor(f"shape_{len(self.tensors)}", target.shape, "int32", data=target))
        return self.like_input("RESHAPE", shape, schema.ReshapeOptionsT(list(shape)), (index,))

    def softmax(self) -> Builder:
        self.operator(
            "SOFTMAX", [self.last], self.tensors[self.last].shape, schema.SoftmaxOptionsT(1.0), 1 / 256
        )
        if self.mode == "int8":
            self.tensors[self.last].zero_points = np.array([-128], np.int64)
        return self

    def _window(self, size: int, stride: int, padding: int) -> tuple[int, int]:
        _, height, width, _ = self.tensors[self.last].shape
        less = size - 1 if padding == VALID else 0
        return -(-(height - less) // stride), -(-(width - less) // stride)


def small_network(mode: Mode = "int8", seed: int = 0) -> Builder:
    """Every operator that boards run, on an 8 x 8 x 3 image, five classes."""
    net = Builder((1, 8, 8, 3), mode, seed).conv(8)
    skipped = net.last
    net.depthwise().conv(8, size=1, activation=NONE).add(skipped, RELU)
    net.pool("MAX_POOL_2D").conv(12, stride=2, padding=VALID).depthwise(size=1, multiplier=2)
    return net.pool("AVERAGE_POOL_2D", size=1, stride=1).reshape(1, 24).dense(16, RELU6).dense(5).softmax()
