"""The device's side of a fleet: keeps the desired version running and reports (docs/mqtt.md).

    with Agent("mqtt://broker", "kitchen", store="/var/lib/regrow", trust=[key]) as agent:
        while True:
            answer = agent.predict(read_sensor())  # runs the installed version and counts it
            ...

The agent works in a thread of its own and paho in another, so updates and inferences go on side by side.
"""

from __future__ import annotations

import json
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import psutil
from numpy.typing import ArrayLike
from paho.mqtt.reasoncodes import ReasonCode

import regrow
from regrow import quant, topics
from regrow.broker import KEEP_ALIVE, Broker
from regrow.errors import InputError, RegrowError
from regrow.labels import by_class
from regrow.network import Array, Network
from regrow.store import Store
from regrow.telemetry import Telemetry
from regrow.update import Updater

LONGEST_DELAY = 30  # seconds between two attempts to connect; the first is 1 and they double
PROGRESS = 1.0  # seconds between two reports of a download's progress

_log = logging.getLogger("regrow")


class Agent:
    """One device. `start` it, or use it as a context manager.

    broker: mqtt://[user:pass@]host[:port] or mqtts://...; device, groups, fleet: its names in the topics.
    store: the folder of its versions; storage_limit: bytes that folder may take.
    trust: public keys (32 bytes) whose packs and desired versions are accepted, beside the store's own.
    backend: auto, litert or numpy; memory_limit: bytes of RAM a model may take (default: what is free).
    interval: seconds between two telemetry messages.
    on_network: called with every network that becomes active, in the agent's thread.

    Raises DeliveryError for a bad address or name or a store in use, InputError where no key is trusted.
    """

    def __init__(
        self,
        broker: str,
        device: str,
        *,
        store: str | Path,
        trust: Iterable[bytes] = (),
        groups: Iterable[str] = (),
        fleet: str = topics.FLEET,
        backend: str = "auto",
        interval: float = 10.0,
        storage_limit: int | None = None,
        memory_limit: int | None = None,
        on_network: Callable[[Network], None] | None = None,
    ) -> None:
        self._broker = Broker.parse(broker)
        self._fleet = topics.check_name(fleet, "fleet")
        self._device = topics.check_name(device)
        self._groups = [topics.check_name(group, "group") for group in groups]
        targets = [f"device/{device}", *(f"group/{group}" for group in self._groups)]
        self._desired = {topics.desired(fleet, target): target for target in targets}
        self._interval = interval
        self._on_network = on_network
        self._store = Store(store, storage_limit)
        trusted = {*trust, *self._store.trusted()}
        if not trusted:
            raise InputError(
                f"no key is trusted: give --trust KEY.pub or put it into {self._store.root / 'trusted'}"
            )
        self._store.lock()
        self._updater = Updater(self._store, trusted, backend, lambda: _memory(memory_limit), self._report)
        self._telemetry = Telemetry()
        self._lock = threading.Lock()
        self._network: Network | None = None
        self._arrived = threading.Event()
        self._stopping = threading.Event()
        self._events: queue.Queue[mqtt.MQTTMessage | None] = queue.Queue(256)  # None: connected
        self._client = self._new_client()
        self._thread = threading.Thread(target=self._run, name="regrow-agent", daemon=True)

    def __enter__(self) -> Agent:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the installed version, if there is one, and keep connected in the background."""
        self._updater.boot()
        self._offer()
        self._client.connect_async(self._broker.host, self._broker.port, KEEP_ALIVE)
        self._client.loop_start()
        self._thread.start()

    def stop(self) -> None:
        """Say goodbye to the fleet and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._client.is_connected():
            self._say("state", "disconnected").wait_for_publish(2.0)
        self._client.disconnect()
        self._client.loop_stop()
        self._store.unlock()

    @property
    def network(self) -> Network | None:
        """The network that runs; None before the first version."""
        return self._network

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until a version runs; False if `timeout` seconds pass before."""
        return self._arrived.wait(timeout)

    def predict(self, x: ArrayLike, label: int | None = None) -> Array | list[Array]:
        """Run one sample (as `Network.predict`), counted in the telemetry; `label` its class, if known.

        Raises InputError before a version is installed and for a sample of the wrong shape.
        """
        network, energy = self._network, self._telemetry.energy
        if network is None:
            raise InputError("no version is installed yet: push a pack to this device")
        joules, start = energy.joules(), time.perf_counter()
        y: Array | list[Array] = network.predict(x)
        seconds, joules = time.perf_counter() - start, energy.joules() - joules
        with self._lock:
            if network is self._network:
                self._telemetry.add(seconds, joules, _correct(network, y, label))
        return y

    def _new_client(self) -> mqtt.Client:
        client = self._broker.client(f"regrow-{self._fleet}-{self._device}", reconnect=True)
        client.reconnect_delay_set(1, LONGEST_DELAY)
        client.will_set(topics.of_device(self._fleet, self._device, "state"), "lost", qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_connect_fail = lambda _client, _data: _log.warning("cannot reach %s", self._broker)
        client.on_disconnect = self._on_disconnect
        client.on_message = lambda _client, _data, message: self._events.put(message)
        return client

    def _on_connect(
        self, client: mqtt.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        if reason.is_failure:
            _log.error("%s refuses the connection: %s", self._broker, reason)
        else:
            _log.info("connected to %s as %s", self._broker, self._device)
            self._events.put(None)

    def _on_disconnect(
        self, _client: mqtt.Client, _data: object, _flags: object, reason: ReasonCode, _properties: object
    ) -> None:
        _log.info("disconnected from %s: %s", self._broker, reason)

    def _run(self) -> None:
        """The agent's thread: take what came, go on with the update, ask for more, send figures."""
        sent = reported = time.monotonic()
        told = 0  # bytes fetched when the progress was last reported
        while not self._stopping.is_set():
            self._handle_events()
            self._updater.step()
            self._offer()
            now = time.monotonic()
            if not self._client.is_connected():
                continue
            self._subscribe(now)
            if now - reported >= PROGRESS and self._updater.fetcher.fetched != told:
                self._report()
                reported, told = now, self._updater.fetcher.fetched
            if now - sent >= self._interval:
                self._say("telemetry", json.dumps(self._telemetry.message()), qos=0, retain=False)
                sent = now

    def _handle_events(self) -> None:
        """Wait a moment for an event, then handle all that are here."""
        arrived = []
        try:
            event = self._events.get(timeout=0.1)
            while True:
                if event is None:
                    self._hello()
                elif event.topic in self._desired:
                    self._obey(event.topic, bytes(event.payload))
                else:
                    arrived.append(event.topic)
                    _, _, blob, number = event.topic.split("/")
                    self._updater.take(blob, int(number), bytes(event.payload))
                event = self._events.get_nowait()
        except queue.Empty:
            pass
        if arrived:
            self._client.unsubscribe(arrived)

    def _hello(self) -> None:
        """Introduce the device to the broker, which knows nothing of it after a connect."""
        self._say("state", "init")
        self._updater.fetcher.forget()
        self._client.subscribe([(topic, 1) for topic in self._desired])
        self._report()
        self._say("state", "alert" if self._updater.problem else "ready")

    def _obey(self, topic: str, payload: bytes) -> None:
        if not payload:
            self._updater.take_back(self._desired[topic])
            return
        try:
            self._updater.obey(payload, self._desired[topic])
        except RegrowError as error:
            _log.warning("ignored: %s", error)

    def _subscribe(self, now: float) -> None:
        wanted = self._updater.fetcher.ask(now)
        if wanted:
            self._client.subscribe([(topics.chunk(self._fleet, *chunk), 1) for chunk in wanted])

    def _offer(self) -> None:
        """Hand a network that became active to whoever predicts."""
        network = self._updater.network
        if network is None or network is self._network:
            return
        with self._lock:
            self._network = network
            self._telemetry.start(network.name, network.version)
        self._arrived.set()
        if self._on_network:
            self._on_network(network)

    def _report(self) -> None:
        if self._client.is_connected():
            self._say("reported", json.dumps(self._reported()))

    def _reported(self) -> dict[str, Any]:
        network = self._updater.network
        return {
            "runtime": self._updater.runtime,
            "regrow": regrow.__version__,
            "groups": self._groups,
            "model": network.name if network else None,
            "version": network.version if network else None,
            "pack": self._updater.pack if network else None,
            "slot": self._store.active.slot if network else None,
            "update": self._updater.progress(),
        }

    def _say(self, what: str, payload: str, qos: int = 1, retain: bool = True) -> mqtt.MQTTMessageInfo:
        return self._client.publish(topics.of_device(self._fleet, self._device, what), payload, qos, retain)


def _memory(limit: int | None) -> int:
    free: int = psutil.virtual_memory().available
    return free if limit is None else min(limit, free)


def _correct(network: Network, y: Array | list[Array], label: int | None) -> bool | None:
    """Whether the first output chooses that class; None where neither of its classes is meant."""
    first = (y[0] if isinstance(y, list) else y).reshape(1, -1)
    if label is None or not 0 <= label < max(2, first.size):
        return None
    if first.size == 1 and first.dtype.kind in "iu":
        first = quant.dequantize(first, network.outputs[0].scale, network.outputs[0].zero_point)
    return bool(by_class(first).argmax() == label)
