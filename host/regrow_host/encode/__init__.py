"""Encoders: each module writes whole weights parts of one codec (docs/pack-format.md)."""

import struct

import numpy as np
import numpy.typing as npt
from regrow.errors import InputError


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
    form = 0 if not scales.size else 1 if scales.size == 1 else 2
    return struct.pack("<BBBIHI", codec, dtype, form, count, channels, inner) + scales.tobytes() + body
