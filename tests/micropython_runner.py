"""Run one file of tests/both under MicroPython: `micropython micropython_runner.py FOLDER MODULE`.

Prints `PASS name` or `FAIL name` per test, a failure's traceback before it.
"""

import gc
import sys

sys.path.insert(0, sys.argv[1])
module = __import__(sys.argv[2])
for name in sorted(dir(module)):
    if name.startswith("test_"):
        gc.collect()
        try:
            getattr(module, name)()
            print("PASS", name)
        except Exception as error:
            sys.print_exception(error)
            print("FAIL", name)
