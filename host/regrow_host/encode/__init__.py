"""Encoders: each module writes whole weights parts of one codec (docs/pack-format.md)."""

import struct

import numpy as np
import numpy.typing as npt
from regrow import codecs
from regrow.errors import InputError

from regrow_host import rice


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
    scales = np.empty(0, "<f4") if scales is None else np.asarray(scales, "<f4")
    if not (np.isfinite(scales) & (scales > 0)).all():
        raise InputError("a scale of the weights is not finite and positive")
    channels = max(1, scales.size)
    if channels > 65535:
        raise InputError(f"weights of {channels} channels do not fit a pack, which takes 65,535")
    if scales.size > 1 and (scales == scales[0]).all():
        scales = scales[:1]
    form, data = scale_bytes(scales)
    return struct.pack("<BBBIHI", codec, dtype, form, count, channels, inner) + data + body


def snapped(scales: npt.NDArray[np.float32], steps: int = 16) -> npt.NDArray[np.float32]:
    """The nearest scales of so many steps an octave (a power of two up to 1,024), which take few bytes."""
    return codecs.octaves(_exponents(scales, steps))


def _exponents(scales: npt.NDArray[np.float32], steps: int = 1024) -> npt.NDArray[np.int64]:
    """1024 log2 of the scales, rounded to one of so many steps an octave."""
    exponents = np.rint(steps * np.log2(scales.astype(np.float64))).astype(np.int64) * (1024 // steps)
    return np.asarray(np.clip(exponents, codecs.LEAST_EXPONENT, codecs.MOST_EXPONENT))


def scale_bytes(scales: npt.NDArray[np.float32]) -> tuple[int, bytes]:
    """The form of float32 scales, and the bytes of a part that hold them."""
    if scales.size < 2:
        return codecs.COMMON if scales.size else codecs.NONE, scales.tobytes()
    exponents = _exponents(scales)
    if (scales != codecs.octaves(exponents)).any():
        return codecs.EXACT, scales.tobytes()
    base = int(np.sort(exponents)[exponents.size // 2])
    shift, offsets = rice.shifted((exponents - base).tolist(), codecs.MOST_SHIFT)
    return codecs.OCTAVES, struct.pack("<Bi", shift, base) + rice.write(offsets)
