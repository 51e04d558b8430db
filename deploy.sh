#!/usr/bin/env bash
# Set regrow up and run it: its demo, its tests, or an install on a Pi or a board.
set -euo pipefail
cd "$(dirname "$0")"

usage() {
    cat <<'TEXT'
usage: ./deploy.sh demo [--keep]       compress, push, run on a Pi runtime and a board runtime, here
       ./deploy.sh test [PYTEST ARGS]  lint, types, the Pi set-ups, the whole test suite
       ./deploy.sh pi USER@HOST        install the Pi runtime on a Raspberry Pi, by ssh
       ./deploy.sh esp32 PORT          install the board runtime on a MicroPython board, by mpremote
TEXT
}

say() { printf '\033[1m== %s\033[0m\n' "$*" >&2; }
die() {
    printf 'deploy.sh: %s\n' "$*" >&2
    exit 1
}

find_python() {
    local python
    for python in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python3.10; do
        if [ -n "$python" ] && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    die "no Python 3.10 or newer was found; install one, or name it: PYTHON=/path/to/python ./deploy.sh ..."
}

# environment FOLDER CONSTRAINTS REQUIREMENT...: a virtual environment, installed anew when its recipe changed
environment() {
    local folder=$1 constraints=$2
    shift 2
    local recipe
    recipe=$({ "$(find_python)" --version; echo "$PWD" "$@"; cat pyproject.toml "$constraints"; } | cksum)
    [ "$(cat "$folder/recipe" 2>/dev/null)" = "$recipe" ] && return
    say "installing into $folder (first run: a few minutes)"
    rm -rf "$folder"
    "$(find_python)" -m venv "$folder" >/dev/null 2>&1 ||
        die "Python could not make a virtual environment; on Debian and Ubuntu: apt-get install python3-venv"
    "$folder/bin/pip" install --quiet --disable-pip-version-check -c "$constraints" "$@" ||
        die "pip could not install $*; see its message above"
    echo "$recipe" >"$folder/recipe"
}

demo() {
    environment .venv/demo constraints.txt -e '.[host,demo]'
    exec .venv/demo/bin/python demo/run.py "$@"
}

# The Pi tests run in each set-up that a Pi may have, the whole suite in the developer's.
tests() {
    command -v mosquitto >/dev/null || [ -x /usr/sbin/mosquitto ] ||
        die "the tests need the broker mosquitto; on Debian and Ubuntu: apt-get install mosquitto"
    environment .venv/dev constraints.txt -e '.[host,dev]'
    say "ruff and mypy"
    .venv/dev/bin/ruff check .
    .venv/dev/bin/ruff format --check .
    .venv/dev/bin/mypy
    if "$(find_python)" -c 'import sys; sys.exit(sys.version_info >= (3, 12))'; then
        environment .venv/pi-tflite constraints-pi.txt -e '.[pi]' pytest
        say "Pi runtime with tflite-runtime"
        REGROW_SETUP=tflite_runtime .venv/pi-tflite/bin/python -m pytest tests/pi -q
    fi
    environment .venv/pi-litert constraints.txt -e . ai-edge-litert paho-mqtt psutil pytest
    say "Pi runtime with ai-edge-litert"
    REGROW_SETUP=ai_edge_litert .venv/pi-litert/bin/python -m pytest tests/pi -q
    environment .venv/pi-numpy constraints.txt -e . paho-mqtt psutil pytest
    say "Pi runtime on numpy alone"
    REGROW_SETUP=numpy .venv/pi-numpy/bin/python -m pytest tests/pi -q
    say "the whole suite"
    .venv/dev/bin/python -m pytest "$@"
}

# The Pi gets the device package alone, in an environment of its own; it needs Python 3.10 or newer.
pi() {
    say "copying regrow to $1"
    tar -cz pyproject.toml constraints*.txt README.md LICENSE device host micropython/regrow |
        ssh "$1" 'mkdir -p regrow && tar -xz -C regrow'
    say "installing there"
    ssh "$1" 'cd regrow && python3 -m venv .venv && .venv/bin/pip install --quiet ".[pi]" &&
        .venv/bin/regrow-device --version'
    say "run it there: regrow/.venv/bin/regrow-device run --broker mqtt://... --id ... --trust KEY.pub"
}

# The board gets .mpy files and main.py; its config.json is yours to write (fields: micropython/main.py).
esp32() {
    environment .venv/demo constraints.txt -e '.[host,demo]'
    local build
    build=$(mktemp -d)
    .venv/demo/bin/python -c "import sys; from pathlib import Path; from regrow_host.boardfiles import build
build(Path(sys.argv[1]), 'xtensawin')" "$build"
    say "copying the runtime to the board at $1"
    .venv/demo/bin/mpremote connect "$1" fs cp -r "$build/regrow" micropython/main.py :
    rm -r "$build"
    say "write config.json and copy it: mpremote connect $1 fs cp config.json :  (then reset the board)"
}

case "${1:-}" in
demo) demo "${@:2}" ;;
test) tests "${@:2}" ;;
pi) pi "${2:?usage: ./deploy.sh pi USER@HOST}" ;;
esp32) esp32 "${2:?usage: ./deploy.sh esp32 PORT}" ;;
*)
    usage >&2
    exit 2
    ;;
esac
