"""One connection of a host command to a broker, and what to do when it breaks."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeVar

import paho.mqtt.client as mqtt
from paho.mqtt.reasoncodes import ReasonCode
from regrow.broker import KEEP_ALIVE, Broker
from regrow.errors import DeliveryError

from regrow_host.console import note

CONNECT = 5.0  # seconds for a broker to answer
SETTLE = 0.7  # seconds of silence after which no more retained messages are expected
IN_FLIGHT = 64  # publishes that may wait for their acknowledgement

Result = TypeVar("Result")


class Message(NamedTuple):
    topic: str
    payload: bytes
    retained: bool


class LostConnection(DeliveryError):  # noqa: N818
    """The connection broke; another session may succeed."""


class Session:
    """A connection that is never mended: what it published and got no acknowledgement for is unknown.

    Messages that are repeated by themselves after a broker's crash could follow ones that the crash took,
    so whoever lost a session opens a new one and looks what the broker has. A context manager.
    Raises DeliveryError if the broker does not answer or refuses, LostConnection later.
    """

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._messages: queue.Queue[Message | None] = queue.Queue()  # None: something else happened
        self._lost = threading.Event()
        self._answer: ReasonCode | None = None
        self._answered = threading.Event()
        self._subscribed: set[int] = set()
        self._waiting = 0
        self._acknowledged = threading.Condition()
        self._client = broker.client()
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe
        try:
            self._client.connect(broker.host, broker.port, KEEP_ALIVE)
        except (OSError, ValueError) as error:
            raise DeliveryError(f"cannot reach the broker {broker}: {error}") from None
        self._client.loop_start()
        self._answered.wait(CONNECT)
        if self._answer is None or self._answer.is_failure:
            self.close()
            reason = "it does not answer" if self._answer is None else str(self._answer)
            raise DeliveryError(f"the broker {broker} refuses the connection: {reason}")

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def subscribe(self, filters: Iterable[str]) -> None:
        """Subscribe with QoS 1; returns when the broker confirmed."""
        waiting = set()
        for some in _batches(list(filters), 100):
            code, number = self._client.subscribe([(each, 1) for each in some])
            if code != mqtt.MQTT_ERR_SUCCESS or number is None:
                raise LostConnection(f"the connection to {self._broker} broke")
            waiting.add(number)
        with self._acknowledged:
            self._wait(lambda: waiting <= self._subscribed)

    def unsubscribe(self, filters: Iterable[str]) -> None:
        for some in _batches(list(filters), 100):
            self._client.unsubscribe(some)

    def get(self, timeout: float) -> Message | None:
        """The next message; None if none came within `timeout` seconds."""
        if self._lost.is_set():
            raise LostConnection(f"the connection to {self._broker} broke")
        try:
            message = self._messages.get(timeout=max(timeout, 0.0))
        except queue.Empty:
            return None
        return message or self.get(0)

    def retained(self, filters: list[str]) -> dict[str, bytes]:
        """What the broker keeps for these topics, payload by topic; waits until it is silent for a moment."""
        found: dict[str, bytes] = {}
        self.subscribe(filters)
        end = time.monotonic() + SETTLE
        while (left := end - time.monotonic()) > 0 and found.keys() != set(filters):
            message = self.get(left)
            if message and message.retained:
                found[message.topic] = message.payload
                end = time.monotonic() + SETTLE
        self.unsubscribe(filters)
        return found

    def publish(self, topic: str, payload: bytes) -> None:
        """Publish retained with QoS 1; waits while too many have no acknowledgement yet."""
        with self._acknowledged:
            self._wait(lambda: self._waiting < IN_FLIGHT)
            self._waiting += 1
        self._client.publish(topic, payload, qos=1, retain=True)

    def flush(self) -> None:
        """Wait until everything published is acknowledged."""
        with self._acknowledged:
            self._wait(lambda: self._waiting == 0)

    def hold(self, seconds: float) -> None:
        """Stay connected so long."""
        with self._acknowledged:
            if self._acknowledged.wait_for(self._lost.is_set, seconds):
                raise LostConnection(f"the connection to {self._broker} broke")

    def _wait(self, condition: Callable[[], bool]) -> None:
        self._acknowledged.wait_for(lambda: self._lost.is_set() or condition())
        if self._lost.is_set():
            raise LostConnection(f"the connection to {self._broker} broke")

    def _on_connect(self, _c: object, _d: object, _f: object, reason: ReasonCode, _p: object) -> None:
        self._answer = reason
        self._answered.set()

    def _on_disconnect(self, _c: object, _d: object, _f: object, _reason: object, _p: object) -> None:
        with self._acknowledged:
            self._lost.set()
            self._acknowledged.notify_all()
        self._answered.set()
        self._messages.put(None)

    def _on_message(self, _c: object, _d: object, message: mqtt.MQTTMessage) -> None:
        self._messages.put(Message(message.topic, bytes(message.payload), message.retain))

    def _on_publish(self, _c: object, _d: object, _m: object, _r: object, _p: object) -> None:
        with self._acknowledged:
            self._waiting -= 1
            self._acknowledged.notify_all()

    def _on_subscribe(self, _c: object, _d: object, number: int, _r: object, _p: object) -> None:
        with self._acknowledged:
            self._subscribed.add(number)
            self._acknowledged.notify_all()


def keep_trying(broker: Broker, timeout: float, work: Callable[[Session], Result]) -> Result:
    """Do `work` on a session, from its start on a new one whenever the connection breaks.

    Raises DeliveryError if the broker cannot be reached at the start, or for `timeout` seconds later.
    """
    session = Session(broker)
    while True:
        try:
            with session:
                return work(session)
        except LostConnection as error:
            note(f"{error}; trying again")
        session = _reconnect(broker, timeout)


def _reconnect(broker: Broker, timeout: float) -> Session:
    deadline = time.monotonic() + timeout
    while True:
        try:
            return Session(broker)
        except DeliveryError:
            if time.monotonic() > deadline:
                raise DeliveryError(f"the broker {broker} is gone for {timeout:g} seconds") from None
        time.sleep(0.5)


def _batches(items: list[str], size: int) -> Iterable[list[str]]:
    return (items[i : i + size] for i in range(0, len(items), size))
