"""The board's delivery against a real broker: the MicroPython unix port fetches, installs, resumes, reports.

The engine is a stand-in (`_ENGINE`), so that a network that fails can be made at will; the rest of
micropython/regrow is real.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from paho.mqtt.enums import CallbackAPIVersion
from regrow import topics
from regrow.pack import ROLE_GRAPH, ROLE_PROBE, ROLE_SKELETON, ROLE_WEIGHTS, Head, open_pack
from regrow_host import boardfiles
from regrow_host.packing import NewPart, build_pack
from regrow_host.samples import write_samples

BOARD = Path(__file__).resolve().parent.parent / "micropython"
MICROPYTHON = shutil.which("micropython", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")

_ENGINE = """
import gc
import sys
import time

__version__ = "0.1.0"


class Tensor:
    size = 10
    dtype = "int8"


class Network:
    inputs = outputs = [Tensor]

    def __init__(self, manifest, ballast):
        self.name, self.version, self.ballast = manifest.name, manifest.version, ballast

    def predict(self, x, out):
        out[:] = x
        time.sleep_us(20)

    def close(self):
        pass


def unload(name):
    del sys.modules[name]
    package, _, module = name.rpartition(".")
    if package in sys.modules:
        delattr(sys.modules[package], module)


def reserve(path):
    from .errors import PackError

    found = read(path)
    if found[1] == b"bad!":
        raise PackError("the graph is bad")
    if found[1] == b"slow":
        time.sleep(2)
    return found


def start(manifest, graph):
    ballast = [bytearray(100_000 if graph == b"huge" else 10)]
    while graph == b"full" and gc.mem_free() > 18_600:
        ballast = (ballast, bytearray(256))
        gc.collect()
    return Network(manifest, ballast)


def read(path):
    from .pack import open_pack

    pack = open_pack(path)
    for part in pack.manifest.parts:
        if part.use & 2:
            pack.verify(part)
    graph = pack.reader(pack.part(1, 2)).read(4)
    pack.close()
    return pack.manifest, graph
"""
_PROBE = """
from .errors import PackError


def run(network, reader):
    if reader.read(2) != b"ok":
        raise PackError("the network fails its probe")
"""


def wait_for(what: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What `what()` gives as soon as that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError("waited in vain")


class Broker:
    """A mosquitto on a free port that keeps retained messages over a crash and logs every subscription."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = folder / "mosquitto.log"
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\npersistence true\n"
            f"persistence_location {folder}/\nautosave_on_changes true\nautosave_interval 1\n"
            f"log_dest file {self.log}\nlog_type all\nuser {os.environ.get('USER', 'root')}\n"
        )
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen([str(MOSQUITTO), "-c", str(self._config)], stderr=subprocess.DEVNULL)
        wait_for(self._answers)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def asked(self) -> list[str]:
        """The chunks that boards subscribed to, `HASH/N`, in order."""
        return re.findall(r"^\d+: \t\S+/part/([0-9a-f]{64}/\d+) \(QoS", self.log.read_text(), re.MULTILINE)


