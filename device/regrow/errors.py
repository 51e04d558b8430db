"""What can go wrong: every failure a user may see is a RegrowError with one clear sentence."""


class RegrowError(Exception):
    """Base of all errors that regrow raises on purpose."""


class PackError(RegrowError):
    """A pack or a part of it breaks the format, or does not hold what was asked of it."""


class SignatureError(PackError):
    """A signature does not fit what it signs, or its signer is not trusted."""


class InputError(RegrowError):
    """Something the user gave cannot be used: a file, a sample, an option."""


class CapacityError(RegrowError):
    """Storage or memory does not suffice."""


class BackendError(RegrowError):
    """An inference backend is missing or refuses the network."""


class DeliveryError(RegrowError):
    """A broker cannot be reached, or a delivery over it failed."""
