"""Packs over a real mosquitto to real devices: the way through, and every way it breaks."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from delivery_support import (
    DIGITS,
    Device,
    Mosquitto,
    SlowLink,
    desired_message,
    digits_parts,
    make_pack,
    until,
)
from regrow import topics
from regrow.agent import Agent
from regrow.broker import Broker
from regrow.pack import Head, open_pack
from regrow_host import cli, keys
from regrow_host.session import Session

SAMPLES = str(DIGITS / "digits_eval.npz")
Push = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    folder.mkdir()
    broker = Mosquitto(folder)
    yield broker
    broker.kill()


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ed25519PrivateKey:
    """This host's signing key."""
    monkeypatch.setenv("REGROW_HOME", str(tmp_path / "home"))
    return keys.signing_key()


@pytest.fixture
def device(mosquitto: Mosquitto, key: Ed25519PrivateKey, tmp_path: Path) -> Iterator[Device]:
    options = "--samples", SAMPLES, "--rate", "200", "--group", "desk"
    pi = Device(mosquitto.url, "pi", tmp_path / "pi", keys.public_key(key), *options)
    yield pi
    pi.kill()


@pytest.fixture
def push(mosquitto: Mosquitto, capsys: pytest.CaptureFixture[str]) -> Push:
    """Exit code and JSON of `regrow push`, by default to the device pi."""

    def run(pack: Path, *options: str) -> tuple[int, dict[str, Any]]:
        capsys.readouterr()
        options = options or ("--to", "pi", "--wait", "60")
        code = cli.main(["push", str(pack), "--broker", mosquitto.url, "--json", *options])
        out = capsys.readouterr().out
        return code, json.loads(out) if out else {}

    return run


def publish(url: str, topic: str, payload: bytes) -> None:
    with Session(Broker.parse(url)) as session:
        session.publish(topic, payload)
        session.flush()


def kept(url: str, what: str, device: str = "pi") -> bytes:
    """What the broker keeps of a device."""
    topic = topics.of_device("regrow", device, what)
    with Session(Broker.parse(url)) as session:
        return session.retained([topic]).get(topic, b"")


