"""`regrow watch`: the fleet as a live table, or as a line of JSON for every message."""

from __future__ import annotations

import argparse
import json
import time

from regrow import topics
from regrow.arguments import positive
from regrow.broker import Broker
from rich.live import Live

from regrow_host import status
from regrow_host.fleet import Fleet
from regrow_host.session import Session, keep_trying

RECONNECT = 60.0  # seconds without a broker after which it gives up


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--broker", required=True, metavar="URL", help="mqtt://[user:pass@]host[:1883]")
    parser.add_argument("--fleet", default=topics.FLEET, help=f"name of the fleet (default {topics.FLEET})")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--once", action="store_true", help="show what is known now and end")
    end.add_argument("--for", dest="seconds", type=positive, metavar="SECONDS", help="end after so long")
    parser.add_argument("--json", action="store_true", help="a line of JSON per message: the device's row")


def run(args: argparse.Namespace) -> int:
    if args.once:
        return status.run(args)
    broker = Broker.parse(args.broker)
    fleet = Fleet(topics.check_name(args.fleet, "fleet"))
    deadline = time.monotonic() + args.seconds if args.seconds else float("inf")
    live = None if args.json else Live(get_renderable=fleet.table, refresh_per_second=2)
    try:
        keep_trying(broker, RECONNECT, lambda session: _follow(session, fleet, deadline, live))
    finally:
        if live:
            live.stop()
    return 0


def _follow(session: Session, fleet: Fleet, deadline: float, live: Live | None) -> None:
    """Note messages until the deadline; show them as lines of JSON where there is no live table."""
    session.subscribe(fleet.topics())
    if live:
        live.start()
    while (left := deadline - time.monotonic()) > 0:
        message = session.get(min(left, 1.0))
        device = fleet.take(message.topic, message.payload) if message else None
        if device and not live:
            print(json.dumps({"time": round(time.time(), 3)} | device.to_json()), flush=True)
