"""Forms of weights for images whose pixels are listed: pixels8 as eights, pixels4 as lanes."""

from micropython import const

from .channels import TILE
from .forms import Eights, Lanes

_WIDTH = const(8)  # channels in a group


def least(space, groups):
    """Bytes for a row of the output: for a group of weights of 8 bits, for TILE bytes of those of 4 bits."""
    eights, lanes = Pixels8(space, 128), Pixels4(space, 128, 128)
    if space.whole:
        return max(eights.needs(groups, 1), lanes.needs(groups, 1))
    return max(eights.needs(1, 1), lanes.needs(min(groups, max(1, TILE // lanes.size)), 1))


def pixels(space, zero, lowest):
    """The faster of these forms for which there is room, or None; `lowest` is -1 for weights of 8 bits."""
    for form in ((Pixels4(space, zero, lowest),) if lowest >= 0 else ()) + (Pixels8(space, zero),):
        if form.fits():
            return form
    return None


class Pixels:
    """How `eights` and `lanes` stand where the pixels of the image are listed; a batch is so many rows."""

    def needs(self, groups, batch):
        _, columns, width, depth, reach, stride = self.space.image
        lists = ((batch - 1) * stride + reach) * (8 * width + 8 + (3 * width * depth + 3 & -4))
        return self.extra + groups * self.size + lists + batch * columns * (4 + 4 * _WIDTH * groups)

    def share(self):
        space = self.space
        groups = self.groups
        if not space.whole:
            while groups > 1 and self.needs(groups, 1) > space.room:
                groups -= 1
            passes = (self.groups + groups - 1) // groups
            groups = (self.groups + passes - 1) // passes
        self.batch = space.image[0]
        while self.needs(groups, self.batch) > space.room:
            self.batch -= 1
        self.tile = min(space.channels, groups * _WIDTH)
        self.tile_bytes = groups * self.size
        return self.batch


class Pixels8(Pixels, Eights):
    kernel = "pixels8"
    cost = 32  # of a product, with half of the inputs 0

    def __init__(self, space, zero):
        Eights.__init__(self, space, zero)
        self.lists = self.extra = 0


class Pixels4(Pixels, Lanes):
    kernel = "pixels4"
    cost = 22

    def __init__(self, space, zero, lowest):
        Lanes.__init__(self, space, zero, lowest)
        self.extra = space.unpacked
