"""The `regrow-device` command: run as a device of a fleet, predict from a pack, show what is installed."""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import regrow
from regrow.arguments import Arguments, count, positive
from regrow.entry import INTERRUPTED
from regrow.errors import InputError, RegrowError
from regrow.labels import by_class, classes
from regrow.network import Array
from regrow.samples import read_npz
from regrow.store import SLOTS, Store, read_public_key

BACKENDS = ("auto", "litert", "numpy")


def main(argv: list[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except RegrowError as error:
        print(f"regrow-device: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"regrow-device: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def run(args: argparse.Namespace) -> int:
    """Keep the desired version running until SIGINT or SIGTERM; classify the samples, if there are any."""
    from regrow.agent import Agent  # noqa: PLC0415  (paho and psutil are needed here only)

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    x, y = read_samples(args.samples) if args.samples else (None, None)
    agent = Agent(
        args.broker,
        args.id,
        store=args.store,
        trust=[read_public_key(key) for key in args.trust],
        groups=args.group,
        fleet=args.fleet,
        backend=args.backend,
        interval=args.interval,
        storage_limit=args.storage_limit,
        memory_limit=args.memory_limit,
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with agent, suppress(KeyboardInterrupt):
        if x is None:
            while True:
                signal.pause()
        _classify(agent, x, y, 1 / args.rate if args.rate else 0.0, args.rounds)
    return 0


def _classify(agent: Any, x: Array, y: Array | None, period: float, rounds: int) -> None:
    """Classify the samples, one every `period` seconds, in `rounds` rounds for each version (0: no end).

    A version that the samples do not fit is left idle.
    """
    while True:
        agent.wait()
        network = agent.network
        samples = range(rounds * len(x)) if rounds else itertools.count()
        due = time.monotonic()
        for i in samples:
            if agent.network is not network:
                break
            try:
                agent.predict(x[i % len(x)], None if y is None else y[i % len(x)])
            except InputError as error:
                logging.getLogger("regrow").error("the samples do not fit %s: %s", network.name, error)
                break
            due = max(due + period, time.monotonic() - period)
            time.sleep(max(0.0, due - time.monotonic()))
        while agent.network is network:
            time.sleep(0.2)


def predict(args: argparse.Namespace) -> int:
    """Print the class (or the outputs) of every sample."""
    trust = [read_public_key(key) for key in args.trust] or None
    network = regrow.load(args.pack, None if args.backend == "auto" else args.backend, trust)
    x, y = read_samples(args.samples)
    with network:
        outputs = network.predict(x)
    first = outputs[0] if isinstance(outputs, list) else outputs
    first = first.reshape(len(x), -1)
    chosen = by_class(first).argmax(axis=1)
    classifies = y is not None and y.max() < max(2, first.shape[1])
    accuracy = float(np.mean(chosen == y)) if classifies else None
    if args.json:
        answer = {"model": network.name, "version": network.version, "backend": network.backend}
        print(json.dumps(answer | {"outputs": first.tolist(), "accuracy": accuracy, "samples": len(x)}))
        return 0
    for value in chosen if first.shape[1] > 1 else first[:, 0]:
        print(value)
    if accuracy is not None:
        print(f"accuracy {accuracy:.4f} on {len(x)} samples", file=sys.stderr)
    return 0


def status(args: argparse.Namespace) -> int:
    """Print what the store holds."""
    if not Path(args.store).is_dir():
        raise InputError(f"there is no store at {args.store}: regrow-device run makes one")
    store = Store(args.store)
    slots = {}
    for letter in SLOTS:
        manifest = store.manifest(letter)
        slots[letter] = {"model": manifest.name, "version": manifest.version} if manifest else None
    update = store.update
    answer = {
        "active": store.active.slot,
        "highest": store.active.version,
        "slots": slots,
        "update": {key: update[key] for key in ("status", "reason") if key in update},
        "trusted": sorted(key.hex() for key in store.trusted()),
    }
    if args.json:
        print(json.dumps(answer))
        return 0
    for letter, slot in slots.items():
        mark = " (active)" if letter == store.active.slot else ""
        print(f"slot {letter}{mark}: {slot['model']} {slot['version']}" if slot else f"slot {letter}: empty")
    print(f"last update: {update.get('status', 'none')} {update.get('reason', '')}".rstrip())
    return 0


def read_samples(path: str) -> tuple[Array, Array | None]:
    """`x` (float32) and, where `y` holds classes, that of each sample of an .npz file. Raises InputError."""
    x, y = read_npz(path)
    return x.astype(np.float32), None if y is None else classes(y)


def _default_store() -> str:
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return str(Path(data) / "regrow-device")


def _parser() -> argparse.ArgumentParser:
    parser = Arguments(prog="regrow-device", description="Run regrow's packs on this device.")
    parser.add_argument("--version", action="version", version=f"regrow {regrow.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("run", help="be a device of a fleet: keep the desired version running")
    command.set_defaults(run=run)
    command.add_argument("--broker", required=True, metavar="URL", help="mqtt://[user:pass@]host[:1883]")
    command.add_argument("--id", required=True, help="name of this device")
    command.add_argument("--group", action="append", default=[], help="a group it belongs to (repeatable)")
    command.add_argument("--fleet", default="regrow", help="name of the fleet (default regrow)")
    command.add_argument("--samples", metavar="FILE.npz", help="classify x (real units) in rounds; y: labels")
    command.add_argument("--rounds", type=count, default=0, help="rounds a version (default 0: no end)")
    command.add_argument("--rate", type=positive, help="samples a second (default: as fast as it can)")
    command.add_argument(
        "--interval", type=positive, default=10.0, help="seconds between telemetry (default 10)"
    )
    command.add_argument("--storage-limit", type=count, metavar="BYTES", help="most the store may take")
    command.add_argument(
        "--memory-limit", type=count, metavar="BYTES", help="most a model may take of the RAM"
    )
    _add_store(command)
    _add_backend(command)

    command = commands.add_parser("predict", help="run a pack on samples")
    command.set_defaults(run=predict)
    command.add_argument("pack", metavar="PACK", help="a .rgp file or a slot's folder")
    command.add_argument("--samples", required=True, metavar="FILE.npz", help="x in real units, labels y")
    command.add_argument("--json", action="store_true", help="outputs and accuracy as JSON")
    _add_backend(command)

    command = commands.add_parser("status", help="show what is installed here")
    command.set_defaults(run=status)
    command.add_argument("--json", action="store_true", help="as JSON")
    _add_store(command)
    return parser


def _add_store(command: argparse.ArgumentParser) -> None:
    command.add_argument("--store", default=_default_store(), metavar="DIR", help="folder of the versions")


def _add_backend(command: argparse.ArgumentParser) -> None:
    command.add_argument("--backend", choices=BACKENDS, default="auto", help="what runs the network")
    command.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="KEY.pub",
        help="a key to trust, or its hex (repeatable)",
    )
