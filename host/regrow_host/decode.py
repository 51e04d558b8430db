"""`regrow decode`: grow a pack back into a `.tflite`."""

import argparse
from pathlib import Path

import numpy as np
from regrow import skeleton
from regrow.graph import WEIGHTS, Graph
from regrow.pack import ROLE_GRAPH, ROLE_WEIGHTS, USE_EXECUTOR, USE_LITERT, Pack
from regrow.weights import Weights

from regrow_host import console, files, graphmodel
from regrow_host.packfile import open_trusted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pack", type=Path, metavar="PACK.rgp")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT.tflite")


def run(args: argparse.Namespace) -> int:
    with open_trusted(args.pack) as pack:
        model = decode(pack)
    files.write(args.output, [model])
    console.show(f"{args.output}: {len(model):,} bytes")
    return 0


def decode(pack: Pack) -> bytes:
    """The `.tflite` for LiteRT; of a pack for boards only, an int8 one of its graph. Raises PackError."""
    if pack.manifest.targets & USE_LITERT:
        return b"".join(skeleton.pieces(pack))
    graph = Graph.parse(pack.reader(pack.part(ROLE_GRAPH, USE_EXECUTOR)))
    numbers = [tensor.number for tensor in graph.tensors if tensor.kind == WEIGHTS]
    return graphmodel.to_tflite(
        graph, {number: _levels(pack, number) for number in numbers}, pack.manifest.name
    )


def _levels(pack: Pack, number: int) -> graphmodel.Levels:
    weights = Weights(pack.reader(pack.part(ROLE_WEIGHTS, USE_EXECUTOR, number)))
    levels = np.empty(weights.count, np.int8)
    weights.read_levels(levels)
    return levels, np.array(weights.scales)
