"""From a desired version to a running one, in bounded steps; knows the store, but no sockets."""

import gc
import sys
from binascii import hexlify

from micropython import const

import regrow

from .errors import BackendError, CapacityError, DeliveryError, PackError, RegrowError, SignatureError
from .fetch import Fetcher
from .topics import Desired

_ROLE_PROBE = const(4)
_USE_EXECUTOR = const(2)
_TALK = const(6144)  # bytes of heap that talking with the broker takes, about
_ENDED = ("UPDATED", "FAILED")
_WHOLE = ("DOWNLOADED", "VERIFIED", "UPDATING", "UPDATED")  # all parts are here


class Updater:
    """Brings the store to the desired version and holds the network that runs.

    `trust`: public keys (32 bytes each); `on_change()` is called at every change of the status, `wake()` when
    a network was started, beside which the device must be able to talk. Where a version is to be installed or
    to run again, the Updater comes to its end and names the slot's folder in `wanted`; the next one's `boot`
    takes up what came of that.
    """

    def __init__(self, store, trust, on_change, wake):
        self._store = store
        self._trust = trust
        self._on_change = on_change
        self._wake = wake
        self._steps = None
        self._heap = 0  # bytes that the running network takes
        self.fetcher = Fetcher(store)
        self.network = self.wanted = None
        self.starts = 0  # of networks, those that ran before counted again
        self.pack = None  # id of the pack that runs
        self.problem = ""  # what was wrong with the installed version at the start
        self.desired = None
        self._record = store.update
        try:
            self.desired = Desired(self._record["desired"])
        except (KeyError, DeliveryError):
            self._record = {}

    def boot(self, letter=None, reserved=None, problem=""):
        """Start the active version, or else the one before; take up an update that was under way.

        `reserved`: what regrow.reserve gave for the slot of that letter; None for that `problem`.
        """
        if letter == self._store.free_slot and self._record.get("status") == "UPDATING":
            self._guarded(self._finish, (reserved, problem))
            return
        active = self._store.active[0]
        for slot in () if active is None else (active, self._store.free_slot):
            try:
                self._start(slot, reserved if slot == letter else None)
            except RegrowError as error:
                self.problem = self.problem or f"the installed version does not start: {error}"
                continue
            if slot != active:
                self._store.activate(slot, 0)
            break
        if self.desired and self._record["status"] == "UPDATED" and self.desired.pack != self.pack:
            self._begin(self.desired)  # what was installed is damaged: fetch what is missing again
        elif self.desired and self._record["status"] not in _ENDED:
            self._steps = self._update(self.desired)

    def obey(self, payload, target):
        """Take up a desired message that came for `target`, if it is newer than the last one.

        Raises DeliveryError or SignatureError for one that must be ignored.
        """
        desired = Desired(payload)
        if self.desired and desired.sequence <= self.desired.sequence:
            return
        if desired.target != target:
            raise DeliveryError(f"a desired message for {desired.target} came for {target}")
        if desired.signer not in self._trust:
            signer = hexlify(desired.signer[:8]).decode()
            raise SignatureError(f"desired by key {signer}, which is not trusted here")
        try:
            self._verified(desired.check)
        except SignatureError:
            self._restart()
            raise
        self._begin(desired)

    def hand_over(self):
        """Have `boot.boot` of the next start take up the slot that is `wanted`; whether it will."""
        self._record["wanted"] = self.wanted[-1]
        return self._store.write_update(self._record)

    def take_back(self, target):
        """The desired version of `target` was taken back: end its update if it is under way."""
        if self._steps and self.desired.target == target:
            self._fail("the desired version was taken back")

    def step(self):
        """Go on with the update as far as what was fetched allows."""
        if self._steps:
            self._guarded(next, self._steps)

    def _guarded(self, work, argument):
        """Do a piece of the update; if that goes wrong, the update fails."""
        try:
            work(argument)
        except StopIteration:
            self._steps = None
            unload("pack")
        except RegrowError as error:
            self._fail(str(error))
        except OSError as error:
            self._store.collect()  # room for the record
            self._fail(f"the storage is full or failed: error {error}")
        except MemoryError:
            self._fail(f"the update needs more heap than the {_free_heap()} bytes free")

    def take(self, data):
        """Accept the chunk that was asked for from the broker; None if it was too long."""
        try:
            self.fetcher.take(data)
            if data is not None and self._record["total"]:
                self._record["fetched"] += len(data)
        except (RegrowError, OSError) as error:
            self.fetcher.blob = None
            self._steps = _failing(error)  # not here: the client that calls may have to rest

    @property
    def busy(self):
        """Whether an update is under way."""
        return self._steps is not None

    def progress(self):
        """The `update` of the reported message; None before the first desired version."""
        if self.desired is None:
            return None
        record = self._record
        total = record["total"] or self.desired.bytes
        return {
            "status": record["status"],
            "model": self.desired.model,
            "version": self.desired.version,
            "pack": self.desired.pack,
            "sequence": self.desired.sequence,
            "done": total if record["status"] in _WHOLE else min(total, record["had"] + record["fetched"]),
            "total": total,
            "fetched": record["fetched"],
            "reason": record["reason"],
        }

    def _begin(self, desired):
        self.desired = desired
        self._record = {"desired": desired.payload, "total": 0, "had": 0, "fetched": 0, "starts": 0}
        self._set("QUEUED")
        self._steps = self._update(desired)

    def _update(self, desired):
        """The whole way of an update; yields where it waits for chunks and after every long piece of work."""
        store = self._store
        yield
        if desired.pack == self.pack:
            self._set("UPDATED")
            return
        self._set("DOWNLOADING")
        yield
        if not store.has(desired.pack):
            store.make_room(desired.head, desired.pack.encode())
            yield from self._fetch(desired.pack, desired.head)

        head = self._verified(lambda: store.head(store.path(desired.pack)))
        manifest = self._verified(lambda: head.verify(self._trust))
        yield
        self._check_manifest(desired, manifest)
        yield from self._reserve(desired, manifest)
        yield from self._fetch_parts(manifest)
        self._set("DOWNLOADED")
        yield
        self._set("VERIFIED")
        yield

        slot = store.free_slot
        version = manifest.version
        if self._record["starts"] == 2:
            store.clear(slot)
            raise PackError(f"the board went down twice while {desired.model} {version} was started")
        self._record["starts"] += 1
        self._set("UPDATING")
        yield
        store.write_slot(slot, head.data)
        self._stop()
        store.collect()
        self.wanted = store.slot(slot)

    def _finish(self, past):
        """Let the version run for whose network heap was reserved, unless there was a problem."""
        reserved, problem = past
        slot = self._store.free_slot
        try:
            if problem:
                raise CapacityError(problem)
            self._start(slot, reserved)
        except RegrowError:
            self._store.clear(slot)
            raise
        self._store.activate(slot, self.desired.version)
        self._set("UPDATED")

    def _fetch_parts(self, manifest):
        for part in _parts(manifest):
            yield from self._fetch(_hash(part), part.size)

    def _fetch(self, blob, size):
        self.fetcher.want(blob, size)
        while not self.fetcher.done:
            yield

    def _check_manifest(self, desired, manifest):
        if (manifest.name, manifest.version) != (desired.model, desired.version):
            found = f"{manifest.name} {manifest.version}"
            raise DeliveryError(f"the pack is {found}, not the desired {desired.model} {desired.version}")
        highest = self._store.active[1]
        if manifest.version < highest:
            raise DeliveryError(f"version {manifest.version} is below {highest}, which ran here already")
        if not manifest.targets & _USE_EXECUTOR:
            raise BackendError("the pack has no network for a board: compress it with --target board or both")
        free = _free_heap() + self._heap
        if manifest.arena > free:
            raise CapacityError(f"the network needs {manifest.arena} bytes of heap and {free} are free")

    def _reserve(self, desired, manifest):
        """Check what is here, count what is missing, and see that it fits."""
        total = left = 0
        keep = bytearray(desired.pack.encode())
        for part in _parts(manifest):
            blob = _hash(part)
            keep.extend(blob.encode())
            total += part.size
            if not self._store.check(blob):
                left += part.size - self._store.resume(blob)
            yield
        record = self._record
        if record["total"] == 0:
            record["had"] = total - left
        record["total"] = total
        record["fetched"] = total - left - record["had"]
        self._store.write_update(record)
        self._store.make_room(left + desired.head, keep)

    def _verified(self, check):
        """What `check()` gives; if it needs more heap than is free, the network rests."""
        try:
            return check()
        except MemoryError:
            self._stop()
            return check()
        finally:
            unload("signing", "sha512")

    def _fail(self, reason):
        unload("pack")
        self._set("FAILED", reason)
        self._restart()

    def _restart(self):
        """Let the active version run again if it was stopped."""
        active = self._store.active[0]
        if active and self.network is None:
            self.wanted = self._store.slot(active)

    def _stop(self):
        if self.network:
            self.network.close()
        self.network = self.pack = None
        self._heap = 0
        unload(*[name[7:] for name in sys.modules if name.startswith("regrow.kernels.")])
        unload("network", "executor", "resident", "kernels")
        gc.collect()

    def _start(self, letter, reserved):
        """Load a slot, whose head was verified when it came, and let it pass its probe."""
        before = gc.mem_alloc()
        folder = self._store.slot(letter)
        try:
            self._load(folder, reserved)
            gc.collect()
            self._heap = gc.mem_alloc() - before + (len(reserved[1]) if reserved else 0)
            self._wake()
            if _free_heap() < _TALK:
                raise MemoryError  # beside this network the board could not be reached any more
        except OSError as error:
            raise PackError(f"{folder} cannot be read: {error}") from None
        except MemoryError:
            self._stop()
            raise CapacityError(f"the network needs more heap than the {_free_heap()} bytes free") from None
        self.starts += 1

    def _load(self, folder, reserved):
        network = regrow.start(*(reserved or regrow.reserve(folder)))
        try:
            from .pack import open_pack  # heap only where packs are read

            pack = open_pack(folder)
            try:
                _probe(network, pack)
            finally:
                pack.close()
                unload("probe", "generator", "pack")
        except Exception:
            network.close()
            raise
        self.pack = hexlify(pack.head.id).decode()
        self.network = network

    def _set(self, status, reason=""):
        self._record["status"] = status
        self._record["reason"] = reason[:300]
        if status in _ENDED:
            self._record.pop("wanted", None)
            self.fetcher.blob = None
            if status == "FAILED":
                self._steps = None
        self._store.write_update(self._record)
        self._on_change()


def _probe(network, pack):
    for part in pack.manifest.parts:
        if part.role == _ROLE_PROBE and part.use & _USE_EXECUTOR:
            from .probe import run

            run(network, pack.reader(part))


def unload(*modules):
    """Give back the heap of modules that are needed once in a while."""
    for name in modules:
        if sys.modules.pop("regrow." + name, None) and hasattr(regrow, name):
            delattr(regrow, name)


def _failing(error):
    """The rest of an update that came to nothing."""
    raise error
    yield


def _parts(manifest):
    for part in manifest.parts:
        if part.use & _USE_EXECUTOR:
            yield part


def _hash(part):
    return hexlify(part.sha256).decode()


def _free_heap():
    gc.collect()
    return gc.mem_free()
