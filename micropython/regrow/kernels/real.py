"""From real units to integers, by the bits of float32: exact on boards of any float width."""

import micropython


@micropython.viper
def quantize(x: ptr16, arena: ptr8, place: int, count: int, scale: int, zero: int) -> int:  # noqa: PLR0912
    """x / scale, rounded to float32 and then to the nearest integer, halves away from zero; plus zero, in
    0..255.

    Gives the number of values before the first NaN; scale is the bits of a normal float32.
    """
    out = ptr8(uint(arena) + place)
    divisor = (scale & 0x7FFFFF) | 0x800000
    divisor_exponent = scale >> 23
    done = 0
    while done < count:
        high = x[1]
        exponent = (high >> 7) & 0xFF
        rest = x[0] | ((high & 0x7F) << 16)
        if exponent == 255 and rest:
            return done
        # the quotient is q * 2**-shift, q in 2**23 .. 2**24
        shift = 23 - exponent + divisor_exponent
        value = 0
        if shift < 0:
            value = 512
        elif exponent and shift < 26:
            rest |= 0x800000
            if rest < divisor:
                rest <<= 1
                shift += 1
            q = 0
            i = 24
            while i:
                q <<= 1
                if rest >= divisor:
                    rest -= divisor
                    q += 1
                rest <<= 1
                i -= 1
            if rest > divisor or (rest == divisor and q & 1):
                q += 1
            value = q
            if shift:
                value = (q + (1 << (shift - 1))) >> shift
            if value > 512:
                value = 512
        if high >> 15:
            value = 0 - value
        value += zero
        if value < 0:
            value = 0
        if value > 255:
            value = 255
        out[done] = value
        x = ptr16(uint(x) + 4)
        done += 1
    return done
