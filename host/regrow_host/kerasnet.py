"""A float `.tflite` network in Keras on JAX, so that its weights and biases can be trained.

Activations stand as in the file: batch first, channels last. Operators mean what TFLite's float kernels
compute.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from regrow.errors import InputError

from regrow_host import tflite
from regrow_host.tflite import Model, Operator

os.environ["KERAS_BACKEND"] = "jax"
from keras import ops

Array = Any
"""Of JAX, or traced by it."""

NONE, RELU, RELU_N1_TO_1, RELU6, TANH = range(5)
"""Padding and fused activations of schema.fbs."""
PADDINGS = "same", "valid"

ACTIVATIONS: dict[int, Callable[[Array], Array]] = {
    NONE: lambda x: x,
    RELU: ops.relu,
    RELU_N1_TO_1: lambda x: ops.clip(x, -1, 1),
    RELU6: ops.relu6,
    TANH: ops.tanh,
}


class KerasNetwork:
    """Call it with samples (n, *input shape without batch) and, by tensor index, what replaces constants.

    Gives the output (n, *output shape without batch); without a last SOFTMAX or LOGISTIC if `logits` is set,
    which is where a distance of outputs is best taken. Raises InputError for an operator it does not know and
    for weights that are not float32.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        if any(model.tensors[each.tensor].dtype != "float32" for each in tflite.weight_tensors(model)):
            raise InputError("the network cannot be trained: only float32 weights can, and it has others")
        for index, operator in enumerate(model.operators):
            if operator.name not in OPERATORS:
                known = ", ".join(sorted(OPERATORS))
                raise InputError(
                    f"the network cannot be trained: operator {index} ({operator.name}) is none of {known}"
                )
        self._constants = {
            index: np.array(tensor.data)
            for index, tensor in enumerate(model.tensors)
            if tensor.data is not None and tensor.dtype in ("float32", "int32", "int64")
        }

    def __call__(self, x: Array, given: Mapping[int, Array], *, logits: bool = False) -> Array:
        return self.finish(0, self._begin(x), given, logits=logits)

    def reach(self, operator: int, x: Array, given: Mapping[int, Array]) -> dict[int, Array]:
        """The activations that the operators from that one on take, by tensor index."""
        first, later = self._model.operators[:operator], self._model.operators[operator:]
        values = self._run(first, self._begin(x), given)
        taken = {i for each in later for i in each.inputs}
        made = {self._model.inputs[0], *(i for each in first for i in each.outputs)}
        return {i: values[i] for i in sorted(taken & made)}

    def finish(
        self, operator: int, state: Mapping[int, Array], given: Mapping[int, Array], *, logits: bool = False
    ) -> Array:
        """The output from what `reach` gave."""
        operators = self._model.operators[operator:]
        if logits and operators[-1].name in ("SOFTMAX", "LOGISTIC"):
            operators = operators[:-1]
        last = operators[-1].outputs[0]
        y = self._run(operators, state, given)[last]
        return ops.reshape(y, (len(y), *self._model.tensors[last].shape[1:]))

    def _begin(self, x: Array) -> dict[int, Array]:
        index = self._model.inputs[0]
        return {index: ops.reshape(x, (len(x), *self._model.tensors[index].shape[1:]))}

    def _run(
        self, operators: Sequence[Operator], state: Mapping[int, Array], given: Mapping[int, Array]
    ) -> dict[int, Array]:
        values: dict[int, Array] = {**self._constants, **given, **state}
        for operator in operators:
            inputs = [values[i] if i >= 0 else None for i in operator.inputs]
            shape = self._model.tensors[operator.outputs[0]].shape
            values[operator.outputs[0]] = OPERATORS[operator.name](operator, inputs, shape)
        return values


Inputs = list[Any]
Shape = tuple[int, ...]
Rule = Callable[[Operator, Inputs, Shape], Array]
"""From an operator, its inputs and the shape of its output to the output."""


def _activated(operator: Operator, x: Array) -> Array:
    return ACTIVATIONS[operator.options.fusedActivationFunction](x)


