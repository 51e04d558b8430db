"""What a board does first, with next to nothing on its heap: reserve what the network to run takes."""

import gc

import regrow

from .errors import RegrowError
from .records import read, write


def boot(root="store"):
    """For Agent: the slot of the store in the folder `root` that is to run, what regrow.reserve gives for it
    or None, and what was wrong. Empty where there is none.

    That is the version for which the board was restarted, if it was, so that it is installed here; the next
    start takes the one that ran before.
    """
    record = read(root + "/update")
    letter = record.pop("wanted", None)
    if letter:
        try:
            write(root + "/update", record)
        except OSError:
            letter = None  # the storage is full: install nothing
    if not letter:
        letter = read(root + "/active").get("slot")
    if letter not in ("A", "B"):
        return ()
    reserved, problem = reserve(f"{root}/{letter}")
    return letter, reserved, problem


def reserve(folder):
    """What regrow.reserve gives for a slot, or None, and what was wrong."""
    try:
        return regrow.reserve(folder), ""
    except RegrowError as error:
        return None, str(error)
    except OSError as error:
        return None, f"{folder} cannot be read: {error}"
    except MemoryError:
        gc.collect()
        return None, f"the network needs more heap than the {gc.mem_free()} bytes free"
