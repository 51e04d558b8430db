"""Codec grid beside palettes by k-means and weights grown from searched seeds or along a trellis.

    python benchmarks/codecs.py [--models DIR] [--json FILE]

For every weight tensor of the float MLPerf Tiny models: the bytes that each way takes, over those that codec
grid takes for the same mean squared error (below 1 the other way wins; grid's curve is interpolated). Of a
tensor the first channels stand for all, as many as have MOST weights.

palette  Deep Compression (arXiv:1510.00149): 4 to 32 centroids by Lloyd's iterations, as float16, and each
         weight's index, which grid's own entropy coder writes.
seeded   SeedLM (arXiv:2410.10714), 4 bits a weight: per block of 8 weights a 16-bit seed, three coefficients
         of 4 bits and an exponent of 4. Of all 65,536 seeds, whose 8 x 3 random numbers come from regrow's
         counter generator, the LOOKED_AT best have their coefficients rounded. SAMPLE blocks stand for the
         tensor.
trellis  QTIP (arXiv:2406.11235), 2 to 4 bits a weight: each weight is a number computed from the last STATE
         bits of the stream, a sum of four bytes of a product (1MAD); the path is Viterbi's. Before, random
         rotations of both sides make weights Gaussian (QR of random numbers in place of Hadamard transforms).
"""

import argparse
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from regrow.generator import grow
from regrow_host import console, tflite
from regrow_host.encode import grid

SHARED = Path(__file__).resolve().parents[2] / "shared"
MODELS = ("ic_resnet8", "kws_dscnn", "ad_autoencoder", "vww_mobilenetv1_025")
ONE = np.ones(1, np.float32)
MOST = 16384
SAMPLE = 64
LOOKED_AT = 64
HEADER = 8  # of a weights part
BLOCK, COEFFICIENTS, SEEDS = 8, 3, 1 << 16
STATE = 12

Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=SHARED / "models")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    args = parser.parse_args()
    results = []
    for name in MODELS:
        source = (args.models / f"mlperf_{name}_float.tflite").read_bytes()
        for each in tflite.weight_tensors(tflite.read(source)):
            result = {"model": name, "tensor": each.number, "kind": each.kind, "weights": each.values.size}
            results.append(result | compare(_some(each.values)))
    if args.json:
        args.json.write_text(json.dumps(results, indent=2) + "\n")
    ways = list(results[0])[4:]
    rows = [[*list(each.values())[:4], *(_cell(each[way]) for way in ways)] for each in results]
    console.show_table("bytes over grid's", ("model", "tensor", "kind", "weights", *ways), rows)
    for way in ways:
        ratios = [each[way] for each in results if each[way] is not None]
        wins = sum(ratio < 1 for ratio in ratios)
        console.show(f"{way}: wins {wins} of {len(ratios)} tensors, median {np.median(ratios):.2f}")


def compare(values: Floats) -> dict[str, Any]:
    """Bytes over grid's at the same error, per way; None where the tensor is too small for it."""
    errors, sizes = _curve(values)
    result: dict[str, Any] = {}
    for count in (4, 8, 16, 32):
        fits = values.size >= 4 * count and np.unique(values).size > count
        result[f"palette {count}"] = _ratio(*palette(values, count), errors, sizes) if fits else None
    blocks = values.size // BLOCK
    result["seeded"] = _ratio(*seeded(values), errors, sizes) if blocks else None
    for bits in (2, 3, 4):
        result[f"trellis {bits}"] = _ratio(*trellis(values, bits), errors, sizes)
    return result


