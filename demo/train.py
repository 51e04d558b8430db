"""Train the demo's model: scikit-learn's 1,797 handwritten digits, 8x8 pixels of 0..16 (UCI optdigits).

Writes digits.tflite (float32), digits_calib.npz (200 training samples without labels, for calibration)
and digits_eval.npz (500 labelled samples that took no part in training) beside this file.
Needs tensorflow and scikit-learn (`pip install "regrow[study]"`); takes about a minute.
"""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).parent


def network() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((8, 8, 1), batch_size=1),
            layers.Rescaling(1 / 16),
            layers.Conv2D(24, 3, padding="same", activation="relu"),
            layers.DepthwiseConv2D(3, padding="same", activation="relu"),
            layers.Conv2D(48, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(56, 3, padding="same", activation="relu"),
            layers.AveragePooling2D(4),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(10, activation="softmax"),
        ]
    )


def main() -> None:
    keras.utils.set_random_seed(1)
    digits = load_digits()
    x = digits.images[..., None].astype(np.uint8)
    y = digits.target.astype(np.uint8)
    x_train, x_eval, y_train, y_eval = train_test_split(x, y, test_size=500, random_state=1, stratify=y)

    model = network()
    shifts = keras.Sequential([keras.layers.RandomTranslation(0.1, 0.1, fill_mode="constant")])
    training = keras.Sequential([keras.layers.Input((8, 8, 1)), shifts, *model.layers])
    schedule = keras.optimizers.schedules.CosineDecay(3e-3, 80 * len(x_train) // 32)
    training.compile(keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"])
    training.fit(x_train.astype(np.float32), y_train, batch_size=32, epochs=80, verbose=2)
    print("held back:", training.evaluate(x_eval.astype(np.float32), y_eval, verbose=0))

    (HERE / "digits.tflite").write_bytes(tf.lite.TFLiteConverter.from_keras_model(model).convert())
    np.savez_compressed(HERE / "digits_calib.npz", x=x_train[:200])
    np.savez_compressed(HERE / "digits_eval.npz", x=x_eval, y=y_eval)


if __name__ == "__main__":
    main()
