"""`regrow status`: what the broker keeps of the fleet's devices, once."""

from __future__ import annotations

import argparse

from regrow import topics
from regrow.broker import Broker
from rich.console import Console

from regrow_host.console import show_json
from regrow_host.fleet import Fleet
from regrow_host.session import Session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--broker", required=True, metavar="URL", help="mqtt://[user:pass@]host[:1883]")
    parser.add_argument("--fleet", default=topics.FLEET, help=f"name of the fleet (default {topics.FLEET})")
    parser.add_argument("--json", action="store_true", help="the devices as JSON")


def run(args: argparse.Namespace) -> int:
    fleet = Fleet(topics.check_name(args.fleet, "fleet"))
    with Session(Broker.parse(args.broker)) as session:
        for topic, payload in session.retained(fleet.topics(("state", "reported"))).items():
            fleet.take(topic, payload)
    if args.json:
        show_json({"devices": [device.to_json() for device in fleet]})
    else:
        Console().print(fleet.table())
    return 0
