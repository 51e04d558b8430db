"""A small MQTT 3.1.1 client that never freezes.

The socket does not block: `poll` does what can be done now and every wait has a limit, so a dead broker or
a half-open connection ends in a DeliveryError within one and a half keep-alives. A packet leaves in one
write from a buffer planned once; received packets go into another. A payload that does not fit there is
skipped and reported as None, and the connection stays in step.
"""

import errno
import select
import socket
import time

from micropython import const

from .errors import DeliveryError

_CLOSED = const(0)
_OPENING = const(1)
_GREETING = const(2)
_CONNECTED = const(3)

_CONNACK = const(2)
_PUBLISH = const(3)
_PUBACK = const(4)
_SUBACK = const(9)
_UNSUBACK = const(11)
_PINGRESP = const(13)

_REFUSALS = ("", "protocol version", "client id", "server unavailable", "user or password", "not authorized")
_OPEN_LIMIT = const(10_000)  # ms from connect to CONNACK


class Client:
    """One connection at a time to one broker.

    `on_message(topic, payload, retained)` gets memoryviews that hold until it returns (payload None: too
    long); it must not publish or subscribe. `tls` is None or a dict of keywords for `ssl.wrap_socket`;
    `keepalive` is in seconds; `receive` and `send` are the sizes of the buffers, for a whole packet each.
    """

    def __init__(
        self, host, port=1883, name="", user=None, password=None, tls=None, keepalive=30, on_message=None,
        receive=2304, send=1280,
    ):  # fmt: skip
        self.host = host
        self.port = port
        self.on_message = on_message
        self._name = name
        self._user = user
        self._password = password
        self._tls = tls
        self._keepalive = keepalive
        self._limit = keepalive * 1000
        self._head = bytearray(5)
        self._head_view = memoryview(self._head)
        self._in = bytearray(receive)
        self._in_view = memoryview(self._in)
        self._out = bytearray(send)
        self._out_view = memoryview(self._out)
        self._poller = select.poll()
        self._socket = None
        self._state = _CLOSED
        self._id = 0

    @property
    def connected(self):
        return self._state == _CONNECTED

    @property
    def closed(self):
        return self._state == _CLOSED

    @property
    def busy(self):
        """Whether a `publish` with QoS 1 would have to wait for the broker."""
        return self._unacknowledged != 0 or self._sent < self._end

    def connect(self, will_topic=None, will=b""):
        """Begin a clean session; `poll` goes on until `connected`. The last will is retained, with QoS 1."""
        self.close()
        self._will_topic = will_topic
        self._will = will
        self._have = self._sent = self._end = 0
        self._need = 2
        self._in_body = False
        self._unacknowledged = 0
        self._pinged = False
        try:
            info = socket.getaddrinfo(self.host, self.port, socket.AF_INET, socket.SOCK_STREAM)[0]
            self._socket = socket.socket(info[0], socket.SOCK_STREAM)
            self._socket.setblocking(False)
            self._poller.register(self._socket, select.POLLOUT)
            self._state = _OPENING
            self._since = self._heard = self._spoke = time.ticks_ms()
            self._socket.connect(info[-1])
        except OSError as error:
            if error.errno != errno.EINPROGRESS:
                self.close()
                raise DeliveryError(
                    f"the broker {self.host}:{self.port} cannot be reached ({error})"
                ) from None

    def poll(self, wait_ms=0):
        """Handle one packet if there is one, after waiting at most `wait_ms` for it; True if there was.

        DeliveryError, and the connection is closed, if it broke or the broker does not keep to the protocol.
        """
        if self._state == _CLOSED:
            raise DeliveryError("not connected to the broker")
        try:
            if self._state == _OPENING:
                self._open(wait_ms)
                return False
            self._flush()
            done = self._receive()
            if not done and wait_ms:
                self._wait(select.POLLIN, wait_ms)
                done = self._receive()
            self._watch()
        except DeliveryError:
            self.close()
            raise
        return done

    def publish(self, topic, payload, retain=False, qos=0):
        """Send a message. With QoS 1, wait first until the one before it was acknowledged."""
        self._need_connection()
        while qos and self._unacknowledged:
            self.poll(1000)
        topic = _encode(topic)
        payload = _encode(payload)
        self._start(0x30 | qos << 1 | bool(retain), 2 + len(topic) + 2 * qos + len(payload))
        self._put_text(topic)
        if qos:
            self._unacknowledged = self._put_id()
            self._since = time.ticks_ms()
        self._put(payload)
        self._go()

    def subscribe(self, topic, qos=1):
        """Ask for a topic. A refusal comes out of `poll` as a DeliveryError."""
        self._need_connection()
        topic = _encode(topic)
        self._start(0x82, 5 + len(topic))
        self._put_id()
        self._put_text(topic)
        self._put(bytes((qos,)))
        self._go()

    def unsubscribe(self, topic):
        """Ask for no more of a topic."""
        self._need_connection()
        topic = _encode(topic)
        self._start(0xA2, 4 + len(topic))
        self._put_id()
        self._put_text(topic)
        self._go()

    def disconnect(self):
        """Take leave, so that the broker does not send the last will, and close."""
        if self._state == _CONNECTED:
            while self._unacknowledged:
                self.poll(1000)
            self._start(0xE0, 0)
            self._go()
            self._wait_sent()
        self.close()

    def close(self):
        """Close without a word."""
        if self._socket is not None:
            try:
                self._poller.unregister(self._socket)
                self._socket.close()
            except OSError:
                pass  # it was broken already
            self._socket = None
        self._state = _CLOSED

    def _need_connection(self):
        if self._state != _CONNECTED:
            raise DeliveryError("not connected to the broker")

    def _open(self, wait_ms):
        events = self._wait(select.POLLOUT, wait_ms)
        if events & (select.POLLERR | select.POLLHUP):
            raise DeliveryError(f"the broker {self.host}:{self.port} refuses the connection")
        if not events & select.POLLOUT:
            self._watch()
            return
        try:  # noqa: SIM105 (boards have no contextlib)
            # MicroPython names neither number everywhere: 6 is IPPROTO_TCP, 1 is TCP_NODELAY
            self._socket.setsockopt(6, getattr(socket, "TCP_NODELAY", 1), 1)
        except OSError:
            pass  # slower, not wrong
        if self._tls is not None:
            self._wrap()
        self._state = _GREETING
        self._greet()

    def _wrap(self):
        import ssl

        self._poller.unregister(self._socket)
        try:
            self._socket = ssl.wrap_socket(
                self._socket, server_hostname=self.host, do_handshake=False, **self._tls
            )
        except (OSError, ValueError) as error:
            raise DeliveryError(f"TLS with the broker failed ({error})") from None
        self._poller.register(self._socket, select.POLLOUT)

    def _greet(self):
        texts = [_encode(self._name)]
        flags = 2
        if self._will_topic is not None:
            flags |= 0x2C
            texts += [_encode(self._will_topic), _encode(self._will)]
        if self._user is not None:
            flags |= 0x80
            texts.append(_encode(self._user))
            if self._password is not None:
                flags |= 0x40
                texts.append(_encode(self._password))
        self._start(0x10, 10 + sum(2 + len(text) for text in texts))
        self._put_text(b"MQTT")
        self._put(bytes((4, flags, self._keepalive >> 8, self._keepalive & 255)))
        for text in texts:
            self._put_text(text)
        self._go()

    def _wait(self, flags, wait_ms):
        self._poller.modify(self._socket, flags)
        events = 0
        for event in self._poller.ipoll(wait_ms):
            events |= event[1]
        return events

    def _watch(self):
        """Notice what takes too long; ask for a sign of life when it is quiet."""
        now = time.ticks_ms()
        if self._state != _CONNECTED:
            if time.ticks_diff(now, self._since) > _OPEN_LIMIT:
                raise DeliveryError(f"the broker {self.host}:{self.port} does not answer")
        elif self._sent < self._end:
            if time.ticks_diff(now, self._spoke) > self._limit:
                raise DeliveryError("the broker takes no more data")
        elif self._pinged or self._unacknowledged:
            if time.ticks_diff(now, self._since) > self._limit:
                raise DeliveryError("the broker does not answer any more")
        elif (
            time.ticks_diff(now, self._heard) > self._limit // 2
            or time.ticks_diff(now, self._spoke) > self._limit // 2
        ):
            self._pinged = True
            self._since = now
            self._start(0xC0, 0)
            self._go()

    def _start(self, kind, size):
        """Begin a packet of `size` bytes after its fixed header."""
        if size > len(self._out) - 4:
            raise DeliveryError(f"a message of {size} bytes is longer than the buffer for it")
        self._wait_sent()
        self._out[0] = kind
        self._at = 1
        while size > 127:
            self._out[self._at] = size & 127 | 128
            self._at += 1
            size >>= 7
        self._out[self._at] = size
        self._at += 1

    def _put(self, data):
        end = self._at + len(data)
        self._out_view[self._at : end] = data
        self._at = end

    def _put_number(self, value):
        self._out[self._at] = value >> 8
        self._out[self._at + 1] = value & 255
        self._at += 2

    def _put_text(self, text):
        self._put_number(len(text))
        self._put(text)

    def _put_id(self):
        self._id = self._id % 65535 + 1
        self._put_number(self._id)
        return self._id

    def _go(self):
        self._sent = 0
        self._end = self._at
        self._spoke = time.ticks_ms()
        try:
            self._flush()
        except DeliveryError:
            self.close()
            raise

    def _flush(self):
        """Write what the socket takes now; True if everything is out."""
        if self._sent < self._end:
            try:
                count = self._socket.write(self._out_view[self._sent : self._end])
            except (OSError, ValueError) as error:  # ValueError: a certificate that is refused
                raise self._broken(error) from None
            if count:
                self._sent += count
                self._spoke = time.ticks_ms()
        return self._sent == self._end

    def _wait_sent(self):
        try:
            while not self._flush():
                self._wait(select.POLLOUT, 100)
                self._watch()
        except DeliveryError:
            self.close()
            raise

    def _broken(self, error):
        return DeliveryError(f"the connection to {self.host}:{self.port} broke ({error})")

    def _read(self, view):
        try:
            count = self._socket.readinto(view)
        except (OSError, ValueError) as error:
            raise self._broken(error) from None
        if count == 0:
            raise self._broken("closed by the broker")
        if count:
            self._heard = time.ticks_ms()
        return count or 0

    def _receive(self):
        """Read on; True if a packet was completed and handled."""
        if not self._in_body and not self._receive_head():
            return False
        room = len(self._in)
        while self._have < self._need:
            if self._have < room:
                count = self._read(self._in_view[self._have : min(self._need, room)])
            else:  # skip what has no room, over the payload that is lost anyway
                left = self._need - self._have
                count = self._read(self._in_view[room // 2 : room // 2 + min(left, room // 2)])
            if not count:
                return False
            self._have += count
        size = self._need
        self._in_body = False
        self._have = 0
        self._need = 2
        self._handle(self._head[0], size)
        return True

    def _receive_head(self):
        while True:
            while self._have < self._need:
                count = self._read(self._head_view[self._have : self._need])
                if not count:
                    return False
                self._have += count
            if not self._head[self._need - 1] & 128:
                break
            if self._need == 5:
                raise _malformed("a length of more than 4 bytes")
            self._need += 1
        size = 0
        for i in range(self._need - 1, 0, -1):
            size = size << 7 | self._head[i] & 127
        self._have = 0
        self._need = size
        self._in_body = True
        return True

    def _handle(self, head, size):
        kind = head >> 4
        if self._state == _GREETING:
            if kind != _CONNACK or size != 2:
                raise _malformed("another packet before CONNACK")
            code = self._in[1]
            if code:
                reason = _REFUSALS[code] if code < len(_REFUSALS) else str(code)
                raise DeliveryError(f"the broker refuses the connection: {reason}")
            self._state = _CONNECTED
        elif kind == _PUBLISH:
            self._handle_publish(head, size)
        elif kind == _PUBACK and size == 2:
            if self._in[0] << 8 | self._in[1] == self._unacknowledged:
                self._unacknowledged = 0
        elif kind == _SUBACK and size == 3:
            if self._in[2] > 2:
                raise DeliveryError("the broker refuses a subscription")
        elif kind == _PINGRESP and size == 0:
            self._pinged = False
        elif kind != _UNSUBACK or size != 2:
            raise _malformed(f"packet type {kind} of {size} bytes")

    def _handle_publish(self, head, size):
        room = len(self._in)
        qos = head >> 1 & 3
        start = 2 + (self._in[0] << 8 | self._in[1])
        body = start + (2 if qos else 0)
        if qos > 1 or size < 2 or body > min(size, room // 2):  # behind room // 2 there may be skipped bytes
            raise _malformed("PUBLISH")
        if self.on_message is not None:
            payload = self._in_view[body:size] if size <= room else None
            self.on_message(self._in_view[2:start], payload, head & 1)
        if qos:
            self._start(0x40, 2)
            self._put(self._in_view[start:body])
            self._go()


def _encode(text):
    return text.encode() if isinstance(text, str) else text


def _malformed(what):
    return DeliveryError(f"the broker sent a malformed packet ({what})")
