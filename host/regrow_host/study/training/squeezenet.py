"""SqueezeNet 1.1 on letters, with the dense head that brings it to the report's 2.5 million parameters.

SqueezeNet: Iandola et al., 2016. The strides are halved, as the images are 28 x 28; batch normalization
helps training and ends inside the convolutions.
"""

from pathlib import Path
from typing import Any

import keras
from keras import layers

from regrow_host.study.datasets import DataSet
from regrow_host.study.training.fitting import fit
from regrow_host.study.training.images import distort

HEAD = 384
LETTERS = 26
SEEN = 280_000


def train(data: DataSet, backup: Path) -> keras.Model:
    model = network()
    epochs = max(4, SEEN // len(data.x_train))
    fit(
        model,
        data.x_train,
        data.y_train,
        epochs=epochs,
        rate=1e-3,
        augment=distort,
        batch=64,
        decay=1e-2,
        backup=backup,
    )
    return model


def network() -> keras.Model:
    source = keras.Input((28, 28))
    x = layers.Rescaling(1 / 255)(layers.Reshape((28, 28, 1))(source))
    x = layers.MaxPooling2D(2)(_conv(x, 64, 3))
    x = layers.MaxPooling2D(2)(_fire(_fire(x, 16, 64), 16, 64))
    x = layers.MaxPooling2D(2)(_fire(_fire(x, 32, 128), 32, 128))
    x = _fire(_fire(x, 48, 192), 48, 192)
    x = _fire(_fire(x, 64, 256), 64, 256)
    x = layers.Dropout(0.5)(layers.Flatten()(x))
    x = layers.Dropout(0.5)(layers.Dense(HEAD, "relu", kernel_initializer="he_normal")(x))
    return keras.Model(source, layers.Dense(LETTERS, "softmax")(x))


def _fire(x: Any, squeeze: int, expand: int) -> Any:
    x = _conv(x, squeeze, 1)
    return layers.Concatenate()([_conv(x, expand, 1), _conv(x, expand, 3)])


def _conv(x: Any, channels: int, size: int) -> Any:
    x = layers.Conv2D(channels, size, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    return layers.ReLU()(layers.BatchNormalization(momentum=0.95)(x))
