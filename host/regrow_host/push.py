"""`regrow push`: parts to the broker, then the signed desired version, and what the devices make of it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from regrow import topics
from regrow.arguments import positive
from regrow.broker import Broker
from regrow.errors import RegrowError
from regrow.pack import Pack
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from regrow_host import keys
from regrow_host.console import show, show_json
from regrow_host.fleet import AWAY, Device, Fleet
from regrow_host.packfile import open_trusted
from regrow_host.session import SETTLE, Session, keep_trying

OVERTAKEN = "OVERTAKEN"
REPORTED = "UPDATED", "FAILED"
ENDED = *REPORTED, OVERTAKEN
HOLD = 2.5  # seconds in which a broker that saves every second has saved what it acknowledged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pack", type=Path, metavar="PACK.rgp")
    parser.add_argument("--broker", required=True, metavar="URL", help="mqtt://[user:pass@]host[:1883]")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument("--to", metavar="DEVICE", help="the device that shall run it")
    target.add_argument("--group", metavar="G", help="the group of devices that shall run it")
    parser.add_argument("--fleet", default=topics.FLEET, help=f"name of the fleet (default {topics.FLEET})")
    parser.add_argument("--key", metavar="KEY.pem", help="your signing key (default: that of keygen)")
    parser.add_argument(
        "--wait", type=positive, metavar="SECONDS", help="follow the devices until they have it"
    )
    parser.add_argument(
        "--timeout", type=positive, default=60.0, metavar="SECONDS", help="give up so long without a broker"
    )
    parser.add_argument("--json", action="store_true", help="the result as JSON")


def run(args: argparse.Namespace) -> int:
    broker = Broker.parse(args.broker)
    fleet = topics.check_name(args.fleet, "fleet")
    target = f"device/{topics.check_name(args.to)}" if args.to else _group(args.group)
    key = keys.signing_key(args.key)
    with open_trusted(args.pack) as pack, _progress() as bar:
        push = Push(pack, fleet, target, key, _show_bytes(bar))
        following = Following(push, args.wait or 0.0, args.json)

        def work(session: Session) -> None:
            push.deliver(session)
            bar.stop()
            if args.wait:
                following.follow(session)
            else:
                session.hold(HOLD)

        keep_trying(broker, args.timeout, work)
    result = push.result()
    if args.json:
        show_json(result)
    else:
        name = f"{result['model']} {result['version']} for {target}"
        show(f"{name}: {push.sent} bytes sent, {push.skipped} skipped")
    return 1 if args.wait and not push.arrived else 0


class Push:
    """One pack on its way to a target; `sent` and `skipped` count the bytes of its head and parts.

    `show` is told the bytes that are on the broker and all of them.
    """

    def __init__(
        self,
        pack: Pack,
        fleet: str,
        target: str,
        key: Ed25519PrivateKey,
        show: Callable[[int, int], None] = lambda there, total: None,
    ) -> None:
        self.pack = pack
        self.fleet = fleet
        self.target = target
        self.id = pack.head.id.hex()
        self.sent = self.skipped = self.sequence = 0
        self.started = time.monotonic()
        self.devices: dict[str, dict[str, Any]] = {}  # the last update that each device reported
        self.signer = keys.public_key(key)
        self._key = key
        self._show = show
        self._sizes = {self.id: len(pack.head.data)}
        for part in pack.manifest.parts:
            self._sizes[part.sha256.hex()] = part.size
        self._mine: set[str] = set()  # blobs that this push brought

    @property
    def arrived(self) -> bool:
        """Whether some device reported this pack, and every one that did runs it."""
        return bool(self.devices) and all(update["status"] == "UPDATED" for update in self.devices.values())

    def deliver(self, session: Session) -> None:
        """Publish the chunks that the broker lacks, then the desired version; all acknowledged.

        May be repeated: what is there by now is not sent again. Where a device has failed with this pack, the
        broker's chunks may be damaged, and all are sent.
        """
        desired = topics.desired(self.fleet, self.target)
        markers = {topics.marker(self.fleet, blob): blob for blob in self._sizes}
        kind, _, name = self.target.partition("/")
        reports = topics.of_device(self.fleet, name if kind == "device" else "+", "reported")
        found = session.retained([desired, reports, *markers])
        failed = self._has_failed(found)
        there = 0
        self.skipped = 0
        for topic, blob in markers.items():
            size = self._sizes[blob]
            if found.get(topic) == b"%d" % size and (blob in self._mine or not failed):
                self.skipped += 0 if blob in self._mine else size
                there += size
                self._show(there, sum(self._sizes.values()))
                continue
            for number, data in enumerate(self._chunks(blob)):
                session.publish(topics.chunk(self.fleet, blob, number), data)
                self.sent += len(data)
                there += len(data)
                self._show(there, sum(self._sizes.values()))
            session.publish(topic, b"%d" % size)
            self._mine.add(blob)
        session.flush()
        last = _sequence(found.get(desired, b""))
        if not self.sequence:
            self.sequence = max(time.time_ns() // 1_000_000, last + 1)
        if last < self.sequence:
            session.publish(desired, self._desired())
            session.flush()

    def result(self) -> dict[str, Any]:
        manifest = self.pack.manifest
        return {
            "pack": self.id,
            "model": manifest.name,
            "version": manifest.version,
            "target": self.target,
            "sequence": self.sequence,
            "bytes_sent": self.sent,
            "bytes_skipped": self.skipped,
            "seconds": round(time.monotonic() - self.started, 3),
            "devices": self.devices,
        }

    def _has_failed(self, messages: dict[str, bytes]) -> bool:
        fleet = Fleet(self.fleet)
        for topic, payload in messages.items():
            fleet.take(topic, payload)
        updates = [device.update for device in fleet]
        return any(each.get("pack") == self.id and each["status"] == "FAILED" for each in updates)

    def _chunks(self, blob: str) -> Iterator[bytes]:
        if blob == self.id:
            data = self.pack.head.data
            yield from (data[i : i + topics.CHUNK] for i in range(0, len(data), topics.CHUNK))
            return
        part = next(part for part in self.pack.manifest.parts if part.sha256.hex() == blob)
        reader = self.pack.reader(part)
        while reader.left:
            yield reader.read(min(topics.CHUNK, reader.left))

    def _desired(self) -> bytes:
        manifest = self.pack.manifest
        size = self._sizes[self.id] + sum(part.size for part in manifest.parts)
        desired = topics.Desired(
            self.target, manifest.name, manifest.version, self.id, self._sizes[self.id], size, self.sequence
        )
        return desired.signed(self.signer, self._key.sign(desired.message())).to_json()


class Following:
    """Waits up to `seconds` for the devices addressed; says on stderr what they report, unless `quiet`.

    A group's devices are those that reported to be in it and are not away.
    """

    def __init__(self, push: Push, seconds: float, quiet: bool) -> None:
        self._push = push
        self._seconds = seconds
        self._deadline = 0.0
        self._quiet = quiet
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)

    def follow(self, session: Session) -> None:
        """Fill `push.devices` until each has ended its update or the time is over."""
        self._deadline = self._deadline or time.monotonic() + self._seconds
        kind, _, name = self._push.target.partition("/")
        fleet = Fleet(self._push.fleet)
        session.subscribe(fleet.topics(("state", "reported"), name if kind == "device" else "+"))
        known = time.monotonic() + SETTLE
        while (left := self._deadline - time.monotonic()) > 0:
            message = session.get(min(left, SETTLE))
            if message:
                fleet.take(message.topic, message.payload)
            if kind == "device":
                addressed = [name]
            else:
                addressed = [device.name for device in fleet.here() if name in device.groups]
            if self._look(fleet, addressed) and time.monotonic() > known:
                break
        self._say_what_is_missing()

    def _look(self, fleet: Fleet, addressed: list[str]) -> bool:
        """Note what the devices addressed report; whether all have ended or obey a later push."""
        for name in addressed:
            update = fleet[name].update
            last = self._push.devices.get(name, {})
            if _number(update) > self._push.sequence:
                update = {"status": OVERTAKEN, "reason": "it obeys a later push"}
            elif update.get("pack") != self._push.id or _number(update) < self._push.sequence:
                update = {"status": "UNKNOWN", "reason": self._silence(fleet[name])}
            elif update["status"] != last.get("status") and not self._quiet:
                text = f"{name}: {update['status']} {update.get('reason') or ''}".rstrip()
                self._console.print(text, markup=False)
            self._push.devices[name] = update
        return bool(addressed) and all(self._push.devices[name]["status"] in ENDED for name in addressed)

    def _silence(self, device: Device) -> str:
        if not device.state or device.state in AWAY:
            return "the device is not here"
        return f"the device has not obeyed: does it trust key {self._push.signer[:8].hex()}?"

    def _say_what_is_missing(self) -> None:
        if self._quiet:
            return
        if not self._push.devices:
            self._console.print(f"no device of {self._push.target} is here", markup=False)
        for name, update in self._push.devices.items():
            if update["status"] not in REPORTED:
                reason = update.get("reason") or f"not done after {self._seconds:g} seconds"
                self._console.print(f"{name}: {update['status']} {reason}", markup=False)


def _number(update: dict[str, Any]) -> int:
    """The sequence of the desired message that the update follows; 0 for none."""
    sequence = update.get("sequence")
    return sequence if isinstance(sequence, int) else 0


def _sequence(payload: bytes) -> int:
    """The sequence of the last desired message; 0 if there is none or it is of nobody trusted."""
    try:
        desired = topics.Desired.parse(payload)
        desired.check()
    except RegrowError:
        return 0
    return desired.sequence if desired.signer in keys.trusted_keys() else 0


def _group(name: str) -> str:
    return f"group/{topics.check_name(name, 'group')}"


def _progress() -> Progress:
    console = Console(file=sys.stderr)
    return Progress(
        TextColumn("push"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _show_bytes(bar: Progress) -> Callable[[int, int], None]:
    task = bar.add_task("push", total=None)
    return lambda there, total: bar.update(task, completed=there, total=total)
