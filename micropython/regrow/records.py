"""Small JSON files that are old or new, never half.

A file NAME is written as NAME.new, synced, and renamed. FAT cannot rename onto a file, so there the old one
is removed first: NAME is missing only while NAME.new is whole, and then NAME.new is read in its place.
"""

import json
import os


def read(path):
    """The dict in the file at `path`; empty if it is not there or cannot be read."""
    for name in (path, path + ".new"):
        try:
            with open(name) as file:
                record = json.load(file)
            if isinstance(record, dict):
                return record
        except (OSError, ValueError):
            pass  # the other one may do
    return {}


def write(path, data):
    """Put bytes, a str, or what is to be JSON into the file at `path`."""
    fresh = path + ".new"
    if isinstance(data, dict):
        data = json.dumps(data)
    with open(fresh, "wb") as file:
        file.write(data)
        file.flush()
    try:
        os.rename(fresh, path)
    except OSError:  # FAT
        os.remove(path)
        os.rename(fresh, path)