class Host:
    """What `regrow push` does, and what a watcher sees of one device."""

    def __init__(self, broker: Broker, key: Ed25519PrivateKey, folder: Path) -> None:
        self.key = key
        self.folder = folder
        self.reports: list[dict[str, Any]] = []
        self.states: list[str] = []
        self.telemetry: list[dict[str, Any]] = []
        self.sequence = 0
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.client.reconnect_delay_set(1, 1)
        self.client.max_inflight_messages_set(1000)
        self.client.on_connect = lambda client, *_: client.subscribe("regrow/device/b1/#", 1)
        self.client.on_message = self._on_message
        self.client.connect("127.0.0.1", broker.port, 60)
        self.client.loop_start()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        what = message.topic.rsplit("/", 1)[1]
        if what == "state":
            self.states.append(message.payload.decode())
        elif what == "reported":
            self.reports.append(json.loads(message.payload))
        elif what == "telemetry":
            self.telemetry.append(json.loads(message.payload))

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def retain(self, topic: str, payload: bytes) -> None:
        wait_for(self.client.is_connected)
        self.client.publish(topic, payload, 1, True).wait_for_publish(10)

    def pack(self, version: int, weights: list[bytes], **changes: Any) -> Path:
        """A pack for boards; `changes`: graph, probe, arena, key."""
        path = self.folder / f"{version}.rgp"
        parts = [
            NewPart(ROLE_GRAPH, 2, 0, changes.get("graph", b"good" * 3)),
            NewPart(ROLE_SKELETON, 1, 0, b"only for a Pi"),
            *(NewPart(ROLE_WEIGHTS, 3, i, data) for i, data in enumerate(weights)),
            NewPart(ROLE_PROBE, 2, 0, changes.get("probe", b"ok")),
        ]
        build_pack(
            path, "digits", version, parts, arena=changes.get("arena", 5000), key=changes.get("key", self.key)
        )
        return path

    def push_parts(self, path: Path) -> Head:
        with open_pack(path) as pack:
            self.push_blob(pack.head.data, pack.head.id.hex())
            for part in pack.manifest.parts:
                self.push_blob(pack.reader(part).read(part.size), part.sha256.hex())
            return pack.head

    def push_blob(self, data: bytes, name: str) -> None:
        for number in range(topics.chunks(len(data))):
            chunk = data[number * topics.CHUNK : (number + 1) * topics.CHUNK]
            self.retain(topics.chunk("regrow", name, number), chunk)
        self.retain(topics.marker("regrow", name), str(len(data)).encode())

    def desire(self, path: Path, target: str = "device/b1", key: Ed25519PrivateKey | None = None) -> None:
        self.sequence += 1
        key = key or self.key
        with open_pack(path) as pack:
            head, manifest = pack.head, pack.manifest
        desired = topics.Desired(
            target,
            manifest.name,
            manifest.version,
            head.id.hex(),
            len(head.data),
            path.stat().st_size,
            self.sequence,
        )
        signed = desired.signed(key.public_key().public_bytes_raw(), key.sign(desired.message()))
        self.retain(topics.desired("regrow", target), signed.to_json())

    def push(self, path: Path, **how: Any) -> None:
        self.push_parts(path)
        self.desire(path, **how)

    def wait_for(self, status: str, version: int, seconds: float = 20.0) -> dict[str, Any]:
        """The next report of that status of that version."""

        def found() -> dict[str, Any] | None:
            for report in self.reports:
                update = report["update"]
                if update and (update["status"], update["version"]) == (status, version):
                    return report
            return None

        report: dict[str, Any] = wait_for(found, seconds)
        return report

    def statuses(self) -> list[str]:
        """Of the updates, without repetition."""
        words = [report["update"]["status"] for report in self.reports if report["update"]]
        return [word for i, word in enumerate(words) if i == 0 or word != words[i - 1]]


