"""docs/pack-format.md, "Weights part", read word by word in plain Python: what decoders are held against."""

import struct

from both import gridplain


def grow(seed: int, i: int) -> int:
    left = (i >> 16) ^ (seed >> 16)
    right = (i & 0xFFFF) ^ (seed & 0xFFFF)
    for c, k in ((0x9E37, 0x2C1B), (0x79B9, 0x3A53), (0x7F4A, 0x1F35), (0x7C15, 0x2E47)):
        product = (right ^ c) * k
        assert product < 2**31
        left, right = right, left ^ ((product >> 7) & 0xFFFF)
    return right


def grow_part(part: bytes) -> tuple[bytes | None, bytes]:
    """The levels (int8; None if the part holds floats) and the real weights (float32) of a weights part."""
    codec, dtype, form, count, channels, inner, _ = head_of(part)
    scales, body = scales_of(part)
    if codec == 1:
        return _central(body, count)
    if dtype:
        return None, as_float32(struct.unpack(f"<{count}{' fe'[dtype]}", body))
    levels = struct.unpack(f"{count}b", body) if codec == 0 else gridplain.decode(body, count)
    scale = [scales[0 if form == 1 else i // inner % channels] for i in range(count)]
    return struct.pack(f"{count}b", *levels), as_float32(
        level * s for level, s in zip(levels, scale, strict=True)
    )


def integers(data: bytes, count: int) -> tuple[list[int], bytes]:
    """`count` integers in Rice codes, and what follows them."""
    k, place, values = data[0], 8, []

    def bits(n: int) -> int:
        nonlocal place
        place += n
        return sum((data[i // 8] >> i % 8 & 1) << i - place + n for i in range(place - n, place))

    for _ in range(count):
        ones = 0
        while ones < 16 and bits(1):
            ones += 1
        z = bits(30) if ones == 16 else ones << k | bits(k)
        values.append(-(z + 1) // 2 if z % 2 else z // 2)
    return values, data[-(-place // 8) :]


def head_of(part: bytes) -> tuple[int, int, int, int, int, int, bytes]:
    """Codec, dtype, scale form, count, channels and inner of a weights part, and what follows."""
    count, rest = _varint(part[1:])
    channels, rest = _varint(rest)
    inner, rest = _varint(rest) if channels > 1 else (1, rest)
    return part[0] % 4, part[0] // 4 % 4, part[0] // 16, count, channels, inner, rest


def _varint(data: bytes) -> tuple[int, bytes]:
    size = next(i for i, byte in enumerate(data, 1) if byte < 128)
    return sum((byte & 127) << 7 * i for i, byte in enumerate(data[:size])), data[size:]


def scales_of(part: bytes) -> tuple[list[float], bytes]:
    """The scales of a weights part, and its body."""
    _, _, form, _, channels, _, rest = head_of(part)
    if form == 1:
        return list(struct.unpack("<f", bytes(2) + rest[:2])), rest[2:]
    if form < 3:
        count = (0, 1, channels)[form]
        return list(struct.unpack_from(f"<{count}f", rest)), rest[4 * count :]
    shift = rest[0]
    z, rest = _varint(rest[1:])
    base = -(z + 1) // 2 if z % 2 else z // 2
    offsets, body = integers(rest, channels)
    exponents = [(base + offset) << shift for offset in offsets]
    mantissas = [
        round(2 ** (23 + e // 32 % 32 / 32)) * round(2 ** (23 + e % 32 / 1024)) >> 23 for e in exponents
    ]
    return [m * 2.0 ** (e // 1024 - 23) for m, e in zip(mantissas, exponents, strict=True)], body


def as_float32(values) -> bytes:
    return b"".join(struct.pack("<f", value) for value in values)


def _central(body: bytes, count: int) -> tuple[bytes, bytes]:
    _, restoration, e, t, bias, seed, batch = struct.unpack_from("<BBbBhII", body)
    statistics = list(struct.iter_unpack("<h" if restoration else "<hH", body[14:]))
    k = []
    for i in range(count):
        mean, *std = statistics[i // batch]
        k.append((mean + bias) << 8)
        if std:
            k[i] += (std[0] * (grow(seed, i) - 32768)) >> 7
    levels = [max(-127, min(127, (value + (1 << (t - 1))) >> t)) for value in k]
    return struct.pack(f"{count}b", *levels), as_float32(value * 2.0**e for value in k)
