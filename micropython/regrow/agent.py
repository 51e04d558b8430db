"""The device's side of a fleet: keeps the desired version running and reports (docs/mqtt.md).

    agent = Agent(config)
    while True:
        agent.step()  # a bounded piece of work, so that inferences go on between
        if agent.network:
            ...  # predict, and tell agent.telemetry.add how it went

Do not keep `agent.network` or `agent.telemetry` over a `step`: an update drops them before it installs.

`config` is a dict: `broker` (mqtt://[user:pass@]host[:port] or mqtts://...), `id`, `trust` (public keys, 64
hex digits each), and as needed `groups`, `fleet`, `store` (folder), `storage_limit` (bytes), `interval`
(seconds between telemetry messages), `keepalive` (seconds), `ca` (file with the CA's certificate for mqtts,
DER), `ina219` (see energy.py).
"""

import gc
import sys

import regrow


class Agent:
    """One device. Raises InputError or DeliveryError for a bad `config`.

    All that it needs for its fleet is in the Link, which leaves the heap while a version is installed: the
    store knows how far it was.
    """

    def __init__(self, config, past=(), restart=None):
        """`past`: what regrow.boot.boot gave; `restart`: starts the program anew, with an empty heap.

        With `restart` a version is installed by the `boot` of the next start; without it, or where it comes
        back, beside the program.
        """
        self._config = config
        self._restart = restart
        if not restart:
            from .names import GUESTS, keep

            keep(regrow, GUESTS.split())
            regrow.unload("regrow.names")
        self._join(0, *past)

    @property
    def network(self):
        """The network that runs; None before the first version."""
        return self._link.network

    @property
    def starts(self):
        """How many networks were started: another number means another network."""
        return self._link.starts

    @property
    def telemetry(self):
        """The Telemetry of the network that runs."""
        return self._link.telemetry

    def step(self, wait_ms=0):
        """Talk with the broker, waiting at most `wait_ms` for it, and go one step on with an update."""
        self._link.step(wait_ms)
        while self._link.wanted:
            self._install()

    def stop(self):
        """Say goodbye to the fleet."""
        self._link.leave("disconnected")

    def _join(self, *past):
        self._others = set(sys.modules)
        from .link import Link

        self._link = Link(self._config, *past)

    def _install(self):
        """Write a resident form and reserve memory while all that talks with the fleet has left the heap."""
        self._link.leave("sleeping")
        if self._restart and self._link.hand_over():
            self._restart()
        folder, starts = self._link.wanted, self._link.starts
        self._link = None
        for name in list(sys.modules):
            if name not in self._others:
                regrow.unload(name)
        gc.collect()
        from .boot import reserve

        past = reserve(folder)
        regrow.unload("regrow.boot")
        self._join(starts, folder[-1], *past)
