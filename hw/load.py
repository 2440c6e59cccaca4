"""Writing and reading the memories of a reloadable program while its array is idle."""

from functools import reduce
from operator import or_

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .storage import delayed, storage

__all__ = ["READ_CYCLES", "CoreLoadSignature", "LoadSignature", "Loader", "MemoryLoadSignature", "answer",
           "image_memory"]

#: Clock cycles from an address to its byte: the bus, a memory, a choice among at most 4^8 bytes of a row, the bus.
READ_CYCLES = 16


class LoadSignature(wiring.Signature):
    """The bus that all memories of a program can be written and read over, byte by byte.

    Only an idle array may be touched: while ``active``, no sample may be under way, nor begin. A byte is written in
    each cycle with ``write``. To read one, hold its address, and ``read_data`` has it `READ_CYCLES` later.

    Parameters
    ----------
    program : spikeloom.compiler.program.Program
        a reloadable one

    Members
    -------
    active : Out(1)
        with every write, and as long as an address is held for reading
    memory : Out(unsigned)
        which of ``program.images``
    row, byte : Out(unsigned)
        which row of it, which byte of the row
    data : Out(8)
        what to write
    write : Out(1)
        write it in this cycle
    read_data : In(8)
        the byte at the address
    """

    def __init__(self, program):
        images = program.images
        super().__init__({
            "active": Out(1),
            "memory": Out(_index(len(images))),
            "row": Out(_index(max(image.rows for image in images))),
            "byte": Out(_index(max(image.row_bytes for image in images))),
            "data": Out(8),
            "write": Out(1),
            "read_data": In(8),
        })


class MemoryLoadSignature(wiring.Signature):
    """The part of the bus that one memory sees.

    Parameters
    ----------
    image : spikeloom.compiler.core.Image
        of its shape

    Members
    -------
    active : Out(1)
        the address is one of this memory
    row, byte, data : Out
        as in `LoadSignature`
    write : Out(1)
        with ``active``
    read_data : In(8)
        zero unless ``active``
    """

    def __init__(self, image):
        super().__init__({
            "active": Out(1),
            "row": Out(_index(image.rows)),
            "byte": Out(_index(image.row_bytes)),
            "data": Out(8),
            "write": Out(1),
            "read_data": In(8),
        })


class CoreLoadSignature(wiring.Signature):
    """A `MemoryLoadSignature` for each of a core's memories, called as in ``core.images``; ``names`` selects some."""

    def __init__(self, core, names=None):
        super().__init__({name: Out(MemoryLoadSignature(image)) for name, image in core.images.items()
                          if names is None or name in names})


class Loader(wiring.Component):
    """Leads the bus to the memories, and the byte that one of them answers with back.

    Parameters
    ----------
    program : spikeloom.compiler.program.Program
        a reloadable one

    Members
    -------
    bus : In(LoadSignature(program))
    memory_0, memory_1, ... : Out(MemoryLoadSignature), one for each of ``program.images``
    """

    def __init__(self, program):
        self.images = program.images
        super().__init__({
            "bus": In(LoadSignature(program)),
            **{f"memory_{number}": Out(MemoryLoadSignature(image)) for number, image in enumerate(self.images)},
        })

    @property
    def ports(self):
        """The members ``memory_0``, ``memory_1``, ... in order."""
        return [getattr(self, f"memory_{number}") for number in range(len(self.images))]

    def elaborate(self, platform):
        m = Module()
        bus = self.bus
        row, byte, data = delayed(m, bus.row), delayed(m, bus.byte), delayed(m, bus.data)
        for number, port in enumerate(self.ports):
            active = bus.active & (bus.memory == number)
            m.d.comb += [port.row.eq(row), port.byte.eq(byte), port.data.eq(data)]
            m.d.sync += [port.active.eq(active), port.write.eq(active & bus.write)]
        m.d.sync += bus.read_data.eq(reduce(or_, (port.read_data for port in self.ports)))
        return m


def image_memory(m, name, image, addr, load=None, *, layout=None, single_port=False, logic=False, en=1):
    """A memory, the submodule ``name``, that starts with what the `Image` holds; the row at ``addr``, a cycle later,
    seen as the data layout ``layout`` if there is one. It stays while ``en`` is low, which only a memory without
    ``load`` heeds, and only such a one can be made of ``logic``.

    With ``load``, its `MemoryLoadSignature`, the memory can be written, and ``load.row`` takes the place of ``addr``
    while ``load.active``. One with a single port starts with nothing.
    """
    if load is None:
        m.submodules[name] = memory = storage(
            layout or image.row_bits, image.rows, [layout.from_bits(word) if layout else word for word in image.words],
            logic=logic)
        port = memory.read_port()
        m.d.comb += [port.addr.eq(addr), port.en.eq(en)]
        return port.data
    m.submodules[name] = memory = storage(8 * image.row_bytes, image.rows, () if single_port else image.words,
                                          single_port=single_port)
    port, w_port = memory.read_port(), memory.write_port(granularity=8)
    at = Signal.like(port.addr, name=f"{name}_addr")
    m.d.comb += [
        at.eq(Mux(load.active, load.row, addr)),
        port.addr.eq(at),
        w_port.addr.eq(at),
        w_port.data.eq(load.data.replicate(image.row_bytes)),
        w_port.en.eq(Cat(load.write & (load.byte == byte) for byte in range(image.row_bytes))),
    ]
    if single_port:
        m.d.comb += port.en.eq(~load.write)
    row = port.data[:image.row_bits]
    return data.View(layout, row) if layout else row


def answer(m, load, row):
    """Drive ``load.read_data`` with the byte of ``row`` that is asked for."""
    choices = [row[at:at + 8] for at in range(0, len(row), 8)]
    byte = load.byte
    while len(choices) > 1:  # a register after each choice among four, which keeps rows of any length fast
        choices = [delayed(m, Array(choices[at:at + 4])[byte[:2]]) for at in range(0, len(choices), 4)]
        byte = byte[2:]
    m.d.sync += load.read_data.eq(Mux(load.active, choices[0], 0))


def _index(count):
    """Bits that number ``count`` things."""
    return max(1, (count - 1).bit_length())
