"""A board of the fleet: keeps the desired version running and classifies the samples of a file with it.

Copy this file, the folder `regrow` (compiled: `regrow mpy`) and a `config.json` to the board (on the desktop:
`micropython main.py [CONFIG]`). The config is that of regrow.agent and, as needed, `wifi` ({"ssid",
"password"}), `samples` (a file for regrow.samples) and `rounds` (how often a version goes through them; 0:
without end; default 1). A real device puts its sensor in the place of the samples.

A version is installed while nothing else is on the heap: for that the board resets itself. On a desktop the
program ends instead, with exit code 0, if the config has `restart` (true): whoever runs it starts it again.
"""

import gc
import json
import sys
import time

gc.threshold(4096)  # little garbage, so that the heap stays in one piece

import regrow  # noqa: E402
from regrow.errors import RegrowError  # noqa: E402

_WIFI_LIMIT = 20  # seconds to wait for the network before going on without


def connect_wifi(ssid, password):
    """Join a Wi-Fi network, which then reconnects by itself, and set the clock."""
    import network
    import ntptime

    station = network.WLAN(network.STA_IF)
    station.active(True)
    if not station.isconnected():  # a reset for an update need not break it
        station.connect(ssid, password)
    for _ in range(_WIFI_LIMIT * 10):
        if station.isconnected():
            break
        time.sleep_ms(100)
    try:  # noqa: SIM105 (boards have no contextlib)
        ntptime.settime()
    except OSError:
        pass  # telemetry then tells the time since the board was switched on


class Classifier:
    """Runs the agent's network over samples and counts how it does, `rounds` times per version."""

    def __init__(self, samples, rounds):
        self._samples = samples
        self._rounds = rounds
        self._input = bytearray(samples.size)
        self._starts = 0

    def step(self, agent):
        """Classify one sample, if there is a network and it has not seen them all."""
        if agent.network is None:
            return False
        if self._starts != agent.starts:
            self._starts = agent.starts
            self._left = self._rounds * self._samples.count
            self._output = bytearray(agent.network.outputs[0].size)
            self._sign = 128 if agent.network.outputs[0].dtype == "int8" else 0
            if len(self._output) == 1:
                self._middle = _middle(agent.network.outputs[0], self._sign)
            self._samples.rewind()
        if self._rounds and not self._left:
            return False
        self._left -= 1
        label = self._samples.read(self._input)
        start = time.ticks_us()
        agent.network.predict(self._input, self._output)
        microseconds = time.ticks_diff(time.ticks_us(), start)
        agent.telemetry.add(microseconds, self._top1() == label)
        return True

    def _top1(self):
        output, sign = self._output, self._sign  # int8 in the order of unsigned bytes
        if len(output) == 1:
            return output[0] ^ sign > self._middle
        best = 0
        for i in range(1, len(output)):
            if output[i] ^ sign > output[best] ^ sign:
                best = i
        return best


def _middle(output, sign):
    """Where one output, the probability or the logit of the second of two classes, chooses that."""
    zero = output.zero_point + sign
    return zero if zero or 255 * output.scale > 1 else round(0.5 / output.scale)


def restart(config):
    """What starts this program anew with an empty heap; None where nothing does."""
    import machine

    if sys.platform in ("linux", "darwin") and not config.get("restart"):
        return None
    return getattr(machine, "soft_reset", None) or sys.exit


def main(path):
    with open(path) as file:
        config = json.load(file)
    from regrow.boot import boot

    past = boot(config.get("store", "store"))  # before anything else takes heap
    regrow.unload("regrow.boot")
    classifier = None
    if "samples" in config:
        from regrow.samples import Samples

        classifier = Classifier(Samples(config["samples"]), config.get("rounds", 1))
    if "wifi" in config:
        connect_wifi(config["wifi"]["ssid"], config["wifi"]["password"])
    from regrow.agent import Agent

    agent = Agent(config, past, restart(config))
    del past  # the memory of a network that will not always run
    working = False
    while True:
        agent.step(0 if working else 50)
        try:
            working = classifier is not None and classifier.step(agent)
        except RegrowError as error:
            print("regrow:", error)
            classifier = None
            working = False


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "config.json")
