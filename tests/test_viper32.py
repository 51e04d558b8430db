"""The kernels that grow weights stay within 32 bits at the extremes of every operand, and are exact there."""

import itertools
import struct
from array import array
from dataclasses import replace
from pathlib import Path

import gridplain
import pytest
import viper32
from golden.reference import grow
from regrow.codecs.gridmodel import MANTISSAS, SHAPES, Context, Model, Neighbour
from viper32 import WidthError

REGROW = Path(__file__).parent.parent / "micropython" / "regrow"
U16 = (0, 1, 0x7FFF, 0x8000, 0xFFFF)
I16 = (-0x8000, -0x7FFF, -1, 0, 0x7FFF)

CHECKED = """
import micropython
from micropython import const
_LARGE = const(0x40000000)

@micropython.viper
def double(x: int) -> int:
    y = x + x
    return y >> 1

@micropython.viper
def wrap(x: int) -> int:
    return ((x * x) & 0xFF) - (1 << 4)

@micropython.viper
def literal() -> int:
    return 0x40000000 >> 4

@micropython.viper
def copy(out: ptr8, words: ptr32, n: int) -> int:
    second = ptr8(uint(words) + 4)
    for i in range(n):
        out[i] = words[i] + second[0]
    return words[0] + double(n)

@micropython.viper
def misaligned(out: ptr8) -> int:
    return ptr16(uint(out) + 1)[0]
"""


@pytest.fixture
def checked(tmp_path):
    source = tmp_path / "checked.py"
    source.write_text(CHECKED.replace("_LARGE = const(0x40000000)\n", ""))
    return viper32.load(source)


def test_checker_finds_wide_values(checked):
    assert checked.double((1 << 30) - 1) == (1 << 30) - 1
    assert checked.double(-(1 << 30)) == -(1 << 30)
    for wide in (1 << 30, -(1 << 30) - 1, 1 << 31):
        with pytest.raises(WidthError):
            checked.double(wide)
    assert checked.wrap(0x4001) == 1 - 16
    with pytest.raises(WidthError):
        checked.wrap(0x10000)
    with pytest.raises(WidthError):
        checked.literal()


def test_checker_finds_wide_constants(tmp_path):
    source = tmp_path / "checked.py"
    source.write_text(CHECKED)
    with pytest.raises(WidthError):
        viper32.load(source)


def test_checker_guards_memory(checked):
    out = bytearray(2)
    assert checked.copy(out, array("i", [255, 3]), 2) == 257
    assert out == b"\x02\x06"
    with pytest.raises(WidthError, match="item 2"):
        checked.copy(out, array("i", [255, 3, 4]), 3)
    with pytest.raises(WidthError, match="negative"):
        checked.copy(out, array("i", [-1, 3]), 1)
    with pytest.raises(WidthError, match="byte 1"):
        checked.misaligned(bytearray(8))


def test_generator():
    kernels = viper32.load(REGROW / "generator.py")
    out = array("H", [0])
    for high, low in itertools.product(U16, U16):
        for i in (0, 1, 0xFFFF, 0x10000, 0x3FFFFFFF, 0x7FFFFFFF):
            kernels.fill(out, 1, high, low, i)
            assert out[0] == grow(high << 16 | low, i)


def test_central():
    kernels = viper32.load(REGROW / "codecs" / "central.py")
    cases = itertools.product(I16, (0, 1, 0x7FFF), I16, U16, (0, 1, 12, 24))
    for mean, deviation, bias, number, shift in cases:
        out = bytearray(4)
        cursor = array("I", [0, 2, 0, 0, 0])
        statistics = struct.pack("<hH", mean, deviation)
        done = kernels._restore(
            out, 0, 1, array("H", [number]), 0, statistics, cursor, 1, bias, (1 << 30) - 1, shift
        )
        if not -0x8000 <= mean + bias <= 0x7FFF:
            assert done == -1
            continue
        k = ((mean + bias) << 8) + ((deviation * (number - 0x8000)) >> 7)
        assert done == 1
        if shift:
            assert struct.unpack_from("b", out)[0] == max(-127, min(127, (k + (1 << shift >> 1)) >> shift))
        else:
            assert struct.unpack("<I", out)[0] - (1 << 24) == k


def test_central_goes_on_inside_a_batch():
    """The mean and deviation in the cursor are as good as those just read, of either sign."""
    kernels = viper32.load(REGROW / "codecs" / "central.py")
    for mean in I16:
        cursor = array("I", [2, 2, 9, mean & 0xFFFF, 0x7FFF])
        out = bytearray(4)
        assert kernels._restore(out, 0, 1, array("H", [0]), 0, b"", cursor, 1, 0, 10, 0) == 1
        assert struct.unpack("<I", out)[0] - (1 << 24) == (mean << 8) - 0x7FFF * 256


