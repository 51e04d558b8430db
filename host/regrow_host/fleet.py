"""What the devices of a fleet say of themselves, as the broker's messages tell it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from regrow import topics
from rich.table import Table
from rich.text import Text

KINDS = ("state", "reported", "telemetry")
AWAY = ("lost", "disconnected")
STYLES = {"ready": "green", "lost": "red", "alert": "red", "UPDATED": "green", "FAILED": "red"}


@dataclass
class Device:
    """The last word of a device on each topic; empty where it said nothing."""

    name: str
    state: str = ""
    reported: dict[str, Any] = field(default_factory=dict)
    telemetry: dict[str, Any] = field(default_factory=dict)

    @property
    def groups(self) -> list[str]:
        groups = self.reported.get("groups")
        return groups if isinstance(groups, list) else []

    @property
    def update(self) -> dict[str, Any]:
        update = self.reported.get("update")
        return update if isinstance(update, dict) and isinstance(update.get("status"), str) else {}

    def to_json(self) -> dict[str, Any]:
        names = {"device": self.name, "state": self.state}
        return names | {"reported": self.reported, "telemetry": self.telemetry}


class Fleet:
    """The devices of a fleet by name; messages that break the format are passed over."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._devices: dict[str, Device] = {}

    def __getitem__(self, name: str) -> Device:
        return self._devices.get(name) or Device(name)

    def __iter__(self) -> Iterator[Device]:
        return iter(sorted(self._devices.values(), key=lambda device: device.name))

    def here(self) -> list[Device]:
        """The devices that are not away."""
        return [device for device in self if device.state not in AWAY]

    def topics(self, kinds: Iterable[str] = KINDS, device: str = "+") -> list[str]:
        """What to subscribe to."""
        return [topics.of_device(self._name, device, kind) for kind in kinds]

    def take(self, topic: str, payload: bytes) -> Device | None:
        """Note a message; the device it is of, or None if it is none of a device."""
        head, _, rest = topic.partition("/device/")
        name, _, kind = rest.partition("/")
        if head != self._name or kind not in KINDS:
            return None
        device = self._devices.get(name) or Device(name)
        try:
            if kind == "state":
                device.state = payload.decode()
            else:
                value = json.loads(payload or b"{}")
                if not isinstance(value, dict):
                    return None
                setattr(device, kind, value)
        except (ValueError, RecursionError):
            return None
        self._devices[name] = device
        if not device.state and not device.reported:
            del self._devices[name]
        return device

    def table(self) -> Table:
        """The devices as a person wants to see them."""
        title = f"fleet {self._name}  {time.strftime('%H:%M:%S')}"
        table = Table(title=title, title_justify="left", caption_justify="left", box=None, pad_edge=False)
        table.add_column("device", overflow="fold")
        table.add_column("state", no_wrap=True)
        table.add_column("version", overflow="fold")
        for column in ("accuracy", "latency", "memory", "energy"):
            table.add_column(column, justify="right", no_wrap=True)
        for device in self:
            table.add_row(*(_cell(_plain(cell)) for cell in _row(device)))
        sources = {str(device.telemetry.get("energy_source") or "") for device in self} - {""}
        table.caption = Text("\n".join(f"energy {_plain(source)}" for source in sorted(sources)))
        return table


def _cell(text: str) -> Text:
    """The text with its words that tell good from bad coloured."""
    cell = Text(text)
    for word, style in STYLES.items():
        cell.highlight_words([word], style)
    return cell


def _row(device: Device) -> list[str]:
    """Cells of two lines, so that they stand beside each other in 80 columns."""
    reported, figures = device.reported, device.telemetry
    version = f"{reported['model']} {reported.get('version')}" if reported.get("model") else "-"
    source = str(figures.get("energy_source") or "").partition(":")[0]
    return [
        device.name,
        device.state,
        f"{version}\n{_progress(device.update)}",
        _figure(figures.get("accuracy"), "{:.2%}") + _figure(figures.get("samples"), "\nof {:.0f}", ""),
        _figure(figures.get("latency_ms"), "{:.3g} ms"),
        _memory(figures.get("memory")),
        f"{_figure(figures.get('energy_mj'), '{:.3g} mJ')}\n{source}",
    ]


def _progress(update: dict[str, Any]) -> str:
    status, reason = update.get("status", ""), update.get("reason")
    done, total = update.get("done"), update.get("total")
    if status == "DOWNLOADING" and isinstance(done, int) and isinstance(total, int) and total > 0:
        return f"{status} {100 * done // total} %"
    return f"{status} {reason}" if reason else str(status)


def _memory(memory: object) -> str:
    """Resident memory of a Pi, used heap of a board."""
    if not isinstance(memory, dict):
        return "-"
    value = memory.get("rss", memory.get("used"))
    return _figure(value / 1024 if isinstance(value, int) else None, "{:,.0f} KB")


def _figure(value: object, form: str, unknown: str = "-") -> str:
    return form.format(value) if isinstance(value, (int, float)) else unknown


def _plain(text: str) -> str:
    """Without the control characters that a stranger's message could carry to the terminal."""
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text)
