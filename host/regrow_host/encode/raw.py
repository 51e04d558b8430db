"""Codec raw: the weights as they are."""

from typing import Any

import numpy as np
import numpy.typing as npt
from regrow import codecs
from regrow.errors import InputError

from regrow_host.encode import weights_part

_DTYPES = {"int8": codecs.INT8, "float32": codecs.FLOAT32, "float16": codecs.FLOAT16}


def encode(
    weights: npt.NDArray[Any],
    scales: npt.NDArray[np.float32] | None = None,
    inner: int = 1,
) -> bytes:
    """The part of int8 levels with their scales (shape (channels,)), or of float32 or float16 weights.

    Weight i of the flattened tensor belongs to channel (i // inner) % channels. Raises InputError.
    """
    dtype = _DTYPES.get(weights.dtype.name)
    if dtype is None or (dtype == codecs.INT8) != (scales is not None):
        raise InputError(f"raw weights are int8 with scales, float32 or float16, not {weights.dtype}")
    body = weights.astype(weights.dtype.newbyteorder("<")).tobytes()
    return weights_part(codecs.RAW, dtype, weights.size, body, scales=scales, inner=inner)
