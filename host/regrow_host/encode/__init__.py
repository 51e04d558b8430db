"""Encoders: each module writes whole weights parts of one codec (docs/pack-format.md)."""

import numpy as np
import numpy.typing as npt
from regrow import codecs
from regrow.errors import InputError

from regrow_host import rice
from regrow_host.varint import signed, varint


def weights_part(
    codec: int,
    dtype: int,
    count: int,
    body: bytes,
    *,
    scales: npt.NDArray[np.float32] | None = None,
    inner: int = 1,
) -> bytes:
    """A weights part; `scales` float32 of shape (channels,), None for none. Raises InputError."""
    return head(codec, dtype, count, scales, inner) + body


def head(
    codec: int, dtype: int, count: int, scales: npt.NDArray[np.float32] | None = None, inner: int = 1
) -> bytes:
    """A weights part up to its body."""
    scales = np.empty(0, "<f4") if scales is None else np.asarray(scales, "<f4")
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise InputError("a scale of the weights is not finite and positive")
    if scales.size > codecs.MOST_CHANNELS:
        raise InputError(
            f"weights of {scales.size} channels do not fit a pack, which takes {codecs.MOST_CHANNELS:,}"
        )
    if scales.size > 1 and (scales == scales[0]).all():
        scales = scales[:1]
    form, data = _scale_bytes(scales)
    channels = max(1, scales.size)
    counts = varint(count) + varint(channels) + (varint(inner) if channels > 1 else b"")
    return bytes([codec | dtype << 2 | form << 4]) + counts + data


def short(scales: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The next scales up whose float32 has a lower half of zeros, which takes 2 bytes as the only one."""
    return np.asarray((scales.view(np.uint32) + 0xFFFF & 0xFFFF0000).astype(np.uint32).view(np.float32))


def snapped(scales: npt.NDArray[np.float32], steps: int = 16) -> npt.NDArray[np.float32]:
    """The nearest scales of so many steps an octave (a power of two up to 1,024), which take few bytes."""
    return codecs.octaves(_exponents(scales, steps))


def _exponents(scales: npt.NDArray[np.float32], steps: int = 1024) -> npt.NDArray[np.int64]:
    """1024 log2 of the scales, rounded to one of so many steps an octave."""
    exponents = np.rint(steps * np.log2(scales.astype(np.float64))).astype(np.int64) * (1024 // steps)
    return np.asarray(np.clip(exponents, codecs.LEAST_EXPONENT, codecs.MOST_EXPONENT))


def _scale_bytes(scales: npt.NDArray[np.float32]) -> tuple[int, bytes]:
    """The form of float32 scales, and the bytes of a part that hold them."""
    if scales.size < 2:
        upper = scales.view("<u4") >> 16
        if (scales.view("<u4") == upper << 16).all():
            return codecs.SHORT if scales.size else codecs.NONE, upper.astype("<u2").tobytes()
        return codecs.EXACT, scales.tobytes()
    exponents = _exponents(scales)
    if (scales != codecs.octaves(exponents)).any():
        return codecs.EXACT, scales.tobytes()
    shift, shifted = rice.shifted(exponents.tolist(), codecs.MOST_SHIFT)
    base = sorted(shifted)[len(shifted) // 2]
    return codecs.OCTAVES, bytes([shift]) + signed(base) + rice.write([each - base for each in shifted])
