"""Integer kernels in viper, one file per family of operators: a board imports those that its pack needs.

A family FAMILY is two files of that name and a line in install.py's table:

layouts/FAMILY.py, while the resident form is built: `lay(op, out)`, see there.
kernels/FAMILY.py, while the network runs: `run(p, arena, work, file)` computes one op.
    p      32 words: what the layout gave to `out.params`, from 0 on (30 and 31 are the executor's)
    arena  the memory with all activations, each from the offset in its tensor's `place` on, as level + 128,
           unsigned, as viper loads bytes (so a uint8 tensor is seen as it is)
    work   a view of the same memory, of as many bytes as the layout was sent, for this op alone; it begins at
           a multiple of 8
    file   stands at what the layout wrote after the parameters; `file.readinto(work, count)` reads on. All of
           it must be read, in order: the next op's record comes right behind.
`run` must not allocate: no slices, no floats, no ints beyond 30 bits outside viper. Words that viper loads
are unsigned where ints have 64 bits, so parameters must not be negative.
"""
