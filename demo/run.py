"""The demo: a trained network becomes a pack, travels over MQTT, and two devices grow it back and run it.

Everything happens on this machine: a broker (mosquitto, or amqtt where that is not installed), a Raspberry
Pi runtime, and a board runtime: MicroPython's unix port with a heap of 128 KB.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import regrow
from regrow import quant, topics
from regrow.broker import Broker
from regrow.errors import RegrowError
from regrow_host.boardfiles import build
from regrow_host.fleet import Fleet
from regrow_host.keys import public_key, signing_key
from regrow_host.samples import write_samples
from regrow_host.session import Session
from rich.console import Console
from rich.live import Live
from rich.table import Table

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
MODEL, EVAL, CALIB = (HERE / name for name in ("digits.tflite", "digits_eval.npz", "digits_calib.npz"))
MAIN = HERE.parent / "micropython" / "main.py"
MICROPYTHON = [str(BIN / "micropython"), "-X", "heapsize=128k"]
RESTARTED = ["sh", "-c", 'trap "kill \\$child" TERM; while "$@" & child=$!; wait $child; do :; done', "board"]
"""What starts a command again when it ends well, as a board's reset does."""
DEVICES = ("demo-pi", "demo-board")
PATIENCE = 180.0  # seconds that the devices get to install the pack and to classify all samples

