"""Where the parts lie that a resident form is made of: what opens packs need not stay in RAM for that."""

from array import array

from micropython import const

from .errors import PackError
from .reader import Reader

_USE_EXECUTOR = const(2)
_ROLE_GRAPH = const(1)
_ROLE_WEIGHTS = const(3)
_GRAPH = const(-1)
_CODECS = ("codecs.raw", "codecs.central", "codecs.grid")  # by number


def open_parts(path, trust):
    """The Parts of the pack at `path`, as regrow.load takes it; None if its resident form is there.

    Raises SignatureError and PackError for a pack that must not run or is damaged.
    """
    from .pack import open_pack
    from .resident import open_resident

    pack = open_pack(path, trust)
    try:
        found = open_resident(path)
        if found:
            found[0].close()
            return None
        return Parts(pack)
    finally:
        pack.close()


class Parts:
    """`.id .name .version` of an open pack, and its graph and weights, whose bytes have their SHA-256."""

    def __init__(self, pack):
        """Raises PackError for a part that is damaged."""
        manifest = pack.manifest
        self.id = pack.head.id
        self.name = manifest.name
        self.version = manifest.version
        self._numbers = array("i")
        self._offsets = array("I")
        self._sizes = array("I")
        self._paths = []
        self._graph = self._weights = None  # open files
        for part in manifest.parts:
            if part.use & _USE_EXECUTOR and part.role in (_ROLE_GRAPH, _ROLE_WEIGHTS):
                pack.verify(part)
                path, offset = pack.locate(part)
                self._numbers.append(part.number if part.role == _ROLE_WEIGHTS else _GRAPH)
                self._offsets.append(offset)
                self._sizes.append(part.size)
                self._paths.append(path)

    def graph(self):
        """A reader of the graph part."""
        i = self._find(_GRAPH)
        self._graph = open(self._paths[i], "rb")  # noqa: SIM115 - it stays open
        return Reader(self._graph, self._offsets[i], self._sizes[i])

    def weights(self, number):
        """A reader of a weights part, good until that of another is asked for."""
        i = self._find(number)
        if self._weights:
            self._weights.close()
        self._weights = open(self._paths[i], "rb")  # noqa: SIM115 - it stays open
        return Reader(self._weights, self._offsets[i], self._sizes[i])

    def codecs(self):
        """The modules of the codecs of all weights, known and unknown."""
        codecs = {self.weights(number).u8() for number in self.numbers()}
        return tuple([_CODECS[codec] for codec in codecs if codec < len(_CODECS)])

    def numbers(self):
        """Those of all weights parts."""
        return [number for number in self._numbers if number != _GRAPH]

    def close(self):
        for file in (self._graph, self._weights):
            if file:
                file.close()

    def _find(self, number):
        for i in range(len(self._numbers)):
            if self._numbers[i] == number:
                return i
        raise PackError("the graph is missing" if number == _GRAPH else f"the pack has no weights {number}")