def _some(values: NDArray[np.float32]) -> Floats:
    return values[: max(1, MOST * len(values) // values.size)].astype(np.float64)


def palette(values: Floats, count: int) -> tuple[float, float]:
    """Mean squared error and bytes."""
    flat = values.ravel()
    centroids = np.quantile(flat, (np.arange(count) + 0.5) / count)
    for _ in range(50):
        index = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, flat)
        filled = np.bincount(index, minlength=count)
        sums = np.bincount(index, flat, minlength=count)
        centroids = np.sort(np.where(filled, sums / np.maximum(filled, 1), centroids))
    centroids = centroids.astype(np.float16).astype(np.float64)
    index = np.searchsorted((centroids[1:] + centroids[:-1]) / 2, flat)
    levels = (index - count // 2).astype(np.int8).reshape(values.shape)
    return float(((flat - centroids[index]) ** 2).mean()), len(grid.encode(levels, ONE)) - 2 + 2 * count


def seeded(values: Floats) -> tuple[float, float]:
    """Mean squared error and bytes."""
    blocks = values.ravel()[: values.size // BLOCK * BLOCK].reshape(-1, BLOCK)
    chosen = blocks[np.random.default_rng(0).permutation(len(blocks))[:SAMPLE]]
    fits = ((spans().transpose(0, 2, 1) @ chosen.T) ** 2).sum(axis=1)
    near = np.argpartition(-fits, LOOKED_AT, axis=0)[:LOOKED_AT]
    error = sum(_least(block, bases()[near[:, i]]) for i, block in enumerate(chosen)) / chosen.size
    bits = 16 + 4 * COEFFICIENTS + 4
    return float(error), HEADER + values.size / BLOCK * bits / 8


def _least(block: Floats, found: Floats) -> float:
    """The least squared error over these bases, with coefficients in 4 bits and an exponent."""
    best = np.linalg.pinv(found) @ block
    scales = 2.0 ** np.arange(-20, 4)[:, None, None]
    rounded = np.clip(np.rint(best / scales), -8, 7) * scales
    rest = block - np.einsum("sij,esj->esi", found, rounded)
    return float((rest**2).sum(axis=2).min())


@cache
def bases() -> Floats:
    """Per seed the 8 x 3 numbers that grow from it, in -1..1."""
    numbers = np.arange(BLOCK * COEFFICIENTS)
    drawn = np.array([grow(seed, numbers) for seed in range(SEEDS)], np.float64)
    return (drawn / 32768 - 1).reshape(SEEDS, BLOCK, COEFFICIENTS)


@cache
def spans() -> Floats:
    """Orthonormal numbers in their place."""
    return np.asarray(np.linalg.qr(bases())[0])


def trellis(values: Floats, bits: int) -> tuple[float, float]:
    """Mean squared error and bytes."""
    matrix = values.reshape(len(values), -1)
    rotated = _rotation(matrix.shape[0]) @ matrix @ _rotation(matrix.shape[1])
    weights = rotated.ravel() / (float(rotated.std()) or 1.0)
    code, ways = computed(), 1 << bits
    costs = (weights[0] - code) ** 2
    for weight in weights[1:]:
        # a state's predecessors share its upper bits: the lower ones of theirs
        before = costs.reshape(ways, -1).min(axis=0)
        costs = before.repeat(ways) + (weight - code) ** 2
    error = float(costs.min()) / weights.size * float(rotated.var())
    return error, HEADER + (weights.size * bits + STATE) / 8


@cache
def computed() -> Floats:
    """Per state its number, of mean 0 and deviation 1."""
    mixed = (np.arange(1 << STATE, dtype=np.uint64) * 34038481 + 76625530).astype(np.uint32)
    sums = mixed.view(np.uint8).reshape(-1, 4).sum(axis=1, dtype=np.int32).astype(np.float64)
    return np.asarray((sums - sums.mean()) / sums.std())


@cache
def _rotation(size: int) -> Floats:
    return np.asarray(np.linalg.qr(np.random.default_rng(size).normal(size=(size, size)))[0])


def _curve(values: Floats) -> tuple[Floats, Floats]:
    """Errors in ascending order and bytes of codec grid, one step for the tensor."""
    peak = float(np.abs(values).max()) or 1.0
    errors, sizes = [], []
    for step in peak / 127 * 2.0 ** np.arange(0, 7.5, 0.5):
        levels = np.rint(values / step).clip(-127, 127).astype(np.int8)
        errors.append(float(((levels * step - values) ** 2).mean()))
        sizes.append(len(grid.encode(levels, ONE)))
    return np.array(errors), np.array(sizes, np.float64)


def _ratio(error: float, size: float, errors: Floats, sizes: Floats) -> float | None:
    """None where the error is outside of grid's curve."""
    if not errors[0] < error < errors[-1]:
        return None
    return size / float(np.exp(np.interp(np.log(error), np.log(errors), np.log(sizes))))


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    main()