console = Console(stderr=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="./deploy.sh demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the broker and the devices running")
    keep = parser.parse_args().keep
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ["PATH"] = f"{BIN}:{os.environ.get('PATH', '')}:/usr/sbin"
    try:
        with ExitStack() as stack:
            work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="regrow-demo-")))
            os.environ["REGROW_HOME"] = str(work / "home")  # the demo's keys stay apart from the user's
            os.environ["MICROPYPATH"] = f"{work / 'micropython'}:.frozen"
            demo(work, stack, keep)
    except RegrowError as error:
        console.print(f"[red]demo: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def demo(work: Path, stack: ExitStack, keep: bool) -> None:
    pack = work / "digits.rgp"
    step("Compress digits.tflite for Pis and boards, at most 0.5 points less accurate")
    regrow_command("compress", MODEL, "--data", EVAL, "--calib", CALIB, "--target", "both", "-o", pack)
    subprocess.run(["regrow", "inspect", pack], check=True, stdout=sys.stderr)

    step("Start a broker, a Pi runtime and a board runtime with 128 KB of heap")
    url = stack.enter_context(broker(work))
    stack.enter_context(process(pi(url, work), work / "demo-pi.log"))
    stack.enter_context(process(board(url, pack, work), work / "demo-board.log"))

    step("Push the pack and watch the fleet")
    sent = regrow_command("push", pack, "--broker", url, "--group", "demo")["bytes_sent"]
    fleet = watch(url, work)

    step("Compare every output of the board with the numpy executor's")
    equal = equal_outputs(pack, work)
    summary(pack, sent, fleet, equal)
    if keep:
        console.print(f"\nBroker and devices go on until Ctrl-C; try: regrow watch --broker {url}")
        signal.pause()


def step(text: str) -> None:
    console.print(f"\n[bold]{text}")


def samples() -> tuple[Any, Any]:
    with np.load(EVAL) as file:
        return file["x"].astype(np.float32), file["y"]


def quantized(x: Any, network: Any) -> Any:
    """Samples as the integers that the network takes."""
    info = network.inputs[0]
    return quant.quantize(x, info.scale, info.zero_point, info.dtype)


def regrow_command(*args: str | Path) -> dict[str, Any]:
    """Run a `regrow` command and read its --json."""
    done = subprocess.run(["regrow", *args, "--json"], stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise RegrowError(f"regrow {args[0]} ended with exit code {done.returncode}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@contextmanager
def process(command: list[str], log: Path) -> Iterator[None]:
    """A process that runs until the demo ends."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as running:
        try:
            yield
        finally:
            running.terminate()


@contextmanager
def broker(work: Path) -> Iterator[str]:
    """A broker on a free port of this machine; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config, log = work / "broker.conf", work / "broker.log"
    if shutil.which("mosquitto"):
        config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n")
        command = ["mosquitto", "-c", str(config)]
    else:
        config.write_text(f"listeners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\n")
        command = ["amqtt", "-c", str(config)]
    with process(command, log):
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.1)
        else:
            raise RegrowError(f"the broker {command[0]} did not start: {log.read_text()}")
        console.print(f"{command[0]} listens on port {port}")
        yield f"mqtt://127.0.0.1:{port}"


def pi(url: str, work: Path) -> list[str]:
    """The command that runs a Pi on the samples."""
    key = public_key(signing_key()).hex()
    names = ["--broker", url, "--id", DEVICES[0], "--group", "demo", "--trust", key]
    task = ["--store", str(work / "pi"), "--samples", str(EVAL), "--rounds", "1", "--interval", "1"]
    return ["regrow-device", "run", *names, *task]


def board(url: str, pack: Path, work: Path) -> list[str]:
    """The command that runs a board on the samples, which it reads as its network takes them."""
    x, y = samples()
    with regrow.load(pack, backend="numpy") as network:
        write_samples(work / "samples.bin", quantized(x, network), y)
    config = {
        "broker": url,
        "id": DEVICES[1],
        "groups": ["demo"],
        "trust": [public_key(signing_key()).hex()],
        "store": str(work / "board"),
        "samples": str(work / "samples.bin"),
        "interval": 1,
        "restart": True,
    }
    build(work / "micropython", "host")
    shutil.copy(MAIN, work / "micropython")
    (work / "config.json").write_text(json.dumps(config))
    return [*RESTARTED, *MICROPYTHON, str(work / "micropython" / "main.py"), str(work / "config.json")]


def watch(url: str, work: Path) -> Fleet:
    """Show the fleet until every device has classified all samples."""
    fleet, total, deadline = Fleet(topics.FLEET), len(samples()[1]), time.monotonic() + PATIENCE
    with Session(Broker.parse(url)) as session, Live(get_renderable=fleet.table, console=console):
        session.subscribe(fleet.topics())
        while any(fleet[name].telemetry.get("samples", 0) < total for name in DEVICES):
            message = session.get(1.0)
            if message:
                fleet.take(message.topic, message.payload)
            failed = [name for name in DEVICES if fleet[name].update.get("status") == "FAILED"]
            if failed or time.monotonic() > deadline:
                logs = "".join((work / f"{name}.log").read_text() for name in failed or DEVICES)
                raise RegrowError(f"{' and '.join(failed or DEVICES)} did not finish:\n{logs}")
    return fleet


def equal_outputs(pack: Path, work: Path) -> int:
    """On how many samples board and numpy executor give the same bytes."""
    command = [*MICROPYTHON, HERE / "outputs.py", pack, work / "samples.bin"]
    lines = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.split()
    with regrow.load(pack, backend="numpy") as network:
        outputs = network.predict(quantized(samples()[0], network))
    return sum(line == row.tobytes().hex() for line, row in zip(lines, outputs, strict=True))


def summary(pack: Path, sent: int, fleet: Fleet, equal: int) -> None:
    """What every place measured on the same samples. Raises RegrowError where they disagree."""
    source, total = MODEL.stat().st_size, len(samples()[1])
    evaluated = {
        backend: regrow_command("eval", pack, "--data", EVAL, "--source", MODEL, "--backend", backend)
        for backend in ("litert", "numpy")
    }
    told = {name: fleet[name].telemetry for name in DEVICES}
    table = Table(title=f"{total} held-back samples", title_justify="left", box=None, pad_edge=False)
    table.add_column("where")
    table.add_column("what runs")
    for column in ("accuracy", "latency", "peak memory", "energy"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_row("here", "the source, LiteRT", f"{evaluated['litert']['source']:.2%}")
    for backend, judged in evaluated.items():
        table.add_row("here", f"the pack, {backend}", f"{judged['pack']:.2%}")
    for name, figures in told.items():
        table.add_row(
            name,
            f"the pack, {fleet[name].reported['runtime']}",
            f"{figures['accuracy']:.2%}",
            f"{figures['latency_ms']:.3g} ms",
            f"{figures['memory']['peak'] / 1024:,.0f} KB",
            f"{figures['energy_mj']:.3g} mJ",
        )
    console.print(table)
    for name, figures in told.items():
        console.print(f"energy of {name}: {figures['energy_source']}")
    console.print(f"\n{sent:,} bytes sent for a .tflite of {source:,}: {source / sent:.1f} times fewer.")
    console.print(f"The board's outputs equal the numpy executor's on {equal} of {total} samples.")
    for name, backend in zip(DEVICES, evaluated, strict=True):
        if round(told[name]["accuracy"], 4) != round(evaluated[backend]["pack"], 4):
            raise RegrowError(f"{name} reports another accuracy than regrow eval --backend {backend}")
    if equal != total:
        raise RegrowError("the board's outputs differ from the numpy executor's")


if __name__ == "__main__":
    sys.exit(main())
