"""Codec grid decodes what an encoder written by the letter of pack-format.md wrote."""

# ruff: noqa: PLR0917 (a part's fields, in their order)
import struct

from parts import as_float32, check, grow, part, refuses


def grid_body(values, lowest, frequencies, precision, lanes):
    """The decoder's steps backwards."""
    starts = [sum(frequencies[:symbol]) for symbol in range(len(frequencies))]
    states = [1 << 14] * lanes
    words = []
    for i in range(len(values) - 1, -1, -1):
        symbol = values[i] - lowest
        frequency = frequencies[symbol]
        state = states[i % lanes]
        if state >= frequency << (30 - precision):
            words.append(state & 0xFFFF)
            state >>= 16
        states[i % lanes] = (state // frequency << precision) + starts[symbol] + state % frequency
    words.reverse()
    body = struct.pack("<BBBbB", 0, precision, lanes, lowest, len(frequencies) - 1)
    for frequency in frequencies:
        body += bytes([frequency & 127 | 128, frequency >> 7])
    return body + struct.pack(f"<{lanes}I", *states) + struct.pack(f"<{len(words)}H", *words)


def grid(values, lowest, frequencies, precision, lanes, scales=(0.25,), inner=1):
    return part(
        2, 0, list(scales), grid_body(values, lowest, frequencies, precision, lanes), len(values), inner
    )


def draw(count, symbols, lowest):
    """Levels of which low symbols are the more frequent."""
    return [lowest + grow(3, i) * grow(4, i) * symbols // (1 << 32) for i in range(count)]


def check_grid(values, lowest, frequencies, precision, lanes):
    data = grid(values, lowest, frequencies, precision, lanes)
    check(data, bytes([value & 255 for value in values]), as_float32(value / 4 for value in values))


def test_grid_lanes():
    values = draw(900, 6, -3)
    for lanes in (1, 2, 3, 64, 255):
        check_grid(values, -3, [1000, 900, 500, 200, 1, 1495, 0], 12, lanes)


def test_grid_precisions():
    values = draw(300, 4, 124)
    for precision in range(8, 13):
        total = 1 << precision
        check_grid(values, 124, [total - 6, 3, 2, 1], precision, 5)


def test_grid_all_levels():
    check_grid([i * 77 % 256 - 128 for i in range(700)], -128, [1] * 256, 8, 3)


def test_grid_one_level_takes_no_words():
    check_grid([-128] * 700, -128, [256], 8, 2)


def test_grid_refuses():
    values = draw(600, 4, 0)
    frequencies = [150, 60, 40, 6]
    body = grid_body(values, 0, frequencies, 8, 3)
    states = 5 + 2 * len(frequencies)

    def bad(place, byte):
        changed = bytearray(body)
        changed[place] = byte
        return refuses(part(2, 0, [1.0], bytes(changed), len(values)))

    assert not bad(0, 0)
    for place, byte in (
        (0, 1),
        (1, 7),
        (1, 13),
        (2, 0),
        (3, 125),
        (4, 4),
        (4, 2),
        (5, 0x97),
        (states + 3, 0x40),
    ):
        assert bad(place, byte), (place, byte)
    assert refuses(part(2, 0, [1.0], body[:states] + bytes(4) + body[states + 4 :], len(values)))
    for cut in (1, 2, 3, 10, 300):
        assert refuses(part(2, 0, [1.0], body[: len(body) - cut], len(values))), cut
    assert refuses(part(2, 0, [1.0], body + b"\x00\x00", len(values)))
    assert refuses(part(2, 0, [1.0], body, len(values) + 1))
    assert refuses(part(2, 0, [1.0], body, len(values) - 1))
    assert refuses(part(2, 0, [1.0], body, 2))
