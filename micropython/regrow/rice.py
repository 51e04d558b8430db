"""Rice codes of a list of integers (docs/pack-format.md, "Integers")."""

from .errors import PackError


def read(reader, count):
    """Yields the next `count` integers, each of at most 29 bits and a sign, from a reader of its own."""
    k = reader.u8()
    if k > 24 or count > 8 * reader.left:
        raise PackError(f"Rice codes of {count} values with parameter {k} are out of range")
    bits = held = 0
    for _ in range(count):
        high = 0
        need = k
        while True:
            if not held:
                bits = reader.u8()
                held = 8
            one = bits & 1
            bits >>= 1
            held -= 1
            if not one:
                break
            high += 1
            if high == 16:
                high = 0
                need = 30
                break
        value = 0
        for j in range(need):
            if not held:
                bits = reader.u8()
                held = 8
            value |= (bits & 1) << j
            bits >>= 1
            held -= 1
        value |= high << need
        yield -(value >> 1) - 1 if value & 1 else value >> 1