class Board:
    """The MicroPython unix port with 128 KB of heap and the stand-in engine."""

    def __init__(self, folder: Path, broker: Broker, key: Ed25519PrivateKey, compiled: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        package = folder / "lib" / "regrow"
        package.mkdir(parents=True)
        for module in (compiled / "regrow").iterdir():
            (package / module.name).symlink_to(module)
        shutil.copy(BOARD / "main.py", folder / "lib")  # the folder of main.py is searched first
        for name, text in (("__init__", _ENGINE), ("probe", _PROBE)):
            (package / f"{name}.mpy").unlink()
            (package / f"{name}.py").write_text(text)
        x = np.eye(10, dtype=np.int8)
        write_samples(folder / "samples.bin", x, np.array([*range(9), 0]))
        self.config: dict[str, Any] = {
            "broker": f"mqtt://127.0.0.1:{broker.port}",
            "id": "b1",
            "groups": ["kitchen"],
            "trust": [key.public_key().public_bytes_raw().hex()],
            "samples": "samples.bin",
            "rounds": 0,
            "interval": 0.3,
            "keepalive": 2,
        }

    def start(self, **config: Any) -> None:
        self.config |= config
        (self.folder / "config.json").write_text(json.dumps(self.config))
        environment = os.environ | {"MICROPYPATH": f"{self.folder / 'lib'}:.frozen"}
        with (self.folder / "board.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(MICROPYTHON), "-X", "heapsize=128k", "lib/main.py"],
                cwd=self.folder,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restarts(self) -> None:
        """Wait until it resets itself, which ends the process, and start it again."""
        assert self.process
        assert self.process.wait(20) == 0
        self.start()

    def blobs(self) -> set[str]:
        return {path.name for path in (self.folder / "store" / "parts").iterdir()}

    def log(self) -> str:
        return (self.folder / "board.log").read_text()


@pytest.fixture
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    (tmp_path / "broker").mkdir()
    broker = Broker(tmp_path / "broker")
    yield broker
    broker.kill()


@pytest.fixture
def host(broker: Broker, key: Ed25519PrivateKey, tmp_path: Path) -> Iterator[Host]:
    host = Host(broker, key, tmp_path)
    yield host
    host.stop()


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as boards get it."""
    folder = tmp_path_factory.mktemp("compiled")
    boardfiles.build(folder, "host")
    return folder


@pytest.fixture
def board(tmp_path: Path, broker: Broker, key: Ed25519PrivateKey, compiled: Path) -> Iterator[Board]:
    (tmp_path / "board").mkdir()
    board = Board(tmp_path / "board", broker, key, compiled)
    yield board
    board.kill()


def weights(seed: int, *sizes: int) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [rng.bytes(size) for size in sizes]


def test_update(host: Host, board: Board, broker: Broker) -> None:
    board.start()
    host.push(host.pack(1, weights(1, 5000, 2048, 1)))
    report = host.wait_for("UPDATED", 1)
    order = ["QUEUED", "DOWNLOADING", "DOWNLOADED", "VERIFIED", "UPDATING", "UPDATED"]
    assert host.statuses() == order
    assert host.states[:2] == ["init", "ready"]
    assert (report["runtime"], report["model"], report["version"], report["slot"]) == (
        "micropython",
        "digits",
        1,
        "A",
    )
    update = report["update"]
    assert update["done"] == update["total"] == update["fetched"] == 5000 + 2048 + 1 + 12 + 2
    assert len(broker.asked()) == len(set(broker.asked()))
    figures = wait_for(lambda: [t for t in host.telemetry if t["samples"] >= 20])[-1]
    assert figures["accuracy"] == pytest.approx(0.9, abs=0.05)
    assert figures["version"] == 1
    assert 0.02 <= figures["latency_ms"] < 1000
    assert figures["energy_mj"] > 0
    assert figures["energy_source"].startswith("estimated: ")
    assert 0 < figures["memory"]["used"] <= figures["memory"]["peak"] < 128 * 1024
    assert abs(figures["time"] - time.time()) < 60


def test_a_board_restarts_for_an_update(host: Host, board: Board, broker: Broker) -> None:
    """It installs the version at the next start and tells the fleet what a board tells that goes on."""
    board.start(restart=True)
    for version, name in ((1, "A"), (2, "B")):
        host.push(host.pack(version, weights(version, 3000)))
        board.restarts()
        report = host.wait_for("UPDATED", version)
        assert (report["version"], report["slot"]) == (version, name)
        assert host.statuses()[-2:] == ["UPDATING", "UPDATED"]
        wait_for(lambda: host.states[-3:] == ["sleeping", "init", "ready"])
    host.push(host.pack(3, weights(3, 3000), graph=b"bad!"))
    board.restarts()  # to install it
    board.restarts()  # to run the one before again
    reason = host.wait_for("FAILED", 3)["update"]["reason"]
    assert "the graph is bad" in reason
    wait_for(lambda: host.reports[-1]["version"] == 2)
    assert len(broker.asked()) == len(set(broker.asked()))


def test_only_missing_parts_are_fetched_and_old_ones_go(host: Host, board: Board, broker: Broker) -> None:
    board.start()
    first, second, third = weights(2, 4000, 4000, 4000)
    host.push(host.pack(1, [first, second]))
    host.wait_for("UPDATED", 1)
    before = len(broker.asked())
    host.push(host.pack(2, [first, third]), target="group/kitchen")
    update = host.wait_for("UPDATED", 2)["update"]
    assert update["fetched"] == 4000
    assert update["total"] == 8000 + 12 + 2
    assert len(broker.asked()) == before + 1 + 2  # the head and two chunks
    host.push(host.pack(3, [third]))
    host.wait_for("UPDATED", 3)
    # A holds 3, B holds 2: first, third, graph, probe
    wait_for(lambda: len(board.blobs()) == 4)


@pytest.mark.parametrize("moment", [0.3, 0.8])
def test_board_killed_while_downloading(host: Host, board: Board, broker: Broker, moment: float) -> None:
    path = host.pack(1, weights(3, *[10_000] * 12))
    host.push(path)
    board.start()
    wait_for(lambda: len(broker.asked()) > 60 * moment)
    board.kill()
    killed = len(broker.asked())
    board.start()
    update = host.wait_for("UPDATED", 1)["update"]
    assert update["done"] == update["total"] == update["fetched"] == 120_000 + 12 + 2
    asked = broker.asked()
    assert killed < len(asked)
    again = [chunk for chunk in set(asked) if asked.count(chunk) > 1]
    assert len(again) <= 1  # the one on its way when the board died


def test_broker_killed_while_downloading(host: Host, board: Board, broker: Broker) -> None:
    host.push(host.pack(1, weights(4, *[10_000] * 12)))
    time.sleep(1.5)  # the broker saves every second
    board.start()
    wait_for(lambda: len(broker.asked()) > 30)
    broker.kill()
    time.sleep(0.5)
    broker.start()
    update = host.wait_for("UPDATED", 1)["update"]
    assert update["fetched"] == update["total"]
    asked = broker.asked()
    assert len([chunk for chunk in set(asked) if asked.count(chunk) > 1]) <= 1
    samples = host.telemetry[-1]["samples"] if host.telemetry else 0
    wait_for(lambda: host.telemetry and host.telemetry[-1]["samples"] > samples)


def test_broker_that_stops_answering(host: Host, board: Board, broker: Broker) -> None:
    board.start()
    host.push(host.pack(1, weights(5, 3000)))
    host.wait_for("UPDATED", 1)
    wait_for(lambda: host.telemetry)
    os.kill(broker.process.pid, signal.SIGSTOP)
    try:
        wait_for(lambda: "does not answer any more" in board.log(), 8)
        assert board.process
        assert board.process.poll() is None
    finally:
        os.kill(broker.process.pid, signal.SIGCONT)
    seen = len(host.telemetry)
    samples = host.telemetry[-1]["samples"]
    wait_for(lambda: len(host.telemetry) > seen + 2)
    assert host.telemetry[-1]["samples"] > samples + 100  # it went on classifying without the broker


def test_tampered_chunk_is_fetched_once_more_then_fails(host: Host, board: Board, broker: Broker) -> None:
    board.start()
    host.push(host.pack(1, weights(6, 3000)))
    host.wait_for("UPDATED", 1)
    path = host.pack(2, weights(7, 5000))
    with open_pack(path) as pack:
        name = next(part for part in pack.manifest.parts if part.size == 5000).sha256.hex()
    host.push_parts(path)
    host.retain(topics.chunk("regrow", name, 1), bytes(2048))
    host.desire(path)
    report = host.wait_for("FAILED", 2)
    assert f"the part {name[:12]} on the broker is damaged" in report["update"]["reason"]
    assert report["version"] == 1
    assert broker.asked().count(f"{name}/1") == 2
    assert f"{name}.tmp" not in board.blobs()


@pytest.mark.parametrize("size", [0, 100, 2047, 2049, 9000])
def test_chunk_of_wrong_size(host: Host, board: Board, size: int) -> None:
    board.start()
    path = host.pack(1, weights(8, 5000))
    with open_pack(path) as pack:
        name = next(part for part in pack.manifest.parts if part.size == 5000).sha256.hex()
    host.push_parts(path)
    host.client.publish(topics.chunk("regrow", name, 1), bytes(size) or b"x", 1, True).wait_for_publish(5)
    host.desire(path)
    assert "damaged" in host.wait_for("FAILED", 1)["update"]["reason"]
    host.push(host.pack(2, weights(9, 5000)))
    host.wait_for("UPDATED", 2)


def test_unknown_signers(host: Host, board: Board) -> None:
    stranger = Ed25519PrivateKey.generate()
    board.start()
    wait_for(lambda: host.reports)
    path = host.pack(1, weights(10, 100))
    host.push(path, key=stranger)
    wait_for(lambda: "not trusted here" in board.log())
    assert host.statuses() == []  # ignored
    foreign = host.pack(2, weights(10, 100), key=stranger)
    host.push(foreign)
    report = host.wait_for("FAILED", 2)
    assert "which is not trusted here" in report["update"]["reason"]
    assert report["version"] is None


def test_desired_with_a_wrong_signature_or_target(host: Host, board: Board) -> None:
    board.start()
    path = host.pack(1, weights(11, 100))
    host.push(path, target="device/other")
    wait_for(lambda: host.reports)
    topic = topics.desired("regrow", "device/b1")
    messages: list[mqtt.MQTTMessage] = []
    host.client.message_callback_add("regrow/device/other/desired", lambda *args: messages.append(args[2]))
    host.client.subscribe("regrow/device/other/desired")
    payload = wait_for(lambda: messages)[0].payload
    bad = [
        payload,
        payload.replace(b"device/other", b"device/b1"),
        b"{",
        b"[" * 1500,
        b"\xff\x00",
        b'{"target": 1}',
        json.dumps(json.loads(payload) | {"version": True}).encode(),
    ]
    for count, message in enumerate(bad, 1):
        host.retain(topic, message)
        wait_for(partial(_ignored, board, count))
    host.retain(topic, b"x" * 5000)  # the client skips it
    host.desire(path)
    host.wait_for("UPDATED", 1)
    assert host.statuses()[0] == "QUEUED"


def _ignored(board: Board, count: int) -> bool:
    return board.log().count("ignored") == count


@pytest.mark.parametrize(
    ("changes", "config", "reason"),
    [
        ({"arena": 300_000}, {}, r"the network needs 300000 bytes of heap and \d+ are free"),
        ({"graph": b"huge"}, {}, r"the network needs more heap than the \d+ bytes free"),
        ({"graph": b"bad!"}, {}, "the graph is bad"),
        ({"probe": b"no"}, {}, "the network fails its probe"),
        ({}, {"storage_limit": 9000}, r"the update needs \d+ bytes of storage and \d+ are free"),
    ],
)
def test_failed_update_keeps_the_old_version(
    host: Host, board: Board, changes: dict[str, Any], config: dict[str, Any], reason: str
) -> None:
    board.start(**config)
    host.push(host.pack(1, weights(12, 3000)))
    host.wait_for("UPDATED", 1)
    host.push(host.pack(2, weights(13, 8000), **changes))
    report = host.wait_for("FAILED", 2)
    assert re.search(reason, report["update"]["reason"])
    assert (report["version"], report["slot"]) == (1, "A")
    seen = len(host.telemetry)
    wait_for(lambda: len(host.telemetry) > seen + 1)
    assert host.telemetry[-1]["version"] == 1
    host.reports.clear()
    board.kill()
    board.start()  # and over a restart
    assert host.wait_for("FAILED", 2)["version"] == 1


def test_network_rests_where_a_signature_needs_its_heap(host: Host, board: Board) -> None:
    board.start()
    host.push(host.pack(1, weights(19, 3000), graph=b"full"))
    host.wait_for("UPDATED", 1)
    wait_for(lambda: host.telemetry and host.telemetry[-1]["memory"]["free"] < 16_000)
    host.push(host.pack(2, weights(20, 3000), graph=b"bad!"))
    assert host.wait_for("FAILED", 2)["version"] == 1  # the old one runs again
    host.push(host.pack(3, weights(20, 3000)))
    assert host.wait_for("UPDATED", 3)["version"] == 3


def test_board_sleeps_while_it_installs(host: Host, board: Board) -> None:
    """It gives the client's heap to the installation, comes back by itself, and after kills in between."""
    board.start()
    host.push(host.pack(1, weights(22, 3000), graph=b"slow"))
    wait_for(lambda: host.states[-1:] == ["sleeping"])
    report = host.wait_for("UPDATED", 1)
    assert (report["version"], report["update"]["fetched"]) == (1, 3000 + 4 + 2)
    wait_for(lambda: host.states[-1:] == ["ready"])
    assert "lost" not in host.states
    for kills, status, version in ((1, "UPDATED", 2), (2, "FAILED", 3)):
        host.push(host.pack(version, weights(22 + version, 3000), graph=b"slow"))
        for _ in range(kills):
            wait_for(lambda: host.states[-1:] == ["sleeping"])
            host.states.clear()
            board.kill()
            board.start()
        report = host.wait_for(status, version)
        assert report["version"] == 2
    assert "went down twice" in report["update"]["reason"]


def test_version_below_the_highest_is_refused(host: Host, board: Board) -> None:
    board.start()
    host.push(host.pack(5, weights(14, 100)))
    host.wait_for("UPDATED", 5)
    host.push(host.pack(4, weights(14, 100)))
    assert "version 4 is below 5" in host.wait_for("FAILED", 4)["update"]["reason"]


def test_active_slot_that_does_not_load_gives_way(host: Host, board: Board) -> None:
    board.start()
    host.push(host.pack(1, weights(15, 3000)))
    host.wait_for("UPDATED", 1)
    host.push(host.pack(2, weights(16, 3000)))
    host.wait_for("UPDATED", 2)
    board.kill()
    (board.folder / "store" / "B" / "head").write_bytes(b"RGP1 cut short")
    host.reports.clear()
    board.start()
    wait_for(lambda: host.reports and host.reports[0]["version"] == 1)
    wait_for(lambda: "alert" in host.states)
    host.wait_for("UPDATED", 2)  # and is mended


def test_update_record_lost_between_removal_and_rename(host: Host, board: Board) -> None:
    """As on FAT, where the old file is removed before the new one takes its name."""
    board.start()
    host.push(host.pack(1, weights(17, 3000)))
    host.wait_for("UPDATED", 1)
    board.kill()
    for name in ("active", "update"):
        (board.folder / "store" / name).rename(board.folder / "store" / f"{name}.new")
    host.reports.clear()
    board.start()
    report = host.wait_for("UPDATED", 1)
    assert report["version"] == 1
    assert report["update"]["fetched"] == 3000 + 12 + 2


def test_desired_taken_back(host: Host, board: Board) -> None:
    board.start()
    path = host.pack(1, weights(18, 3000))
    host.desire(path)  # its parts are not on the broker
    host.wait_for("DOWNLOADING", 1)
    host.retain(topics.desired("regrow", "device/b1"), b"")
    assert "taken back" in host.wait_for("FAILED", 1)["update"]["reason"]


def test_last_will(host: Host, board: Board) -> None:
    board.start()
    wait_for(lambda: host.states[-1:] == ["ready"])
    board.kill()
    wait_for(lambda: host.states[-1:] == ["lost"])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"broker": "localhost"}, "must be given as mqtt://"),
        ({"id": "a/b"}, "must be 1 to 64"),
        ({"trust": []}, "needs trust"),
        ({"trust": ["12"]}, "64 hex digits"),
    ],
)
def test_bad_config(board: Board, config: dict[str, Any], message: str) -> None:
    board.start(**config)
    assert board.process
    assert board.process.wait(10) != 0
    assert message in board.log()


