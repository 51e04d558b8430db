"""Ed25519 by the test vectors of RFC 8032, 7.1, and what must be refused."""

from binascii import unhexlify

from regrow.errors import SignatureError
from regrow.signing import verify
from support import raises

ORDER = (1 << 252) + 27742317777372353535851937790883648493

VECTORS = (
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46b"
        "d25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c"
        "387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc659"
        "4a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd"
        "454d4423643ce80e2a9ac94fa54ca49f",
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e030"
        "3dca179c138ac17ad9bef1177331a704",
    ),
)


def vector(number):
    return [unhexlify(field) for field in VECTORS[number]]


def refused(signer, message, signature):
    return raises(SignatureError, verify, signer, signature, message)


def test_vectors():
    for number in range(len(VECTORS)):
        signer, message, signature = vector(number)
        verify(signer, signature, message)


def test_altered():
    signer, message, signature = vector(2)
    assert refused(signer, message + b"\x00", signature)
    assert refused(vector(1)[0], message, signature)
    for place in (0, 31, 32, 63):
        altered = bytearray(signature)
        altered[place] ^= 1
        assert refused(signer, message, bytes(altered))


def test_s_must_be_below_the_order():
    signer, message, signature = vector(2)
    s = int.from_bytes(signature[32:], "little") + ORDER
    assert refused(signer, message, signature[:32] + s.to_bytes(32, "little"))


def test_no_point_no_length():
    signer, message, signature = vector(2)
    assert refused(b"\x02" + bytes(31), message, signature)
    assert refused(signer[:31], message, signature)
    assert refused(signer, message, signature[:63])
    assert refused(signer, message, b"")
