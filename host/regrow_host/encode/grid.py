"""Codec grid: levels by interleaved range ANS with a table of their frequencies (arXiv:1311.2540)."""

import numpy as np
import numpy.typing as npt
from regrow import codecs
from regrow.codecs.grid import LOW

from regrow_host.encode import weights_part

_PRECISIONS = range(8, 13)
_WEIGHTS_PER_LANE = 4096
_MOST_LANES = 64
_LANE_BYTES = 3  # of a state's four, one carries weights: it ends anywhere in 2^14..2^30

_Counts = npt.NDArray[np.int64]


def encode(
    levels: npt.NDArray[np.int8],
    scales: npt.NDArray[np.float32],
    inner: int = 1,
    *,
    precision: int | None = None,
    lanes: int | None = None,
) -> bytes:
    """The part of the flattened int8 `levels` with `scales` of shape (channels,).

    Weight i belongs to channel (i // inner) % channels. `precision` (8 to 12) and `lanes` (1 to 255) are
    chosen unless given: the precision that makes the part smallest, and a lane per 4,096 weights.
    """
    levels = levels.ravel()
    lanes = lanes or _lanes(levels.size)
    lowest, counts = _histogram(levels)
    if precision is None:
        precision = min(_PRECISIONS, key=lambda p: _bytes(counts, p))
    frequencies = quantize(counts, precision)
    symbols = levels.astype(np.int64) - lowest
    states, words = _ans(symbols, frequencies, precision, lanes)
    body = bytes([0, precision, lanes, lowest & 0xFF, counts.size - 1])
    body += b"".join(_varint(f) for f in frequencies.tolist()) + states.tobytes() + words.tobytes()
    return weights_part(codecs.GRID, codecs.INT8, levels.size, body, scales=scales, inner=inner)


def size_estimate(levels: npt.NDArray[np.int8]) -> float:
    """Bytes that `encode` will take for these levels, but for the header and the scales."""
    _, counts = _histogram(levels.ravel())
    return 5 + _LANE_BYTES * _lanes(levels.size) + min(_bytes(counts, p) for p in _PRECISIONS)


def quantize(counts: _Counts, precision: int) -> _Counts:
    """Frequencies that add up to 2^precision and code symbols of these counts in the fewest bits.

    A symbol that occurs gets at least 1. The cost is convex in each frequency, so single steps between
    two symbols lead to the optimum.
    """
    present = counts > 0
    occurring = counts[present].astype(np.float64)
    total = 1 << precision
    frequencies = np.maximum(1, np.rint(occurring * (total / occurring.sum())))
    while True:
        gain = occurring * np.log2((frequencies + 1) / frequencies)
        with np.errstate(divide="ignore"):
            loss = occurring * np.log2(frequencies / (frequencies - 1))
        more, less = gain.argmax(), loss.argmin()
        excess = frequencies.sum() - total
        if excess == 0 and gain[more] <= loss[less]:
            break
        if excess <= 0:
            frequencies[more] += 1
        if excess >= 0:
            frequencies[less] -= 1
    result = np.zeros_like(counts)
    result[present] = frequencies
    return result


def _lanes(count: int) -> int:
    return min(max(1, count // _WEIGHTS_PER_LANE), _MOST_LANES)


def _histogram(levels: npt.NDArray[np.int8]) -> tuple[int, _Counts]:
    """The lowest level, and how often it and each one up to the highest occur."""
    lowest = int(levels.min())
    return lowest, np.bincount(levels.astype(np.int64) - lowest)


def _bytes(counts: _Counts, precision: int) -> float:
    """Bytes of the frequency table and of the coded levels, nearly: frequencies are not rounded here."""
    occurring = counts[counts > 0].astype(np.float64)
    frequencies = np.maximum(1, occurring * ((1 << precision) / occurring.sum()))
    bits = (occurring * np.log2(frequencies.sum() / frequencies)).sum()
    return float(bits / 8 + counts.size + (frequencies >= 128).sum())


def _varint(value: int) -> bytes:
    """Unsigned LEB128 of a frequency, which is at most 4,096."""
    return bytes([value]) if value < 128 else bytes([value & 0x7F | 0x80, value >> 7])


def _ans(
    symbols: npt.NDArray[np.int64], frequencies: _Counts, precision: int, lanes: int
) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint16]]:
    """The states and words from which the decoder gets `symbols`: its steps, backwards."""
    frequency = frequencies.tolist()
    below = (np.cumsum(frequencies) - frequencies).tolist()
    full = [f << 30 - precision for f in frequency]
    states = [LOW] * lanes
    words = []
    lane = symbols.size % lanes
    for symbol in symbols[::-1].tolist():
        lane = (lane or lanes) - 1
        state = states[lane]
        if state >= full[symbol]:
            words.append(state & 0xFFFF)
            state >>= 16
        quotient, rest = divmod(state, frequency[symbol])
        states[lane] = (quotient << precision) + below[symbol] + rest
    return np.array(states, "<u4"), np.array(words[::-1], "<u2")
