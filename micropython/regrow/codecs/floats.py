"""From integers to float32 bits, without float arithmetic: exact on boards of any float width."""

import micropython


def read(weights, decoder, values, first):
    """See Weights.read_floats: the weights from number `first` on, which its decoder stands at."""
    count = len(values)
    if weights.codec == 1:
        decoder.grow_wide(values, count)
        multiply(values, 0, count, 1, decoder.exponent)
        return
    decoder.grow(values, count)
    if weights.dtype == 2:
        widen_halves(values, count)
    if weights.dtype == 0:
        widen_levels(values, count)
        _scale(weights, values, first, count)


def _scale(weights, values, first, count):
    done = 0
    while done < count:
        i = first + done
        stop = min(count, done + weights.inner - i % weights.inner)
        scale = weights.scales[i // weights.inner % weights.channels]
        multiply(values, done, stop, mantissa(scale), exponent(scale))
        done = stop


def mantissa(bits):
    """m of a positive float32 m * 2**e."""
    return bits & 0x7FFFFF | (0x800000 if bits >> 23 else 0)


def exponent(bits):
    """e of a positive float32 m * 2**e."""
    return max(bits >> 23, 1) - 150


@micropython.viper
def widen_levels(out: ptr32, count: int):
    """Spread the i8 at the front of `out` to u32 of level + 2**24, in place."""
    levels = ptr8(out)
    i = count - 1
    while i >= 0:
        out[i] = (levels[i] ^ 0x80) + 0xFFFF80
        i -= 1


@micropython.viper
def widen_halves(out: ptr32, count: int):
    """Spread the float16 at the front of `out` to float32, in place."""
    halves = ptr16(out)
    i = count - 1
    while i >= 0:
        half = halves[i]
        exponent = (half >> 10) & 31
        mantissa = (half & 0x3FF) << 13
        if exponent == 31:
            exponent = 255
        elif exponent:
            exponent += 112
        elif mantissa:
            exponent = 113
            while mantissa < 0x800000:
                mantissa <<= 1
                exponent -= 1
            mantissa &= 0x7FFFFF
        halves[2 * i] = mantissa & 0xFFFF
        halves[2 * i + 1] = (half & 0x8000) | (exponent << 7) | (mantissa >> 16)
        i -= 1


@micropython.viper
def multiply(out: ptr32, start: int, stop: int, mantissa: int, exponent: int):
    """Turn the u32 of v + 2**24 into the float32 of v * mantissa * 2**exponent, rounded once, ties to even.

    |v| * mantissa must be below 2**31.
    """
    halves = ptr16(out)
    i = start
    while i < stop:
        value = out[i] - 0x1000000
        sign = 0
        if value < 0:
            value = 0 - value
            sign = 0x8000
        value *= mantissa
        place = exponent
        drop = 0
        while drop < 8 and (value >> drop) > 0xFFFFFF:
            drop += 1
        if place + drop < -149:
            drop = -149 - place
        if drop > 31:
            value = 0
            drop = 0
            place = -149
        if drop:
            half = 1 << (drop - 1)
            rest = value & ((half - 1) | half)
            value >>= drop
            place += drop
            if rest > half or (rest == half and value & 1):
                value += 1
        while value < 0x800000 and place > -149:
            value <<= 1
            place -= 1
            if value == 0:
                place = -149
        if value > 0xFFFFFF:
            value >>= 1
            place += 1
        if value < 0x800000:
            place = -150
        if place > 104:
            place = 105
            value = 0
        halves[2 * i] = value & 0xFFFF
        halves[2 * i + 1] = sign | ((place + 150) << 7) | ((value >> 16) & 0x7F)
        i += 1
