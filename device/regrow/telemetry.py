"""The figures a device sends while it works: samples, accuracy, latency, memory, energy."""

from __future__ import annotations

import resource
import sys
import threading
import time
from typing import Any

import psutil

from regrow.energy import Meter, meter


class Telemetry:
    """Sums up inferences since the version was activated. May be used from several threads."""

    def __init__(self, energy: Meter | None = None) -> None:
        self.energy = energy or meter()
        self._lock = threading.Lock()
        self._process = psutil.Process()
        self.start("", 0)

    def start(self, model: str, version: int) -> None:
        """Count from zero for that version."""
        with self._lock:
            self._model, self._version = model, version
            self._samples = self._labelled = self._correct = 0
            self._seconds = self._joules = 0.0

    def add(self, seconds: float, joules: float, correct: bool | None = None) -> None:
        """Count one inference; `correct` is None where no label is known."""
        with self._lock:
            self._samples += 1
            self._seconds += seconds
            self._joules += joules
            if correct is not None:
                self._labelled += 1
                self._correct += correct

    def message(self) -> dict[str, Any]:
        """The telemetry message (docs/mqtt.md); what is not known yet is null."""
        with self._lock:
            samples, labelled = self._samples, self._labelled
            return {
                "time": int(time.time()),
                "model": self._model,
                "version": self._version,
                "samples": samples,
                "labelled": labelled,
                "correct": self._correct,
                "accuracy": round(self._correct / labelled, 4) if labelled else None,
                "latency_ms": round(1e3 * self._seconds / samples, 3) if samples else None,
                "memory": memory(self._process),
                "energy_mj": round(1e3 * self._joules / samples, 3) if samples else None,
                "energy_source": self.energy.source,
            }


def memory(process: psutil.Process) -> dict[str, int]:
    """Bytes of a process: `rss` resident, `uss` its own alone, `peak` the most that was ever resident."""
    full = process.memory_full_info()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"rss": full.rss, "uss": full.uss, "peak": max(peak, full.rss)}  # the kernel counts peaks lazily
