"""Energy of the inferences: measured by a sensor where there is one, else estimated (docs/energy.md)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Protocol

POWERCAP = Path("/sys/class/powercap")
HWMON = Path("/sys/class/hwmon")
MODEL = Path("/proc/device-tree/model")

# Watts of one busy core over idle: (all cores busy - idle) / cores. Figures and sources: docs/energy.md.
# The first name that the board's model begins with counts.
CORE_WATTS = (
    ("Raspberry Pi 5", 1.5),
    ("Raspberry Pi 4", 0.85),
    ("Raspberry Pi 3 Model B Plus", 0.63),
    ("Raspberry Pi 3", 0.58),
    ("Raspberry Pi 2", 0.25),
    ("Raspberry Pi Zero 2", 0.55),
    ("Raspberry Pi Zero", 0.8),
)
OTHER_WATTS = 1.0


class Meter(Protocol):
    """A count of joules that only grows; `source` says where it comes from, as telemetry tells it."""

    source: str

    def joules(self) -> float: ...


class Rapl:
    """The energy counters of the processor packages (Intel and AMD), in microjoules, which wrap around."""

    def __init__(self, zones: list[Path]) -> None:
        self._files = [zone / "energy_uj" for zone in zones]
        self._ranges = [_number(zone / "max_energy_range_uj") for zone in zones]
        self._last = [_number(file) for file in self._files]
        self._total = 0
        self.source = "measured: RAPL, processor package"

    def joules(self) -> float:
        now = [_number(file) for file in self._files]
        for value, last, span in zip(now, self._last, self._ranges, strict=True):
            self._total += value - last if value >= last else value - last + span
        self._last = now
        return self._total / 1e6


class PowerSensor:
    """A hwmon power sensor (INA219, INA226, ...) in microwatts; power between two readings is their mean."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "power1_input"
        self._last = _number(self._file), time.monotonic()
        self._total = 0.0
        self.source = f"measured: {(folder / 'name').read_text().strip()} power sensor"

    def joules(self) -> float:
        power, now = _number(self._file), time.monotonic()
        last, then = self._last
        self._total += (power + last) / 2 * (now - then)
        self._last = power, now
        return self._total / 1e6


class CpuTime:
    """CPU seconds of this process times the watts that one busy core adds."""

    def __init__(self, board: str) -> None:
        name, self._watts = next(
            ((name, watts) for name, watts in CORE_WATTS if board.startswith(name)),
            ("generic", OTHER_WATTS),
        )
        self.source = f"estimated: {name} CPU-time model, {self._watts:g} W per busy core"

    def joules(self) -> float:
        return time.process_time() * self._watts


def meter(powercap: Path = POWERCAP, hwmon: Path = HWMON, model: Path = MODEL) -> Meter:
    """The best meter of this machine: a power sensor, RAPL, or the CPU-time model of the board."""
    for folder in sorted(hwmon.glob("hwmon*")):
        if _readable(folder / "power1_input") and _readable(folder / "name"):
            return PowerSensor(folder)
    zones = [zone for zone in sorted(powercap.glob("intel-rapl:*")) if zone.name.count(":") == 1]
    files = [zone / name for zone in zones for name in ("energy_uj", "max_energy_range_uj")]
    if zones and all(map(_readable, files)):
        return Rapl(zones)
    return CpuTime(model.read_text().rstrip("\0") if _readable(model) else "")


def _readable(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except OSError:
        return False


def _number(path: Path) -> int:
    return int(path.read_text())
