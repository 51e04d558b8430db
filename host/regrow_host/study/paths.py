"""Which layers of a network have a path around them."""

from regrow_host import tflite
from regrow_host.tflite import Model


def bypassed(data: bytes) -> set[int]:
    """Indices of the operators without which the network's output still depends on its input."""
    model = tflite.read(data)
    return {each.operator for each in tflite.weight_tensors(model) if _reaches(model, each.operator)}


def _reaches(model: Model, without: int) -> bool:
    reached = set(model.inputs)
    for index, operator in enumerate(model.operators):
        if index != without and reached.intersection(operator.inputs):
            reached.update(operator.outputs)
    return bool(reached.intersection(model.outputs))
