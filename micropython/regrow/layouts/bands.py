"""Chains of ops that run band by band, so that of what is between them only some rows stand in the arena.

A step makes so many more rows of the last output, and before them what those need of the outputs before. The
record of an op stands once for each step, but what its kernel reads stands behind the first one only.
"""

from array import array

from ..errors import PackError
from ..graph import ACTIVATION
from .checks import axis
from .elementwise import alike

_ROWS = {"conv": 5, "pool": 5, "elementwise": 3, "lookup": 2}
"""By family: where its parameters have the rows to compute; of the others they are values."""
_TOPS = {"conv": 14, "pool": 11}
"""By family: where its parameters have the rows missing above the image; its height is the third one."""
_SKIPPED = 29
_AGAIN = 30


class Link:
    """An op of a chain: row y of its output takes `reach` rows of its inputs from row y * stride - top on.

    `band`: the rows that it computes in a step, first and count, and between which rows its tensors are there
    then, starts and ends, by place. `record`: its parameters as its layout made them. `inner`: the inputs of
    which only some rows are there.
    """

    def __init__(self, op, family, place, size):
        self.op = op
        self.family = family
        self.place, self.size = place, size
        self.inputs = [each for each in op.inputs if each and each.kind == ACTIVATION]
        self.output = op.outputs[0]
        self.stride, self.top, self.reach = 1, 0, 1
        self.record = None
        if family not in _ROWS or not self.inputs or len(self.output.shape) != 4:
            raise PackError(f"an op {op.code} of the graph cannot run band by band")
        if family == "elementwise" and not alike(op):
            raise PackError("an op of the graph that broadcasts cannot run band by band")
        self.given = self.inputs[0].shape[1]
        if family in _TOPS:
            self.inputs = self.inputs[:1]
            taps = op.options[2]
            dilation = 1
            if family == "conv":
                taps = op.inputs[1].shape[1]
                dilation = op.options[2]
            self.stride = op.options[0]
            self.reach = (taps - 1) * dilation + 1
            _, self.top = axis(self.given, taps, self.stride, dilation, op.options[4])
        self.inner = [x for x in self.inputs if _is_inner(x)]

    def ahead(self, count):
        """The rows of its inputs, from the first on, that so many rows of the output need."""
        return min(self.given, max(0, (count - 1) * self.stride - self.top + self.reach)) if count else 0

    def behind(self, count):
        """The first row of its inputs that is needed when so many rows of the output are there."""
        return min(self.given, max(0, count * self.stride - self.top))

    def write(self, lay, out):
        """Write the record of a band."""
        if self.record:
            p = array("i", self.record)
            self._fit(p)
            out.write(p)
            out.records += 1
            return

        def keep(p):
            del out.write
            self.record = array("i", p)
            self.record[_AGAIN] = out.tell() + 4 * len(p)
            self._fit(p)
            out.write(p)

        out.begin(self.family, self.place)
        out.write = keep  # for the parameters, which come first
        lay(self.op, out, self.size)

    def _fit(self, p):
        """Make the parameters compute the rows of the band."""
        first, count, starts, ends = self.band
        rows = self.output.shape[1]
        p[len(self.inputs)] = _place(self.output, first, starts)
        if self.family in _TOPS:
            x = self.inputs[0]
            window = first * self.stride - self.top
            begin = starts[x.place] if _is_inner(x) else 0
            above = max(begin, window)
            p[0] = _place(x, above, starts)
            p[2] = (ends[x.place] if _is_inner(x) else self.given) - above
            p[_TOPS[self.family]] = above - window
            if self.family == "conv":
                p[_SKIPPED] = p[_SKIPPED] * count // rows
        else:
            for i in range(len(self.inputs)):
                p[i] = _place(self.inputs[i], first, starts)
            count *= self.output.size // rows
        p[_ROWS[self.family]] = count


def _is_inner(tensor):
    return tensor.room < tensor.size


def _place(tensor, row, starts):
    """Where a row stands in the arena."""
    if _is_inner(tensor):
        row -= starts[tensor.place]
    return tensor.place + row * (tensor.size // tensor.shape[1])


def write(chain, out, lay):
    """The records of a chain: (op, family, where it works, bytes it has there) each, which `lay` writes."""
    links = [Link(*each) for each in chain]
    height = links[-1].output.shape[1]
    rows = _widest(links, height)
    done = 0
    starts = before = _ends(links, 0)
    while done < height:
        done = min(height, done + rows)
        last = starts
        starts, ends = _starts(links, before), _ends(links, done)
        for link in links[:-1]:
            x = link.output
            if starts[x.place] > last[x.place] and before[x.place] > starts[x.place]:
                _move(x, last, starts, before, out)
        for link in links:
            first = before[link.output.place]
            count = ends[link.output.place] - first
            if count or not link.record:
                link.band = first, count, starts, ends
                link.write(lay, out)
        before = ends


def _move(x, last, starts, before, out):
    """Bring the rows of a tensor that are still needed to its front."""
    row = x.size // x.shape[1]
    out.begin("reshape", x.place)
    count = (before[x.place] - starts[x.place]) * row
    out.params(x.place + (starts[x.place] - last[x.place]) * row, x.place, count)


def _widest(links, height):
    """The most rows a step for which the tensors between the ops have room."""
    rows = height
    while rows and not _fits(links, height, rows):
        rows -= 1
    if not rows:
        raise PackError("the graph keeps too few rows of a tensor")
    return rows


def _fits(links, height, rows):
    before = _ends(links, 0)
    done = 0
    while done < height:
        done = min(height, done + rows)
        starts, ends = _starts(links, before), _ends(links, done)
        for link in links[:-1]:
            x = link.output
            if (ends[x.place] - starts[x.place]) * x.size > x.room * x.shape[1]:
                return False
        before = ends
    return True


def _ends(links, count):
    """How many rows of each tensor are there when `count` rows of the last output are."""
    ends = {link.output.place: 0 for link in links}
    ends[links[-1].output.place] = count
    for link in reversed(links):
        for x in link.inner:
            ends[x.place] = max(ends[x.place], link.ahead(ends[link.output.place]))
    return ends


def _starts(links, ends):
    """The first row of each tensor that is needed from then on."""
    starts = dict(ends)
    for link in links:
        for x in link.inner:
            starts[x.place] = min(starts[x.place], link.behind(ends[link.output.place]))
    return starts
