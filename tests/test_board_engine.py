"""The board's executor under the real MicroPython and, kernel by kernel, on ints of 32 bits."""

import itertools
import json
import math
import os
import shutil
import struct
import subprocess
import sysconfig
import types
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import viper32
from ai_edge_litert import interpreter
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from regrow import quant
from regrow.executor import Executor
from regrow.graph import ACTIVATION, CONSTANT, WEIGHTS, Graph, Op, Tensor
from regrow.pack import ROLE_GRAPH, ROLE_WEIGHTS, USE_EXECUTOR, open_pack
from regrow_host import graphfile, lower, packing, tflite
from regrow_host.encode import raw

Array = NDArray[Any]

BOARD = Path(__file__).parent.parent / "micropython"
KERNELS = BOARD / "regrow" / "kernels"
SCRIPTS = sysconfig.get_path("scripts") + os.pathsep + os.environ.get("PATH", os.defpath)
MICROPYTHON = shutil.which("micropython", path=SCRIPTS)

ADD, AVERAGE_POOL_2D, CONV_2D, DEPTHWISE_CONV_2D = 0, 1, 3, 4
FULLY_CONNECTED, MAX_POOL_2D, RESHAPE, SOFTMAX = 9, 17, 22, 25
INT8, INT32 = np.dtype(np.int8), np.dtype(np.int32)
SAMPLES = 3


