"""Integer kernels in viper, one file per family of operators: a board imports those that its pack needs.

Activations stand in the arena as level + 128, unsigned, as viper loads bytes. Each file has `build(node,
plan)`, which gives a step: `prepare(node, buffers)` at load, then `run(buffers)` for every predict.
"""
