"""Telemetry and energy: what is counted, and where it says it comes from."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from regrow import energy
from regrow.telemetry import Telemetry


class Fixed:
    source = "measured: a test"

    def joules(self) -> float:
        return 0.0


def test_means_over_what_was_counted() -> None:
    telemetry = Telemetry(Fixed())
    telemetry.start("kws", 7)
    for correct in (True, True, False, None):
        telemetry.add(0.010, 0.002, correct)
    message = telemetry.message()
    assert (message["model"], message["version"]) == ("kws", 7)
    assert (message["samples"], message["labelled"], message["correct"]) == (4, 3, 2)
    assert message["accuracy"] == pytest.approx(2 / 3, abs=1e-4)
    assert message["latency_ms"] == pytest.approx(10)
    assert message["energy_mj"] == pytest.approx(2)
    assert message["energy_source"] == "measured: a test"
    assert message["memory"]["peak"] >= message["memory"]["uss"] > 0
    assert abs(message["time"] - time.time()) < 5


def test_a_new_version_counts_from_zero() -> None:
    telemetry = Telemetry(Fixed())
    telemetry.add(1.0, 1.0, True)
    telemetry.start("kws", 8)
    message = telemetry.message()
    assert message["samples"] == message["labelled"] == 0
    assert message["accuracy"] is message["latency_ms"] is message["energy_mj"] is None


def rapl(folder: Path, name: str, microjoules: int, span: int = 1000) -> Path:
    zone = folder / name
    zone.mkdir(parents=True, exist_ok=True)
    (zone / "energy_uj").write_text(f"{microjoules}\n")
    (zone / "max_energy_range_uj").write_text(f"{span}\n")
    return zone


def test_rapl_adds_packages_and_wraps_around(tmp_path: Path) -> None:
    zones = [rapl(tmp_path, "intel-rapl:0", 900), rapl(tmp_path, "intel-rapl:1", 10)]
    rapl(tmp_path, "intel-rapl:0:0", 5)  # a core domain, which its package contains
    meter = energy.meter(tmp_path, tmp_path / "none", tmp_path / "none")
    assert meter.source == "measured: RAPL, processor package"
    start = meter.joules()
    (zones[0] / "energy_uj").write_text("100")
    (zones[1] / "energy_uj").write_text("60")
    assert meter.joules() - start == pytest.approx((200 + 50) / 1e6)
    (zones[0] / "energy_uj").write_text("150")
    assert meter.joules() - start == pytest.approx((250 + 50) / 1e6)


def test_a_power_sensor_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sensor = tmp_path / "hwmon" / "hwmon2"
    sensor.mkdir(parents=True)
    (tmp_path / "hwmon" / "hwmon0").mkdir()
    (sensor / "name").write_text("ina219\n")
    (sensor / "power1_input").write_text("2000000\n")
    rapl(tmp_path / "powercap", "intel-rapl:0", 1)
    clock = iter((100.0, 100.0, 100.5))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    meter = energy.meter(tmp_path / "powercap", tmp_path / "hwmon", tmp_path / "none")
    assert meter.source == "measured: ina219 power sensor"
    start = meter.joules()
    (sensor / "power1_input").write_text("4000000\n")
    assert meter.joules() - start == pytest.approx(3.0 * 0.5)


@pytest.mark.parametrize(
    ("board", "name", "watts"),
    [
        ("Raspberry Pi 4 Model B Rev 1.4\0", "Raspberry Pi 4", 0.85),
        ("Raspberry Pi 3 Model B Plus Rev 1.3\0", "Raspberry Pi 3 Model B Plus", 0.63),
        ("Raspberry Pi Zero 2 W Rev 1.0\0", "Raspberry Pi Zero 2", 0.55),
        ("Raspberry Pi Zero W Rev 1.1\0", "Raspberry Pi Zero", 0.8),
        ("Banana\0", "generic", 1.0),
    ],
)
def test_the_estimate_is_cpu_time_by_board(tmp_path: Path, board: str, name: str, watts: float) -> None:
    (tmp_path / "model").write_text(board)
    meter = energy.meter(tmp_path / "none", tmp_path / "none", tmp_path / "model")
    assert meter.source == f"estimated: {name} CPU-time model, {watts:g} W per busy core"
    cpu, start = time.process_time(), meter.joules()
    while time.process_time() - cpu < 0.05:
        pass
    assert meter.joules() - start == pytest.approx(0.05 * watts, rel=0.2)


def test_a_machine_that_shows_nothing_is_estimated(tmp_path: Path) -> None:
    assert energy.meter(tmp_path, tmp_path, tmp_path / "no").source.startswith("estimated: generic")
