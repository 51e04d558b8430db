"""What every training has in common: the schedule, resuming, and the `.tflite` at its end."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from rich.progress import Progress

from regrow_host import console

Array = NDArray[Any]
Augment = Callable[[np.random.Generator, Array], Array]

BATCH = 128


class Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Shuffled batches of augmented samples; an epoch's order and augmentation follow from its number."""

    def __init__(self, x: Array, y: Array, augment: Augment | None, size: int, seed: int) -> None:
        super().__init__()
        self.x, self.y, self.augment, self.size, self.seed = x, y, augment, size, seed
        self.epoch = 0
        self._shuffle()

    def __len__(self) -> int:
        return len(self.x) // self.size

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        which = self.order[index * self.size : (index + 1) * self.size]
        x = self.x[which]
        if self.augment:
            x = self.augment(np.random.default_rng((self.seed, self.epoch, index)), x)
        return x.astype(np.float32), self.y[which]

    def on_epoch_end(self) -> None:
        self.epoch += 1
        self._shuffle()

    def _shuffle(self) -> None:
        self.order = np.random.default_rng((self.seed, self.epoch)).permutation(len(self.x))


def fit(
    model: keras.Model,
    x: Array,
    y: Array,
    *,
    epochs: int,
    rate: float,
    augment: Augment | None = None,
    batch: int = BATCH,
    decay: float = 0.0,
    backup: Path,
    seed: int = 0,
) -> None:
    """AdamW with a cosine schedule. Each epoch is kept in `backup`, where an interrupted training resumes."""
    steps = max(1, len(x) // batch) * epochs
    schedule = keras.optimizers.schedules.CosineDecay(
        rate, steps, warmup_target=rate, warmup_steps=steps // 20
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=decay),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    with console.progress() as bar:
        model.fit(
            Batches(x, y, augment, batch, seed),
            epochs=epochs,
            verbose=0,
            callbacks=[keras.callbacks.BackupAndRestore(backup), Epochs(bar, epochs)],
        )


class Epochs(keras.callbacks.Callback):  # type: ignore[misc]
    """A progress bar of epochs."""

    def __init__(self, bar: Progress, epochs: int) -> None:
        super().__init__()
        self.bar, self.task = bar, bar.add_task("training", total=epochs)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        reached = 100 * (logs or {}).get("accuracy", 0)
        self.bar.update(self.task, completed=epoch + 1, description=f"training, {reached:.1f} % right")


@contextmanager
def _without_logs() -> Iterator[None]:
    """Hold back what TensorFlow's C++ code logs on stderr; what fails it raises."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def to_tflite(model: keras.Model) -> bytes:
    """The float32 `.tflite` of the model for one sample."""
    single = keras.Input(model.input_shape[1:], batch_size=1)
    outputs = model(single, training=False)
    with redirect_stdout(StringIO()), _without_logs():  # Keras tells on stdout what it exports
        return bytes(tf.lite.TFLiteConverter.from_keras_model(keras.Model(single, outputs)).convert())
