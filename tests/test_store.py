"""The store: whole or not at all, within its limit, and what it does with what is damaged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from delivery_support import desired_message, digits_parts, make_pack
from regrow.errors import CapacityError, DeliveryError, InputError
from regrow.network import Network
from regrow.pack import Head, open_pack
from regrow.store import Active, Store, read_public_key
from regrow.topics import CHUNK
from regrow.update import FAILED, UPDATED, Updater
from regrow_host import keys

KEY = Ed25519PrivateKey.generate()
BLOB = bytes(range(256)) * 20  # 5,120 bytes: two chunks and a half
NAME = sha256(BLOB).hexdigest()


class PowerCut(BaseException):
    """The machine is off from here on."""


def blobs(path: Path) -> dict[str, bytes]:
    """The head and the parts of a pack by hash, as the broker has them."""
    with open_pack(path) as pack:
        found = {part.sha256.hex(): pack.reader(part).read(part.size) for part in pack.manifest.parts}
        return found | {pack.head.id.hex(): pack.head.data}


def updater(store: Store, **options: Any) -> Updater:
    fields = {"backend": "litert", "memory": lambda: 1 << 30, "on_change": lambda: None} | options
    return Updater(store, [keys.public_key(KEY)], **fields)


def drive(updater: Updater, found: dict[str, bytes]) -> None:
    """Be the broker until the update has ended."""
    for now in range(10_000):
        updater.step()
        chunks = updater.fetcher.ask(now)
        if not chunks:
            return
        for name, number in chunks:
            updater.take(name, number, found[name][number * CHUNK : (number + 1) * CHUNK])


def install(store: Store, path: Path, sequence: int, **options: Any) -> Updater:
    found = blobs(path)
    with open_pack(path) as pack:
        message = desired_message(pack.head, KEY, "device/pi", sequence)
    device = updater(store, **options)
    device.boot()
    device.obey(message, "device/pi")
    drive(device, found)
    return device


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Versions 1 to 3 of one network; each has a part of its own."""
    folder = tmp_path_factory.mktemp("packs")
    paths = [folder / f"{version}.rgp" for version in (1, 2, 3)]
    for version, path in enumerate(paths, 1):
        make_pack(path, KEY, version, [*digits_parts(), digits_parts([3000 * version] * 1)[-1]])
    return paths


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_blob_goes_on_at_its_last_whole_chunk(store: Store) -> None:
    store.append(NAME, BLOB[:CHUNK])
    store.append(NAME, BLOB[CHUNK : CHUNK + 100])
    assert store.resume(NAME) == CHUNK
    assert not store.has(NAME)
    store.append(NAME, BLOB[CHUNK:])
    assert store.finish(NAME)
    assert store.path(NAME).read_bytes() == BLOB
    assert store.check(NAME)


def test_damaged_blobs_are_found(store: Store) -> None:
    store.append(NAME, BLOB[:-1] + b"x")
    assert not store.finish(NAME)
    assert not store.has(NAME)
    store.path(NAME).write_bytes(BLOB[:-1])
    assert not store.check(NAME)
    assert not store.has(NAME)


def test_damaged_records_count_as_none(store: Store) -> None:
    assert store.active == Active()
    assert store.update == {}
    for text in ("", "{", "[]", '{"slot": "C", "version": 1}', '{"slot": "A", "version": "x"}'):
        (store.root / "active").write_text(text)
        (store.root / "update").write_text(text)
        assert store.active == Active()
        assert updater(store).record is None


def test_the_highest_version_stays_after_a_step_back(store: Store) -> None:
    store.activate("B", 7)
    store.activate("A", 3)
    assert store.active == Active("A", 7)
    assert store.free_slot == "B"


def test_room_is_made_of_what_does_not_run(store: Store, packs: list[Path]) -> None:
    for sequence, path in enumerate(packs[:2], 1):
        assert install(store, path, sequence).record.status == UPDATED
    used = sum(file.stat().st_size for file in store.root.rglob("*") if file.is_file())
    small = Store(store.root, limit=used + 7500)
    device = install(small, packs[2], 3)
    assert device.record.status == UPDATED, device.record
    assert small.active == Active("A", 3)
    smaller = Store(store.root, limit=1000)
    with pytest.raises(CapacityError, match="needs 5000 bytes of storage and 0 are free"):
        smaller.make_room(5000, [])
    assert updated(smaller) == 3


def test_an_unneeded_blob_goes_and_a_needed_one_stays(store: Store, packs: list[Path]) -> None:
    store.append(NAME, BLOB)
    device = install(store, packs[0], 1)
    assert not store.path(NAME).with_suffix(".tmp").exists()
    with open_pack(packs[0]) as pack:
        assert {path.name for path in (store.root / "parts").iterdir()} == {
            part.sha256.hex() for part in pack.manifest.parts
        }
    assert device.network is not None


def test_one_process_at_a_time(store: Store) -> None:
    store.lock()
    with pytest.raises(DeliveryError, match="in use"):
        Store(store.root).lock()
    store.unlock()
    again = Store(store.root)
    again.lock()
    again.unlock()


def test_public_keys_come_as_files_or_hex(tmp_path: Path) -> None:
    key = keys.public_key(KEY)
    (tmp_path / "k.pub").write_text(key.hex() + "\n")
    assert read_public_key(tmp_path / "k.pub") == read_public_key(key.hex()) == key
    (tmp_path / "bad.pub").write_text("x" * 64)
    for wrong in (tmp_path / "bad.pub", tmp_path / "missing.pub", "abc"):
        with pytest.raises(InputError):
            read_public_key(wrong)


