"""SHA-512 (FIPS 180-4), which boards have no module for."""

from array import array

_MASK = (1 << 64) - 1


def _primes(count):
    found = []
    candidate = 2
    while len(found) < count:
        if all(candidate % prime for prime in found):
            found.append(candidate)
        candidate += 1
    return found


def _root(value, degree):
    """The integer part of the square or cube root, by Newton's method from above."""
    root = 1 << 70
    while True:
        power = root if degree == 2 else root * root
        better = ((degree - 1) * root + value // power) // degree
        if better >= root:
            return root
        root = better


def _rotate(x, count):
    return (x >> count) | (x << (64 - count)) & _MASK


def sha512(data):
    """The digest of `data`, 64 bytes."""
    # The standard's constants are the first 64 bits of the fractions of roots of primes.
    primes = _primes(80)
    state = [_root(prime << 128, 2) & _MASK for prime in primes[:8]]
    rounds = array("Q", primes)
    for i, prime in enumerate(primes):
        rounds[i] = _root(prime << 192, 3) & _MASK
    words = array("Q", bytes(128))
    data += b"\x80" + bytes((111 - len(data)) % 128) + (8 * len(data)).to_bytes(16, "big")
    for start in range(0, len(data), 128):
        for i in range(16):
            words[i] = int.from_bytes(data[start + 8 * i : start + 8 * i + 8], "big")
        _compress(state, rounds, words)
    return b"".join([word.to_bytes(8, "big") for word in state])


def _compress(state, rounds, words):
    a, b, c, d, e, f, g, h = state
    for i in range(80):
        if i > 15:
            x = words[(i + 1) & 15]
            y = words[(i + 14) & 15]
            x = _rotate(x, 1) ^ _rotate(x, 8) ^ (x >> 7)
            y = _rotate(y, 19) ^ _rotate(y, 61) ^ (y >> 6)
            words[i & 15] = (words[i & 15] + x + words[(i + 9) & 15] + y) & _MASK
        x = _rotate(e, 14) ^ _rotate(e, 18) ^ _rotate(e, 41)
        x += h + ((e & f) ^ (~e & g)) + rounds[i] + words[i & 15]
        y = _rotate(a, 28) ^ _rotate(a, 34) ^ _rotate(a, 39)
        y += (a & b) ^ (a & c) ^ (b & c)
        h, g, f, e, d, c, b, a = g, f, e, (d + x) & _MASK, c, b, a, (x + y) & _MASK
    for i, word in enumerate((a, b, c, d, e, f, g, h)):
        state[i] = (state[i] + word) & _MASK
