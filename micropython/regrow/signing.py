"""Ed25519 signatures (RFC 8032), verification only, in integers.

Points are (X, Y, Z, T) in extended coordinates, x = X / Z, y = Y / Z, x * y = T / Z (Hisil et al., 2008).
"""

from .errors import SignatureError
from .sha512 import sha512

_P = (1 << 255) - 19
_L = (1 << 252) + 27742317777372353535851937790883648493
_D = -121665 * pow(121666, _P - 2, _P) % _P


def verify(signer, signature, message):
    """Raise SignatureError unless `signature` (64 bytes) of `message` is that of `signer` (32 bytes)."""
    if len(signer) == 32 and len(signature) == 64:
        base = _decode((4 * pow(5, _P - 2, _P) % _P).to_bytes(32, "little"))
        key = _decode(signer)
        s = int.from_bytes(signature[32:], "little")
        if key and s < _L:
            h = int.from_bytes(sha512(signature[:32] + signer + message), "little") % _L
            x, y, z, t = key
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
        x = x * pow(2, (_P - 1) // 4, _P) % _P
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


def _add(p, q):
    px, py, pz, pt = p
    qx, qy, qz, qt = q
    a = (py - px) * (qy - qx) % _P
    b = (py + px) * (qy + qx) % _P
    c = 2 * pt * qt * _D % _P
    d = 2 * pz * qz % _P
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
    both = _add(p, q)
    total = 0, 1, 1, 0
    for bit in range(252, -1, -1):
        total = _double(total)
        take_p = m >> bit & 1
        take_q = n >> bit & 1
        if take_p or take_q:
            total = _add(total, both if take_p and take_q else p if take_p else q)
    return total
