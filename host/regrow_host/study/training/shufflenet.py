"""ShuffleNetV2 1.0x on CIFAR-10 (Ma et al., 2018). The stem keeps the 32 x 32 pixels."""

from pathlib import Path
from typing import Any

import keras
from keras import layers

from regrow_host.study.datasets import DataSet
from regrow_host.study.training.fitting import fit
from regrow_host.study.training.images import shift_and_flip

STAGES = (4, 116), (8, 232), (4, 464)
HEAD = 1024
SEEN = 400_000


def train(data: DataSet, backup: Path) -> keras.Model:
    model = network()
    epochs = max(8, SEEN // len(data.x_train))
    fit(
        model,
        data.x_train,
        data.y_train,
        epochs=epochs,
        rate=2e-3,
        augment=shift_and_flip,
        batch=64,
        decay=2e-2,
        backup=backup,
    )
    return model


def network() -> keras.Model:
    source = keras.Input((32, 32, 3))
    x = layers.Rescaling(1 / 127.5, -1)(source)
    x = _relu(_conv(x, 24, 3))
    for units, channels in STAGES:
        x = _down(x, channels)
        for _ in range(units - 1):
            x = _unit(x, channels)
    x = layers.GlobalAveragePooling2D()(_relu(_conv(x, HEAD, 1)))
    return keras.Model(source, layers.Dense(10, "softmax")(layers.Dropout(0.2)(x)))


def _unit(x: Any, channels: int) -> Any:
    kept, worked = keras.ops.split(x, 2, axis=-1)
    worked = _relu(_conv(_depthwise(_relu(_conv(worked, channels // 2, 1)), 1), channels // 2, 1))
    return _shuffle(layers.Concatenate()([kept, worked]))


def _down(x: Any, channels: int) -> Any:
    left = _relu(_conv(_depthwise(x, 2), channels // 2, 1))
    right = _relu(_conv(_depthwise(_relu(_conv(x, channels // 2, 1)), 2), channels // 2, 1))
    return _shuffle(layers.Concatenate()([left, right]))


def _shuffle(x: Any) -> Any:
    _, height, width, channels = x.shape
    x = layers.Reshape((height, width, 2, channels // 2))(x)
    return layers.Reshape((height, width, channels))(layers.Permute((1, 2, 4, 3))(x))


def _relu(x: Any) -> Any:
    return layers.ReLU()(x)


def _conv(x: Any, channels: int, size: int) -> Any:
    return _normalize(
        layers.Conv2D(channels, size, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    )


def _depthwise(x: Any, stride: int) -> Any:
    return _normalize(layers.DepthwiseConv2D(3, stride, padding="same", use_bias=False)(x))


def _normalize(x: Any) -> Any:
    return layers.BatchNormalization(momentum=0.95)(x)
