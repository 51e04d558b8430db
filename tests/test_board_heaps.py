"""Networks of real size in the heaps of boards: import, load and predict, in processes of their own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builder import NONE, RELU6, Builder
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from regrow.errors import CapacityError
from regrow.executor import Executor
from regrow.pack import ROLE_GRAPH, ROLE_WEIGHTS, USE_EXECUTOR, open_pack
from regrow_host import graphfile, lower, packing, tflite, unixport
from regrow_host.encode import raw

KB = 1024


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return unixport.UnixPort(tmp_path_factory.mktemp("runtime"))


def dscnn() -> Builder:
    """The shape of MLPerf Tiny's keyword spotting network."""
    net = Builder((1, 49, 10, 1)).conv(64, size=5, stride=2)
    for _ in range(4):
        net.depthwise().conv(64, size=1)
    return net.pool(size=5, stride=5).reshape(1, 320).dense(12).softmax()


def resnet() -> Builder:
    """The shape of MLPerf Tiny's image classification network."""
    net = Builder((1, 32, 32, 3)).conv(16)
    for channels, stride in ((16, 1), (32, 2), (64, 2)):
        start = net.last
        net.conv(channels, stride=stride).conv(channels, activation=NONE)
        if stride > 1:
            end, net.last = net.last, start
            net.conv(channels, size=1, stride=stride, activation=NONE)
            start, net.last = net.last, end
        net.add(start, activation=1)
    return net.pool(size=8, stride=8).reshape(1, 64).dense(10).softmax()


def mobilenet() -> Builder:
    """The shape of MLPerf Tiny's visual wake words network."""
    net = Builder((1, 96, 96, 3)).conv(8, stride=2)
    for channels, stride in zip(
        (16, 32, 32, 64, 64, *[128] * 6, 256, 256), (1, 2, 1, 2, 1, 2, *[1] * 5, 2, 1), strict=True
    ):
        net.depthwise(stride=stride).conv(channels, size=1)
    return net.pool(size=3, stride=3).reshape(1, 256).dense(2).softmax()


def autoencoder() -> Builder:
    """The shape of MLPerf Tiny's anomaly detection network."""
    net = Builder((1, 640))
    for units in (128, 128, 128, 128, 8, 128, 128, 128, 128):
        net.dense(units, activation=1)
    return net.dense(640)


def mobilenet_v2() -> Builder:
    """MobileNetV2 of width 1.0 on 32 x 32, with dense layers of 128, 32 and 10: 2.4 million weights."""
    net = Builder((1, 32, 32, 3)).conv(32, stride=2, activation=RELU6)
    for expand, channels, count, stride in (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):
        for i in range(count):
            start = net.last
            depth = net.tensors[start].shape[3]
            if expand > 1:
                net.conv(expand * depth, size=1, activation=RELU6)
            net.depthwise(stride=1 if i else stride, activation=RELU6)
            net.conv(channels, size=1, activation=NONE)
            if i:
                net.add(start)
    net.conv(1280, size=1, activation=RELU6).reshape(1, 1280)
    return net.dense(128, RELU6).dense(32, RELU6).dense(10).softmax()


def write(model: bytes, folder: Path, samples: int) -> NDArray[Any]:
    """The pack `net.rgp` of a model and random `inputs`; the outputs that they must give."""
    lowered = lower.lower(tflite.read(model))
    parts = [packing.NewPart(ROLE_GRAPH, USE_EXECUTOR, 0, graphfile.write(lowered.graph))]
    for number, each in enumerate(lowered.weights):
        body = raw.encode(each.levels, each.scales, each.inner)
        parts.append(packing.NewPart(ROLE_WEIGHTS, USE_EXECUTOR, number, body))
    path = folder / "net.rgp"
    packing.build_pack(path, "net", 1, parts, arena=lowered.graph.arena, key=Ed25519PrivateKey.generate())
    shape = lowered.graph.tensors[lowered.graph.inputs[0]].shape
    x = np.random.default_rng(0).integers(-128, 128, (samples, *shape), np.int8)
    (folder / "inputs").write_bytes(x.tobytes())
    with open_pack(path) as pack:
        return np.asarray(Executor.of(pack).run([x])[0])


@pytest.mark.parametrize(
    ("build", "heap", "loaded"),
    [
        (dscnn, 66, 24272),
        (resnet, 86, 39188),
        (mobilenet, 120, 72576),
        (autoencoder, 62, 12 * KB),
        (mobilenet_v2, 160, 64 * KB),
    ],
)
def test_heaps_suffice(build: Any, heap: int, loaded: int, tmp_path: Path, port: Any) -> None:
    """For everything from the import on; `loaded`: the most bytes of a network that is loaded and predicts.

    Outputs equal numpy's, byte for byte.
    """
    wanted = write(build().bytes(), tmp_path, 2)
    report = port.run("bench", "net.rgp", "inputs", "outputs", heap=heap * KB, cwd=tmp_path)
    assert (tmp_path / "outputs").read_bytes() == wanted.tobytes()
    assert report["heap"]["load"] + report["heap"]["predict"] <= loaded
    assert report["heap"]["import"] <= 30 * KB


def test_a_plan_beyond_the_heap_is_refused_before_anything_is_written(tmp_path: Path, port: Any) -> None:
    write(resnet().bytes(), tmp_path, 1)
    with pytest.raises(CapacityError, match=r"needs 29928 bytes of heap and \d+ of \d+ are free"):
        port.run("bench", "net.rgp", "inputs", "outputs", heap=36 * KB, cwd=tmp_path)
    assert not list(tmp_path.glob("*.resident*"))
