"""Requantization of the rare channels whose bias or multiplier is out of the reach of 30 bits."""

import micropython


@micropython.viper
def wide(x: int, bias_high: int, bias_low: int, m_high: int, m_low: int, shift: int, once: int) -> int:
    """(x + bias) * m * 2**(shift - 31), rounded as TFLite does and clamped to -512..512, for |x + bias| <
    2**31.

    TFLite rounds the doubled high product and again the right shift, halves away from zero; FULLY_CONNECTED
    rounds once, halves upward.

    bias_high counts from -2**15, shift from -31; m and bias are halves of 16 bits. Kernels call this for the
    rare channels whose bias or multiplier is too large for their own arithmetic.
    """
    x += ((bias_high - 0x8000) << 16) + bias_low
    left = shift - 31
    right = 0
    if left < 0:
        right = 0 - left
        left = 0
    limit = 0x3FFFFFFF
    if left:
        limit >>= left
        if x > limit:
            x = limit
        if x < 0 - limit:
            x = 0 - limit
        x <<= left
    high = x >> 16
    low = x & 0xFFFF
    a = high * m_low + (((low >> 1) * m_low + (((low & 1) * m_low) >> 1)) >> 15)
    b = low * m_high
    nudge = 0x4000
    if once and right:
        nudge = 0
    y = (a >> 15) + (b >> 15) + (((a & 0x7FFF) + (b & 0x7FFF) + nudge) >> 15) + ((high * m_high) << 1)
    if right:
        half = 1 << (right - 1)
        mask = half - 1 + half
        rest = y & mask
        threshold = mask >> 1
        if y < 0 and not once:
            threshold += 1
        y >>= right
        if rest > threshold:
            y += 1
    if y > 512:
        y = 512
    if y < -512:
        y = -512
    return y
