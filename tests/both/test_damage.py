"""Any byte of a part changed gives other weights or a PackError, never anything else."""

import gc

from parts import levels
from regrow.errors import PackError
from regrow.pack import ROLE_WEIGHTS, open_pack
from regrow.weights import Weights
from support import golden, reader

MOST = 2000


def survive(data):
    """Grow what the bytes hold, unless it is more than a test has heap for."""
    try:
        weights = Weights(reader(data))
        if weights.dtype == 0 and weights.count < MOST:
            levels(weights)
    except PackError:
        pass


def damage(name):
    pack = open_pack(golden(name))
    for part in pack.manifest.parts:
        if part.role == ROLE_WEIGHTS and part.size < 1000:
            data = pack.reader(part).read(part.size)
            for place in range(0, part.size, 1 + part.size // 25):
                for flip in (1, 0x80, 0xFF):
                    changed = bytearray(data)
                    changed[place] ^= flip
                    survive(changed)
                survive(data[:place])
                gc.collect()
    pack.close()


def test_raw():
    damage("raw.rgp")


def test_central():
    damage("central.rgp")


def test_grid():
    damage("grid.rgp")