def test_tls(host: Host, board: Board, broker: Broker, tmp_path: Path) -> None:
    """mqtts with a certificate that the board knows; a broker with another one is refused."""
    for name in ("good", "bad"):
        _write_certificate(tmp_path, name)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    broker.kill()
    config = broker._config.read_text()
    tls = f"listener {port} 127.0.0.1\ncertfile {tmp_path}/good.pem\nkeyfile {tmp_path}/good.key\n"
    broker._config.write_text(f"{config}{tls}allow_anonymous true\n")
    broker.start()
    board.start(broker=f"mqtts://localhost:{port}", ca=str(tmp_path / "bad.der"))
    wait_for(lambda: "broke (" in board.log())
    assert not host.states
    board.kill()
    board.start(ca=str(tmp_path / "good.der"))
    host.push(host.pack(1, weights(21, 9000)))
    host.wait_for("UPDATED", 1)


def _write_certificate(folder: Path, name: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / f"{name}.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / f"{name}.der").write_bytes(certificate.public_bytes(Encoding.DER))
    (folder / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


# The client alone


def run_client(script: str, *arguments: object, timeout: float = 90.0, heap: str = "96k") -> str:
    """Run a script on MicroPython; its output."""
    result = subprocess.run(
        [str(MICROPYTHON), "-X", f"heapsize={heap}", "-c", script, *map(str, arguments)],
        env=os.environ | {"MICROPYPATH": f"{BOARD}:.frozen"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return result.stdout + result.stderr


CONNECT = """
import sys, time
from regrow.errors import DeliveryError
from regrow.mqtt import Client

got = []
client = Client(
    "127.0.0.1", int(sys.argv[1]), "b1", keepalive=2,
    on_message=lambda topic, payload, retained: got.append(
        (bytes(topic), None if payload is None else (len(payload), sum(payload)), bool(retained))
    ),
)


def connect():
    client.connect("t/will", b"lost")
    while not client.connected:
        client.poll(100)


def tell(action):
    start = time.ticks_ms()
    try:
        action()
        print("fine")
    except DeliveryError as error:
        print(error, "|", "closed" if client.closed else "open")
    print("seconds", time.ticks_diff(time.ticks_ms(), start) / 1000)


def listen():
    while True:
        client.poll(100)
"""


class FakeBroker:
    """Accepts one client, answers its CONNECT, then does `talk(connection)`."""

    def __init__(self, talk: Callable[[socket.socket], None], greeting: bytes = b"\x20\x02\x00\x00") -> None:
        self._talk, self._greeting = talk, greeting
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        connection, _ = self.listener.accept()
        with connection, self.listener:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.recv(4096)
            connection.sendall(self._greeting)
            with suppress(OSError):  # the client left
                self._talk(connection)


def publish_packet(topic: bytes, payload: bytes, flags: int = 0, packet_id: bytes = b"") -> bytes:
    body = len(topic).to_bytes(2, "big") + topic + packet_id + payload
    size, length = len(body), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([0x30 | flags]) + length + bytes([size]) + body


def test_more_publishes_than_packet_ids(broker: Broker, host: Host) -> None:
    counts = []
    host.client.message_callback_add("t/count", lambda *_: counts.append(1))
    host.client.subscribe("t/count", 0)
    script = CONNECT + (
        "connect()\n"
        "for i in range(70000):\n"
        "    client.publish('t/count', b'x', False, 1)\n"
        "client.disconnect()\nprint('done')\n"
    )
    broker.kill()
    log = broker._config.read_text().replace("log_type all", "log_type error")
    broker._config.write_text(log.replace("persistence true", "persistence false"))
    broker.start()
    assert run_client(script, broker.port) == "done\n"


def test_messages_in_pieces_too_long_and_in_a_row() -> None:
    messages = [
        publish_packet(b"t/a", b"\x01" * 2048),
        publish_packet(b"t/b", bytes(100_000), 1),
        publish_packet(b"t/c", b"", 2, b"\x12\x34"),
        publish_packet(b"t/d", b"\x02" * 2294),
        publish_packet(b"t/e", bytes(3000), 2, b"\x56\x78"),
        publish_packet(b"t/f", b"\x05"),
    ]
    answers = []

    def talk(connection: socket.socket) -> None:
        data = b"".join(messages)
        connection.sendall(data)
        for byte in data[:3000]:
            connection.sendall(bytes([byte]))
        connection.sendall(data[3000:])
        connection.settimeout(2)
        while data := connection.recv(100):
            answers.append(data)

    fake = FakeBroker(talk)
    output = run_client(
        CONNECT + "connect()\nwhile len(got) < 12:\n    client.poll(100)\nprint(got)", fake.port
    )
    once = [
        (b"t/a", (2048, 2048), False),
        (b"t/b", None, True),
        (b"t/c", (0, 0), False),
        (b"t/d", (2294, 4588), False),
        (b"t/e", None, False),
        (b"t/f", (1, 5), False),
    ]
    assert output.strip() == repr(once * 2)
    fake.thread.join(5)
    assert b"".join(answers) == b"\x40\x02\x12\x34\x40\x02\x56\x78" * 2


@pytest.mark.parametrize(
    "packet",
    [
        b"\x30\xff\xff\xff\xff\x01",
        b"\x30\x01\x00",
        b"\x30\x03\x00\x09a",
        b"\x32\x03\x00\x01a",
        b"\x36\x05\x00\x01a\x00\x01",
        b"\x34\x05\x00\x01a\x00\x01",
        b"\x00\x00",
        b"\x10\x00",
        b"\x20\x02\x00\x00",
        b"\x40\x01\x00",
        b"\x90\x02\x00\x01",
        b"\xd0\x01\x00",
        b"\xf0\x00",
        publish_packet(bytes(2000), b""),
        publish_packet(bytes(2000), bytes(3000)),
    ],
)
def test_malformed_packets(packet: bytes) -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(packet)
        connection.recv(10)

    fake = FakeBroker(talk)
    output = run_client(CONNECT + "connect()\ntell(listen)", fake.port)
    assert output.startswith("the broker sent a malformed packet")
    assert "| closed" in output
    assert seconds(output) < 1


@pytest.mark.parametrize(
    ("greeting", "message"),
    [
        (b"\x20\x02\x00\x05", "the broker refuses the connection: not authorized"),
        (b"\x20\x02\x00\xff", "the broker refuses the connection: 255"),
        (b"\x20\x01\x00", "malformed"),
        (b"\xd0\x00", "malformed"),
        (b"", "closed by the broker"),
    ],
)
def test_bad_greetings(greeting: bytes, message: str) -> None:
    fake = FakeBroker(lambda connection: None, greeting)
    assert message in run_client(CONNECT + "tell(connect)", fake.port)


def test_broker_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    output = run_client(CONNECT + "tell(connect)\ntell(connect)", port)
    assert output.count("| closed") == 2
    assert "127.0.0.1" in output


def silent(connection: socket.socket) -> None:
    time.sleep(8)


def test_silent_broker_is_noticed() -> None:
    fake = FakeBroker(silent)
    output = run_client(CONNECT + "connect()\ntell(listen)", fake.port)
    assert "the broker does not answer any more | closed" in output
    assert 2 < seconds(output) < 4


def test_half_a_packet_is_noticed() -> None:
    def talk(connection: socket.socket) -> None:
        connection.sendall(publish_packet(b"t/a", bytes(500))[:300])
        silent(connection)

    output = run_client(CONNECT + "connect()\ntell(listen)", FakeBroker(talk).port)
    assert "does not answer any more" in output
    assert seconds(output) < 4


def test_broker_that_never_acknowledges() -> None:
    def talk(connection: socket.socket) -> None:
        while connection.recv(4096):
            connection.sendall(b"\xd0\x00")  # only PINGRESP

    publish = "def publish():\n    for _ in range(2):\n        client.publish('t/a', b'x', False, 1)\n"
    output = run_client(CONNECT + publish + "connect()\ntell(publish)", FakeBroker(talk).port)
    assert "does not answer any more" in output
    assert seconds(output) < 3


def test_broker_that_does_not_read() -> None:
    """Packets go out whole though the socket takes them in parts; a full socket is noticed."""
    publish = "def publish():\n    while True:\n        client.publish('t/a', bytes(1200))\n"
    output = run_client(CONNECT + publish + "connect()\ntell(publish)", FakeBroker(silent).port)
    assert "the broker takes no more data | closed" in output
    assert seconds(output) < 6


def test_slow_broker_gets_whole_packets() -> None:
    received = bytearray()

    def talk(connection: socket.socket) -> None:
        time.sleep(1)
        while data := connection.recv(65536):
            received.extend(data)

    fake = FakeBroker(talk)
    script = "connect()\nfor i in range(8000):\n    client.publish('t', bytes(1000))\nclient.disconnect()"
    assert run_client(CONNECT + script, fake.port) == ""
    fake.thread.join(5)
    assert bytes(received) == publish_packet(b"t", bytes(1000)) * 8000 + b"\xe0\x00"


def test_message_longer_than_the_buffer() -> None:
    script = "connect()\nfor size in (1300, 1):\n    tell(lambda: client.publish('t/a', bytes(size)))"
    lines = run_client(CONNECT + script, FakeBroker(silent).port).splitlines()
    assert lines[0] == "a message of 1305 bytes is longer than the buffer for it | open"
    assert lines[2] == "fine"


def test_receiving_allocates_nothing_but_the_views() -> None:
    message = publish_packet(b"t/a", bytes(2000))

    def talk(connection: socket.socket) -> None:
        connection.sendall(message * 200)
        silent(connection)

    script = """
import gc
client.on_message = lambda topic, payload, retained: None
connect()
time.sleep(0.3)
client.poll(100)
gc.collect()
gc.disable()
before = gc.mem_alloc()
for i in range(100):
    client.poll(100)
print((gc.mem_alloc() - before) // 100)
"""
    assert int(run_client(CONNECT + script, FakeBroker(talk).port)) < 400


def seconds(output: str) -> float:
    return float(output.rpartition("seconds ")[2])


def test_modules_are_cheap_to_import(tmp_path: Path) -> None:
    """In bytes of the 64-bit port's heap, compiled as boards get them; a 32-bit board needs about half."""
    boardfiles.build(tmp_path, "host")
    script = f"""
import gc, sys
sys.path[:] = ["{tmp_path}"]
import regrow.pack
for name in ("topics", "fetch", "energy", "mqtt", "store", "telemetry", "update", "link", "agent"):
    gc.collect()
    before = gc.mem_alloc()
    __import__("regrow." + name)
    gc.collect()
    print(name, gc.mem_alloc() - before)
"""
    output = run_client(script, heap="128k").split()
    cost = {name: int(size) for name, size in zip(output[::2], output[1::2], strict=True)}
    print(cost)
    assert cost["agent"] < 3 * 1024  # what stays while a version is installed
    assert sum(cost.values()) < 44 * 1024
