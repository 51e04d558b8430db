"""Other commands of regrow as the experiments call them: on a subject, with keys of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from regrow_host.data import Samples
from regrow_host.study.experiment import Unfit
from regrow_host.study.lab import Result
from regrow_host.study.subject import Subject

COMMAND = """
import os, signal, sys, threading
from regrow_host import cli

def leave():
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)

threading.Thread(target=leave, daemon=True).start()
sys.exit(cli.main())
"""
"""The command line, which hears at the end of its stdin that who started it is gone."""


def samples(subject: Subject) -> Samples:
    """All of the subject's: those that `regrow compress` is given, to split them anew."""
    judges = subject.searching, subject.held_out
    x = np.concatenate([judge.samples.x for judge in judges])
    return Samples(x, np.concatenate([judge.labels for judge in judges]))


def compress(subject: Subject, words: Sequence[str], folder: Path) -> tuple[Path, Path, Result]:
    """Compress the model on all of its samples into `folder`, with keys and copies of its own.

    Returns the pack, the `.npz` of the samples, and what `--json` prints. Raises Unfit.
    """
    model, data, pack = folder / f"{subject.name}.tflite", folder / "eval.npz", folder / "pack.rgp"
    model.write_bytes(subject.model)
    given = samples(subject)
    np.savez(data, x=given.x, y=np.asarray(given.y))
    words = ["compress", str(model), "--data", str(data), "-o", str(pack), *words]
    return pack, data, result_of(words, folder)


def result_of(words: Sequence[str], home: Path) -> Result:
    """What `regrow WORDS --json` prints; it ends when this process does. Raises Unfit where it fails."""
    watched, held = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *words, "--json"],
            env=os.environ | {"REGROW_HOME": str(home)},
            stdin=watched,
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        os.close(watched)
        os.close(held)
    if done.returncode:
        raise Unfit(f"regrow {words[0]} failed: {' '.join(done.stderr.split())[-300:]}")
    result: Result = json.loads(done.stdout)
    return result
