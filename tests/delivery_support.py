"""What the delivery tests share: a real broker, small packs, and `regrow-device` as a process."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from regrow import topics
from regrow.pack import ROLE_SKELETON, ROLE_WEIGHTS, USE_LITERT, Head
from regrow_host import keys, skeletonfile, tflite
from regrow_host.encode import raw
from regrow_host.packing import NewPart, build_pack

DIGITS = Path(__file__).resolve().parents[1] / "demo"


class Mosquitto:
    """A mosquitto on a free port of this machine that keeps what it has over a kill -9."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
        assert program, "these tests need mosquitto: apt install mosquitto"
        self._program = program
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"mqtt://127.0.0.1:{self.port}"
        self._config = folder / "mosquitto.conf"
        self._config.write_text(
            f"listener {self.port} 127.0.0.1\nallow_anonymous true\nuser root\n"
            f"persistence true\npersistence_location {folder}/\n"
            "autosave_interval 1\nset_tcp_nodelay true\n"
        )
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [self._program, "-c", str(self._config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until(lambda: _listens(self.port), 10)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class Device:
    """A `regrow-device run` process."""

    def __init__(self, url: str, name: str, store: Path, trust: bytes, *options: str) -> None:
        self.name = name
        self.store = store
        self._log = store.with_suffix(".log")
        self._command = [
            sys.executable,
            "-W",
            "error",
            "-c",
            "from regrow.cli import main; raise SystemExit(main())",
        ]
        self._command += ["run", "--broker", url, "--id", name, "--store", str(store), "--trust", trust.hex()]
        self._command += ["--interval", "0.5", *options]
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(10)

    @property
    def log(self) -> str:
        return self._log.read_text()


class SlowLink:
    """A way to a broker: `down` bytes a second come from it, counted in `passed`, and `up` go there."""

    def __init__(self, port: int, down: float, up: float = 1e9) -> None:
        self._port = port
        self._down, self._up = down, up
        self.passed = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"mqtt://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._server.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._port))
                except OSError:
                    near.close()
                    continue
                threading.Thread(target=self._pump, args=(near, near, far, self._up), daemon=True).start()
                threading.Thread(target=self._pump, args=(near, far, near, self._down), daemon=True).start()

    def _pump(self, near: socket.socket, source: socket.socket, sink: socket.socket, rate: float) -> None:
        with suppress(OSError):
            while data := source.recv(8192):
                if source is not near:
                    self.passed += len(data)
                time.sleep(len(data) / rate)
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def digits_parts(filler: Iterable[int] = ()) -> list[NewPart]:
    """The demo's network for LiteRT with raw weights, and parts of random bytes that nothing reads."""
    data = (DIGITS / "digits.tflite").read_bytes()
    model = tflite.read(data)
    parts = [NewPart(ROLE_SKELETON, USE_LITERT, 0, skeletonfile.write(data))]
    for weights in tflite.weight_tensors(model):
        values = model.tensors[weights.tensor].data
        assert values is not None
        parts.append(NewPart(ROLE_WEIGHTS, USE_LITERT, weights.number, raw.encode(values)))
    for number, size in enumerate(filler):
        noise = random.Random(number).randbytes(size)
        parts.append(NewPart(ROLE_WEIGHTS, USE_LITERT, 1000 + number, noise))
    return parts


def make_pack(
    path: Path, key: Ed25519PrivateKey, version: int = 1, parts: list[NewPart] | None = None
) -> Head:
    return build_pack(path, "digits", version, digits_parts() if parts is None else parts, arena=0, key=key)


def desired_message(head: Head, key: Ed25519PrivateKey, target: str, sequence: int, **changes: Any) -> bytes:
    """A signed desired message for a pack."""
    manifest = head.verify()
    fields: dict[str, Any] = {
        "target": target,
        "model": manifest.name,
        "version": manifest.version,
        "pack": head.id.hex(),
        "head": len(head.data),
        "size": len(head.data) + sum(part.size for part in manifest.parts),
        "sequence": sequence,
    }
    desired = topics.Desired(**fields | changes)
    return desired.signed(keys.public_key(key), key.sign(desired.message())).to_json()


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait until the condition is true, and give its value; AssertionError when the time is over."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("what was waited for did not come")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
