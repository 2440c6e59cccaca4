"""Weight memory and accumulators: one word of weights per visit, one addition per lane and cycle."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .event import Visit
from .load import MemoryLoadSignature, answer, image_memory
from .storage import delayed

__all__ = ["Synapses", "decoded"]


def decoded(weight_format, code):
    """The weight that ``code`` stands for, as a signed value."""
    if weight_format.kind == "binary":
        return Mux(code, 1, C(-1, signed(2)))
    if weight_format.kind == "pot":
        exponent, negative = code[:-1], code[-1]
        magnitude = Cat(exponent == e + 1 for e in range(2 ** len(exponent) - 1))
        return Mux(negative, -magnitude, magnitude)
    return code.as_signed()


class Synapses(wiring.Component):
    """Adds a row of weights to all lanes at each visit, and hands the sums over at each ``end``.

    A visit reads the row of its input and the current group, or in a sparse core the row that it names. At an ``end``
    every lane's sum moves into a shift register, from which ``units`` sums leave per cycle, while the accumulators
    start the next group from zero. Sums may wrap on the way: the width holds every sum that can be final, and addition
    modulo a power of two does not mind the order. What is to be subtracted is complemented on its way, and a one added
    with it.

    Throughput: one visit or ``end`` per cycle; two ends are at least ``core.pace`` cycles apart. Latency from
    a visit to its effect on the accumulators: `latency` cycles.

    Parameters
    ----------
    core : spikeloom.compiler.core.Core

    Members
    -------
    visit : In(Visit), visit_valid : In(1)
    start : Out(1)
        in the cycle after this one, ``sums`` are those of the group's first ``units`` lanes, then of the next
    last, final : Out(1)
        with ``start``: the tags of the ``end``
    sums : Out(signed(core.current_width)), one for each update unit
    load : In(MemoryLoadSignature)
        of the weight memory, where the core is reloadable
    """

    def __init__(self, core):
        self.core = core
        super().__init__({
            "visit": In(Visit(core)),
            "visit_valid": In(1),
            "start": Out(1),
            "last": Out(1),
            "final": Out(1),
            "sums": Out(signed(core.current_width)).array(core.units),
            **({"load": In(MemoryLoadSignature(core.images["weights"]))} if core.reloadable else {}),
        })

    @property
    def latency(self):
        """Cycles: address, memory and its registers, weight, accumulator; one more to shift graded values."""
        return 4 + self.core.memory_registers + self.core.i_words.graded

    def elaborate(self, platform):
        m = Module()
        core = self.core
        code_width = core.weight_format.width
        low, high = core.weight_format.bounds
        weight_shape = Shape.cast(range(low, high + 1))

        # Address: the group's first row, and the input; a sparse core's visits have it whole.
        rows, inputs = core.images["weights"].rows, core.input_rows
        row = Signal(range(rows), reset_less=True)
        base = Signal(range(rows))
        tags = Cat(self.visit_valid & ~self.visit.end, self.visit_valid & self.visit.end,
                   self.visit.last, self.visit.final)
        m.d.sync += row.eq(base + self.visit.row)
        if core.groups > 1 and not core.sparse:
            with m.If(self.visit_valid & self.visit.end):
                m.d.sync += base.eq(Mux(self.visit.last, 0, base + inputs))
        load = self.load if core.reloadable else None
        codes = image_memory(m, "weights", core.images["weights"], row, load,
                             single_port=core.memory == "single_port")

        # The tags keep step: beside the memory's address, its output (as far as it is registered), the weights.
        codes = delayed(m, codes, core.memory_registers)
        if load is not None:
            answer(m, load, codes)
        tags = delayed(m, tags, 2 + core.memory_registers, reset_less=False)
        add = tags[0]

        operands = []
        for lane in range(core.lanes):
            weight = Signal(weight_shape, name=f"weight_{lane}", reset_less=True)
            code = codes.word_select(lane, code_width)
            m.d.sync += weight.eq(Mux(add, decoded(core.weight_format, code), 0))
            operands.append(weight)
        if core.i_words.graded:
            shift = delayed(m, self.visit.shift, 3 + core.memory_registers)
            minus = C(0, 1)
            if core.i_words.signed:
                minus = delayed(m, self.visit.negative, 2 + core.memory_registers) & add
                minus = delayed(m, minus)
            tags = delayed(m, tags, reset_less=False)
            for lane, weight in enumerate(operands):
                operand = Signal(signed(core.current_width), name=f"operand_{lane}", reset_less=True)
                m.d.sync += operand.eq((weight << shift) ^ minus.replicate(core.current_width).as_signed())
                operands[lane] = operand
            minus = delayed(m, minus)

        # What a reset finds on the way to the accumulators ends there.
        clear = Signal(reset_less=True)
        found = [delayed(m, ResetSignal(), cycles) for cycles in range(1 + core.i_words.graded)]
        m.d.sync += clear.eq(Cat(tags[1], *found).any())
        tags = delayed(m, tags, reset_less=False)
        end = tags[1]
        m.d.comb += [self.start.eq(end), self.last.eq(tags[2]), self.final.eq(tags[3])]
        sums = []
        shape = signed(core.current_width)
        for lane, operand in enumerate(operands):
            accumulator = Signal(shape, name=f"accumulator_{lane}", reset_less=True)
            # The carry into the lowest bit comes out of one below it.
            total = accumulator + operand
            if core.i_words.signed:
                total = (Cat(minus, accumulator) + Cat(minus, operand))[1:]
            m.d.sync += accumulator.eq(total)
            with m.If(clear):
                m.d.sync += accumulator.eq(0)
            sums.append((accumulator, Signal(shape, name=f"sum_{lane}", reset_less=True)))
        for lane, (accumulator, register) in enumerate(sums):
            following = sums[lane + core.units][1] if lane + core.units < core.lanes else accumulator
            m.d.sync += register.eq(Mux(end, accumulator, following))
        m.d.comb += [self.sums[unit].eq(sums[unit][1]) for unit in range(core.units)]
        return m

