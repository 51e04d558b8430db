"""LEB128 numbers, as the pack format writes them."""


def varint(value: int) -> bytes:
    low = []
    while value > 0x7F:
        low.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*low, value])


def signed(value: int) -> bytes:
    return varint(value << 1 if value >= 0 else ~value << 1 | 1)
