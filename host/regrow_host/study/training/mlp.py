"""Dense networks: MLPs for COVID-19, poker hands and MNIST, and two networks of 17 dense layers."""

from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from regrow_host.study.datasets import DataSet
from regrow_host.study.models import SPECS
from regrow_host.study.training.fitting import fit

Array = NDArray[Any]

DEPTH = 17
WIDTH = 96


def covid(data: DataSet, backup: Path) -> keras.Model:
    model = _mlp(20, (64, 64, 32, 16), 2)
    fit(model, data.x_train, data.y_train, epochs=60, rate=2e-3, decay=1e-3, backup=backup)
    return model


def poker(data: DataSet, backup: Path) -> keras.Model:
    """Hands mean the same whatever the order of the cards and the names of the suits: augmentation."""

    def augment(random: np.random.Generator, x: Array) -> Array:
        hands = x.reshape(len(x), 5, 17)
        hands = np.take_along_axis(
            hands, random.permuted(np.tile(np.arange(5), (len(x), 1)), axis=1)[..., None], 1
        )
        suits = random.permuted(np.tile(np.arange(4), (len(x), 1)), axis=1)
        renamed = np.take_along_axis(hands[..., :4], suits[:, None], 2)
        return np.concatenate([renamed, hands[..., 4:]], 2).reshape(len(x), 85)

    model = _mlp(85, (256, 256, 64), 10)
    x = SPECS["poker-mlp"].prepare(data.x_train)
    fit(model, x, data.y_train, epochs=120, rate=2e-3, augment=augment, batch=256, backup=backup)
    return model


def mnist(data: DataSet, backup: Path) -> keras.Model:
    model = _mlp(784, (128, 64), 10, scale=1 / 255, dropout=0.1)
    x = SPECS["mnist-mlp"].prepare(data.x_train)
    fit(model, x, data.y_train, epochs=20, rate=1e-3, backup=backup)
    return model


def ann_plain(data: DataSet, backup: Path) -> keras.Model:
    return _deep(data, backup, skip=False)


def ann_skip(data: DataSet, backup: Path) -> keras.Model:
    return _deep(data, backup, skip=True)


def _mlp(
    inputs: int, widths: tuple[int, ...], classes: int, scale: float = 1.0, dropout: float = 0.0
) -> keras.Model:
    x = source = keras.Input((inputs,))
    if scale != 1:
        x = layers.Rescaling(scale)(x)
    for width in widths:
        x = layers.Dropout(dropout)(layers.Dense(width, "relu", kernel_initializer="he_normal")(x))
    return keras.Model(source, layers.Dense(classes, "softmax")(x))


def _deep(data: DataSet, backup: Path, skip: bool) -> keras.Model:
    """Batch normalization makes 17 layers trainable; the `.tflite` has it inside the dense layers."""
    source = keras.Input((784,))
    x = _block(layers.Rescaling(1 / 255)(source))
    for _ in range(DEPTH - 2):
        x = layers.Add()([x, _block(x)]) if skip else _block(x)
    model = keras.Model(source, layers.Dense(10, "softmax")(layers.Dropout(0.2)(x)))
    inputs = SPECS["ann-skip"].prepare(data.x_train)
    fit(model, inputs, data.y_train, epochs=20, rate=2e-3, augment=_shift, decay=1e-2, backup=backup)
    return model


def _block(x: Any) -> Any:
    x = layers.Dense(WIDTH, use_bias=False, kernel_initializer="he_normal")(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def _shift(random: np.random.Generator, x: Array) -> Array:
    """The batch moved by at most one pixel."""
    down, right = random.integers(-1, 2, 2)
    return np.roll(x.reshape(len(x), 28, 28), (down, right), (1, 2)).reshape(len(x), 784)
