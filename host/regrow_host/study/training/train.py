"""Train a model of the study into the cache, by its script."""

import importlib
import os
from pathlib import Path

from regrow.errors import InputError

from regrow_host import console, files
from regrow_host.runner import Runner
from regrow_host.study import cache, datasets, models

SCRIPTS = {
    "covid-mlp": ("mlp", "covid"),
    "poker-mlp": ("mlp", "poker"),
    "mnist-mlp": ("mlp", "mnist"),
    "ann-skip": ("mlp", "ann_skip"),
    "ann-plain": ("mlp", "ann_plain"),
    "squeezenet-letters": ("squeezenet", "train"),
    "shufflenetv2-cifar10": ("shufflenet", "train"),
    "mobilenetv2-mnist": ("mobilenet", "train"),
}


def train(name: str, csv: Path | None = None) -> float:
    """Train a model into the cache; returns its accuracy on the test samples, in percent.

    Raises InputError for a missing data set or package.
    """
    spec = models.find(name)
    if name not in SCRIPTS:
        raise InputError(f"{name} is a published model, which is not trained here")
    data = datasets.from_csv(spec.data, csv) if csv else datasets.load(spec.data)
    if not len(data.x_train):
        raise InputError(f"the data set {spec.data} has no training samples")
    module, function = SCRIPTS[name]
    try:
        keras = importlib.import_module("keras")
        script = importlib.import_module(f"regrow_host.study.training.{module}")
        fitting = importlib.import_module("regrow_host.study.training.fitting")
    except ModuleNotFoundError as error:
        raise InputError(
            f'training needs the Python package {error.name}: pip install "regrow[study]"'
        ) from None
    keras.utils.set_random_seed(0)
    backup = cache.folder("training") / name
    try:
        model = getattr(script, function)(data, backup)
    except OSError as error:  # HDF5 gives the number alone
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InputError(
            f"cannot keep the training's epochs in {backup} ({reason}): make room, or remove the folder to "
            "begin anew"
        ) from None
    tflite = fitting.to_tflite(model)
    outputs = Runner(tflite)(spec.prepare(data.x_test))
    accuracy = 100 * float((outputs.argmax(1) == data.y_test).mean())
    files.write(cache.folder("models") / spec.file, [tflite])
    if spec.reported and accuracy < spec.reported.original:
        console.warn(f"{name} reached {accuracy:.2f} %, the report has {spec.reported.original:.2f} %")
    return accuracy
