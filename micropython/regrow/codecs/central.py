"""Codec 1: weight centralization. A batch of weights grows from its mean and standard deviation."""

import micropython

from ..errors import PackError
from ..generator import fill

_DRAWS = 128


class Decoder:
    """Grows levels, or in `grow_wide` the exact k of w = k * 2**exponent."""

    def __init__(self, reader, count, scratch):
        unit = reader.u8()
        restoration = reader.u8()
        self.exponent = reader.i8()
        self._shift = reader.u8()
        self._bias = reader.i16()
        seed = reader.u32()
        self._seed_high = seed >> 16
        self._seed_low = seed & 0xFFFF
        self._batch = reader.u32()
        if (
            unit > 2
            or restoration > 1
            or not -120 <= self.exponent <= 80
            or not 1 <= self._shift <= 24
            or not 1 <= self._batch <= count
            or (unit < 2 and self._batch != count)
        ):
            raise PackError("a central weights part has a header out of range")
        self._uniform = 1 - restoration
        batches = (count - 1) // self._batch + 1
        if reader.left != batches * (2 + 2 * self._uniform):
            raise PackError(f"a central weights part holds {reader.left} bytes for {batches} batches")
        self._reader = reader
        self._body = reader.position
        self._scratch = scratch
        scratch.plan(2 * _DRAWS)

    @property
    def scale_bits(self):
        """The float32 bits of a level's scale, 2**(exponent + shift)."""
        return (self.exponent + self._shift + 127) << 23

    def rewind(self):
        self._reader.seek(self._body)
        self._next = 0
        cursor = self._scratch.cursor
        for field in range(len(cursor)):
            cursor[field] = 0

    def grow(self, out, count):
        self._run(out, count, self._shift)

    def grow_wide(self, out, count):
        """Write k + 2**24, which is positive, as u32."""
        self._run(out, count, 0)

    def _run(self, out, count, shift):
        scratch = self._scratch
        done = 0
        while done < count:
            stop = min(count, done + _DRAWS)
            first = done
            if self._uniform:
                fill(scratch.table, stop - done, self._seed_high, self._seed_low, self._next)
            while done < stop:
                if scratch.cursor[0] == scratch.cursor[1]:
                    scratch.refill(self._reader)
                done = _restore(
                    out,
                    done,
                    stop,
                    scratch.table,
                    first,
                    scratch.io,
                    scratch.cursor,
                    self._uniform,
                    self._bias,
                    self._batch,
                    shift,
                )
                if done < 0:
                    raise PackError("a central weights part has a mean or deviation out of range")
            self._next += stop - first


@micropython.viper
def _restore(
    out: ptr8,
    i: int,
    stop: int,
    draws: ptr16,
    first: int,
    statistics: ptr16,
    cursor: ptr32,
    uniform: int,
    bias: int,
    batch: int,
    shift: int,
) -> int:
    """Grow items i .. stop - 1, draw n - first for item n; shift 0 gives k + 2**24 as u32, else levels.

    Returns where it stopped: before `stop` if the statistics ran out, -1 if they break a limit. The cursor
    holds place and end in the statistics, the weights left of this batch, its mean (as u16) and deviation.
    """
    wide = ptr32(out)
    place = cursor[0]
    end = cursor[1]
    left = cursor[2]
    mean = cursor[3]
    deviation = cursor[4]
    centre = ((mean ^ 0x8000) - 0x8000 + bias) << 8
    half = (1 << shift) >> 1
    while i < stop:
        if left == 0:
            if place == end:
                break
            mean = statistics[place]
            if uniform:
                deviation = statistics[place + 1]
            place += 1 + uniform
            left = batch
            centre = (mean ^ 0x8000) - 0x8000 + bias
            if centre < -0x8000 or centre > 0x7FFF or deviation > 0x7FFF:
                return -1
            centre <<= 8
        k = centre
        if uniform:
            k += (deviation * (draws[i - first] - 0x8000)) >> 7
        if shift == 0:
            wide[i] = k + 0x1000000
        else:
            k = (k + half) >> shift
            if k > 127:
                k = 127
            if k < -127:
                k = -127
            out[i] = k
        left -= 1
        i += 1
    cursor[0] = place
    cursor[2] = left
    cursor[3] = mean
    cursor[4] = deviation
    return i
