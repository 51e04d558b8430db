"""A board's talk with its fleet: hears what is desired, hands chunks to the update, and reports."""

import json
import time
from binascii import unhexlify

from micropython import const

import regrow

from . import topics
from .energy import meter
from .errors import DeliveryError, InputError, RegrowError
from .store import Store
from .telemetry import Telemetry
from .update import Updater

_LONGEST_DELAY = const(30)  # seconds between two attempts to connect; the first is 1 and they double
_PROGRESS = const(1000)  # ms between two reports of a download's progress
_PACKETS = const(8)  # received in one step
_FETCH_WAIT = const(20)  # ms that a step may wait for a chunk


class Link:
    """One device's, of that `config` (see agent.py). Raises InputError or DeliveryError for a bad one.

    `starts`: of networks, so far; `past`: what came of the slot that is to run, as `Updater.boot` takes it.
    """

    def __init__(self, config, starts=0, *past):
        try:
            self._device = topics.check_name(config["id"])
            self._fleet = topics.check_name(config.get("fleet", topics.FLEET), "fleet")
            self._groups = [topics.check_name(group, "group") for group in config.get("groups", ())]
            trust = [unhexlify(key) for key in config["trust"]]
            self._broker = _broker(config, f"regrow-{self._fleet}-{self._device}")
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the config lacks or misspells {error}") from None
        if not trust or any(len(key) != 32 for key in trust):
            raise InputError("the config needs trust: public keys of 64 hex digits, one at least")
        self._interval = int(config.get("interval", 10) * 1000)
        targets = [f"device/{self._device}"] + [f"group/{group}" for group in self._groups]
        self._targets = {topics.desired(self._fleet, target).encode(): target for target in targets}
        self._store = Store(config.get("store", "store"), config.get("storage_limit"))
        self._updater = Updater(self._store, trust, self._report, self._wake)
        self._client = None  # while it rests
        self.telemetry = Telemetry(meter(config.get("ina219")))
        self._chunk = b""  # topic of the chunk asked for
        self._desired = {}  # messages by topic, not looked at yet
        self._greeted = False  # nor connected
        self._connect_at = self._sent = self._reported = time.ticks_ms()
        self._delay = 1
        self._states = []  # to be said, in this order
        self._changed = False  # something is to be reported
        self._starts = self._updater.starts = starts
        self._updater.boot(*past)
        self._count()

    @property
    def network(self):
        """The network that runs; None before the first version."""
        return self._updater.network

    @property
    def starts(self):
        """How many networks were started: another number means another network."""
        return self._updater.starts

    @property
    def wanted(self):
        """The slot whose resident form is to be written, which wants the heap of this link."""
        return self._updater.wanted

    def hand_over(self):
        """Have the next start of the program take up the slot that is `wanted`; whether it will."""
        return self._updater.hand_over()

    def step(self, wait_ms=0):
        """Talk with the broker, waiting at most `wait_ms` for it, and go one step on with an update."""
        try:
            self._talk(wait_ms)
        except DeliveryError as error:
            self._retry(error)
        except MemoryError:
            self._retry("too little heap to talk with the broker")
        self._obey()
        if self._updater.busy and not (self._changed and self._greeted):
            self._updater.step()
            self._count()

    def leave(self, state):
        """Say why and leave; the heap of the client is free then."""
        if self._client:
            try:
                self._client.publish(self._topic("state"), state, True, 1)
                self._client.disconnect()
            except DeliveryError:
                self._client.close()  # it was not connected, or the last will tells it
            self._client = None
            self._greeted = False

    def _wake(self):
        """Have a client again; it connects in the next step."""
        if not self._client:
            from .mqtt import Client

            self._client = Client(*self._broker, self._receive)
            self._connect_at = time.ticks_ms()

    def _retry(self, trouble):
        """Connect again, after a delay."""
        print("regrow:", trouble)
        if self._client:
            self._client.close()
        self._greeted = False
        self._connect_at = time.ticks_add(time.ticks_ms(), self._delay * 1000)
        self._delay = min(2 * self._delay, _LONGEST_DELAY)

    def _talk(self, wait_ms):
        if not self._client or self._client.closed:
            if time.ticks_diff(time.ticks_ms(), self._connect_at) < 0:
                time.sleep_ms(wait_ms)
                return
            self._wake()
            self._client.connect(self._topic("state"), "lost")
        client = self._client
        if not client.connected:
            client.poll(wait_ms)
            return
        if not self._greeted:
            self._greet()
        if not self._updater.fetcher.done:
            wait_ms = max(wait_ms, _FETCH_WAIT)
        for _ in range(_PACKETS):
            self._ask()
            self._say()
            if not client.poll(wait_ms):
                break

    def _greet(self):
        """Introduce the device to the broker, which knows nothing of it after a connect."""
        self._greeted = True
        self._delay = 1
        self._chunk = b""
        self._updater.fetcher.forget()
        for topic in self._targets:
            self._client.subscribe(topic)
        self._states = ["init", "alert" if self._updater.problem else "ready"]
        self._changed = True

    def _ask(self):
        """Subscribe to the chunk that is wanted, and to no other."""
        fetcher = self._updater.fetcher
        number = fetcher.ask()
        if self._chunk and (number is not None or fetcher.done):
            self._client.unsubscribe(self._chunk)
            self._chunk = b""
        if number is not None:
            self._chunk = topics.chunk(self._fleet, fetcher.blob, number).encode()
            self._client.subscribe(self._chunk)

    def _say(self):
        """Publish one thing that is due, unless that would have to wait for the broker."""
        client = self._client
        if client.busy:
            return
        now = time.ticks_ms()
        if self._states and (self._states[0] == "init" or not self._changed):
            client.publish(self._topic("state"), self._states.pop(0), True, 1)
        elif self._changed:
            client.publish(self._topic("reported"), json.dumps(self._message()), True, 1)
            self._changed = False
        elif time.ticks_diff(now, self._sent) >= self._interval:
            self._sent = now
            client.publish(self._topic("telemetry"), json.dumps(self.telemetry.message()))

    def _receive(self, topic, payload, _retained):
        """Called by the client for every message."""
        if topic == self._chunk:
            self._updater.take(payload)
            now = time.ticks_ms()
            if time.ticks_diff(now, self._reported) >= _PROGRESS:
                self._reported = now
                self._changed = True
        elif bytes(topic) in self._targets and payload is not None:
            self._desired[bytes(topic)] = bytes(payload)

    def _obey(self):
        if self._desired:
            topic, payload = self._desired.popitem()
            target = self._targets[topic]
            if not payload:
                self._updater.take_back(target)
                return
            try:
                self._updater.obey(payload, target)
            except (RegrowError, MemoryError) as error:
                print("regrow: ignored:", error)

    def _count(self):
        """Let telemetry count from zero if another network runs now."""
        if self._starts != self._updater.starts:
            self._starts = self._updater.starts
            self.telemetry.start(self.network.name, self.network.version)

    def _report(self):
        self._changed = True

    def _message(self):
        network = self._updater.network
        return {
            "runtime": "micropython",
            "regrow": regrow.__version__,
            "groups": self._groups,
            "model": network.name if network else None,
            "version": network.version if network else None,
            "pack": self._updater.pack,
            "slot": self._store.active[0] if network else None,
            "update": self._updater.progress(),
        }

    def _topic(self, what):
        return topics.of_device(self._fleet, self._device, what)


def _broker(config, name):
    """What a client needs to know of the broker; InputError if its address cannot be read."""
    url = config["broker"]
    scheme, _, rest = url.partition("://")
    login, at, address = rest.rpartition("@")
    host, _, port = address.rstrip("/").partition(":")
    if scheme not in ("mqtt", "mqtts") or not host:
        raise InputError(f"the broker must be given as mqtt://HOST[:PORT] or mqtts://..., not {url!r}")
    user, colon, password = login.partition(":")
    tls = None
    if scheme == "mqtts":
        tls = {}
        if "ca" in config:
            import ssl

            with open(config["ca"], "rb") as file:
                tls = {"cert_reqs": ssl.CERT_REQUIRED, "cadata": file.read()}
    return (
        host,
        int(port or (8883 if tls is not None else 1883)),
        name,
        user if at else None,
        password if colon else None,
        tls,
        config.get("keepalive", 30),
    )