def micropython(script: str, folder: Path, *arguments: str, heap: str = "1m") -> str:
    """What the script prints; its failure is the test's."""
    (folder / "script.py").write_text(script)
    run = subprocess.run(
        [str(MICROPYTHON), "-X", f"heapsize={heap}", "script.py", *arguments],
        env=os.environ | {"MICROPYPATH": f"{BOARD}:.frozen"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def write_pack(path: Path, graph: Graph, weights: Sequence[tuple[Array, Array, int]]) -> None:
    """`weights`: levels, scales and inner of every weight number."""
    parts = [packing.NewPart(ROLE_GRAPH, USE_EXECUTOR, 0, graphfile.write(graph))]
    for number, each in enumerate(weights):
        parts.append(packing.NewPart(ROLE_WEIGHTS, USE_EXECUTOR, number, raw.encode(*each)))
    key = Ed25519PrivateKey.generate()
    packing.build_pack(path, path.stem, 1, parts, arena=graph.arena, key=key)


COMPARE = """
import micropython, regrow, sys

def compare(name):
    net = regrow.load(name + ".rgp")
    x = [bytearray(info.size) for info in net.inputs]
    y = [bytearray(info.size) for info in net.outputs]
    wanted = [bytearray(info.size) for info in net.outputs]
    same = samples = 0
    with open(name + ".bin", "rb") as file:
        while file.readinto(x[0]):
            for each in x[1:] + wanted:
                file.readinto(each)
            net.predict(x, y)
            micropython.heap_lock()
            net.predict(x, y)
            micropython.heap_unlock()
            samples += 1
            same += y == wanted
    net.close()
    print(name, same, samples)

for name in sys.argv[1:]:
    compare(name)
"""


class Case:
    """A network of one op with random tensors, as a pack and the samples it must compute."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.tensors: list[Tensor] = []
        self.weights: list[tuple[Array, Array, int]] = []
        self.arena = 0

    def scale(self) -> float:
        return float(np.float32(np.exp(self.rng.uniform(-6, -2))))

    def values(self, shape: Sequence[int], scale: float = 0.0, zero_point: int | None = None) -> None:
        if zero_point is None:
            zero_point = int(self.rng.choice([-128, 127, 0, self.rng.integers(-128, 128)]))
        tensor = Tensor(ACTIVATION, INT8, tuple(shape), scale or self.scale(), zero_point, offset=self.arena)
        self.arena += tensor.nbytes + int(self.rng.integers(0, 5))
        self.tensors.append(tensor)

    def layer(
        self, x: Sequence[int], filters: Sequence[int], axis: int, y: Sequence[int], pruned: bool = False
    ) -> None:
        """Input, filter, bias, output; some channels have a bias far beyond their weights, or almost none.

        `pruned`: of the weights 70 % are 0, and the input is what is behind a RELU.
        """
        self.values(x, zero_point=-128 if pruned else None)
        channels = filters[axis]
        scales = np.exp(self.rng.uniform(-6, -2, channels)).astype(np.float32)
        if axis == 0 and len(filters) == 2:
            scales = scales[:1]
        levels = self.rng.integers(-128, 128, tuple(filters), np.int8)
        if pruned:
            levels[self.rng.random(levels.shape) < 0.7] = 0
        elif self.rng.random() < 0.4:
            levels[self.rng.random(levels.shape) < self.rng.choice([0.7, 0.95, 1])] = 0
        bias = self.rng.integers(-20000, 20000, channels, np.int32) >> 6
        bias <<= self.rng.integers(0, 7, channels) if self.rng.random() < 0.5 else 6
        typical = self.tensors[0].scale * scales.mean() * math.sqrt(levels.size / channels) * 74 * 74
        scale = float(np.float32(typical / 60 * np.exp(self.rng.uniform(-2, 2))))
        if len(scales) > 1:
            for channel in self.rng.choice(channels, channels // 4, replace=False):
                scales[channel] *= 10.0 ** self.rng.uniform(-9, 2)
                units = 60 * scale / (self.tensors[0].scale * float(scales[channel]))
                bias[channel] = int(np.clip(units * self.rng.uniform(-2, 2), -(2**30), 2**30))
        inner = math.prod(filters[1:]) if axis == 0 else 1
        self.weights.append((levels, scales, inner))
        self.tensors.append(Tensor(WEIGHTS, INT8, tuple(filters), number=0))
        if self.rng.random() < 0.8:
            self.tensors.append(Tensor(CONSTANT, INT32, bias.shape, data=bias))
        self.values(y, scale)

    def write(self, folder: Path, name: str, code: int, options: bytes) -> None:
        last = len(self.tensors) - 1
        inputs = tuple(i for i in range(last) if self.tensors[i].kind == ACTIVATION)
        op = Op(code, tuple(range(last)), (last,), options)
        graph = Graph(tuple(self.tensors), (op,), inputs, (last,), self.arena)
        write_pack(folder / f"{name}.rgp", graph, self.weights)
        shapes = [self.tensors[i].shape for i in inputs]
        arrays = [self.rng.integers(-128, 128, (SAMPLES, *s), np.int8) for s in shapes]
        for values in arrays:
            values[self.rng.random(values.shape) < self.rng.choice([0, 0.5])] = -128
        write_samples(folder, name, arrays)


def write_samples(folder: Path, name: str, inputs: Sequence[Array]) -> None:
    """Inputs and the outputs of the numpy executor, sample by sample."""
    pack = open_pack(folder / f"{name}.rgp")
    arrays = [*inputs, *Executor.of(pack).run(inputs)]
    pack.close()
    with (folder / f"{name}.bin").open("wb") as file:
        for sample in zip(*arrays, strict=True):
            file.writelines(array.tobytes() for array in sample)


def draw_windows(rng: np.random.Generator, dilated: bool) -> tuple[Array, Array, Array, bytes]:
    """Sizes of input, filter and output, and the option bytes."""
    valid, activation = int(rng.integers(2)), int(rng.integers(4))
    stride, taps = rng.integers(1, 4, 2), rng.integers(1, 5, 2)
    dilation = rng.choice([1, 1, 2, 3], 2) if dilated else np.ones(2, int)
    reach = valid * (taps - 1) * dilation
    given = reach + rng.integers(1, 10, 2)
    count = -(-(given - reach) // stride)
    middle = dilation if dilated else taps
    return given, taps, count, bytes([*stride, *middle, valid, activation])


def draw(rng: np.random.Generator, folder: Path, name: str, code: int) -> None:
    case = Case(rng)
    depth, channels = int(rng.integers(1, 10)), int(rng.integers(1, 10))
    activation = bytes([int(rng.integers(4))])
    if code == CONV_2D:
        given, taps, count, options = draw_windows(rng, True)
        case.layer((1, *given, depth), (channels, *taps, depth), 0, (1, *count, channels))
        case.write(folder, name, code, options)
    elif code == DEPTHWISE_CONV_2D:
        given, taps, count, options = draw_windows(rng, True)
        channels = depth * int(rng.integers(1, 4))
        case.layer((1, *given, depth), (1, *taps, channels), 3, (1, *count, channels))
        case.write(folder, name, code, options)
    elif code == FULLY_CONNECTED:
        terms, units = int(rng.integers(1, 3000)), int(rng.integers(1, 40))
        if rng.random() < 0.3:
            terms, units = units, terms // 8 + 1
        case.layer((1, terms), (units, terms), 0, (1, units))
        case.write(folder, name, code, activation)
    elif code == ADD:
        shape = (1, *rng.integers(1, 9, 3))
        for _ in range(3):
            case.values(shape)
        case.write(folder, name, code, activation)
    elif code == SOFTMAX:
        shape = (int(rng.integers(1, 4)), int(rng.integers(1, 300)))
        case.values(shape, float(np.float32(np.exp(rng.uniform(-9, 2)))))
        case.values(shape, 1 / 256, -128)
        case.write(folder, name, code, struct.pack("<f", rng.choice([0.25, 1.0, 3.0])))
    else:
        given, _, count, options = draw_windows(rng, False)
        case.values((1, *given, depth))
        case.values((1, *count, depth), case.tensors[0].scale, case.tensors[0].zero_point)
        case.write(folder, name, code, options)


@pytest.mark.parametrize(
    "code", [ADD, AVERAGE_POOL_2D, CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, MAX_POOL_2D, SOFTMAX]
)
def test_random_networks_equal_numpy(code: int, tmp_path: Path) -> None:
    """Bit for bit, and without an allocation in predict."""
    rng = np.random.default_rng(code)
    names = [str(i) for i in range(60)]
    for name in names:
        draw(rng, tmp_path, name, code)
    lines = micropython(COMPARE, tmp_path, *names).splitlines()
    assert lines == [f"{name} {SAMPLES} {SAMPLES}" for name in names]


def test_pruned_layers_equal_numpy(tmp_path: Path) -> None:
    """With one position, its inputs in one tile or in many, and with more."""
    rng = np.random.default_rng(12)
    for terms, units in ((8, 300), (200, 130)):
        case = Case(rng)
        case.layer((1, terms), (units, terms), 0, (1, units), pruned=True)
        case.write(tmp_path, str(units), FULLY_CONNECTED, b"\0")
    case = Case(rng)
    case.layer((1, 5, 6, 24), (40, 1, 1, 24), 0, (1, 3, 6, 40), pruned=True)
    case.write(tmp_path, "40", CONV_2D, bytes([2, 1, 1, 1, 0, 1]))
    names = "300", "130", "40"
    for name in names:
        told = micropython(COMPARE + "print('regrow.kernels.scatter' in sys.modules)", tmp_path, name)
        assert told.splitlines() == [f"{name} {SAMPLES} {SAMPLES}", "True"]


MODELS = {
    "mlperf_kws_dscnn": ("kws01", lambda z: np.round(z["x_test"] / z["scale"]) + z["zero_point"]),
    "mlperf_ic_resnet8": ("cifar10", lambda z: z["x_test"].astype(np.int16) - 128),
    "mlperf_vww_mobilenetv1_025": ("vww01", lambda z: z["x_test"].astype(np.int16) - 128),
    "mlperf_ad_autoencoder": ("ad01", lambda z: z["x_test"][:, :5].astype(np.float32) * 4 + 89),
    "mlperf_sww": ("ad01", lambda z: z["x_test"][:, :30, :40].astype(np.float32) * 4 + 89),
    "tflm_hello_world": ("ad01", lambda z: np.arange(-128, 128, 2)),
}
"""Their data and its levels: a wake word's network hears machines, a sine's runs over all there is."""
REAL_SAMPLES = 100


@pytest.mark.shared
@pytest.mark.parametrize("name", MODELS)
def test_real_networks_equal_tflite(name: str, shared: Path, tmp_path: Path) -> None:
    model = (shared / f"models/{name}_int8.tflite").read_bytes()
    lowered = lower.lower(tflite.read(model))
    weights = [(w.levels, w.scales, w.inner) for w in lowered.weights]
    write_pack(tmp_path / f"{name}.rgp", lowered.graph, weights)

    runner = interpreter.Interpreter(
        model_content=model, experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF
    )
    runner.allocate_tensors()
    given, output = runner.get_input_details()[0], runner.get_output_details()[0]["index"]
    file, levels = MODELS[name]
    with np.load(shared / f"data/{file}.npz") as data:
        x = np.clip(levels(data)[:REAL_SAMPLES], -128, 127).astype(np.int8).reshape(-1, *given["shape"])
    wanted = []
    with (tmp_path / f"{name}.bin").open("wb") as samples:
        for sample in x:
            runner.set_tensor(given["index"], sample)
            runner.invoke()
            wanted.append(runner.get_tensor(output))
            samples.write(sample.tobytes() + wanted[-1].tobytes())
    with open_pack(tmp_path / f"{name}.rgp") as pack:
        assert np.array_equal(Executor.of(pack).run([x])[0], wanted)
    assert micropython(COMPARE, tmp_path, name).split() == [name, *[str(REAL_SAMPLES)] * 2]


REAL = """
import json
from array import array
from regrow.kernels import real

bits, scale, zero = json.load(open("case.json"))
x = array("I", bits)
out = bytearray(len(bits))
print(real.quantize(x, out, 0, len(bits), scale, zero), list(out))
"""


def test_real_inputs_are_quantized_as_on_a_pi(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for scale, zero in ((0.1, -5), (1 / 255, -128), (3.7e-3, 127), (2.0, 0)):
        ties = (rng.integers(-300, 300, 200) + 0.5) * np.float32(scale)
        odd = [0, -0.0, 1e-40, 3e38, -3e38, np.inf, -np.inf]
        x = np.concatenate([ties, rng.normal(0, 100 * scale, 200), odd]).astype(np.float32)
        x[:100] = np.nextafter(x[:100], np.float32(0))
        case = [x.view(np.uint32).tolist(), int(np.float32(scale).view(np.uint32)), zero + 128]
        (tmp_path / "case.json").write_text(json.dumps(case))
        count, _, found = micropython(REAL, tmp_path).partition(" ")
        wanted = quant.quantize(x, scale, zero, INT8).astype(int) + 128
        assert int(count) == len(x)
        assert json.loads(found) == wanted.tolist()


MULTIPLIER = """
import json
from regrow.quant import product, quantize_multiplier, split

for x, w, y in json.load(open("case.json")):
    print(*quantize_multiplier(product(x, w), split(y)))
"""


def test_multipliers_are_those_of_doubles(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    scales = np.exp(rng.uniform(-30, 5, (300, 3))).astype(np.float32)
    scales[:20, 2] = scales[:20, 0]
    (tmp_path / "case.json").write_text(json.dumps(scales.view(np.uint32).tolist()))
    lines = micropython(MULTIPLIER, tmp_path).split()
    x, w, y = scales.astype(np.float64).T
    assert list(map(int, lines)) == np.stack(quant.quantize_multiplier(x * w / y), 1).reshape(-1).tolist()


def test_a_network_too_large_is_refused_with_bytes(tmp_path: Path) -> None:
    case = Case(np.random.default_rng(2))
    case.layer((1, 200, 200, 4), (8, 1, 1, 4), 0, (1, 200, 200, 8))
    case.write(tmp_path, "big", CONV_2D, bytes([1, 1, 1, 1, 0, 0]))
    script = """
import regrow
from regrow.errors import CapacityError
try:
    regrow.load("big.rgp")
except CapacityError as error:
    print(error)
"""
    told = micropython(script, tmp_path, heap="200k")
    assert "needs 482052 bytes" in told, told
    assert "are free" in told, told
    assert not list(tmp_path.glob("*.resident*"))


WIDE = viper32.load(KERNELS / "wide.py").wide


def exact(x: int, m: int, shift: int, once: bool) -> int:
    """x * m * 2**(shift - 31) in whole numbers."""
    if once:
        return (x * m + (1 << (30 - shift))) >> (31 - shift)
    high = ((x << max(shift, 0)) * m + (1 << 30)) >> 31
    right = max(-shift, 0)
    half = (1 << right) >> 1
    return (high + half - (high < 0 < half)) >> right


def test_wide_requantization_is_exact() -> None:
    accs = (-(2**31) + 1, -(2**30), -65536, -32769, -1, 0, 1, 32767, 65535, 2**30 - 1, 2**31 - 1)
    multipliers = (0, 2**30, 2**30 + 1, 0x5555AAAA, 2**31 - 65536, 2**31 - 1)
    for x, m, shift, once in itertools.product(accs, multipliers, (-31, -30, -17, -9, -1, 0), (False, True)):
        found = WIDE(0, (x >> 16) + 0x8000, x & 0xFFFF, m >> 16, m & 0xFFFF, shift + 31, once)
        assert found == max(-512, min(512, exact(x, m, shift, once))), (x, m, shift, once)
    for x, shift in itertools.product((-(2**20), -100, -1, 0, 1, 77, 2**29), (1, 5, 10)):
        found = WIDE(x, 0x8000, 0, 0x4000, 1, shift + 31, 0)
        assert found == max(-512, min(512, exact(x, 2**30 + 1, shift, False))), (x, shift)


BIAS = 0x20000000
ROWS = [
    (bias, m, right)
    for bias in (-1000, 0, 30000)
    for m in (0, 2**30, 0x5555AAAA, 2**31 - 1)
    for right in (-10, 0, 1, 5, 6, 10, 31)
]


def head(
    channel: int, levels: Array, zero: int, weight_zero: int, low: int, *, once: bool, y: int = 7
) -> bytes:
    """The head of a channel's row, as layouts/channels.py describes it; y: the output's zero point."""
    bias, m, right = ROWS[channel % len(ROWS)]
    folded = -zero * int((levels.astype(int) - weight_zero).sum())
    if not (-10 if once or low == y else 1) <= right <= 10:
        return struct.pack("<4I", folded + 3 * BIAS, m, 32 + 31 - right << 16, bias + (1 << 31))
    half = (1 << 10 + right) + (0 if once or right < 1 else 1 << 10) + (y << 11 + right)
    digits = m & 0x3FF | (m >> 10 & 0x3FF) << 16
    return struct.pack("<4I", bias + folded + 2 * BIAS, digits, m >> 20 | 11 + right << 16, half)


def wanted(acc: int, channel: int, zero: int, low: int, once: bool = False) -> int:
    bias, m, right = ROWS[channel % len(ROWS)]
    return max(low, min(255, exact(acc + bias, m, -right, once) + zero))


def kernel(name: str, function: str) -> Any:
    found = getattr(viper32.load(KERNELS / f"{name}.py"), function)
    found.__wrapped__.__globals__["wide"] = WIDE
    return found


FORMS = viper32.load(BOARD / "regrow" / "layouts" / "forms.py")


def sparse_row(row: bytes, zero: int, rows: bytearray, end: int) -> int:
    for first in range(0, len(row), 256):
        block = row[first : first + 256]
        words = array("I", bytes(20))
        FORMS.survey(block, len(block), zero, words)
        start, end = end, FORMS.walk(block, len(block), zero, rows, end)
        assert end == start + 1 + 2 * words[2]
    return end


def tile_of(form: str, levels: Array, heads: Sequence[bytes], weight_zero: int) -> tuple[bytearray, int, int]:
    """A tile of eight channels in that form, the bytes of its groups, and what its kernel subtracts."""
    stored = [(row.astype(int) + 128).astype(np.uint8).tobytes() for row in levels]
    zero, terms = 128 + weight_zero, levels.shape[1]
    if form == "rows":
        pad = bytes(-terms % 4)
        return (
            bytearray(b"".join(h + row + pad for h, row in zip(heads, stored, strict=True))),
            16 + terms + len(pad),
            zero,
        )
    kind = {"pixels8": "eights", "pixels4": "lanes"}.get(form, form)
    weights = bytearray({"eights": 8, "lanes": 4, "sparse": 64}[kind] * (terms + 256))
    end = 8 * terms
    lowest = min(int(levels.min()) + 128, zero)
    for i, row in enumerate(stored):
        if kind == "eights":
            FORMS.spread(row, weights, i, terms)
        elif kind == "lanes":
            FORMS.pack(row, weights, i, terms, lowest)
        else:
            end = end if i else 0
            end = sparse_row(row, zero, weights, end)
    if kind == "lanes":
        end, zero = 4 * terms, zero - lowest
    return bytearray(b"".join(heads) + weights[:end]), 128 + end, 1 if form == "sparse" else zero


@pytest.mark.parametrize("form", ["rows", "eights", "lanes", "sparse"])
@pytest.mark.parametrize("weight_zero", [0, -128, 127])
def test_sums_of_products_stay_within_32_bits(form: str, weight_zero: int) -> None:
    """One position of a layer, all the way to its outputs: short ones of all kinds, and the longest."""
    accumulate, finish = kernel(form, "accumulate"), kernel("layer", "finish")
    rng = np.random.default_rng(3)
    span = 15 if form == "lanes" else 255
    lowest = min(weight_zero, 127 - span)
    drawn = rng.integers(lowest, lowest + span + 1, (len(ROWS), 21))
    cases = [(rng.integers(0, 256, 21), drawn, zero, once) for zero in (0, 255) for once in (False, True)]
    longest = 8192 if weight_zero else 16384
    cases.append((np.full(longest, 255), np.full((8, longest), lowest + span), 255, True))
    if form == "lanes":
        for last in (34, 35):  # as much as a lane takes, and more
            x = np.array([255] * 17 + [last, 0, 0, 0])
            cases.append((x, np.full((8, 21), lowest + span), 0, False))
    if form == "eights":
        cases += [(x * (rng.random(x.shape) < 0.5), levels, zero, once) for x, levels, zero, once in cases]
    for x, levels, zero, once in cases:
        terms, lists = len(x), 4 * (form == "eights" and len(x) < 8192)
        for first in range(0, len(levels) - 7, 8):
            part, low = levels[first : first + 8], (0, 7)[(first // 8 + once) % 2]
            channels = range(first, first + 8)
            heads = [
                head(c, row, zero, weight_zero, low, once=once) for c, row in zip(channels, part, strict=True)
            ]
            tile, size, subtracted = tile_of(form, part, heads, weight_zero)
            arena = bytearray(x.astype(np.uint8).tobytes() + bytes(8))
            sums = len(tile) + -len(tile) % 8
            work = tile + bytes(sums - len(tile) + 40 + 16 * terms)
            sizes = (1, 1, terms, 1, 1, 8, 1, 1, 1, 1, 1, 1, 0, 0, zero, low, 255, 7)
            p = array(
                "i", (0, terms, *sizes, terms, terms, 1, lists, once, subtracted, 8, size, sums, 0, 0, 0)
            )
            groups, width = {"rows": (8, 1), "sparse": (8, 8)}.get(form, (1, 8))
            accumulate(0, work, arena, 0, work, p, sums, 1, groups, 0)
            finish(0, work, work, arena, p, sums, terms, 1, 8, width)
            for channel, row, found in zip(channels, part, arena[terms:], strict=True):
                acc = int((x - zero) @ (row - weight_zero))
                assert found == wanted(acc, channel, 7, low, once), (terms, channel)


@pytest.mark.parametrize("weight_zero", [0, -128, 127])
def test_sparse_sums_of_one_position_stay_within_32_bits(weight_zero: int) -> None:
    """Two tiles of rows, the longest last, and their heads."""
    accumulate, finish = kernel("single", "accumulate"), kernel("layer", "finish")
    longest = 8192 if weight_zero else 16384
    rng = np.random.default_rng(5)
    for x, drawn, zero in (
        (rng.integers(0, 256, 300), rng.integers(-128, 128, (8, 300)), 0),
        (rng.integers(0, 256, 21), np.full((8, 21), weight_zero), 9),
        (np.full(longest, 255), np.full((2, longest), 127 if weight_zero < 0 else -128), 0),
    ):
        channels, terms = drawn.shape
        heads = [head(c, row, zero, weight_zero, 7, once=True) for c, row in enumerate(drawn)]
        size = 4 * (-(-(2 + 7 * (terms // 256 + 1) + 7 * 6 * (terms + 7 * terms // 256 + 7)) // 4))
        work = bytearray(size + 4 + 4 * channels)
        arena = bytearray(x.astype(np.uint8).tobytes() + bytes(channels))
        sizes = (1, 1, terms, 1, 1, channels, 1, 1, 1, 1, 1, 1, 0, 0, zero, 7, 255, 7)
        p = array("i", (0, terms, *sizes, terms, terms, 0, 0, 1, 0, 2, size, size, 0, 0, 0))
        for part in (drawn[:-1], drawn[-1:]):
            end = 2
            work[:2] = len(part).to_bytes(2, "little")
            for row in part:
                end = sparse_row((row + 128).astype(np.uint8).tobytes(), 128 + weight_zero, work, end)
            assert end <= size
            accumulate(0, work, arena, p)
        for channel, row in enumerate(heads):
            work[16 * channel : 16 * channel + 16] = struct.pack(
                "<4I", struct.unpack_from("<I", row)[0] - BIAS, *struct.unpack_from("<3I", row, 4)
            )
        finish(0, work, work, arena, p, size, terms, 1, channels, channels)
        for channel, row in enumerate(drawn):
            acc = int((x - zero) @ (row - weight_zero))
            assert arena[terms + channel] == wanted(acc, channel, 7, 7, True), (terms, channel)


def scattered(levels: Array, zero: int, first: int, last: int) -> bytes:
    """A tile of the inputs first .. last of a layer, for all channels."""
    channels, terms = levels.shape
    tile = bytearray((last - first) * (3 + 16 * (3 * channels // 8 + 1)))
    places, passed = np.zeros(terms, np.uint16), np.zeros(terms, np.uint16)
    for writes in (0, 1):
        for slot, row in enumerate(levels, 1):
            stored = (row + 128).astype(np.uint8).tobytes()
            FORMS.put(stored, first, last, 128 + zero, slot, places, passed, tile, writes)
        if not writes:
            end = 0
            for i in range(first, last):
                tile[end] = -(-int(places[i]) // 8)
                places[i], passed[i], end = end + 2, 0, end + 3 + 16 * tile[end]
            FORMS.blank(tile, last - first)
    FORMS.seal(tile, last - first)
    return (last - first).to_bytes(2, "little") + tile[:end]


@pytest.mark.parametrize("weight_zero", [0, -128, 127])
def test_scattered_sums_stay_within_32_bits(weight_zero: int) -> None:
    """Two tiles of inputs, or one for two positions; the products left out are counted."""
    start, accumulate = kernel("scatter", "start"), kernel("scatter", "accumulate")
    often = 32 if weight_zero else 64
    rng = np.random.default_rng(6)
    drawn, rare = rng.integers(-128, 128, (40, 30)), rng.integers(-128, 128, (300, 5))
    few = np.where(rng.random((40, 30)) < 0.3, drawn, weight_zero)
    for x, levels, times in (
        (rng.integers(0, 256, (2, 30)) * (rng.random((2, 30)) < 0.5), few, 1),
        (np.array([[255, 0, 1, 0, 255]] * 2), np.where(rng.random((300, 5)) < 0.01, rare, weight_zero), 1),
        (np.full((2, 256), 255), np.full((1, 256), 127 if weight_zero < 0 else -128), often),
    ):
        channels, terms = levels.shape
        weights, zeros = levels - weight_zero, (levels != weight_zero).astype(int)
        arena = x.astype(np.uint8).tobytes()
        whole = bytes(16 * channels) + scattered(levels, weight_zero, 0, terms)
        sums = len(whole) + 4 & -4
        work = bytearray(sums + 2 * (4 + 4 * channels))
        p = array("i", (0, 0, 1, 2, terms, 1, 2, channels, 1, 1, 1, 1, *[0] * 21))
        start(work, sums, channels)
        before = (times - 1) * weights @ x[0]  # as if there were that many more inputs
        np.frombuffer(work, np.int32, channels, sums + 4)[:] += before
        for first, last in ((0, terms // 3), (terms // 3, terms)):
            tile = scattered(levels, weight_zero, first, last)
            work[: len(tile)] = tile
            assert accumulate(work, work, arena, first, work, p, sums, 1, 0, 0) == last - first
        found = np.frombuffer(work, np.int32, channels, sums + 4) - BIAS
        assert found.tolist() == (before + weights @ x[0]).tolist()
        assert p[30] == (zeros @ (x[0] == 0)).sum()
        p[30] = 0
        work[: len(whole)] = whole
        assert accumulate(work, work, arena, 0, work, p, sums, 2, 1, 0) == 0
        found = np.frombuffer(work[sums:], np.int32).reshape(2, -1) - BIAS
        assert found[:, 1:].tolist() == (x @ weights.T).tolist()
        assert p[30] == ((x == 0) @ zeros.T).sum()


def pixel_sums(form: str, x: Array, levels: Array, steps: tuple[int, int], batch: int = 1) -> Array:
    """(rows, columns, 1 + channels) of a SAME convolution by lists of pixels: of inputs, and of products.

    `steps`: the stride, and the dilation down the image.
    """
    stride, dilation = steps
    enlist, accumulate = kernel("pixels", "enlist"), kernel(form, "accumulate")
    height, width, depth = x.shape
    channels, size, _, _ = levels.shape
    reach = (size - 1) * dilation + 1
    rows, columns = (-(-n // stride) for n in (height, width))
    top = max(0, (rows - 1) * stride + reach - height) // 2
    left = max(0, (columns - 1) * stride + size - width) // 2
    terms = size * size * depth
    flat = levels.reshape(channels, terms)
    groups = [tile_of(form, flat[i : i + 8], [bytes(16)] * 8, 0)[0] for i in range(0, channels, 8)]
    tile = b"".join(map(bytes, groups))
    ring = (batch - 1) * stride + reach
    sums = len(tile) + ring * (8 * width + 8 + -(-3 * width * depth // 4) * 4)
    position = 4 + 32 * len(groups)
    p = [0, 0, height, width, depth, rows, columns, channels, size, size, stride, stride, dilation, 1]
    p += [top, left, 0, 0, 255, 0, terms, terms, batch, 0, 0, 0, channels, len(groups[0]), len(tile)]
    words, work = array("i", p), bytearray(tile) + bytes(sums - len(tile) + batch * columns * position)
    work += bytes(16 * size * depth)
    result, listed, row = [], 0, 0
    while row < rows:
        count = min(batch, rows - row)
        first = row * stride - top
        end = min(height, first + (count - 1) * stride + reach)
        listed = max(first, listed)
        if end > listed:
            enlist(0, 0, x, work, words, len(tile), ring, listed, end, 16 if form == "pixels4" else 8)
            listed = end
        accumulate(0, work, work, words, len(tile), ring, sums, row, count, len(groups))
        result.append(bytes(work[sums : sums + count * columns * position]))
        row += count
    return np.frombuffer(b"".join(result), np.int32).reshape(rows, columns, -1)


@pytest.mark.parametrize("form", ["pixels8", "pixels4"])
def test_lists_of_pixels_give_the_sums_of_products(form: str) -> None:
    """In all windows; and the largest sums stay within 32 bits."""
    rng = np.random.default_rng(5)
    span = 16 if form == "pixels4" else 256
    for size, stride, dilation, batch in (
        (1, 2, 1, 1),
        (3, 1, 1, 2),
        (3, 2, 1, 2),
        (2, 1, 2, 1),
        (3, 2, 2, 3),
    ):
        x = rng.integers(0, 256, (5, 4, 9), np.uint8) * rng.integers(0, 2, (5, 4, 9), np.uint8)
        levels = rng.integers(0, span, (16, size, size, 9)) - 128
        found = pixel_sums(form, x, levels, (stride, dilation), batch)
        lowest = int(levels.min()) if form == "pixels4" else -128
        reach = (size - 1) * dilation + 1
        rows, columns = found.shape[:2]
        top = max(0, (rows - 1) * stride + reach - 5) // 2
        left = max(0, (columns - 1) * stride + size - 4) // 2
        padded = np.pad(x.astype(int), ((top, reach + 2), (left, size + 2), (0, 0)))
        for i, j in np.ndindex(rows, columns):
            window = padded[i * stride : i * stride + reach : dilation, j * stride : j * stride + size]
            products = np.tensordot(levels - lowest, window, 3)
            assert found[i, j].tolist() == [window.sum(), *products], (size, stride, dilation, batch)
    level, highest = (15, 15) if form == "pixels4" else (127, 255)
    for values in ([255] * 4095, [255] * 17 + [34], [255] * 17 + [35]):
        x = np.array(values, np.uint8).reshape(1, 1, -1)
        longest = pixel_sums(form, x, np.full((8, *x.shape), level), (1, 1))
        assert longest.ravel().tolist() == [sum(values)] + [highest * sum(values)] * 8


def test_columns_are_the_windows_of_an_image() -> None:
    gather = kernel("columns", "gather")
    rng = np.random.default_rng(4)
    for depth, dilation, stride in itertools.product((1, 3, 8), (1, 2), (1, 2)):
        x = rng.integers(0, 256, (5, 4, depth), np.uint8)
        reach = 2 * dilation
        padded = np.pad(x, ((dilation, dilation), (dilation, dilation), (0, 0)), constant_values=9)
        rows, columns = (
            (5 + 2 * dilation - reach - 1) // stride + 1,
            (4 + 2 * dilation - reach - 1) // stride + 1,
        )
        length = -(-9 * depth // 4) * 4
        sizes = (
            5,
            4,
            depth,
            rows,
            columns,
            1,
            3,
            3,
            stride,
            stride,
            dilation,
            dilation,
            dilation,
            dilation,
            9,
        )
        p = array("i", (0, 0, *sizes, 0, 255, 7, 9 * depth, length, 1, depth == 8, 0, 0, 1, 0, 8, 0))
        work = bytearray(8 + 2 * length)
        for first in range(rows * columns - 1):
            gather(0, x, x, work, p, first, 2)
            for k in range(2):
                i, j = ((first + k) // columns * stride, (first + k) % columns * stride)
                window = padded[i : i + reach + 1 : dilation, j : j + reach + 1 : dilation].tobytes()
                column = work[8 + k * length : 8 + (k + 1) * length]
                assert column == window + bytes(length - len(window))


@pytest.mark.parametrize(("activation", "weight"), [(0, -128), (255, -128), (0, 127), (255, 127)])
def test_depthwise_stays_within_32_bits(activation: int, weight: int) -> None:
    depthwise = kernel("depthwise", "depthwise")
    channels = len(ROWS)
    cases = [(3, *each) for each in itertools.product((0, 255), (7, 0), (7, 255))]
    for size, zero, low, at in [*cases, (5, 255, 7, 7)]:
        x = bytearray([activation] * 9 * channels)
        levels = np.full(size * size, weight, np.int8)
        stored = bytes([weight + 128] * len(levels) + [0] * (-len(levels) % 4))
        tile = b"".join(
            head(channel, levels, zero, 0, low, once=False, y=at) + stored for channel in range(channels)
        )
        around = size // 2
        image = (3, 3, channels, 3, 3, channels, size, size)
        window = (size, 2 + size, 1, 128, channels, 16 + len(stored), len(tile), 0)
        p = array("i", (0, 0, *image, 1, 1, 1, 1, around, around, zero, low, 255, at, *window))
        depthwise(0, x, x, bytearray(tile + bytes(size * (2 + size) * channels)), p, 0, channels)
        for place, taps in enumerate((4, 6, 4, 6, 9, 6, 4, 6, 4) if size == 3 else [9] * 9):
            for channel in range(channels):
                acc = taps * (activation - zero) * weight
                assert x[place * channels + channel] == wanted(acc, channel, at, low), (place, channel)


def test_add_stays_within_32_bits() -> None:
    """With a table of the outputs, which is right for every sum, and without."""
    kernels, layout = viper32.load(KERNELS / "add.py"), stairs_of_adds()
    pairs = np.array(list(itertools.product((0, 1, 127, 128, 254, 255), repeat=2)), np.uint8)
    count = len(pairs)
    tables = bytearray(2048 + 4096)
    extremes = itertools.product(
        (0, 255),
        (0, 255),
        (2**30, 2**31 - 1),
        (0, 7),
        (2**30, 0x5555AAAA, 2**31 - 1),
        (0, 19, 20, 31),
        (0, 40),
    )
    for a_zero, b_zero, m, right, out_m, out_right, low in list(extremes)[::5]:
        scales = out_m, out_right, m, right, 2**30, 0
        stairs = layout(a_zero, b_zero, 3, (low, 255), scales)
        p = (0, count, 0, count, low, 255, 3, out_m, out_right, a_zero, m, right, b_zero, 2**30, 0, *stairs)
        words = array("i", p)
        kernels.tables(tables, words)
        ways = [kernels.add]
        if stairs[0]:
            kernels.stairs(tables, words)
            ways.append(kernels.climb)
        for way in ways:
            arena = bytearray(pairs.T.tobytes())
            way(0, arena, arena, tables, words)
            for found, (a, b) in zip(arena, pairs.astype(int).tolist(), strict=False):
                one, two = (
                    exact((a - a_zero) << 20, m, -right, False),
                    exact((b - b_zero) << 20, 2**30, 0, False),
                )
                assert found == max(low, min(255, exact(one + two, out_m, -out_right, False) + 3)), (a, b, p)


def stairs_of_adds() -> Any:
    """What layouts/elementwise.py works out for an ADD of those zero points + 128, bounds and scales."""
    source = (BOARD / "regrow" / "layouts" / "elementwise.py").read_text()
    body = source[source.index("def _stairs") : source.index("def _of_product")]
    names = {"requantize": lambda x, m, shift: exact(x, m, shift, False), "BIAS": BIAS}
    names |= {"_HEADROOM": 20, "_WIDEST": 22}
    exec(body, names)  # of a board's module, which imports what CPython has not

    def stairs(a: int, b: int, y: int, bounds: tuple[int, int], scales: tuple[int, ...]) -> Any:
        tensors = [types.SimpleNamespace(zero_point=zero - 128) for zero in (a, b, y)]
        return names["_stairs"](*tensors, bounds, scales, 1024)  # type: ignore[operator]

    return stairs


def test_pool_and_softmax_stay_within_32_bits() -> None:
    pool = viper32.load(KERNELS / "pool.py").pool
    arena = bytearray([255] * 16 + [0] * 4)
    pool(0, arena, arena, array("i", (0, 16, 4, 4, 1, 2, 2, 4, 4, 4, 4, 2, 2, 0, 255, 0, 0)))
    assert arena[16:] == bytes([255] * 4)

    softmax = viper32.load(KERNELS / "softmax.py")
    exp = array("i", [2**31 - 1] * 256)
    arena = bytearray(1024)
    assert softmax.sum_of_exp(arena, 0, 512, 0, exp) == 512 << 19
    softmax.divide(arena, 0, 512, 512, 0, exp, 2**31 - 1, 23)
    assert set(arena[512:]) == {255}
    softmax.divide(arena, 0, 512, 512, 0, exp, 2**31 - 1, 32)
    assert set(arena[512:]) == {0}
