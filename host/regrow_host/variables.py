"""The resource variables of a streaming model: what holds its state between inferences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .tflite import Model, ModelError, Operator, Subgraph, Tensor, as_levels


@dataclass(frozen=True)
class State:
    """One variable, and the constant that CALL_ONCE assigns to it (None if nothing does)."""

    number: int
    name: str
    initial: Tensor | None

    def fill(self, like: Tensor, refuse: Callable[[str], ModelError]) -> int:
        """The byte that all of its int8 values start with."""
        if self.initial is None or self.initial.data is None:
            raise refuse(f"uses the variable {self.name}, which nothing initializes")
        if (self.initial.shape, self.initial.dtype) != (like.shape, like.dtype):
            raise refuse(f"uses the variable {self.name} in another shape or type than it starts with")
        levels = as_levels(self.initial.data).reshape(-1)
        if (levels != levels[0]).any():
            raise refuse(f"uses the variable {self.name}, which starts with different values")
        return int(levels.view(np.uint8)[0])


def find(model: Model) -> dict[int, State]:
    """The variable behind each resource tensor of the network."""
    initial: dict[str, Tensor] = {}
    for operator in model.operators:
        if operator.name == "CALL_ONCE":
            number = getattr(operator.options, "initSubgraphIndex", 0)
            if not 0 < number < len(model.subgraphs):
                raise ModelError(f"the .tflite file is damaged: CALL_ONCE calls subgraph {number}")
            initial.update(_assigned(model.subgraphs[number]))
    handles = _handles(model.subgraphs[0])
    numbers = {name: number for number, name in enumerate(sorted(set(handles.values())))}
    return {i: State(numbers[name], name, initial.get(name)) for i, name in handles.items()}


def outlives_reading(model: Model, reading: Operator) -> bool:
    """Whether all uses of what a READ_VARIABLE gives come before the variable is assigned again."""
    names, operators = _handles(model.subgraphs[0]), model.operators
    start, output = operators.index(reading), reading.outputs[0]
    for operator in operators[start:]:
        if operator.name == "ASSIGN_VARIABLE" and names.get(operator.inputs[0]) == names.get(
            reading.inputs[0]
        ):
            later = operators[operators.index(operator) :]
            return output not in model.outputs and not any(output in each.inputs for each in later)
    return output not in model.outputs


def _handles(graph: Subgraph) -> dict[int, str]:
    """Resource tensor -> the variable's name."""
    return {
        i: _text(operator.options.container) + "/" + _text(operator.options.sharedName)
        for operator in graph.operators
        if operator.name == "VAR_HANDLE" and operator.options is not None
        for i in operator.outputs
    }


def _text(value: bytes | str | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""


def _assigned(graph: Subgraph) -> dict[str, Tensor]:
    """The constants that a subgraph assigns, by the variable's name."""
    handles = _handles(graph)
    return {
        handles[operator.inputs[0]]: graph.tensors[operator.inputs[1]]
        for operator in graph.operators
        if operator.name == "ASSIGN_VARIABLE" and operator.inputs[0] in handles
    }
