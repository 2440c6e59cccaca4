"""Channel gates: which channels of a convolution are open at a time step, found out while its rows come in."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from .event import EventWord, PermitSignature
from .load import image_memory
from .storage import delayed, in_use, storage
from .synapse import decoded

__all__ = ["ChannelsSignature", "Gate", "GroupsSignature"]

#: Cycles from a word to its sums' being in their memory.
WRITE_CYCLES = 5


class GroupsSignature(wiring.Signature):
    """What somebody is told of groups of channels at the time step that he has come to.

    Members
    -------
    valid : Out(1)
        it is known
    open : Out(groups)
        whether any channel of each is open
    ends : In(1)
        the time step is done with
    """

    def __init__(self, groups):
        super().__init__({"valid": Out(1), "open": Out(groups), "ends": In(1)})


class ChannelsSignature(wiring.Signature):
    """Asks about channels, time step by time step, once their groups are known.

    Members
    -------
    channel : Out(range(core.channel_updates))
        which ``core.units`` of them
    ends : Out(1)
        the time step ends with what is asked for in this cycle
    open : In(core.units)
        whether they are open, two cycles later
    """

    def __init__(self, core):
        super().__init__({"channel": Out(range(core.channel_updates)), "ends": Out(1), "open": In(core.units)})


class Gate(wiring.Component):
    """Looks on as the rows of a map come in, and says of each time step which channels of the layer are open.

    Each word's values are added to the sums of their channels. When the time step's last word has come, the sums go one
    after the other through the table, and are cleared; then the logits of ``core.units`` channels at a time are added
    up, a value each cycle. Up to two time steps are remembered until all who are told have done with them.

    Throughput: one word per cycle. From a time step's last word it takes ``core.predictor.cycles``, the first of them
    until words of the next may come; the sums of one may lie complete while another waits to be done with.

    Parameters
    ----------
    core : spikeloom.compiler.map_core.MapCore
        of a layer with a gate

    Members
    -------
    i : In(stream of EventWord(core.i_words))
        ``ready`` is always high
    permit : Out(PermitSignature())
        for a row each
    groups_N : Out(GroupsSignature(core.groups)), one for each of ``core.windows``
    channels : In(ChannelsSignature(core))
    """

    def __init__(self, core):
        self.core, self.predictor = core, core.predictor
        super().__init__({
            "i": In(stream.Signature(EventWord(core.i_words))),
            "permit": Out(PermitSignature()),
            **{f"groups_{number}": Out(GroupsSignature(core.groups)) for number in range(len(core.windows))},
            "channels": In(ChannelsSignature(core)),
        })

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.i.ready.eq(1)
        clears, cleared = Signal(init=1), Signal()  # sums go, the last of them; after a reset they are worth nothing
        counts, busy, due = Signal(), Signal(), Signal()
        full = Signal()  # a time step's sums are complete
        self._promise(m, cleared)
        values = self._values(m, clears, cleared)
        taken, decided = self._decide(m, due, values)

        with m.If(delayed(m, self.i.valid & self.i.payload.last, WRITE_CYCLES - 1, reset_less=False)):
            m.d.sync += full.eq(1)
        with m.If(cleared):
            m.d.sync += clears.eq(0)
        with m.If(full & ~busy & ~clears):
            m.d.sync += [clears.eq(1), counts.eq(1), busy.eq(1), full.eq(0)]
        with m.If(delayed(m, cleared & counts, self._value_cycles + 1, reset_less=False)):
            m.d.sync += due.eq(1)
        with m.If(taken):
            m.d.sync += due.eq(0)
        with m.If(decided):
            m.d.sync += busy.eq(0)
        return m

    @property
    def _value_cycles(self):
        """From the moment that a sum is asked for to its value."""
        return 7 + self.core.memory_registers

    def _promise(self, m, cleared):
        """Permits: the first row of a time step waits until the sums of the one before are cleared."""
        count = self.core.layer.input_shape[0]
        row, clear = Signal(range(count)), Signal()
        granted = self.permit.valid & self.permit.ready
        m.d.comb += self.permit.valid.eq((row != 0) | clear)
        with m.If(granted):
            m.d.sync += [row.eq(Mux(row == count - 1, 0, row + 1)), clear.eq(0)]
        with m.If(cleared):
            m.d.sync += clear.eq(1)

    def _values(self, m, clears, cleared):
        """Add words up; while ``clears``, make values of the sums, until the last is asked for (``cleared``). The read
        port of their memory."""
        predictor, words, word = self.predictor, self.core.i_words, self.i.payload
        beside, width = predictor.beside, predictor.sum_width
        m.submodules.sums = sums = storage(beside * width, words.parts)
        r_port, w_port = sums.read_port(), sums.write_port()

        # Sums go one after the other.
        part, place = Signal(range(words.parts)), Signal(range(beside))
        channel, member = Signal(range(predictor.channels)), Signal(range(predictor.gate.reduce))
        ends_part, ends = place == beside - 1, member == predictor.gate.reduce - 1
        m.d.comb += cleared.eq(clears & (channel == predictor.channels - 1))
        with m.If(clears):
            m.d.sync += [
                channel.eq(Mux(cleared, 0, channel + 1)), member.eq(Mux(ends, 0, member + 1)),
                place.eq(Mux(cleared | ends_part, 0, place + 1)),
                part.eq(Mux(cleared, 0, part + ends_part)),
            ]

        # A word's sums are read in cycle 0, held in a register in cycle 2, and written in cycle 3. So a word misses
        # what the three before it wrote, which are in cycles 3, 4 and 5 when it is in cycle 2.
        part_width = words.fields[0]
        valids = [delayed(m, self.i.valid & word.bits.any(), reset_less=False)]
        parts = [delayed(m, word.index[:part_width] if part_width else C(0, 0))]
        for _ in range(4):
            valids.append(delayed(m, valids[-1], reset_less=False))
            parts.append(delayed(m, parts[-1]))
        bits = delayed(m, word.bits, 3)
        totals = Signal(beside * width, reset_less=True)  # in cycle 3
        before = delayed(m, totals)
        same = [valids[cycle] & (parts[cycle] == parts[1]) for cycle in (2, 3, 4)]
        near = delayed(m, same[0])
        held = Signal(beside * width, reset_less=True)
        m.d.sync += held.eq(Mux(same[1], totals, Mux(same[2], before, r_port.data)))
        now = Mux(near, totals, held)
        addends = [bits] if words.graded else bits
        m.d.sync += totals.eq(Cat((now.word_select(each, width) + addends[each])[:width] for each in range(beside)))

        clear = delayed(m, clears & (ends_part | cleared), reset_less=False)
        m.d.comb += [
            r_port.addr.eq(Mux(clears, part, parts[0])),
            w_port.en.eq(valids[3] | clear),
            w_port.addr.eq(Mux(clear, delayed(m, part), parts[3])),
            w_port.data.eq(Mux(clear, 0, totals)),
        ]

        # Neighbours' sums are added, and their sum is looked up.
        each = delayed(m, held.word_select(delayed(m, place, 2), width))
        first = delayed(m, member == 0, 3)
        total = Signal(predictor.total_width, reset_less=True)
        m.d.sync += total.eq(Mux(first, 0, total) + each)
        entries = len(predictor.gate.table)
        shifted, index = total[predictor.gate.shift:], Signal(range(entries), reset_less=True)
        m.d.sync += index.eq(Mux(shifted[len(index):].any(), entries - 1, shifted))
        value = image_memory(m, "table", self.core.images["gate_table"], index)
        value = delayed(m, value, 1 + self.core.memory_registers)

        m.submodules.values = values = storage(predictor.value_width, predictor.values)
        v_port, address = values.write_port(), Signal(range(predictor.values))
        m.d.comb += [v_port.addr.eq(address), v_port.data.eq(value),
                     v_port.en.eq(delayed(m, clears & ends, self._value_cycles, reset_less=False))]
        with m.If(v_port.en):
            m.d.sync += address.eq(Mux(address == predictor.values - 1, 0, address + 1))
        return values.read_port()

    def _decide(self, m, due, values):
        """Once a time step is ``due``, and there is a place for it, find out which channels are open, from the
        ``values`` at a port. Pulses: the place is taken; all values have been asked for."""
        core, predictor = self.core, self.predictor
        images, registers = core.images, core.memory_registers
        taken, runs, asked = Signal(), Signal(), Signal()
        row, value = Signal(range(core.channel_updates)), Signal(range(predictor.values))
        address = Signal(range(images["gate_weights"].rows))
        update, ends_row = Signal(range(core.updates)), value == predictor.values - 1
        ends_group = update == core.updates - 1
        m.d.comb += asked.eq(runs & ends_row & (row == core.channel_updates - 1))
        with m.If(taken | asked):
            m.d.sync += runs.eq(taken)
        with m.If(runs):
            m.d.sync += [address.eq(Mux(asked, 0, address + 1)), value.eq(Mux(ends_row, 0, value + 1))]
            with m.If(ends_row):
                m.d.sync += [row.eq(Mux(asked, 0, row + 1)), update.eq(Mux(ends_group, 0, update + 1))]
        m.d.comb += values.addr.eq(value)

        # Behind the memories, their registers and products: logits, and a cycle later what they say.
        form, opened = predictor.gate.weight_format, Signal(core.units)
        ahead = 2 + registers
        seen, codes = (delayed(m, data, 1 + registers) for data in (
            values.data, image_memory(m, "weights", images["gate_weights"], address)))
        weights = [decoded(form, codes.word_select(unit, form.width)) for unit in range(core.units)]
        cycles = (len(weights[0]) - 1).bit_length()  # of a product
        biases = image_memory(m, "biases", images["gate_biases"], delayed(m, row, cycles), logic=predictor.logic_biases)
        biases = delayed(m, biases, 1 + registers)
        first, at = delayed(m, value == 0, ahead + cycles), delayed(m, row, ahead + cycles + 1)
        complete, group, made = delayed(
            m, Cat(runs & ends_row, runs & ends_row & ends_group, asked), ahead + cycles + 1, reset_less=False)
        for unit, weight in enumerate(weights):
            logit = Signal(signed(predictor.logit_width), name=f"logit_{unit}", reset_less=True)
            bias = biases.word_select(unit, predictor.logit_width).as_signed()
            m.d.sync += logit.eq(Mux(first, bias, logit) + _product(m, seen, weight))
            m.d.comb += opened[unit].eq(~logit[-1])

        # What is known is kept in one of two places: of channels in a memory, of groups in registers.
        m.submodules.open = channels = storage(core.units, 2 << len(row))
        r_port, w_port = channels.read_port(), channels.write_port()
        writes, reads = Signal(), Signal()  # which place
        used = in_use(m, taken, self.channels.ends)
        m.d.sync += [writes.eq(writes ^ made), reads.eq(reads ^ self.channels.ends)]
        m.d.comb += [
            taken.eq(due & ~used[1]),
            w_port.en.eq(complete), w_port.addr.eq(Cat(at, writes)), w_port.data.eq(opened),
            r_port.addr.eq(Cat(self.channels.channel, reads)),
            self.channels.open.eq(delayed(m, r_port.data)),
        ]
        before, earlier = Signal(), Signal(core.groups - 1, reset_less=True)
        any_open = opened.any() | before
        with m.If(complete):
            m.d.sync += before.eq(any_open & ~group)
        with m.If(group):
            m.d.sync += earlier.eq(Cat(earlier, any_open)[1:])
        places = [Signal(core.groups, name=f"groups_{place}", reset_less=True) for place in range(2)]
        with m.If(made):
            for place, groups in enumerate(places):
                with m.If(writes == place):
                    m.d.sync += groups.eq(Cat(earlier, any_open))
        for number in range(len(core.windows)):
            told = getattr(self, f"groups_{number}")
            place = Signal(name=f"place_{number}")
            m.d.sync += place.eq(place ^ told.ends)
            m.d.comb += [told.valid.eq(in_use(m, made, told.ends).any()), told.open.eq(Array(places)[place])]
        return taken, asked


def _product(m, value, weight):
    """``weight`` times a ``value`` that is not negative, out of additions with a register behind each: so many cycles
    later as a binary tree over the weight's bits is high."""
    *parts, sign = (Mux(bit, value, 0) for bit in weight)
    parts.append(-sign)
    distance = 1  # from a part to the next, in bits
    while len(parts) > 1:
        pairs = [parts[at:at + 2] for at in range(0, len(parts), 2)]
        parts = [delayed(m, pair[0] + (pair[1] << distance) if len(pair) > 1 else pair[0]) for pair in pairs]
        distance *= 2
    return parts[0]
