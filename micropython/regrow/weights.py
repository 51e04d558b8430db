"""One weight tensor, grown tile by tile into buffers of the caller."""

from array import array

from micropython import const

from .errors import CapacityError, InputError, PackError

_INPUT = const(512)


class Scratch:
    """The working memory of decoding, planned once and shared by all weights of a network.

    It serves one tensor at a time: the Weights that was rewound last. Every Weights made with it enlarges it
    to its need, so nothing is allocated while weights grow.
    """

    def __init__(self):
        self.owner = None
        self.io = b""
        self.cursor = array("I", [0, 0, 0, 0, 0])
        self.table = b""
        self.halves = array("H")

    def plan(self, table, halves=0):
        """Have room for what is read, for a table of so many bytes, and for so many u16."""
        self.io = self.io or bytearray(_INPUT)
        if len(self.table) < table:
            self.table = b""  # before there is a longer one
            self.table = bytearray(table)
        if len(self.halves) < halves:
            self.halves = b""
            self.halves = array("H", bytes(2 * halves))

    def refill(self, reader):
        """Load the next bytes of the body, as u16: cursor 0 becomes their place, cursor 1 their end."""
        count = min(reader.left, _INPUT)
        reader.readinto(self.io, count)
        self.cursor[0] = 0
        self.cursor[1] = count >> 1


class Scales:
    """`scales[c]`: the float32 bits of the scale of channel c. Scales by channel are read when asked for."""

    def __init__(self, reader, form, channels):
        self._reader = reader
        self._channels = channels
        self._body = reader.position
        self.common = None
        for _ in range((0, 1, channels)[form]):
            bits = reader.u32() if form == 2 else reader.u16() << 16
            if not 0 < bits < 0x7F800000:
                raise PackError("a weights part has a scale that is not finite and positive")
        if form == 1 or (form and channels == 1):
            self.common = bits

    def __len__(self):
        return self._channels

    def __getitem__(self, channel):
        if not 0 <= channel < self._channels:
            raise IndexError(channel)
        if self.common:
            return self.common
        place = self._reader.position
        self._reader.seek(self._body + 4 * channel)
        bits = self._reader.u32()
        self._reader.seek(place)
        return bits


class Weights:
    """A weights part: `count` weights; weight i belongs to channel (i // inner) % channels.

    `dtype` is 0 for int8 levels with `scales`, 1 for float32, 2 for float16; `codec` is the codec's number.
    Raises PackError for a part that breaks the format, CapacityError for 2**30 weights or more.
    """

    _floats = None

    def __init__(self, reader, scratch=None):
        forms = reader.u8()
        codec = forms & 3
        self.dtype = forms >> 2 & 3
        form = forms >> 4
        self.count = reader.varint()
        self.channels = reader.varint()
        self.inner = reader.varint() if self.channels > 1 else 1
        if self.dtype > 2 or form > 3:
            raise PackError("a weights part has an unknown dtype or scale form")
        if not (self.count and 0 < self.channels < 1 << 16 and self.inner):
            raise PackError("a weights part has a count, channels or inner size out of range")
        if self.count >> 30:
            raise CapacityError(f"a tensor of {self.count} weights is too long for a board")
        if (codec == 1 and form) or (codec != 1 and (self.dtype == 0) != (form != 0)):
            raise PackError("a weights part has scales where none belong, or lacks them")
        if codec and self.dtype:
            raise PackError(f"codec {codec} grows int8 levels only")
        if form == 3:
            from .octaves import Octaves

            self.scales = Octaves(reader, self.channels)
        else:
            self.scales = Scales(reader, form, self.channels)
        self._scratch = scratch or Scratch()
        self.codec = codec
        self._decoder = self._open(reader)
        self.rewind()

    def _open(self, reader):
        if self.codec == 0:
            from .codecs.raw import Decoder  # a board has heap for the codecs it uses

            return Decoder(reader, self.count, (1, 4, 2)[self.dtype])
        if self.codec == 1:
            from .codecs.central import Decoder

            decoder = Decoder(reader, self.count, self._scratch)
            self.scales.common = decoder.scale_bits
            return decoder
        if self.codec == 2:
            from .codecs.grid import Decoder

            return Decoder(reader, self.count, self._scratch)
        raise PackError(f"a weights part is written by the unknown codec {self.codec}")

    def rewind(self):
        """Start again from weight 0 and take the scratch."""
        self._scratch.owner = self
        self._grown = 0
        self._decoder.rewind()

    def read_levels(self, levels):
        """Fill a bytearray or memoryview with the next int8 levels, as bytes in two's complement."""
        if self.dtype:
            raise PackError("these weights are floats, and levels are wanted")
        self._advance(len(levels))
        self._decoder.grow(levels, len(levels))

    def read_floats(self, values):
        """Fill an array('f') with the next weights in real units, each rounded once to float32."""
        if not self._floats:
            from .codecs import floats  # integer networks never need it

            Weights._floats = floats
        first = self._grown
        self._advance(len(values))
        self._floats.read(self, self._decoder, values, first)

    def _advance(self, count):
        if self._scratch.owner is not self:
            raise InputError("another tensor has used the scratch: call rewind() first")
        if count > self.count - self._grown:
            raise PackError(f"{count} weights are wanted where {self.count - self._grown} are left")
        self._grown += count