def updated(store: Store) -> int:
    """The version that runs after a restart."""
    device = updater(store)
    device.boot()
    return device.network.version if device.network else 0


def test_a_damaged_version_gives_way_and_comes_again(store: Store, packs: list[Path]) -> None:
    for sequence, path in enumerate(packs[:2], 1):
        install(store, path, sequence)
    own = max((store.root / "parts").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    skeleton = next(part for part in store.manifest("B").parts if part.role == 2).sha256.hex()
    own.write_bytes(b"")
    store.path(skeleton).write_bytes(b"damaged")
    device = updater(store)
    device.boot()
    assert device.network is None, "both slots use the damaged skeleton"
    assert "does not start" in device.problem
    drive(device, blobs(packs[1]))
    assert device.record.status == UPDATED
    assert device.network.version == 2


def test_the_version_before_runs_while_a_damaged_one_comes_again(store: Store, packs: list[Path]) -> None:
    for sequence, path in enumerate(packs[:2], 1):
        install(store, path, sequence)
    (store.slot("B") / "head").write_bytes(b"RGP1")
    device = updater(store)
    device.boot()
    assert device.network.version == 1
    assert store.active == Active("A", 2)
    drive(device, blobs(packs[1]))
    assert device.network.version == 2
    assert store.active == Active("B", 2)


def test_a_version_that_takes_the_device_down_is_given_up(
    store: Store, packs: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(store, packs[0], 1)
    start = Updater._start

    def fatal(device: Updater, letter: str) -> None:
        if store.manifest(letter).version == 2:
            raise PowerCut
        start(device, letter)

    monkeypatch.setattr(Updater, "_start", fatal)
    with pytest.raises(PowerCut):
        install(store, packs[1], 2)
    device = updater(store)
    device.boot()
    with pytest.raises(PowerCut):
        drive(device, blobs(packs[1]))
    device = updater(store)
    device.boot()
    drive(device, blobs(packs[1]))
    assert device.record.status == FAILED
    assert "went down twice" in device.record.reason
    assert device.network.version == 1


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start versions without running them: only that every byte is right."""

    def start(device: Updater, letter: str) -> None:
        with open_pack(device._store.slot(letter), [keys.public_key(KEY)]) as pack:
            for part in pack.manifest.parts:
                pack.verify(part)
            device.network = _Stub(pack.head)
            device.pack = pack.head.id.hex()

    monkeypatch.setattr(Updater, "_start", start)


class _Stub(Network):
    def __init__(self, head: Head) -> None:
        self.name, self.version = "digits", head.verify().version


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, float]]:
    """Everything the store does to the disk counts down `left`; at 0 the power is off, in mid-write too."""
    state = {"left": float("inf")}

    def cut(owner: Any, name: str, half: Callable[..., object] | None = None) -> None:
        real = getattr(owner, name)

        def counted(*args: Any, **options: Any) -> Any:
            state["left"] -= 1
            if state["left"] <= 0:
                if half and state["left"] == 0:
                    half(real, *args)
                raise PowerCut
            return real(*args, **options)

        monkeypatch.setattr(owner, name, counted)

    cut(Path, "write_bytes", lambda real, path, data: real(path, data[: len(data) // 2]))
    cut(Store, "append", lambda real, store, blob, data: real(store, blob, data[: len(data) // 2]))
    for owner, name in ((Path, "rename"), (Path, "replace"), (Path, "unlink"), (Path, "mkdir")):
        cut(owner, name)
    yield state
    state["left"] = float("inf")


def test_a_power_cut_at_any_step_leaves_a_whole_version(
    light: None, power: dict[str, float], packs: list[Path], tmp_path: Path
) -> None:
    steps = 0
    finished = False
    while not finished:
        steps += 1
        power["left"] = float("inf")
        store = Store(tmp_path / str(steps))
        install(store, packs[0], 1)
        power["left"] = steps
        try:
            install(store, packs[1], 2)
            finished = True
        except PowerCut:
            pass
        power["left"] = float("inf")
        store = Store(store.root)
        device = updater(store)
        device.boot()
        assert device.problem == ""
        assert device.network is not None
        assert device.network.version in (1, 2)
        drive(device, blobs(packs[1]))
        again = install(store, packs[1], 3)
        assert again.record.status == UPDATED
        assert again.network.version == 2
    assert steps > 20


def test_chunks_in_any_order_and_twice(light: None, store: Store, packs: list[Path]) -> None:
    found = blobs(packs[0])
    with open_pack(packs[0]) as pack:
        message = desired_message(pack.head, KEY, "device/pi", 1)
    device = updater(store)
    device.boot()
    device.obey(message, "device/pi")
    now = 0.0
    while device.record.status not in (UPDATED, FAILED):
        device.step()
        now += 11.0
        for name, number in reversed(device.fetcher.ask(now)):
            data = found[name][number * CHUNK : (number + 1) * CHUNK]
            if hash((name, number, now)) % 3:  # the others are lost and asked for again
                device.take(name, number, data)
                device.take(name, number, data)
    assert device.record.status == UPDATED
    assert json.loads(json.dumps(device.progress()))["fetched"] == device.record.total
