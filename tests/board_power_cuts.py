"""Update a store on a disk whose power goes or that is full, at every step of the way in turn: `micropython
board_power_cuts.py posix|fat|full stays|restarts`, in a folder as test_board_power_cuts.py fills it.

A board that restarts does that to install a version. Prints the number of steps. The engine, the store and
the update are real; the broker is the folder.
"""

import json
import os
import sys

import regrow.boot
from regrow.store import Store
from regrow.topics import CHUNK
from regrow.update import Updater


class PowerCut(BaseException):
    """The end of all that runs."""


class Disk:
    """The folder `root`; what changes it counts down `left`, and at 0 and below there is no power.

    With `fat`, nothing is renamed onto a file; with `full`, there is power, but nothing can be written.
    """

    def __init__(self, root, fat, full):
        self._root = root
        self._fat = fat
        self._full = full
        self.left = 0

    def mount(self, *_):
        pass

    def stat(self, path):
        return os.stat(self._root + path)

    def statvfs(self, path):
        return os.statvfs(self._root + path)

    def ilistdir(self, path):
        return os.ilistdir(self._root + path)

    def step(self, writes=True):
        self.left -= 1
        if self.left <= 0 and not self._full:
            raise PowerCut
        if self.left <= 0 and writes:
            raise OSError(28)

    def open(self, path, mode):
        if mode in ("r", "rb"):
            return open(self._root + path, mode)
        self.step()
        return File(self, open(self._root + path, mode))

    def rename(self, old, new):
        self.step(writes=False)
        if self._fat:
            try:
                self.stat(new)
            except OSError:
                pass
            else:
                raise OSError(17)
        os.rename(self._root + old, self._root + new)

    def remove(self, path):
        self.step(writes=False)
        os.remove(self._root + path)

    def mkdir(self, path):
        self.step()
        os.mkdir(self._root + path)


class File:
    """A file that is written; of a write without power to its end, half reaches the disk."""

    def __init__(self, disk, file):
        self._disk = disk
        self._file = file
        self.seek = file.seek
        self.tell = file.tell
        self.flush = file.flush
        self.close = file.close

    def write(self, data):
        try:
            self._disk.step()
        except PowerCut:
            if self._disk.left == 0:
                data = data.encode() if isinstance(data, str) else bytes(data)
                self._file.write(data[: len(data) // 2])
            raise
        return self._file.write(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


def start(root):
    """What main.py does at the start."""
    return take_up(root, *regrow.boot.boot(root))


def take_up(root, *past):
    updater = Updater(Store(root), [KEY], lambda: None, lambda: None)
    updater.boot(*past)
    return updater


def drive(updater, root):
    """To the end of the update that is under way, as agent.py does it; the Updater at the end."""
    while updater.busy or updater.wanted:
        if updater.wanted:
            if RESTARTS and updater.hand_over():
                updater = start(root)
            else:
                folder = updater.wanted
                updater = take_up(root, folder[-1], *regrow.boot.reserve(folder))
        updater.step()
        number = updater.fetcher.ask()
        if number is not None:
            with open("blobs/" + updater.fetcher.blob, "rb") as file:
                file.seek(number * CHUNK)
                updater.take(file.read(CHUNK))
    return updater


def update(root, version):
    """From a start of the board to the end of the update to that version."""
    updater = start(root)
    updater.obey(DESIRED[version], "device/b1")
    return drive(updater, root)


def check(updater, *versions):
    """That one of those versions runs and gives the outputs it must."""
    network = updater.network
    assert updater.problem == "", updater.problem
    assert network, updater.progress()
    assert network.version in versions
    y = bytearray(network.outputs[0].size)
    network.predict(INPUT, y)
    assert y == content(f"outputs{network.version}"), network.version


def content(path):
    with open(path, "rb") as file:
        return file.read()


KEY = content("key")
DESIRED = {1: content("desired1"), 2: content("desired2")}
INPUT = content("input")
RESTARTS = sys.argv[2] == "restarts"

disk = Disk(os.getcwd() + "/disk", sys.argv[1] == "fat", sys.argv[1] == "full")
os.mount(disk, "/disk")
steps = 0
finished = False
while not finished:
    steps += 1
    root = f"/disk/{steps}"
    disk.left = 1 << 30
    check(update(root, 1), 1)
    disk.left = steps
    try:
        check(update(root, 2), 1, 2)
        finished = disk.left > 0
    except PowerCut:
        pass
    disk.left = 1 << 30
    updater = start(root)
    check(updater, 1, 2)
    check(drive(updater, root), 1, 2)
    check(update(root, 2), *((1, 2) if sys.argv[1] == "full" else (2,)))
print(json.dumps(steps))