def _conv(operator: Operator, inputs: Inputs, _: Shape) -> Array:
    """Filters are (out, h, w, in)."""
    x, filters, bias = (*inputs, None)[:3]
    y = ops.conv(x, ops.transpose(filters, (1, 2, 3, 0)), **_geometry(operator))
    return _activated(operator, y if bias is None else y + bias)


def _depthwise(operator: Operator, inputs: Inputs, _: Shape) -> Array:
    """Filters are (1, h, w, out), the outputs of one channel side by side."""
    x, filters, bias = (*inputs, None)[:3]
    kernel = ops.reshape(filters, (*filters.shape[1:3], x.shape[3], -1))
    y = ops.depthwise_conv(x, kernel, **_geometry(operator))
    return _activated(operator, y if bias is None else y + bias)


def _geometry(operator: Operator) -> dict[str, Any]:
    options = operator.options
    return {
        "strides": (options.strideH, options.strideW),
        "padding": PADDINGS[options.padding],
        "data_format": "channels_last",
        "dilation_rate": (options.dilationHFactor, options.dilationWFactor),
    }


def _dense(operator: Operator, inputs: Inputs, shape: Shape) -> Array:
    x, weights, bias = (*inputs, None)[:3]
    y = ops.matmul(ops.reshape(x, (-1, weights.shape[1])), ops.transpose(weights))
    y = y if bias is None else y + bias
    return _activated(operator, ops.reshape(y, (len(x), *shape[1:])))


def _pool(compute: Callable[..., Array]) -> Rule:
    def pooled(operator: Operator, inputs: Inputs, _: Shape) -> Array:
        options = operator.options
        size, strides = (options.filterHeight, options.filterWidth), (options.strideH, options.strideW)
        y = compute(inputs[0], size, strides, PADDINGS[options.padding], data_format="channels_last")
        return _activated(operator, y)

    return pooled


def _pairwise(compute: Callable[[Array, Array], Array]) -> Rule:
    return lambda operator, inputs, _: _activated(operator, compute(inputs[0], inputs[1]))


def _mean(operator: Operator, inputs: Inputs, _: Shape) -> Array:
    x, axes = inputs
    return ops.mean(x, tuple(axes.reshape(-1).tolist()), keepdims=bool(operator.options.keepDims))


def _reshape(_: Operator, inputs: Inputs, shape: Shape) -> Array:
    return ops.reshape(inputs[0], (len(inputs[0]), *shape[1:]))


def _concatenation(operator: Operator, inputs: Inputs, _: Shape) -> Array:
    return _activated(operator, ops.concatenate(inputs, operator.options.axis))


def _elementwise(compute: Callable[[Array], Array]) -> Rule:
    return lambda _, inputs, __: compute(inputs[0])


OPERATORS: dict[str, Rule] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
    "AVERAGE_POOL_2D": _pool(ops.average_pool),
    "MAX_POOL_2D": _pool(ops.max_pool),
    "ADD": _pairwise(ops.add),
    "SUB": _pairwise(ops.subtract),
    "MUL": _pairwise(ops.multiply),
    "MEAN": _mean,
    "RESHAPE": _reshape,
    "SQUEEZE": _reshape,
    "EXPAND_DIMS": _reshape,
    "PAD": lambda _, inputs, __: ops.pad(inputs[0], inputs[1].tolist()),
    "TRANSPOSE": lambda _, inputs, __: ops.transpose(inputs[0], inputs[1].tolist()),
    "CONCATENATION": _concatenation,
    "SOFTMAX": lambda operator, inputs, _: ops.softmax(operator.options.beta * inputs[0]),
    "LOGISTIC": _elementwise(ops.sigmoid),
    "TANH": _elementwise(ops.tanh),
    "RELU": _elementwise(ops.relu),
    "RELU6": _elementwise(ops.relu6),
    "RELU_N1_TO_1": _elementwise(lambda x: ops.clip(x, -1, 1)),
    "HARD_SWISH": _elementwise(ops.hard_silu),
    "LEAKY_RELU": lambda operator, inputs, _: ops.leaky_relu(inputs[0], operator.options.alpha),
}
