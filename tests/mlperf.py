"""The MLPerf Tiny accuracy sets as the `.npz` files that regrow takes: x in the models' real units, y.

python tests/mlperf.py ../shared OUT_FOLDER
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

WINDOW = 5
WINDOWS = 196


def write(shared: Path, folder: Path, name: str) -> Path:
    """Write NAME.npz (ic, kws, vww or ad) to `folder`; returns its path."""
    x, y = SETS[name](shared / "data")
    path = folder / f"{name}.npz"
    np.savez(path, x=x, y=y)
    return path


def _ic(data: Path) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    npz = np.load(data / "cifar10.npz")
    return npz["x_test"], npz["y_test"]


def _kws(data: Path) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    npz = np.load(data / "kws01.npz")
    return npz["x_test"], npz["y_test"]


def _vww(data: Path) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    npz = np.load(data / "vww01.npz")
    return (npz["x_test"] / 255).astype(np.float32), npz["y_test"]


def _ad(data: Path) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Clips of 200 frames become 196 windows of 5 frames, one frame apart: (clips, 196, 640)."""
    npz = np.load(data / "ad01.npz")
    frames = npz["x_test"]
    windows = np.stack([frames[:, i : i + WINDOWS] for i in range(WINDOW)], axis=2)
    return windows.reshape(len(frames), WINDOWS, -1), npz["y_test"]


SETS = {"ic": _ic, "kws": _kws, "vww": _vww, "ad": _ad}

if __name__ == "__main__":
    for each in SETS:
        print(write(Path(sys.argv[1]), Path(sys.argv[2]), each))
