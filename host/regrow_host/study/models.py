"""The models of the study: what each is, the data it takes, and what the report says of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from regrow.errors import InputError

Array = NDArray[Any]


@dataclass(frozen=True)
class Reported:
    """The report's accuracies in percent, before and after centralization, and its threshold batch size."""

    original: float
    centralized: float
    batch_size: int | None = None


@dataclass(frozen=True)
class Spec:
    """`prepare` turns a data set's raw samples into the model's inputs; `file` names the `.tflite`."""

    name: str
    title: str
    data: str
    prepare: Callable[[Array], Array]
    reported: Reported | None = None
    small: bool = False
    published: str = ""

    @property
    def file(self) -> str:
        return self.published or f"{self.name}.tflite"


def find(name: str) -> Spec:
    """Raises InputError for a name that is none."""
    if name not in SPECS:
        raise InputError(f"there is no model {name!r} in the study: they are {', '.join(SPECS)}")
    return SPECS[name]


def _same(x: Array) -> Array:
    return x


def _flat(x: Array) -> Array:
    return x.reshape(len(x), int(np.prod(x.shape[1:])))


def _cards(x: Array) -> Array:
    """Hands of five cards (suit 1..4, rank 1..13) as 5 * (4 + 13) zeros and ones."""
    suits, ranks = x[:, 0::2, None] == np.arange(1, 5), x[:, 1::2, None] == np.arange(1, 14)
    return np.concatenate([suits, ranks], axis=2).reshape(len(x), 85).astype(np.uint8)


def _unit(x: Array) -> Array:
    return (x / 255).astype(np.float32)


WINDOW = 5


def _windows(x: Array) -> Array:
    """Clips (n, frames, bins) as the windows of 5 frames that the autoencoder takes, one frame apart."""
    frames = x.shape[1] - WINDOW + 1
    windows = np.stack([x[:, i : i + frames] for i in range(WINDOW)], axis=2)
    return windows.reshape(len(x), frames, -1)


_ALL = [
    Spec("covid-mlp", "5-layer MLP, COVID-19", "covid", _same, Reported(92.76, 85.50, 200), small=True),
    Spec("poker-mlp", "4-layer MLP, poker hands", "poker", _cards, Reported(70.56, 63.76, 20), small=True),
    Spec("mnist-mlp", "3-layer MLP, MNIST", "mnist", _flat),
    Spec("ann-skip", "17-layer ANN with skips, MNIST", "mnist", _flat, Reported(98.18, 92.19), small=True),
    Spec("ann-plain", "17-layer ANN, MNIST", "mnist", _flat, Reported(93.10, 30.0), small=True),
    Spec("squeezenet-letters", "SqueezeNet, letters", "letters", _same, Reported(98.69, 97.79, 5000)),
    Spec("shufflenetv2-cifar10", "ShuffleNetV2, CIFAR-10", "cifar10", _same, Reported(69.0, 67.17, 5000)),
    Spec("mobilenetv2-mnist", "MobileNetV2, MNIST", "mnist", _same, Reported(82.99, 79.12, 50)),
    Spec(
        "mlperf-ic",
        "ResNet-8, CIFAR-10 (MLPerf Tiny)",
        "cifar10",
        _same,
        published="mlperf_ic_resnet8_float.tflite",
    ),
    Spec(
        "mlperf-kws",
        "DS-CNN, keywords (MLPerf Tiny)",
        "kws",
        _same,
        published="mlperf_kws_dscnn_float.tflite",
    ),
    Spec(
        "mlperf-vww",
        "MobileNetV1, persons (MLPerf Tiny)",
        "vww",
        _unit,
        published="mlperf_vww_mobilenetv1_025_float.tflite",
    ),
    Spec(
        "mlperf-ad",
        "Autoencoder, machine sounds (MLPerf Tiny)",
        "ad",
        _windows,
        published="mlperf_ad_autoencoder_float.tflite",
    ),
]
SPECS = {spec.name: spec for spec in _ALL}
