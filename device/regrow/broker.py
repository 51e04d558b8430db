"""The address of a broker and paho clients for it; used by the agent and by the host's commands."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from regrow.errors import DeliveryError

KEEP_ALIVE = 30  # seconds


@dataclass(frozen=True)
class Broker:
    """Where a broker listens: `mqtt://[user:pass@]host[:1883]`, or `mqtts://` for TLS on 8883."""

    host: str
    port: int
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Broker:
        """Read a URL; DeliveryError if it is none of these."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise DeliveryError(f"the broker's port in {url!r} is not a number up to 65535") from None
        if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.path not in ("", "/"):
            raise DeliveryError(f"the broker must be given as mqtt://HOST[:PORT] or mqtts://..., not {url!r}")
        tls = parts.scheme == "mqtts"
        user = None if parts.username is None else unquote(parts.username)
        password = None if parts.password is None else unquote(parts.password)
        return cls(parts.hostname, port or (8883 if tls else 1883), tls, user, password)

    def __str__(self) -> str:
        return f"{'mqtts' if self.tls else 'mqtt'}://{self.host}:{self.port}"

    def client(self, name: str = "", reconnect: bool = False) -> mqtt.Client:
        """A paho client with the user and TLS of this broker, not yet connected.

        `reconnect`: connect again whenever the connection breaks.
        """
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, reconnect_on_failure=reconnect)
        client.connect_timeout = 5.0
        client.on_socket_open = _send_at_once
        if self.user is not None:
            client.username_pw_set(self.user, self.password)
        if self.tls:
            client.tls_set_context(ssl.create_default_context())
        return client


def _send_at_once(_client: mqtt.Client, _data: object, connection: mqtt.SocketLike) -> None:
    """A pull is many small packets: none must wait for the answer to the one before (Nagle)."""
    if isinstance(connection, socket.socket):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
