"""What can go wrong, each with one sentence that names the cause and what to do."""


class RegrowError(Exception):
    """Any failure that a user of regrow can cause or cure."""


class PackError(RegrowError):
    """The bytes are not a valid pack."""


class SignatureError(PackError):
    """The signature is wrong or its signer is not trusted."""


class InputError(RegrowError):
    """An argument does not fit: a sample, a buffer, a name."""


class CapacityError(RegrowError):
    """The device has too little storage or heap."""


class BackendError(RegrowError):
    """No backend here can run this pack."""


class DeliveryError(RegrowError):
    """The broker or a blob on it cannot be reached or used."""


def say(place, *values):
    """The sentence that begins at that place of `sentences.txt`, with the values in it.

    For compiled modules, whose sentences the compiler puts there (`regrow mpy`): they take no heap.
    """
    try:
        with open(__file__.rpartition("/")[0] + "/sentences.txt", "rb") as file:
            file.seek(place)
            return str(file.readline(), "utf-8")[:-1].format(*values)
    except OSError:
        return f"copy regrow/sentences.txt to the board: it has what is wrong at its byte {place}"
