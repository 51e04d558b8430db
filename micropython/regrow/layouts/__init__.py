"""How each family of operators stands in the resident form: imported only while that is built.

Each file has `lay(op, out)`, a generator. It checks the op and answers what no kernel can run with PackError;
it yields the bytes of memory that the op needs at least to work in, and is sent how many there are. Then it
writes the record: `out.params(...)` once, and with `out.write` whatever the kernel of the same name reads.
The first yield happens twice, as the memory is planned first; nothing must be written before it.
"""
