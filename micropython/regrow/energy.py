"""Power of the board while it computes: measured by an INA219 where config names one, else estimated.

Estimates are of the chip at its usual clock with the radio idle; figures and sources: docs/energy.md.
"""

import sys

# The first name that occurs in the machine's name counts; milliwatts while computing.
ACTIVE_MILLIWATTS = (
    ("ESP32S3", 140),
    ("ESP32S2", 75),
    ("ESP32C3", 88),
    ("ESP32", 160),
    ("RP2350", 80),
    ("RP2040", 85),
)
OTHER_MILLIWATTS = 1000


class Estimate:
    """A constant power; `source` says where it comes from, as telemetry tells it."""

    def __init__(self, machine):
        known = [pair for pair in ACTIVE_MILLIWATTS if pair[0] in machine]
        name, self._milliwatts = (known or [("generic", OTHER_MILLIWATTS)])[0]
        self.source = f"estimated: {name} board, {self._milliwatts} mW while active"

    def milliwatts(self):
        return self._milliwatts


class Ina219:
    """Power on the bus that the sensor watches, the mean of its last 68 ms (128 readings)."""

    source = "measured: INA219"

    def __init__(self, i2c, shunt_ohms=0.1, address=0x40):
        self._i2c = i2c
        self._shunt_ohms = shunt_ohms
        self._address = address
        self._word = bytearray(2)
        i2c.writeto_mem(address, 0, b"\x3f\xff")  # 32 V, 320 mV, 128 readings of both, without end

    def milliwatts(self):
        shunt = self._register(1)
        shunt -= (shunt & 0x8000) << 1
        bus = self._register(2) >> 3
        # units of 10 microvolts over the shunt and of 4 millivolts on the bus
        return max(0, int(shunt * bus * 0.04 / self._shunt_ohms / 1000))

    def _register(self, number):
        self._i2c.readfrom_mem_into(self._address, number, self._word)
        return self._word[0] << 8 | self._word[1]


def meter(sensor=None):
    """The meter of this board; `sensor`: an INA219's scl, sda (pins), maybe id, shunt_ohms, address."""
    if sensor is None:
        return Estimate(getattr(sys.implementation, "_machine", sys.platform))
    from machine import I2C, Pin

    i2c = I2C(sensor.get("id", 0), scl=Pin(sensor["scl"]), sda=Pin(sensor["sda"]))
    return Ina219(i2c, sensor.get("shunt_ohms", 0.1), sensor.get("address", 0x40))
