"""Make the golden network, every operator and codec in one small pack: cd tests && python -m golden.network

`network.rgp` is for both runtimes and carries a probe for each, `network.tflite` is what its skeleton gives.
`network_in.bin` holds SAMPLES inputs, int8 and one after the other, `network_out.bin` the executor's outputs.
"""

import struct
import sys
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from regrow import pack
from regrow.codecs.gridmodel import Context, Model, Neighbour
from regrow.executor import Executor
from regrow.graph import ACTIVATION, CONSTANT, WEIGHTS, Graph, Op, Tensor
from regrow.network import Network
from regrow.reader import Reader
from regrow.weights import Weights
from regrow_host import graphfile, graphmodel, planner, probefile, skeletonfile
from regrow_host.encode import central, grid, raw
from regrow_host.packing import NewPart, build_pack

FOLDER = Path(__file__).parent
KEY = Ed25519PrivateKey.from_private_bytes(sha256(b"regrow golden packs").digest())
INT8, INT32 = np.dtype(np.int8), np.dtype(np.int32)
SAMPLES = 8
RELU, RELU6 = 1, 3
SAME, VALID = 0, 1


class Builder:
    """Tensors, ops and weights of a graph, one layer after the other, from a fixed seed."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(7)
        self.tensors: list[Tensor] = []
        self.ops: list[Op] = []
        self.parts: list[bytes] = []

    def values(self, shape: tuple[int, ...], scale: float, zero_point: int) -> int:
        self.tensors.append(Tensor(ACTIVATION, INT8, shape, float(np.float32(scale)), zero_point))
        return len(self.tensors) - 1

    def op(self, code: int, inputs: tuple[int, ...], output: int, options: bytes) -> int:
        self.ops.append(Op(code, inputs, (output,), options))
        return output

    def layer(
        self, code: int, ends: tuple[int, int], filters: tuple[int, ...], options: bytes, codec: str
    ) -> int:
        """A layer from one tensor to another, of random weights in that codec."""
        axis = 3 if code == 4 else 0
        channels = filters[axis]
        count = int(np.prod(filters))
        spread = 12.0 if codec == "grid" else 40.0
        levels = np.clip(np.rint(self.rng.normal(0, spread, count)), -127, 127).astype(np.int8)
        scales = np.exp(self.rng.uniform(-5, -4, channels)).astype(np.float32)
        inner = 1 if axis else count // channels
        if codec == "central":
            part = central.encode(levels * scales.mean(), central.BATCH, central.UNIFORM, 16, 5)
        elif codec == "grid":
            model = Model(0, 127, 59, 6, 64, (Neighbour(filters[-1], 9),), Context(1, 3, 8), 4, 90)
            part = grid.encode(levels, scales, inner, model=model)
        else:
            part = raw.encode(levels, scales, inner)
        self.parts.append(part)
        self.tensors.append(Tensor(WEIGHTS, INT8, filters, number=len(self.parts) - 1))
        weights = len(self.tensors) - 1
        bias = self.rng.integers(-3000, 3000, channels, np.int32)
        self.tensors.append(Tensor(CONSTANT, INT32, bias.shape, data=bias))
        return self.op(code, (ends[0], weights, weights + 1), ends[1], options)

    def grown(self) -> dict[int, tuple[NDArray[np.int8], NDArray[np.float32]]]:
        """Levels and scales by number, as they come out of the parts."""
        result = {}
        for number, part in enumerate(self.parts):
            weights = weights_of(part)
            levels = np.empty(weights.count, np.int8)
            weights.read_levels(levels)
            result[number] = levels, weights.scales.copy()
        return result


def weights_of(part: bytes) -> Weights:
    return Weights(Reader(BytesIO(part), 0, len(part)))


def network() -> tuple[Graph, Builder]:
    """Residual and depthwise blocks, both poolings, reshape, dense and softmax."""
    net = Builder()
    x = net.values((1, 12, 12, 3), 1 / 128, -1)
    a = net.values((1, 6, 6, 8), 0.02, -128)
    net.layer(3, (x, a), (8, 3, 3, 3), bytes([2, 2, 1, 1, SAME, RELU]), "raw")
    b = net.values((1, 6, 6, 8), 0.0235294122248888, -128)
    net.layer(4, (a, b), (1, 3, 3, 8), bytes([1, 1, 2, 2, SAME, RELU6]), "grid")
    c = net.values((1, 6, 6, 8), 0.015, 9)
    net.layer(3, (b, c), (8, 1, 1, 8), bytes([1, 1, 1, 1, SAME, 0]), "grid")
    d = net.values((1, 6, 6, 8), 0.025, -70)
    net.op(0, (a, c), d, bytes([0]))
    e = net.values((1, 3, 3, 8), 0.025, -70)
    net.op(17, (d,), e, bytes([2, 2, 2, 2, VALID, RELU]))
    f = net.values((1, 3, 3, 16), 0.04, -10)
    net.layer(4, (e, f), (1, 2, 2, 16), bytes([1, 1, 1, 1, SAME, 0]), "raw")
    g = net.values((1, 2, 2, 16), 0.04, -10)
    net.op(1, (f,), g, bytes([2, 2, 2, 2, SAME, 0]))
    h = net.op(22, (g,), net.values((1, 64), 0.04, -10), b"")
    i = net.values((1, 32), 0.07, -128)
    net.layer(9, (h, i), (32, 64), bytes([RELU]), "central")
    j = net.values((1, 10), 0.04, 11)
    net.layer(9, (i, j), (10, 32), bytes([0]), "grid")
    k = net.op(25, (j,), net.values((1, 10), 1 / 256, -128), struct.pack("<f", 0.5))
    graph = planner.plan(Graph(tuple(net.tensors), tuple(net.ops), (x,), (k,), arena=0))
    graph.check()
    return graph, net


def main(folder: Path) -> None:
    graph, net = network()
    executor = Executor(graph, lambda number: weights_of(net.parts[number]))
    colours = net.rng.normal(0, 70, (SAMPLES, 1, 1, 1, 3))
    x = np.clip(np.rint(net.rng.normal(colours, 40, (SAMPLES, 1, 12, 12, 3))), -128, 127).astype(np.int8)
    y = executor.run([x])[0]
    (folder / "network_in.bin").write_bytes(x.tobytes())
    (folder / "network_out.bin").write_bytes(y.tobytes())

    data = graphmodel.to_tflite(graph, net.grown(), "golden network")
    (folder / "network.tflite").write_bytes(data)
    with Network("network", 1, executor, lambda: None) as loaded:
        probe = probefile.write(loaded, np.zeros((1, 12, 12, 3), np.float32), seed=3)
    by_litert = bytearray(probe)
    by_litert[1] = 2  # domain: integers of LiteRT
    by_litert[16:20] = struct.pack("<f", 2)  # tolerance, in levels
    parts = [
        NewPart(pack.ROLE_GRAPH, pack.USE_EXECUTOR, 0, graphfile.write(graph)),
        NewPart(pack.ROLE_SKELETON, pack.USE_LITERT, 0, skeletonfile.write(data)),
        *(NewPart(pack.ROLE_WEIGHTS, pack.USE_BOTH, n, part) for n, part in enumerate(net.parts)),
        NewPart(pack.ROLE_PROBE, pack.USE_EXECUTOR, 0, probe),
        NewPart(pack.ROLE_PROBE, pack.USE_LITERT, 0, bytes(by_litert)),
    ]
    build_pack(folder / "network.rgp", "network", 1, parts, arena=graph.arena, key=KEY)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