def grid_words(model: Model, state: int, before: int) -> array:
    """What the kernel works with, as `gridmodel` reads it, after so many levels of a stripe."""
    first, near = model.first_size, 17
    words = array("I", bytes(4 * 46))
    for each in model.neighbours:
        words[near : near + 4] = array("I", [each.distance, 0, each.distance, each.weight + 128])
        near += 4
    if one := model.context:
        words[29:35] = array("I", [one.distance, 0, one.distance, one.shift, one.weight, 0])
    octaves = gridplain.half_octaves(first)
    fields = model.centre + 128, model.reach, model.spread, model.slope, first, model.rest, octaves
    now = 0, 1, state, before, 0, before % 9, 0
    words[:17] = array("I", (*now, *fields, 9, 65520, near))
    words[35:46] = array("I", (*SHAPES[model.shape], *MANTISSAS))
    return words


def test_grid():
    """One step from every kind of state and model, at the extremes of what it looks back at."""
    kernels = viper32.load(REGROW / "codecs" / "gridkernel.py")
    near = tuple(Neighbour(distance, weight) for distance, weight in ((1, 127), (5, -128), (9, 127)))
    cases = itertools.product(
        (1 << 14, (1 << 29) + 4095, (1 << 30) - 1, (1 << 30) - 8192),
        (Model(0, 1, 0, 0, 65520), Model(-128, 128, 127, 7, 65520), Model(127, 128, 64, 3, 65520, near)),
        (None, Context(1, 0, 15), Context(9, 15, 8)),
        (0, 120),
        (0x00, 0x7F, 0x80, 0xFF),
        (0, 0xFFC0),
    )
    for state, plain, context, size, byte, average in cases:
        model = replace(plain, context=context, slope=15, size=size)
        words, halves = grid_words(model, state, 20), array("H", bytes(2 * 600))
        kernels.fill_shares(halves, words)
        halves[513:600] = array("H", [average] * 87)
        out, past = bytearray(1), bytearray([byte] * 9)
        assert kernels.decode(out, 0, 1, array("H", [0xFFFF]), words, past, halves) == 1
        expected, level, after = grid_step(model, state, (byte ^ 128) - 128, average)
        assert words[2] == expected < 1 << 30
        assert (out[0] ^ 128) - 128 == level == (past[2] ^ 128) - 128
        assert halves[513] == after


def grid_step(model: Model, state: int, before: int, average: int) -> tuple[int, int, int]:
    """State, level and average after a step, by the letter, all levels and averages before being alike."""
    near = [(each.distance, each.weight) for each in model.neighbours]
    one = model.context
    plain = gridplain.Model(
        *(model.centre, model.reach, model.spread, model.shape, model.stripe),
        *(near, one and (one.distance, one.shift, one.weight), model.slope, model.size),
    )
    plain.levels.extend([before] * 20)
    plain.averages.extend([average] * 20)
    plain.expect()
    slot, residual = state & 8191, -model.reach
    while plain.below(residual + 1) <= slot:
        residual += 1
    below = plain.below(residual)
    state = (plain.below(residual + 1) - below) * (state >> 13) + slot - below
    plain.take(residual)
    return state if state >> 14 else state << 16 | 0xFFFF, plain.levels[-1], plain.averages[-1]


def test_floats():
    """Against the double product rounded once, over subnormal, largest and halfway cases."""
    kernels = viper32.load(REGROW / "codecs" / "floats.py")
    mantissas = (1, 3, 0x7FFFFF, 0x800000, 0x800001, 0xAAAAAB, 0xFFFFFF)
    values = (-128, -127, -3, -1, 0, 1, 2, 5, 127)
    for value, mantissa, exponent in itertools.product(
        values, mantissas, (-149, -148, -140, -24, 0, 97, 104)
    ):
        words = array("I", [value + (1 << 24)])
        kernels.multiply(words, 0, 1, mantissa, exponent)
        try:
            expected = struct.pack("<f", float(value * mantissa) * 2.0**exponent)
        except OverflowError:
            expected = struct.pack("<f", float("inf") if value > 0 else float("-inf"))
        assert words.tobytes() == expected, (value, mantissa, exponent)
    for k in (-(1 << 24), 1 - (1 << 24), -1, 0, 1, 12345, (1 << 24) - 1):
        for exponent in (-120, 0, 80):
            words = array("I", [k + (1 << 24)])
            kernels.multiply(words, 0, 1, 1, exponent)
            assert words.tobytes() == struct.pack("<f", k * 2.0**exponent)


def test_widening():
    kernels = viper32.load(REGROW / "codecs" / "floats.py")
    words = bytearray(range(0, 256, 5)) + bytearray(3 * 52)
    kernels.widen_levels(words, 52)
    assert [w - (1 << 24) for w in struct.unpack("<52I", words)] == [
        (b ^ 128) - 128 for b in range(0, 256, 5)
    ]
    halves = [half for half in range(0, 1 << 16, 37) if half & 0x7C00 != 0x7C00] + [0x7C00, 0xFC00]
    words = bytearray(struct.pack(f"<{len(halves)}H", *halves)) + bytearray(2 * len(halves))
    kernels.widen_halves(words, len(halves))
    for half, word in zip(halves, struct.iter_unpack("<4s", words), strict=True):
        assert word[0] == struct.pack("<f", *struct.unpack("<e", struct.pack("<H", half)))
