"""MobileNetV2 on MNIST with dense layers of 128, 32 and 10 on top: the report's 2,426,410 parameters."""

from pathlib import Path

import keras
from keras import layers

from regrow_host.study.datasets import DataSet
from regrow_host.study.training.fitting import fit

EPOCHS = 3


def train(data: DataSet, backup: Path) -> keras.Model:
    model = network()
    fit(model, data.x_train, data.y_train, epochs=EPOCHS, rate=1e-3, backup=backup)
    return model


def network() -> keras.Model:
    """Images of 28 x 28, with a margin to the least size that MobileNetV2 takes, in three channels."""
    source = keras.Input((28, 28))
    x = layers.Rescaling(1 / 127.5, -1)(layers.Reshape((28, 28, 1))(source))
    x = layers.Concatenate()([layers.ZeroPadding2D(2)(x)] * 3)
    base = keras.applications.MobileNetV2((32, 32, 3), include_top=False, weights=None, pooling="avg")
    for layer in base.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.momentum = 0.9  # ImageNet's 0.999 never settles in so few steps
    x = layers.Dense(32, "relu")(layers.Dense(128, "relu")(base(x)))
    return keras.Model(source, layers.Dense(10, "softmax")(x))
