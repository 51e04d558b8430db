"""From a desired version to a running one; knows the store, but no sockets and no threads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import regrow
from regrow import probe, skeleton
from regrow.errors import BackendError, CapacityError, DeliveryError, PackError, RegrowError, SignatureError
from regrow.fetch import Fetcher
from regrow.litert import interpreter_module
from regrow.network import Network
from regrow.pack import (
    ROLE_GRAPH,
    ROLE_PROBE,
    ROLE_SKELETON,
    USE_EXECUTOR,
    USE_LITERT,
    Manifest,
    Pack,
    Part,
    open_pack,
)
from regrow.store import SLOTS, Store
from regrow.topics import Desired

QUEUED = "QUEUED"
DOWNLOADING = "DOWNLOADING"
DOWNLOADED = "DOWNLOADED"
VERIFIED = "VERIFIED"
UPDATING = "UPDATING"
UPDATED = "UPDATED"
FAILED = "FAILED"
ENDED = (UPDATED, FAILED)

USES = {"litert": USE_LITERT, "numpy": USE_EXECUTOR}

_log = logging.getLogger("regrow")


@dataclass
class Record:
    """The last desired version and how far it came, as it is kept over a restart."""

    desired: Desired
    status: str = QUEUED
    reason: str = ""
    total: int = 0  # bytes of the parts this device needs; 0 until the head is here
    had: int = 0  # how many of them were here before this update
    fetched: int = 0  # how many came over the network for it
    starts: int = 0  # how often the new version was started

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"desired": self.desired.to_json().decode()}

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Record | None:
        """None if `fields` are not those of a record."""
        try:
            return cls(**fields | {"desired": Desired.parse(fields["desired"].encode())})
        except (DeliveryError, AttributeError, KeyError, TypeError):
            return None


class Updater:
    """Brings the store to the desired version and holds the network that runs.

    `trust`: public keys (32 bytes each); `backend`: auto, litert or numpy; `memory()`: bytes of RAM a
    model may take; `on_change()` is called at every change of the status.
    """

    def __init__(
        self,
        store: Store,
        trust: Iterable[bytes],
        backend: str,
        memory: Callable[[], int],
        on_change: Callable[[], None],
    ) -> None:
        self._store = store
        self._trust = set(trust)
        self._backend = backend
        self._memory = memory
        self._on_change = on_change
        self._steps: Iterator[None] | None = None
        self.fetcher = Fetcher(store)
        self.record = Record.parse(store.update)
        self.network: Network | None = None
        self.pack = ""  # id of the pack that runs
        self.runtime = backend  # of the network that runs
        self.problem = ""  # what was wrong with the installed version at the start

    def boot(self) -> None:
        """Start the active version, or else the one before; take up an update that was under way."""
        active = self._store.active.slot
        for letter in sorted(SLOTS, key=lambda letter: letter != active) if active else ():
            try:
                self._start(letter)
            except RegrowError as error:
                _log.error("slot %s does not start: %s", letter, error)
                self.problem = self.problem or f"the installed version does not start: {error}"
                continue
            if letter != active:
                self._store.activate(letter, 0)
            break
        if self.record and self.record.status == UPDATED and self.record.desired.pack != self.pack:
            self.record = Record(self.record.desired)
        if self.record and self.record.status not in ENDED:
            self._steps = self._update(self.record)

    def obey(self, payload: bytes, target: str) -> None:
        """Take up a desired message that came for `target`, if it is newer than the last one.

        Raises DeliveryError or SignatureError for one that must be ignored.
        """
        desired = Desired.parse(payload)
        if self.record and desired.sequence <= self.record.desired.sequence:
            return
        if desired.target != target:
            raise DeliveryError(f"a desired message for {desired.target} came for {target}")
        if desired.signer not in self._trust:
            raise SignatureError(f"desired by key {desired.signer[:8].hex()}, which is not trusted here")
        desired.check()
        self.record = Record(desired)
        self._set(QUEUED)
        if desired.pack == self.pack:
            self._set(UPDATED)
        else:
            self._steps = self._update(self.record)

    def take_back(self, target: str) -> None:
        """The desired version of `target` was taken back: end its update if it is under way."""
        if self._steps and self.record and self.record.desired.target == target:
            self._set(FAILED, "the desired version was taken back")

    def step(self) -> None:
        """Go on with the update as far as what was fetched allows."""
        with self._failing():
            if self._steps:
                next(self._steps, None)

    def take(self, blob: str, number: int, data: bytes) -> None:
        """Accept a chunk from the broker."""
        with self._failing():
            if self.fetcher.take(blob, number, data) and self.record and self.record.total:
                self.record.fetched += len(data)

    @contextmanager
    def _failing(self) -> Iterator[None]:
        """What goes wrong ends the update."""
        try:
            yield
        except RegrowError as error:
            self._set(FAILED, str(error))
        except OSError as error:
            self._store.collect()  # room for the record
            self._set(FAILED, f"the storage is full or failed: {error.strerror}")

    def progress(self) -> dict[str, Any] | None:
        """The `update` of the reported message; None before the first desired version."""
        if self.record is None:
            return None
        desired = self.record.desired
        total = self.record.total or desired.size
        whole = self.record.status in (DOWNLOADED, VERIFIED, UPDATING, UPDATED)
        return {
            "status": self.record.status,
            "model": desired.model,
            "version": desired.version,
            "pack": desired.pack,
            "sequence": desired.sequence,
            "done": total if whole else min(total, self.record.had + self.record.fetched),
            "total": total,
            "fetched": self.record.fetched,
            "reason": self.record.reason,
        }

    def _update(self, record: Record) -> Iterator[None]:
        """The whole way of an update; yields where it waits for chunks."""
        desired, store = record.desired, self._store
        self.fetcher = Fetcher(store)
        self._set(DOWNLOADING)
        if not store.has(desired.pack):
            store.make_room(desired.head, [desired.pack])
        yield from self._fetch([(desired.pack, desired.head)])

        head = store.path(desired.pack).read_bytes()
        with store.open_blob(desired.pack, self._trust) as pack:
            manifest = pack.manifest
            self._check_version(desired, manifest)
            backend = choose_backend(self._backend, manifest.targets)
            parts = needed_parts(manifest, backend)
            self._reserve(desired, parts)
            yield from self._fetch([_blob(parts[0])])
            self._check_memory(pack, backend)
        yield from self._fetch([_blob(part) for part in parts])
        self._set(DOWNLOADED)
        self._set(VERIFIED)

        slot = store.free_slot
        if record.starts == 2:
            store.clear(slot)
            raise PackError(f"the device went down twice while {desired.model} {desired.version} was started")
        record.starts += 1
        self._set(UPDATING)
        store.write_slot(slot, head)
        try:
            self._start(slot)
        except RegrowError:
            store.clear(slot)
            raise
        store.activate(slot, manifest.version)
        self._set(UPDATED)
        store.collect()

    def _fetch(self, blobs: list[tuple[str, int]]) -> Iterator[None]:
        self.fetcher.want(blobs)
        while not self.fetcher.done:
            yield

    def _check_version(self, desired: Desired, manifest: Manifest) -> None:
        if (manifest.name, manifest.version) != (desired.model, desired.version):
            raise DeliveryError(
                f"the pack is {manifest.name} {manifest.version}, "
                f"not the desired {desired.model} {desired.version}"
            )
        highest = self._store.active.version
        if manifest.version < highest:
            raise DeliveryError(f"version {manifest.version} is below {highest}, which ran here already")

    def _reserve(self, desired: Desired, parts: list[Part]) -> None:
        """Check what is here, count what is missing, and see that it fits."""
        assert self.record
        sizes = {part.sha256.hex(): part.size for part in parts}
        left = sum(
            size - self._store.resume(blob) for blob, size in sizes.items() if not self._store.check(blob)
        )
        total = sum(sizes.values())
        if self.record.total == 0:
            self.record.had = total - left
        self.record.total = total
        self.record.fetched = total - left - self.record.had
        self._store.write_update(self.record.to_json())
        self._store.make_room(left + desired.head, [desired.pack, *sizes])

    def _check_memory(self, pack: Pack, backend: str) -> None:
        """CapacityError if the model would not fit: LiteRT's grown file or the executor's arena."""
        needed = skeleton.size(pack) if backend == "litert" else pack.manifest.arena
        memory = self._memory()
        if needed > memory:
            raise CapacityError(f"the model needs {needed} bytes of memory and {memory} are there")

    def _start(self, letter: str) -> None:
        """Load a slot, let it pass its probe, and make it the network that runs."""
        folder = self._store.slot(letter)
        with open_pack(folder, self._trust) as pack:
            backend = choose_backend(self._backend, pack.manifest.targets)
            try:
                network = regrow.load(folder, backend, self._trust)
                for part in needed_parts(pack.manifest, backend):
                    if part.role == ROLE_PROBE:
                        probe.run(network, pack.reader(part))
            except (MemoryError, OSError, RuntimeError, ValueError) as error:
                raise BackendError(f"the network cannot be started: {error}") from error
        self.network, self.pack, self.runtime = network, pack.head.id.hex(), backend

    def _set(self, status: str, reason: str = "") -> None:
        assert self.record
        self.record.status, self.record.reason = status, reason
        if status in ENDED:
            self._steps = None
        self._store.write_update(self.record.to_json())
        _log.info("%s %d: %s %s", self.record.desired.model, self.record.desired.version, status, reason)
        self._on_change()


def choose_backend(backend: str, targets: int) -> str:
    """`litert` or `numpy`: the one asked for, or with `auto` the first that is here and in the targets."""
    litert = has_litert()
    here = ("litert", "numpy") if litert else ("numpy",)
    names = [name for name in here if backend in ("auto", name) and targets & USES[name]]
    if not names:
        found = "is" if litert else "is not"
        raise BackendError(
            f"the pack has no network for this device: its backend is {backend} and LiteRT {found} installed"
        )
    return names[0]


def has_litert() -> bool:
    try:
        interpreter_module()
    except BackendError:
        return False
    return True


def needed_parts(manifest: Manifest, backend: str) -> list[Part]:
    """The parts that a backend uses, the graph or skeleton first."""
    parts = [part for part in manifest.parts if part.use & USES[backend]]
    return sorted(parts, key=lambda part: part.role not in (ROLE_GRAPH, ROLE_SKELETON))


def _blob(part: Part) -> tuple[str, int]:
    return part.sha256.hex(), part.size
