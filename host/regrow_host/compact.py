"""Let an int8 network keep its levels, and its scales and biases in few bytes.

Scales move by 0.14 % at most, to 256ths of an octave, and biases by a 16th of a level of the output: less
than rounding to 8 bits moves them. For networks that regrow quantized, before anything judges them.
"""

from regrow_host import tflite
from regrow_host.encode import snapped
from regrow_host.tflite import ModelError, NewWeights

STEPS = 256


def compact(network: bytes) -> bytes:
    """The int8 `.tflite` with such scales and biases; as it is where several layers share a bias."""
    weights = {
        each.tensor: NewWeights(each.levels, snapped(each.scales, STEPS))
        for each in tflite.weight_tensors(tflite.read(network))
        if each.levels is not None and each.scales is not None and (each.scales > 0).all()
    }
    try:
        return tflite.with_weights(network, weights)
    except ModelError:
        return network
