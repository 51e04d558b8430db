"""The self-test that a pack carries: inputs with the outputs they must give (docs/pack-format.md)."""

from micropython import const

from .errors import PackError
from .generator import grow

_PIECE = const(64)


def run(network, reader):
    """Raise PackError unless the network gives the probe's outputs."""
    if reader.u8() != 1:
        raise PackError("the probe has a form that this version does not know")
    if reader.u8():
        raise PackError("the probe is for another runtime than the board's")
    samples = reader.u8()
    form = reader.u8()
    seed = reader.u32()
    reader.skip(12)
    inputs = [bytearray(info.size) for info in network.inputs]
    outputs = [bytearray(info.size) for info in network.outputs]
    given, taken = sum(len(x) for x in inputs), sum(len(y) for y in outputs)
    if not 1 <= samples <= 16 or form > 1 or reader.varint() != given or reader.varint() != taken:
        raise PackError("the probe does not fit the network's inputs and outputs")
    first = reader.position
    wanted = first + (0 if form else samples * given)
    if reader.left != samples * (taken if form else given + taken):
        raise PackError("the probe is not as long as its samples")
    piece = bytearray(_PIECE)
    for sample in range(samples):
        counter = sample * given
        for x in inputs:
            if form:
                for i in range(len(x)):
                    x[i] = grow(seed, counter + i) >> 8
            else:
                reader.seek(first + counter)
                reader.readinto(x)
            counter += len(x)
        network.predict(inputs, outputs)
        reader.seek(wanted + sample * taken)
        for y in outputs:
            _compare(y, reader, piece, sample)


def _compare(y, reader, piece, sample):
    done = 0
    while done < len(y):
        count = min(_PIECE, len(y) - done)
        reader.readinto(piece, count)
        for i in range(count):
            if piece[i] != y[done + i]:
                raise PackError(f"the self-test failed: output {done + i} of sample {sample} is wrong")
        done += count
