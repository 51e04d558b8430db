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
