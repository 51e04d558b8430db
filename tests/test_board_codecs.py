"""The real networks from packs of every codec: the board's outputs are numpy's, byte for byte."""

from pathlib import Path
from typing import Any

import mlperf
import numpy as np
import pytest
import regrow
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from regrow.codecs.gridmodel import Context, Model, Neighbour
from regrow.pack import ROLE_GRAPH, ROLE_WEIGHTS, USE_EXECUTOR
from regrow_host import bench, graphfile, lower, packing, tflite
from regrow_host.encode import central, grid, raw
from test_board_engine import COMPARE, micropython

FILES = {
    "kws": "mlperf_kws_dscnn_int8.tflite",
    "ic": "mlperf_ic_resnet8_int8.tflite",
    "vww": "mlperf_vww_mobilenetv1_025_int8.tflite",
    "ad": "mlperf_ad_autoencoder_int8.tflite",
}
SAMPLES = 2
ANY_LEVELS = Model(0, 128, 20, 1, 4096, (Neighbour(1, 9),), Context(1, 4, 8), 4, 40)


def of_raw(levels: Any, scales: Any, inner: int) -> bytes:
    return raw.encode(levels, scales, inner)


def of_central(levels: Any, scales: Any, inner: int) -> bytes:
    values = levels.reshape(-1, scales.size, inner) * scales[:, None]
    return central.encode(values.astype(np.float32), central.BATCH, central.UNIFORM, 16)


def of_grid(levels: Any, scales: Any, inner: int) -> bytes:
    return grid.encode(levels, scales, inner, model=ANY_LEVELS)


@pytest.mark.shared
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("encode", [of_raw, of_central, of_grid])
def test_real_networks_equal_numpy(encode: Any, name: str, shared: Path, tmp_path: Path) -> None:
    lowered = lower.lower(tflite.read((shared / "models" / FILES[name]).read_bytes()))
    parts = [packing.NewPart(ROLE_GRAPH, USE_EXECUTOR, 0, graphfile.write(lowered.graph))]
    for number, each in enumerate(lowered.weights):
        body = encode(each.levels, each.scales, each.inner)
        parts.append(packing.NewPart(ROLE_WEIGHTS, USE_EXECUTOR, number, body))
    pack = tmp_path / f"{name}.rgp"
    packing.build_pack(pack, name, 1, parts, arena=lowered.graph.arena, key=Ed25519PrivateKey.generate())
    data = tmp_path / "data.npz"
    x, y = mlperf.SETS[name](shared / "data")
    np.savez(data, x=x[:SAMPLES], y=y[:SAMPLES])
    with regrow.load(pack, "numpy") as network:
        given = bench.integers(network, data, SAMPLES)
        outputs = np.asarray(network.predict(given)).reshape(SAMPLES, -1)
    with (tmp_path / f"{name}.bin").open("wb") as file:
        for sample, output in zip(given, outputs, strict=True):
            file.write(sample.tobytes() + output.tobytes())
    assert micropython(COMPARE, tmp_path, name).split() == [name, str(SAMPLES), str(SAMPLES)]
