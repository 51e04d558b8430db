"""What the two runtimes do differently in tests: files, and readers of bytes."""

from binascii import hexlify
from io import BytesIO

from regrow.reader import Reader

TESTS = __file__.replace("\\", "/").rsplit("/", 2)[0]

try:
    import atexit
    import tempfile

    _temporary = tempfile.TemporaryDirectory()
    atexit.register(_temporary.cleanup)
    FOLDER = _temporary.name
except ImportError:
    FOLDER = "."  # the runner of MicroPython's tests stands in a folder of its own


def golden(name):
    """The path of a file of tests/golden."""
    return f"{TESTS}/golden/{name}"


def reader(data):
    return Reader(BytesIO(data), 0, len(data))


def hexadecimal(data):
    return hexlify(data).decode()


def read(path):
    with open(path, "rb") as file:
        return file.read()


def write(name, data):
    """Write a file of that name; its path."""
    path = f"{FOLDER}/{name}"
    with open(path, "wb") as file:
        file.write(data)
    return path


def raises(error, action, *arguments):
    """Whether the call raises that error; any other gets through."""
    try:
        action(*arguments)
    except error:
        return True
    return False
