"""Ed25519 signatures (RFC 8032), verification only, in integers.

Points are (X, Y, Z, T) in extended coordinates, x = X / Z, y = Y / Z, x * y = T / Z (Hisil et al., 2008).
"""

from .errors import SignatureError
from .sha512 import sha512

_P = (1 << 255) - 19
_L = (1 << 252) + 27742317777372353535851937790883648493
_D = 0x52036CEE2B6FFE738CC740797779E89800700A4D4141D8AB75EB4DCA135978A3
_ROOT_OF_MINUS_1 = 0x2B8324804FC1DF0B2B4D00993DFBD7A72F431806AD2FE478C4EE1B274A0EA0B0
_BASE_X = 0x216936D3CD6E53FEC0A4E231FDD6DC5C692CC7609525A7B2C9562D608F25D51A
_BASE_Y = 0x6666666666666666666666666666666666666666666666666666666666666658


def verify(signer, signature, message):
    """Raise SignatureError unless `signature` (64 bytes) of `message` is that of `signer` (32 bytes)."""
    if len(signer) == 32 and len(signature) == 64:
        key = _decode(signer)
        s = int.from_bytes(signature[32:], "little")
        if key and s < _L:
            h = int.from_bytes(sha512(signature[:32] + signer + message), "little") % _L
            x, y, z, t = key
            base = _BASE_X, _BASE_Y, 1, _BASE_X * _BASE_Y % _P
            # S * B = R + h * A, with A taken to the other side; comparing encodings keeps R canonical
            if _encode(_add_multiples(s, base, h, (_P - x, y, z, _P - t))) == signature[:32]:
                return
    raise SignatureError("the signature is not that of its key: what it signs was altered")


def _decode(data):
    """The point of a canonical encoding, else None."""
    y = int.from_bytes(data, "little")
    odd = y >> 255
    y &= (1 << 255) - 1
    if y >= _P:
        return None
    u = (y * y - 1) % _P
    v = (_D * y * y + 1) % _P
    # a square root of u / v, with one exponentiation (RFC 8032, 5.1.3)
    x = u * pow(v, 3, _P) * pow(u * pow(v, 7, _P), (_P - 5) // 8, _P) % _P
    if v * x * x % _P != u:
        x = x * _ROOT_OF_MINUS_1 % _P
        if v * x * x % _P != u:
            return None
    if x == 0 and odd:
        return None
    if x & 1 != odd:
        x = _P - x
    return x, y, 1, x * y % _P


def _encode(point):
    x, y, z, _ = point
    inverse = pow(z, _P - 2, _P)
    return ((y * inverse % _P) | (x * inverse % _P & 1) << 255).to_bytes(32, "little")


def _prepare(p):
    """What `_add` needs of its second point."""
    x, y, z, t = p
    return y - x, y + x, 2 * z, 2 * t * _D % _P


def _add(p, prepared):
    x, y, z, t = p
    minus, plus, z2, t2d = prepared
    a = (y - x) * minus % _P
    b = (y + x) * plus % _P
    c = t * t2d % _P
    d = z * z2 % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _double(p):
    x, y, z, _ = p
    a = x * x % _P
    b = y * y % _P
    h = a + b
    e = h - (x + y) * (x + y) % _P
    g = a - b
    f = (2 * z * z + g) % _P
    return e * f % _P, g * h % _P, f * g % _P, e * h % _P


def _add_multiples(m, p, n, q):
    """m * p + n * q, both multiples built in one chain of doublings (Straus)."""
    prepared = None, _prepare(p), _prepare(q), _prepare(_add(p, _prepare(q)))
    total = 0, 1, 1, 0
    for bit in range(252, -1, -1):
        total = _double(total)
        which = (m >> bit & 1) | (n >> bit & 1) << 1
        if which:
            total = _add(total, prepared[which])
    return total
