"""`regrow watch`: the fleet as a live table, or as a line of JSON for every message."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import nullcontext

from regrow import topics
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
    end.add_argument("--for", dest="seconds", type=float, metavar="SECONDS", help="end after so long")
    parser.add_argument("--json", action="store_true", help="a line of JSON per message: the device's row")


def run(args: argparse.Namespace) -> int:
    if args.once:
        return status.run(args)
    broker = Broker.parse(args.broker)
    fleet = Fleet(topics.check_name(args.fleet, "fleet"))
    deadline = time.monotonic() + args.seconds if args.seconds else float("inf")
    live = nullcontext() if args.json else Live(get_renderable=fleet.table, refresh_per_second=2)
    with live:
        keep_trying(broker, RECONNECT, lambda session: _follow(session, fleet, deadline, args.json))
    return 0


def _follow(session: Session, fleet: Fleet, deadline: float, lines: bool) -> None:
    """Note messages until the deadline."""
    session.subscribe(fleet.topics())
    while (left := deadline - time.monotonic()) > 0:
        message = session.get(min(left, 1.0))
        device = fleet.take(message.topic, message.payload) if message else None
        if lines and device:
            print(json.dumps({"time": round(time.time(), 3)} | device.to_json()), flush=True)
