"""Pulling blobs from the broker, chunk by chunk, into the store; knows nothing of sockets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from regrow.errors import DeliveryError
from regrow.store import Store
from regrow.topics import CHUNK, chunks

WINDOW = 8  # chunks asked for at once
RETRY = 10.0  # seconds after which a chunk is asked for again


@dataclass
class _Blob:
    name: str
    size: int
    written: int  # the next chunk to be written
    asked: int  # the next chunk to be asked for
    again: bool = False  # fetched a second time

    def length(self, number: int) -> int:
        return min(CHUNK, self.size - number * CHUNK)


class Fetcher:
    """Fetches what is wanted: `ask` tells which chunks to subscribe to, `take` accepts one that came."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._wanted: dict[str, _Blob] = {}
        self._asked: dict[tuple[str, int], float] = {}  # chunk -> when to ask again
        self._early: dict[tuple[str, int], bytes] = {}  # chunks that came before their turn
        self.fetched = 0  # bytes that came over the network

    @property
    def done(self) -> bool:
        """Whether everything wanted is in the store."""
        return not self._wanted

    @property
    def left(self) -> int:
        """Bytes that are still to be written."""
        return sum(blob.size - blob.written * CHUNK for blob in self._wanted.values())

    def want(self, blobs: Iterable[tuple[str, int]]) -> None:
        """Fetch these (hash, size) unless they are in the store."""
        for name, size in blobs:
            if not self._store.has(name):
                written = min(self._store.resume(name) // CHUNK, chunks(size))
                self._wanted[name] = blob = _Blob(name, size, written, written)
                self._settle(blob)

    def forget(self) -> None:
        """Nothing asked for will come any more (the connection broke): ask for all of it again."""
        for key in self._asked:
            self._asked[key] = 0.0

    def ask(self, now: float) -> list[tuple[str, int]]:
        """The chunks (hash, number) to ask for at this time, in seconds of any steady clock."""
        due = [key for key, again in self._asked.items() if again <= now]
        for blob in self._wanted.values():
            while blob.asked < chunks(blob.size) and len(self._asked) + len(self._early) < WINDOW:
                due.append((blob.name, blob.asked))
                self._asked[due[-1]] = 0.0
                blob.asked += 1
        self._asked.update(dict.fromkeys(due, now + RETRY))
        return due

    def take(self, name: str, number: int, data: bytes) -> bool:
        """Accept a chunk; whether it was asked for. DeliveryError if its blob came damaged twice."""
        if self._asked.pop((name, number), None) is None:
            return False
        blob = self._wanted[name]
        self.fetched += len(data)
        self._early[name, number] = data
        while (name, blob.written) in self._early:
            data = self._early.pop((name, blob.written))
            if len(data) != blob.length(blob.written):
                self._restart(blob)
                break
            self._store.append(name, data)
            blob.written += 1
        self._settle(blob)
        return True

    def _settle(self, blob: _Blob) -> None:
        if blob.written == chunks(blob.size):
            if self._store.finish(blob.name):
                del self._wanted[blob.name]
            else:
                self._restart(blob)

    def _restart(self, blob: _Blob) -> None:
        if blob.again:
            raise DeliveryError(f"the part {blob.name[:12]} on the broker is damaged: push the pack again")
        blob.again = True
        blob.written = blob.asked = 0
        self._store.drop(blob.name)
        self._asked = {key: again for key, again in self._asked.items() if key[0] != blob.name}
        self._early = {key: data for key, data in self._early.items() if key[0] != blob.name}
