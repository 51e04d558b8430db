"""A network that does the same in fewer operators: what converters spread over several becomes one again."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

import numpy as np
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
from numpy.typing import NDArray

from .operators import resize_map
from .runner import computed
from .tflite import (
    OPERATOR_CODES,
    WEIGHT_OPERATORS,
    Array,
    Model,
    Operator,
    Tensor,
    build,
    without_unused_tensors,
)

INTEGERS = "int32", "int64"
RESIZE = "RESIZE_NEAREST_NEIGHBOR"
Integers = NDArray[np.int64]
Floats = NDArray[np.float32]


def simplified(data: bytes, model: Model) -> bytes:
    """The `.tflite`, whose `model` is given, without the arithmetic of shapes (devices run one sample at a
    time), dilation written as SPACE_TO_BATCH_ND, larger images as TILE, other shapes as EXPAND_DIMS or
    SQUEEZE, shapes that nothing works in, and what is added to or multiplied with the outputs of a float32
    layer; as it is where it has none.

    Raises BackendError where LiteRT cannot run it.
    """
    smaller = _resized(_dilated(_with_known_shapes(data, model)))
    smaller = _folded(_reshaped_once(_reshaped(smaller)))
    return data if smaller is model else build(smaller)


def _with_known_shapes(data: bytes, model: Model) -> Model:
    """Integers that follow from shapes and constants alone become constants."""
    graph = model.subgraphs[0]
    known: set[int] = set()
    kept = []
    for operator in graph.operators:
        follows = operator.name == "SHAPE" or (
            known.intersection(operator.inputs)
            and all(i in known or i < 0 or graph.tensors[i].data is not None for i in operator.inputs)
        )
        if follows and all(graph.tensors[i].dtype in INTEGERS for i in operator.outputs):
            known.update(operator.outputs)
        else:
            kept.append(operator)
    if not known or known.intersection(graph.outputs):
        return model
    tensors = list(graph.tensors)
    made = {i for operator in graph.operators for i in operator.outputs}
    for index, values in computed(data, sorted(made)).items():
        # Converters write 1 for every size that they do not know.
        tensors[index] = replace(tensors[index], shape=values.shape, shape_signature=())
        if index in known:
            tensors[index] = _constant(tensors[index].name, values)
    return _with_network(model, tensors, kept)


def _resized(model: Model) -> Model:
    """EXPAND_DIMS, TILE and RESHAPE that repeat the rows or columns of an image become a resizing of it."""
    for operator in model.operators:
        chain = _chain(model, operator, 3) if operator.name == "EXPAND_DIMS" else []
        if [each.name for each in chain] == ["EXPAND_DIMS", "TILE", "RESHAPE"]:
            resizing = _resizing(model, chain)
            if resizing:
                return _resized(_in_place_of(model, chain, *resizing))
    return model


def _resizing(model: Model, chain: Sequence[Operator]) -> tuple[list[Tensor], list[Operator]] | None:
    """What takes the chain's place; None where it does something else. Two in a row are one."""
    source, target = chain[0].inputs[0], chain[-1].outputs[0]
    x, y, wide = (model.tensors[i].shape for i in (source, target, chain[0].outputs[0]))
    times = model.tensors[chain[1].inputs[1]].data
    if len(x) != 4 or len(y) != 4 or times is None or len(times) != 5 or x[::3] != y[::3]:
        return None
    axes = [axis for axis in (1, 2) if y[axis] != x[axis]]
    if len(axes) != 1 or wide != (*x[: axes[0] + 1], 1, *x[axes[0] + 1 :]):
        return None
    factor, rest = divmod(y[axes[0]], x[axes[0]])
    options = schema.ResizeNearestNeighborOptionsT()
    rows = [i // factor for i in range(y[axes[0]])] if factor else []
    repeats = times.tolist() == [factor if axis == axes[0] + 1 else 1 for axis in range(5)]
    if rest or not repeats or resize_map(x[axes[0]], y[axes[0]], options) != rows:
        return None
    before = next((each for each in model.operators if source in each.outputs), None)
    if before and before.name == RESIZE and len(_chain(model, before, 2)) == 2:
        source = before.inputs[0]
    sizes = _constant(f"{model.tensors[target].name}/size", np.array(y[1:3], np.int32))
    inputs = source, len(model.tensors)
    return [*model.tensors, sizes], [Operator(OPERATOR_CODES[RESIZE], inputs, (target,), options)]


def _dilated(model: Model) -> Model:
    """SPACE_TO_BATCH_ND, a convolution and BATCH_TO_SPACE_ND become the dilated convolution that they are."""
    for operator in model.operators:
        if operator.name == "SPACE_TO_BATCH_ND":
            chain = _chain(model, operator, 5)
            dilation = _dilation(model, chain) if _dilatable(chain) else None
            if dilation:
                return _dilated(_joined(model, chain, *dilation))
    return model


def _reshaped(model: Model) -> Model:
    """EXPAND_DIMS and SQUEEZE become the RESHAPE that they are, which quantizers know."""
    tensors, operators = list(model.tensors), []
    for operator in model.operators:
        if operator.name in ("EXPAND_DIMS", "SQUEEZE"):
            target = model.tensors[operator.outputs[0]]
            tensors.append(_constant(f"{target.name}/shape", np.array(target.shape, np.int32)))
            inputs, options = (operator.inputs[0], len(tensors) - 1), schema.ReshapeOptionsT([*target.shape])
            operators.append(Operator(OPERATOR_CODES["RESHAPE"], inputs, operator.outputs, options))
        else:
            operators.append(operator)
    return model if len(tensors) == len(model.tensors) else _with_network(model, tensors, operators)


def _reshaped_once(model: Model) -> Model:
    """A RESHAPE of what is reshaped already takes what was there before; one to the shape there is goes."""
    before: dict[int, int] = {}
    same: dict[int, int] = {}
    operators, changed = [], False
    for each in model.operators:
        inputs = tuple(same.get(i, i) for i in each.inputs)
        output = each.outputs[0] if each.outputs else -1
        if each.name == "RESHAPE":
            before[output] = before.get(inputs[0], inputs[0])
            inputs = before[output], *inputs[1:]
            if model.tensors[inputs[0]].shape == model.tensors[output].shape and output not in model.outputs:
                same[output] = inputs[0]
        changed = changed or inputs != each.inputs or output in same
        operators.append(replace(each, inputs=inputs))
    if not changed:
        return model
    used = {i for each in operators for i in each.inputs} | set(model.outputs)
    kept = [each for each in operators if not each.outputs or used.intersection(each.outputs)]
    return _with_network(model, list(model.tensors), kept)


def _folded(model: Model) -> Model:
    """ADD and MUL of a constant per channel go into the bias and the weights of the float32 layer before."""
    for operator in model.operators:
        constants = [i for i in operator.inputs if i >= 0 and model.tensors[i].data is not None]
        if operator.name in ("ADD", "MUL") and len(operator.inputs) == 2 and len(constants) == 1:
            chain = _layer_before(model, operator, constants[0])
            if chain:
                return _folded(_into_layer(model, chain, model.tensors[constants[0]].real().reshape(-1)))
    return model


def _layer_before(model: Model, operator: Operator, constant: int) -> list[Operator]:
    """A layer, RESHAPEs and that operator, where its constant can go into the layer; else nothing."""
    chain = [operator]
    while chain[0].name not in WEIGHT_OPERATORS:
        before = [each for each in model.operators if set(chain[0].inputs).intersection(each.outputs)]
        if len(before) != 1 or before[0].name not in ("RESHAPE", *WEIGHT_OPERATORS):
            return []
        given = before[0].outputs[0]
        users = sum(each.inputs.count(given) for each in model.operators) + model.outputs.count(given)
        if users != 1 or model.tensors[given].shape[-1:] != model.tensors[operator.outputs[0]].shape[-1:]:
            return []
        chain.insert(0, before[0])
    channels = model.tensors[chain[0].outputs[0]].shape[-1]
    shape = model.tensors[constant].shape
    own = [i for i in chain[0].layer_inputs[1:] if i >= 0]
    alone = all(sum(each.inputs.count(i) for each in model.operators) == 1 for i in own)
    floats = all(model.tensors[i].data is not None and model.tensors[i].dtype == "float32" for i in own)
    fits = shape[-1:] == (channels,) == (model.tensors[constant].data.size,)  # type: ignore[union-attr]
    free = chain[0].options.fusedActivationFunction == schema.ActivationFunctionType.NONE
    return chain if alone and floats and fits and free else []


def _into_layer(model: Model, chain: Sequence[Operator], values: Floats) -> Model:
    tensors, layer, last = list(model.tensors), chain[0], chain[-1]
    _, weights, bias = layer.layer_inputs
    before = tensors[bias].real() if bias >= 0 else np.zeros(len(values), np.float32)
    added = before * values if last.name == "MUL" else before + values
    if last.name == "MUL":
        _, axis, _ = WEIGHT_OPERATORS[layer.name]
        along = [
            len(values) if i == axis % len(tensors[weights].shape) else 1
            for i in range(len(tensors[weights].shape))
        ]
        tensors[weights] = replace(
            tensors[weights], data=tensors[weights].real() * values.reshape(along), buffer=None
        )
    tensors.append(_constant(f"{tensors[last.outputs[0]].name}/bias", added))
    options = copy(layer.options)
    options.fusedActivationFunction = last.options.fusedActivationFunction
    place = 3 if layer.name == "TRANSPOSE_CONV" else 2
    inputs = *layer.inputs[:place], len(tensors) - 1
    changed = [replace(layer, inputs=inputs, options=options), *chain[1:-1]]
    changed[-1] = replace(changed[-1], outputs=last.outputs)
    return _in_place_of(model, chain, tensors, changed)


def _chain(model: Model, first: Operator, most: int) -> list[Operator]:
    """That operator and those behind it, each the only one that takes what the one before gives."""
    chain = [first]
    while len(chain) < most and chain[-1].name != "BATCH_TO_SPACE_ND":
        given = chain[-1].outputs[0]
        users = [each for each in model.operators if given in each.inputs]
        if len(users) != 1 or given in model.outputs:
            break
        chain.append(users[0])
    return chain


def _dilatable(chain: Sequence[Operator]) -> bool:
    names = [each.name for each in chain[1:]]
    if names[:1] == ["EXPAND_DIMS"] and names[2:3] == ["RESHAPE"]:  # a line of values becomes an image for it
        names = [names[1], *names[3:]]
    return names in (["CONV_2D", "BATCH_TO_SPACE_ND"], ["DEPTHWISE_CONV_2D", "BATCH_TO_SPACE_ND"])


def _dilation(model: Model, chain: Sequence[Operator]) -> tuple[Integers, Integers] | None:
    """Per axis of the image the dilation and what is added (before, behind); None where the chain is none."""
    first, layer, last = chain[0], chain[len(chain) // 2], chain[-1]
    x, y = model.tensors[first.inputs[0]], model.tensors[last.outputs[0]]
    constants = [model.tensors[i].data for i in (*first.inputs[1:], *last.inputs[1:])]
    options, rank = layer.options, len(x.shape) - 2
    steps = {options.strideH, options.strideW, options.dilationHFactor, options.dilationWFactor}
    if steps != {1} or options.padding != schema.Padding.VALID or x.shape[:1] != (1,):
        return None
    if any(each is None or len(each) != rank for each in constants) or rank != (1 if len(chain) > 3 else 2):
        return None
    block, paddings, same, crops = (each.astype(np.int64) for each in constants if each is not None)
    pad = paddings - crops
    reach = _reach(model, layer, block)
    whole = np.array(x.shape[1:-1]) + pad.sum(axis=1) - reach
    if (block != same).any() or crops[:, 0].any() or (pad < 0).any() or y.shape[1:-1] != tuple(whole):
        return None
    return block, pad


def _reach(model: Model, layer: Operator, block: Integers) -> Integers:
    """By how many rows and columns the dilated filter exceeds one."""
    sizes = model.tensors[layer.inputs[1]].shape[1:3]
    return (np.array(sizes[-len(block) :]) - 1) * block


def _joined(model: Model, chain: Sequence[Operator], block: Integers, pad: Integers) -> Model:
    """The model with a dilated layer in place of the chain."""
    tensors, operators = list(model.tensors), []
    layer = chain[len(chain) // 2]
    source, target = chain[0].inputs[0], chain[-1].outputs[0]
    options = copy(layer.options)
    options.dilationHFactor, options.dilationWFactor = (1, *block.tolist())[-2:]

    def add(tensor: Tensor) -> int:
        tensors.append(replace(tensor, shape_signature=()))
        return len(tensors) - 1

    reach = _reach(model, layer, block)
    if np.array_equal(pad, np.stack([reach // 2, reach - reach // 2], axis=1)):
        options.padding = schema.Padding.SAME
    elif pad.any():
        x = tensors[source]
        around = np.concatenate([[[0, 0]], pad, [[0, 0]]]).astype(np.int32)
        shape = tuple(int(size) for size in np.array(x.shape) + around.sum(axis=1))
        taken = source, add(_constant(f"{x.name}/paddings", around))
        source = add(replace(x, name=f"{x.name}/padded", shape=shape))
        operators.append(Operator(OPERATOR_CODES["PAD"], taken, (source,), schema.PadOptionsT()))
    if len(chain) == 3:
        operators.append(
            replace(layer, inputs=(source, *layer.inputs[1:]), outputs=(target,), options=options)
        )
    else:
        _, expand, _, squeeze, _ = chain
        given, wide = tensors[source].shape, tensors[target].shape
        row = add(replace(tensors[expand.outputs[0]], shape=(1, *given)))
        result = add(replace(tensors[layer.outputs[0]], shape=(1, *wide)))
        sizes = add(_constant(f"{tensors[target].name}/shape", np.array(wide, np.int32)))
        operators += [
            replace(expand, inputs=(source, *expand.inputs[1:]), outputs=(row,)),
            replace(layer, inputs=(row, *layer.inputs[1:]), outputs=(result,), options=options),
            replace(squeeze, inputs=(result, sizes), outputs=(target,), options=None),
        ]
    return _in_place_of(model, chain, tensors, operators)


def _in_place_of(
    model: Model, chain: Sequence[Operator], tensors: list[Tensor], operators: list[Operator]
) -> Model:
    rest = [each for each in model.operators if all(each is not other for other in chain)]
    place = model.operators.index(chain[-1]) + 1 - len(chain)
    kept = rest[:place] + operators + rest[place:]
    used = {i for each in kept for i in each.inputs} | set(model.outputs)
    return _with_network(model, tensors, [each for each in kept if used.intersection(each.outputs)])


def _constant(name: str, values: Array) -> Tensor:
    return Tensor(name, values.shape, str(values.dtype), data=values)


def _with_network(model: Model, tensors: list[Tensor], operators: list[Operator]) -> Model:
    graph = replace(model.subgraphs[0], tensors=tensors, operators=operators)
    return without_unused_tensors(replace(model, subgraphs=[graph, *model.subgraphs[1:]]))
