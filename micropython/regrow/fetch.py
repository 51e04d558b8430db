"""Pulling one blob from the broker, chunk by chunk, into the store; knows nothing of sockets."""

import time

from .errors import DeliveryError
from .topics import CHUNK

RETRY = 10_000  # ms after which a chunk is asked for again


class Fetcher:
    """Fetches the blob that is wanted: `ask` tells the chunk to subscribe to, `take` accepts it."""

    def __init__(self, store):
        self._store = store
        self.blob = None

    @property
    def done(self):
        """Whether the blob wanted is in the store."""
        return self.blob is None

    def want(self, blob, size):
        """Fetch this one unless it is in the store."""
        self.blob = None
        if not self._store.has(blob):
            self.blob = blob
            self._size = size
            self._again = False
            self._written = min(self._store.resume(blob), size)
            self._asked = None
            if self._written == size:
                self._settle()

    def forget(self):
        """What was asked for will not come any more (the connection broke): ask for it again."""
        self._asked = None

    def ask(self):
        """The number of the chunk to ask for now, else None."""
        now = time.ticks_ms()
        if self.blob is None or (self._asked is not None and time.ticks_diff(now, self._asked) < RETRY):
            return None
        self._asked = now
        return self._written // CHUNK

    def take(self, data):
        """Accept the chunk asked for (None: too long); DeliveryError if its blob came damaged twice."""
        if self.blob is None or self._asked is None:
            return
        self._asked = None
        if data is None or len(data) != min(CHUNK, self._size - self._written):
            self._restart()
            return
        self._store.append(self.blob, self._written, data)
        self._written += len(data)
        if self._written == self._size:
            self._settle()

    def _settle(self):
        if self._size and self._store.finish(self.blob):
            self.blob = None
        else:
            self._restart()

    def _restart(self):
        self._store.drop(self.blob)
        if self._again or not self._size:
            blob = self.blob
            self.blob = None
            raise DeliveryError(f"the part {blob[:12]} on the broker is damaged: push the pack again")
        self._again = True
        self._written = 0
