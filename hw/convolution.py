"""Weight memory and accumulators of a convolution: sums that move along the row while columns pass by."""

import math

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .load import MemoryLoadSignature, answer, image_memory
from .storage import delayed, looked_up
from .synapse import decoded

__all__ = ["MapSynapses", "MapVisit"]


class MapVisit(data.StructLayout):
    """One event under the kernel, the end of a column, or both.

    Members
    -------
    layer : unsigned, where several layers share the core
        which of ``core.members`` the visit is for
    adds : unsigned(core.sets)
        positions that the event counts for: none at a mere end
    channel : unsigned
        of those that the group sees
    bank, first : unsigned
        the bank that the event's row is in, and that which the kernel's first row is in
    phase : unsigned
        as in `ColumnTags`
    shift : unsigned
        the event counts 2^shift times (graded values; absent from the layout otherwise)
    shortcut, shortcut_channel : unsigned, with a shortcut
        whether the event is one of the shortcut's, and counts for the foremost position alone; its channel
    shortcut_ends, shortcut_ends_groups : unsigned(1), with a shortcut
        the shortcut's pass ends; it was that of the last group
    end : unsigned(1)
        every sum moves on to the next position's
    retires : unsigned(1)
        with ``end``: the foremost sums are complete, and belong to a position of the map
    skips : unsigned(1), where the core does
        with ``end``: it stands for a whole row of the map, which stays as it is
    ends, ends_groups : unsigned(1)
        as in `ColumnTags`, with ``end``
    last, final : unsigned(1)
        with ``retires`` or ``skips``: the time step's last position; the sample ends with this time step
    """

    def __init__(self, core):
        members = core.members
        bank = max((member.banks - 1).bit_length() for member in members)
        graded = [words for member in members for _, words in member.branches if words.graded]
        fields = {"adds": core.sets, "bank": bank, "first": bank,
                  "channel": max(1, *((member.seen_channels - 1).bit_length() for member in members)),
                  "phase": max(1, *((member.layer.stride - 1).bit_length() for member in members))}
        if len(members) > 1:
            fields["layer"] = range(len(members))
        if graded:
            fields["shift"] = max(1, *((words.width - 1).bit_length() for words in graded))
        if core.shortcut:
            fields |= {"shortcut": 1, "shortcut_channel": max(1, (core.shortcut.seen_channels - 1).bit_length()),
                       "shortcut_ends": 1, "shortcut_ends_groups": 1}
        if core.skips:
            fields["skips"] = 1
        super().__init__({**fields, "end": 1, "retires": 1, "ends": 1, "ends_groups": 1, "last": 1, "final": 1})


