"""One decoder per codec: `rewind()`, then `grow(out, count)` writes the next items to the front of `out`."""
