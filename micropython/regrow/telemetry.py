"""The figures a device sends while it works: samples, accuracy, latency, memory, energy."""

import gc
import sys
import time

from .energy import meter


class Telemetry:
    """Sums up inferences since the version was activated."""

    def __init__(self, energy=None):
        self.energy = energy or meter()
        self._peak = 0
        self.start("", 0)

    def start(self, model, version):
        """Count from zero for that version."""
        self._model = model
        self._version = version
        self._samples = self._labelled = self._correct = 0
        self._microseconds = self._nanojoules = 0

    def add(self, microseconds, correct=None):
        """Count one inference, right after it; `correct` is None where no label is known."""
        self._samples += 1
        self._microseconds += microseconds
        self._nanojoules += microseconds * self.energy.milliwatts()
        if correct is not None:
            self._labelled += 1
            self._correct += bool(correct)
        self._peak = max(self._peak, gc.mem_alloc())

    def message(self):
        """The telemetry message (docs/mqtt.md); what is not known yet is null."""
        samples = self._samples
        labelled = self._labelled
        return {
            "time": _unix_time(),
            "model": self._model,
            "version": self._version,
            "samples": samples,
            "labelled": labelled,
            "correct": self._correct,
            "accuracy": round(self._correct / labelled, 4) if labelled else None,
            "latency_ms": round(self._microseconds / samples / 1000, 3) if samples else None,
            "memory": self.memory(),
            "energy_mj": round(self._nanojoules / samples / 1000000, 3) if samples else None,
            "energy_source": self.energy.source,
        }

    def memory(self):
        """Bytes of the heap: `used` after a collection, `free`, `peak` seen; on ESP32 also the IDF's."""
        self._peak = max(self._peak, gc.mem_alloc())
        gc.collect()
        figures = {"used": gc.mem_alloc(), "free": gc.mem_free(), "peak": self._peak}
        if sys.platform == "esp32":
            import esp32

            figures["idf_free"] = sum(region[1] for region in esp32.idf_heap_info(esp32.HEAP_DATA))
        return figures


def _unix_time():
    # boards count from 2000, the desktop port from 1970
    return int(time.time()) + (946684800 if time.gmtime(0)[0] == 2000 else 0)