class MapSynapses(wiring.Component):
    """Adds a row of weights to the sums of several neighbouring positions at each visit.

    There are ``core.sets`` sets of ``core.group`` accumulators each. Set 0 belongs to the newest position, the last set
    to the one that is complete next. At an ``end`` each set passes its sums on to the next, set 0 begins at zero, and
    where the position ``retires`` the last set's sums go into a shift register, from which ``units`` of them leave per
    cycle. Sums may wrap on the way, as in `Synapses`. An event of a shortcut is one of the last set alone, with weights
    from a memory of their own. Where ``core.sparse``, the row of an event is first looked up in a memory that says
    where it is; a row that is not there must not be visited.

    Throughput: one visit per cycle, be it an ``end`` or not; two that retire are at least ``core.pace`` cycles apart.

    Parameters
    ----------
    core : spikeloom.compiler.map_core.MapCore or spikeloom.compiler.sharing.SharedCore

    Members
    -------
    visit : In(MapVisit), visit_valid : In(1)
    start, last, final, sums, load
        as in `Synapses`
    skip : Out(1), where the core does
        in place of ``start``
    layer : Out(unsigned), where several layers share the core
        with ``start``
    shortcut_load : In(MemoryLoadSignature)
        likewise, of a shortcut's weights
    """

    def __init__(self, core):
        self.core = core
        super().__init__({
            "visit": In(MapVisit(core)),
            "visit_valid": In(1),
            "start": Out(1),
            **({"skip": Out(1)} if core.skips else {}),
            **({"layer": Out(range(len(core.members)))} if len(core.members) > 1 else {}),
            "last": Out(1),
            "final": Out(1),
            "sums": Out(signed(core.current_width)).array(core.units),
            **({"load": In(MemoryLoadSignature(core.images["weights"]))} if core.reloadable else {}),
            **({"shortcut_load": In(MemoryLoadSignature(core.images["shortcut"]))}
               if core.reloadable and core.shortcut else {}),
        })

    def elaborate(self, platform):
        m = Module()
        core, members, visit = self.core, self.core.members, self.visit
        weight_format = core.layer.weight_format
        layer = visit.layer if len(members) > 1 else C(0, 0)

        # Address: the group's first row, that of the kernel's row and of the phase within it, and the channel.
        rows = range(sum(math.prod(member.weight_rows) for member in members))
        base = Signal(rows)
        with m.If(self.visit_valid & visit.end & visit.ends):
            in_group = looked_up(m, layer, [math.prod(member.weight_rows[1:]) for member in members])
            m.d.sync += base.eq(Mux(visit.ends_groups, 0, base + in_group))
        below = Signal(len(visit.bank), reset_less=True)  # rows below the kernel's first
        if any(member.kernel[0] > 1 for member in members):
            banks = looked_up(m, layer, [member.banks for member in members])
            m.d.sync += below.eq(Mux(visit.bank >= visit.first, visit.bank - visit.first,
                                     visit.bank - visit.first + banks))
        offsets = self._offsets()
        offset, place, row = (Signal(rows, reset_less=True) for _ in range(3))
        m.d.sync += [
            offset.eq(looked_up(m, Cat(delayed(m, visit.phase), below, delayed(m, layer)), offsets)),
            place.eq(offset + delayed(m, visit.channel, 2)),
            row.eq(delayed(m, base, 3) + place),
        ]
        waits = 5 + core.memory_registers  # cycles from a visit to its codes
        if core.sparse:
            row = delayed(m, image_memory(m, "places", core.images["places"], row), 1 + core.memory_registers)
            waits += 2 + core.memory_registers
        load = self.load if core.reloadable else None
        codes = image_memory(m, "weights", core.images["weights"], row, load, single_port=core.memory == "single_port")

        # The tags keep step: beside the memory's address, its output (as far as it is registered), the weights.
        codes = delayed(m, codes, core.memory_registers)
        if load is not None:
            answer(m, load, codes)
        ends = self.visit_valid & visit.end
        tags = Cat(ends, ends & visit.retires, visit.last, visit.final,
                   *([ends & visit.skips] if core.skips else []), layer)
        tags = delayed(m, tags, waits, reset_less=False)
        adds = delayed(m, visit.adds & self.visit_valid.replicate(core.sets), waits, reset_less=False)

        # What a reset finds on the way to the accumulators ends there: all of it has a reset.
        shape, shortcut, adds_shortcut = Shape.cast(range(*_reach(weight_format))), [], C(0, 1)
        if core.shortcut:
            adds_shortcut = delayed(m, visit.shortcut & self.visit_valid, waits, reset_less=False)
            shape = Shape.cast(range(*_reach(weight_format, core.layer.shortcut.weight_format)))
            shortcut = self._shortcut(m, waits)
        operands = []
        for lane in range(core.lanes):
            weight = Signal(shape, name=f"weight_{lane}")
            code = codes.word_select(lane, weight_format.width)
            m.d.sync += weight.eq(Mux(adds[lane // core.group], decoded(weight_format, code), 0))
            if shortcut and lane >= core.lanes - core.group:
                with m.If(adds_shortcut):
                    m.d.sync += weight.eq(shortcut[lane + core.group - core.lanes])
            operands.append(weight)
        if "shift" in dict(visit.shape()):
            shift = delayed(m, visit.shift, waits + 1)
            tags = delayed(m, tags, reset_less=False)
            for lane, weight in enumerate(operands):
                operand = Signal(signed(core.current_width), name=f"operand_{lane}")
                m.d.sync += operand.eq(weight << shift)
                operands[lane] = operand

        tags = delayed(m, tags, 2, reset_less=False)
        moved, retires = tags[0], tags[1]  # sums are still in the set that they are to leave
        m.d.comb += [self.start.eq(retires), self.last.eq(tags[2]), self.final.eq(tags[3])]
        if core.skips:
            m.d.comb += self.skip.eq(tags[4])
        if len(members) > 1:
            m.d.comb += self.layer.eq(tags[-len(layer):])
        shape = signed(core.current_width)
        accumulators = [Signal(shape, name=f"accumulator_{lane}") for lane in range(core.lanes)]
        for lane, (accumulator, operand) in enumerate(zip(accumulators, operands, strict=True)):
            before = accumulators[lane - core.group] if lane >= core.group else 0
            m.d.sync += accumulator.eq(Mux(moved, before, accumulator) + operand)
        foremost = accumulators[-core.group:]
        sums = [Signal(shape, name=f"sum_{channel}", reset_less=True) for channel in range(core.group)]
        for channel, (register, accumulator) in enumerate(zip(sums, foremost, strict=True)):
            following = sums[channel + core.units] if channel + core.units < core.group else accumulator
            m.d.sync += register.eq(Mux(retires, accumulator, following))
        m.d.comb += [self.sums[unit].eq(sums[unit]) for unit in range(core.units)]
        return m

    def _offsets(self):
        """Where the weights of an event's first channel are, beyond the group's first row: for each phase of a column,
        row of the kernel and layer, the first varying fastest."""
        phase_bits, below_bits = len(self.visit.phase), len(self.visit.bank)
        offsets, first = [], 0
        for member in self.core.members:
            groups, kernel, stride, seen = member.weight_rows
            offsets += [first + (min(below // member.summed[0], kernel - 1) * stride + min(phase, stride - 1)) * seen
                        for below in range(1 << below_bits) for phase in range(1 << phase_bits)]
            first += groups * kernel * stride * seen
        return offsets

    def _shortcut(self, m, waits):
        """The shortcut's weights, one for each channel of the group, so many cycles after the visit."""
        core, visit = self.core, self.visit
        image, weight_format = core.images["shortcut"], core.layer.shortcut.weight_format
        base = Signal(range(image.rows))
        with m.If(self.visit_valid & visit.shortcut_ends):
            m.d.sync += base.eq(Mux(visit.shortcut_ends_groups, 0, base + core.shortcut.seen_channels))
        row = Signal(range(image.rows), reset_less=True)
        m.d.sync += row.eq(delayed(m, base + visit.shortcut_channel, waits - core.memory_registers - 2)[:len(row)])
        load = self.shortcut_load if core.reloadable else None
        codes = delayed(m, image_memory(m, "shortcut", image, row, load), core.memory_registers)
        if load is not None:
            answer(m, load, codes)
        return [decoded(weight_format, codes.word_select(channel, weight_format.width))
                for channel in range(core.group)]


def _reach(*formats):
    """The arguments of a range that holds all weights of ``formats``."""
    return min(each.bounds[0] for each in formats), max(each.bounds[1] for each in formats) + 1