def reported(url: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(kept(url, "reported") or b"{}")
    return answer


def ended(url: str, head: Head) -> dict[str, Any]:
    """The device's report once the update to that pack has ended."""

    def look() -> dict[str, Any] | None:
        report = reported(url)
        update = report.get("update") or {}
        return (
            report
            if update.get("pack") == head.id.hex() and update["status"] in ("UPDATED", "FAILED")
            else None
        )

    answer: dict[str, Any] = until(look, 30)
    return answer


def telemetry(url: str) -> dict[str, Any]:
    """The next telemetry message of the device pi."""
    with Session(Broker.parse(url)) as session:
        session.subscribe([topics.of_device("regrow", "pi", "telemetry")])
        answer: dict[str, Any] = json.loads(until(lambda: session.get(1.0)).payload)
        return answer


def test_a_pack_reaches_a_device_and_runs(
    mosquitto: Mosquitto, key: Ed25519PrivateKey, device: Device, push: Push, tmp_path: Path
) -> None:
    head = make_pack(tmp_path / "d.rgp", key)
    size = (tmp_path / "d.rgp").stat().st_size
    code, result = push(tmp_path / "d.rgp")
    assert code == 0
    assert (result["bytes_sent"], result["bytes_skipped"]) == (size, 0)
    update = result["devices"]["pi"]
    assert update["status"] == "UPDATED"
    assert update["fetched"] == update["done"] == update["total"] == size - len(head.data)
    assert kept(mosquitto.url, "state") == b"ready"
    report = reported(mosquitto.url)
    assert (report["runtime"], report["version"], report["slot"]) == ("litert", 1, "A")

    figures = until(lambda: (f := telemetry(mosquitto.url)) and f["samples"] >= 100 and f)
    assert figures["model"] == "digits"
    assert figures["samples"] == figures["labelled"]
    assert figures["accuracy"] == pytest.approx(figures["correct"] / figures["labelled"], abs=1e-4)
    assert figures["accuracy"] > 0.9
    assert figures["memory"]["peak"] >= figures["memory"]["rss"] >= figures["memory"]["uss"] > 1e6
    assert figures["energy_mj"] >= 0
    assert figures["energy_source"].startswith(("measured: ", "estimated: "))

    assert device.stop() == 0
    assert kept(mosquitto.url, "state") == b"disconnected"


def test_a_new_version_travels_as_what_changed(
    key: Ed25519PrivateKey, device: Device, push: Push, tmp_path: Path
) -> None:
    make_pack(tmp_path / "1.rgp", key, 1)
    assert push(tmp_path / "1.rgp")[0] == 0
    parts = [*digits_parts(), *digits_parts([5000])[-1:]]
    head = make_pack(tmp_path / "2.rgp", key, 2, parts)
    code, result = push(tmp_path / "2.rgp", "--group", "desk", "--wait", "60")
    assert code == 0
    assert result["bytes_sent"] == 5000 + len(head.data)
    assert result["bytes_skipped"] == sum(len(part.data) for part in parts) - 5000
    assert result["devices"]["pi"]["fetched"] == 5000

    code, result = push(tmp_path / "2.rgp")
    assert code == 0
    assert result["bytes_sent"] == result["devices"]["pi"]["fetched"] == 0


def test_a_killed_device_goes_on_where_it_was(
    mosquitto: Mosquitto, key: Ed25519PrivateKey, push: Push, tmp_path: Path
) -> None:
    link = SlowLink(mosquitto.port, 400_000)
    pi = Device(link.url, "pi", tmp_path / "pi", keys.public_key(key))
    head = make_pack(tmp_path / "d.rgp", key, 1, digits_parts([100_000] * 10))
    size = (tmp_path / "d.rgp").stat().st_size
    assert push(tmp_path / "d.rgp", "--to", "pi")[0] == 0
    until(lambda: link.passed > size // 2)
    pi.kill()
    until(lambda: kept(mosquitto.url, "state") == b"lost")
    pi.start()
    update = ended(mosquitto.url, head)["update"]
    pi.kill()
    link.close()
    assert update["status"] == "UPDATED", update
    assert update["fetched"] == update["total"]
    assert link.passed < 1.15 * size, "parts that had arrived came again"


def test_a_killed_broker_loses_no_time(
    mosquitto: Mosquitto, key: Ed25519PrivateKey, push: Push, tmp_path: Path
) -> None:
    link = SlowLink(mosquitto.port, 400_000)
    pi = Device(link.url, "pi", tmp_path / "pi", keys.public_key(key))
    head = make_pack(tmp_path / "d.rgp", key, 1, digits_parts([100_000] * 10))
    size = (tmp_path / "d.rgp").stat().st_size
    database = tmp_path / "broker" / "mosquitto.db"
    pushed = SlowLink(mosquitto.port, 1e9, 200_000)

    results = []
    pushing = threading.Thread(
        target=lambda: results.append(push(tmp_path / "d.rgp", "--to", "pi", "--broker", pushed.url))
    )
    pushing.start()
    until(lambda: database.exists() and database.stat().st_size > size // 3)
    mosquitto.kill()
    assert not results, "the push was over too soon to be tested"
    time.sleep(1.0)
    mosquitto.start()
    pushing.join(60)
    code, result = results[0]
    assert code == 0
    assert size <= result["bytes_sent"] < 1.5 * size

    until(lambda: link.passed > size // 2)
    mosquitto.kill()
    time.sleep(0.5)
    mosquitto.start()
    update = ended(mosquitto.url, head)["update"]
    assert update["status"] == "UPDATED", update
    assert link.passed < 1.2 * size, "parts that had arrived came again"
    pi.kill()
    link.close()
    pushed.close()
    assert push(tmp_path / "d.rgp", "--to", "pi")[1]["bytes_sent"] == 0


def test_what_may_not_run_leaves_the_old_version(
    mosquitto: Mosquitto, key: Ed25519PrivateKey, device: Device, push: Push, tmp_path: Path
) -> None:
    url = mosquitto.url
    make_pack(tmp_path / "5.rgp", key, 5)
    assert push(tmp_path / "5.rgp")[0] == 0

    def refused(pack: str, reason: str) -> None:
        code, result = push(tmp_path / pack)
        assert code == 1
        update = result["devices"]["pi"]
        assert update["status"] == "FAILED"
        assert reason in update["reason"]
        assert "\n" not in update["reason"]
        assert reported(url)["version"] == 5

    make_pack(tmp_path / "4.rgp", key, 4)
    refused("4.rgp", "version 4 is below 5")

    probe = digits_parts()[0]._replace(role=4, data=b"\x01\x01\x01\x01" + bytes(40))
    make_pack(tmp_path / "6.rgp", key, 6, [*digits_parts(), probe])
    refused("6.rgp", "probe")

    # a pack of a stranger, desired by the trusted key
    stranger = Ed25519PrivateKey.generate()
    head = make_pack(tmp_path / "7.rgp", stranger, 7)
    assert push(tmp_path / "7.rgp")[0] == 1
    (tmp_path / "home" / "trusted").mkdir()
    (tmp_path / "home" / "trusted" / "s.pub").write_text(keys.public_key(stranger).hex())
    refused("7.rgp", "not trusted")

    # a chunk that somebody altered on the broker
    parts = [*digits_parts(), *digits_parts([5000])[-1:]]
    head = make_pack(tmp_path / "8.rgp", key, 8, parts)
    assert push(tmp_path / "8.rgp", "--to", "nobody")[0] == 0
    blob = head.verify().parts[-1].sha256.hex()
    publish(url, topics.chunk("regrow", blob, 1), b"\0" * 2048)
    refused("8.rgp", "damaged")
    assert push(tmp_path / "8.rgp")[0] == 0, "a push after a failure does not bring every chunk"


def test_only_newer_words_of_trusted_keys_are_obeyed(
    mosquitto: Mosquitto, key: Ed25519PrivateKey, device: Device, push: Push, tmp_path: Path
) -> None:
    url, topic = mosquitto.url, topics.desired("regrow", "device/pi")
    old = make_pack(tmp_path / "1.rgp", key, 1)
    new = make_pack(tmp_path / "2.rgp", key, 2)
    assert push(tmp_path / "1.rgp", "--to", "other")[0] == 0
    assert push(tmp_path / "2.rgp")[0] == 0
    sequence = reported(url)["update"]["sequence"]
    good = desired_message(old, key, "device/pi", sequence + 1)
    for ignored in (
        desired_message(old, key, "device/pi", sequence),
        desired_message(old, Ed25519PrivateKey.generate(), "device/pi", sequence + 2),
        desired_message(old, key, "device/other", sequence + 2),
        good.replace(b'"version": 1', b'"version": 3'),
        b"{}",
        b"\xff" * 100,
    ):
        publish(url, topic, ignored)
    time.sleep(1.0)
    report = reported(url)
    assert report["update"]["status"] == "UPDATED"
    assert report["update"]["sequence"] == sequence
    publish(url, topic, good)
    assert ended(url, old)["update"]["reason"] == "version 1 is below 2, which ran here already"
    assert reported(url)["pack"] == new.id.hex()


@pytest.mark.parametrize(
    ("option", "bytes_", "reason"),
    [("--storage-limit", "100000", "bytes of storage"), ("--memory-limit", "1000", "bytes of memory")],
)
def test_a_pack_that_is_too_big_is_refused_before_it_comes(  # noqa: PLR0917
    mosquitto: Mosquitto,
    key: Ed25519PrivateKey,
    push: Push,
    tmp_path: Path,
    option: str,
    bytes_: str,
    reason: str,
) -> None:
    pi = Device(mosquitto.url, "pi", tmp_path / "pi", keys.public_key(key), option, bytes_)
    make_pack(tmp_path / "d.rgp", key, 1, digits_parts([200_000]))
    code, result = push(tmp_path / "d.rgp")
    pi.kill()
    assert code == 1
    update = result["devices"]["pi"]
    assert update["status"] == "FAILED"
    assert reason in update["reason"]
    assert update["fetched"] < 10_000


def test_a_push_that_cannot_be_says_why(
    key: Ed25519PrivateKey, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(pack: Path, *options: str) -> str:
        start = time.monotonic()
        assert cli.main(["push", str(pack), "--broker", "mqtt://127.0.0.1:9", "--to", "pi", *options]) == 1
        assert time.monotonic() - start < 8
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    make_pack(tmp_path / "d.rgp", key)
    data = (tmp_path / "d.rgp").read_bytes()
    assert "cannot reach the broker mqtt://127.0.0.1:9" in fails(tmp_path / "d.rgp")
    (tmp_path / "cut.rgp").write_bytes(data[:-1])
    fails(tmp_path / "cut.rgp")
    (tmp_path / "bad.rgp").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "damaged" in fails(tmp_path / "bad.rgp")
    make_pack(tmp_path / "s.rgp", Ed25519PrivateKey.generate())
    assert "not trusted" in fails(tmp_path / "s.rgp")
    assert cli.main(["watch", "--broker", "mqtt://127.0.0.1:9"]) == 1
    assert capsys.readouterr().out == ""
    assert "fleet name" in fails(tmp_path / "d.rgp", "--fleet", "a/b")


def test_a_push_nobody_answers_ends_in_time_and_says_why(
    device: Device, key: Ed25519PrivateKey, push: Push, tmp_path: Path
) -> None:
    make_pack(tmp_path / "d.rgp", key)
    assert push(tmp_path / "d.rgp")[0] == 0
    assert cli.main(["keygen", "--out", str(tmp_path / "other.pem")]) == 0
    for to, option, reason in (
        ("nobody", (), "the device is not here"),
        ("pi", ("--key", str(tmp_path / "other.pem")), "does it trust key"),
    ):
        code, result = push(tmp_path / "d.rgp", "--to", to, "--wait", "1.5", *option)
        assert code == 1
        assert result["devices"][to]["status"] == "UNKNOWN"
        assert reason in result["devices"][to]["reason"]


def test_watch_and_status_show_the_fleet(  # noqa: PLR0917
    mosquitto: Mosquitto,
    key: Ed25519PrivateKey,
    device: Device,
    push: Push,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_pack(tmp_path / "d.rgp", key)
    assert push(tmp_path / "d.rgp")[0] == 0
    assert cli.main(["status", "--broker", mosquitto.url, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["devices"]
    assert (row["device"], row["state"], row["reported"]["version"]) == ("pi", "ready", 1)

    assert cli.main(["watch", "--broker", mosquitto.url, "--json", "--for", "2"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[-1]["telemetry"]["samples"] > 0

    publish(mosquitto.url, "regrow/device/[red]evil/state", b"\x1b[31m[bold]x")
    publish(mosquitto.url, "regrow/device/odd/reported", b'{"model": 1, "update": [], "groups": 5}')
    for columns in ("80", "120"):
        monkeypatch.setenv("COLUMNS", columns)
        assert cli.main(["watch", "--broker", mosquitto.url, "--for", "2"]) == 0
        table = capsys.readouterr().out
        for text in ("pi", "ready", "digits 1", "UPDATED", "[red]evil", "?[31m[bold]x", "energy estimated: "):
            assert text in table
        assert ["device", "state", "version", "accuracy", "latency", "memory", "energy"] in map(
            str.split, table.splitlines()
        )
        assert "…" not in table
        assert "\x1b" not in table


def test_an_agent_in_a_program_of_ones_own(
    mosquitto: Mosquitto, key: Ed25519PrivateKey, push: Push, tmp_path: Path
) -> None:
    make_pack(tmp_path / "d.rgp", key)
    names = []
    with Agent(
        mosquitto.url,
        "pi",
        store=tmp_path / "pi",
        trust=[keys.public_key(key)],
        on_network=lambda network: names.append(network.name),
    ) as agent:
        assert not agent.wait(0)
        assert push(tmp_path / "d.rgp")[0] == 0
        assert agent.wait(5)
        assert agent.network is not None
        assert np.asarray(agent.predict(np.zeros((8, 8, 1), np.float32), label=3)).shape == (10,)
    assert names == ["digits"]
    with open_pack(tmp_path / "pi" / "A") as pack:
        assert pack.manifest.version == 1
