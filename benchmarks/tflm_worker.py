"""Run a model by TFLite Micro on every sample of a file: tflm_worker.py MODEL INPUTS OUTPUTS.

Prints microseconds per inference as JSON on stdout, and what the arena takes on stderr. Its environment has
`tflite-micro`, whose kernels are the reference ones.
"""

import json
import sys
import time

import numpy as np
from tflite_micro.python.tflite_micro import runtime  # type: ignore[import-not-found]


def main(model: str, inputs: str, outputs: str) -> list[float]:
    recording = runtime.InterpreterConfig.kAllocationRecording
    interpreter = runtime.Interpreter.from_file(model, intrepreter_config=recording)
    interpreter.print_allocations()
    shape = interpreter.get_input_details(0)["shape"]
    x = np.fromfile(inputs, np.int8).reshape(-1, *shape)
    times, y = [], []
    for sample in x:
        interpreter.set_input(sample, 0)
        started = time.perf_counter()
        interpreter.invoke()
        times.append(1e6 * (time.perf_counter() - started))
        y.append(interpreter.get_output(0))
    np.concatenate(y).tofile(outputs)
    return times


print(json.dumps(main(*sys.argv[1:])))
