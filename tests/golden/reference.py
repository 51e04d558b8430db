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
    codec, dtype, form, count, channels, inner = struct.unpack_from("<BBBIHI", part)
    scales = struct.unpack_from(f"<{(0, 1, channels)[form]}f", part, 13)
    body = part[13 + 4 * len(scales) :]
    if codec == 1:
        return _central(body, count)
    if dtype:
        return None, _floats(struct.unpack(f"<{count}{' fe'[dtype]}", body))
    levels = struct.unpack(f"{count}b", body) if codec == 0 else gridplain.decode(body, count)
    scale = [scales[i // inner % channels] if form == 2 else scales[0] for i in range(count)]
    return struct.pack(f"{count}b", *levels), _floats(
        level * s for level, s in zip(levels, scale, strict=True)
    )


def _floats(values) -> bytes:
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
    return struct.pack(f"{count}b", *levels), _floats(value * 2.0**e for value in k)
