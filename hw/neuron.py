"""Neuron updates: leak, fire, reset and store, one neuron per unit and cycle."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from spikeloom.network import ShiftLeak, Silent, TableLeak

from .load import CoreLoadSignature, answer, image_memory
from .storage import delayed, storage

__all__ = ["MapPlace", "NeuronUpdate", "UpdateSignature", "skips"]

#: Memories of a core that its synapses have.
WEIGHTS = ("weights", "shortcut")


def skips(core):
    """Whether the core of a layer of any kind leaves rows alone."""
    return bool(core.o_words.shape) and core.skips


class UpdateSignature(wiring.Signature):
    """What became of ``core.units`` neurons in a time step.

    Members
    -------
    valid : Out(1)
    index : Out(unsigned)
        which ``units`` neurons of the layer
    z : Out(units)
        their spikes
    v : Out(signed(core.layer.v_width)), one for each unit
        their stored membrane potentials
    first_step, last_word, final_step : Out(1)
        they belong to a sample's first time step, end a time step, belong to a sample's last time step
    place : Out(unsigned), of a convolution
        the index of their word in ``core.o_words``
    row : Out(1), of a convolution
        they end a row of the map
    skipped : Out(1), of a convolution that skips
        in place of ``valid``, high for one cycle for a whole row of the map, whose neurons stay as they are
    fired : Out(1), of a convolution that skips
        with ``row``: some neuron of the row fired
    """

    def __init__(self, core):
        on_map = {"place": Out(core.o_words.index_width), "row": Out(1)} if core.o_words.shape else {}
        if skips(core):
            on_map |= {"skipped": Out(1), "fired": Out(1)}
        super().__init__({
            **on_map,
            "valid": Out(1),
            "index": Out(max(1, (core.update_count - 1).bit_length())),
            "z": Out(core.units),
            "v": Out(signed(core.layer.v_width)).array(core.units),
            "first_step": Out(1),
            "last_word": Out(1),
            "final_step": Out(1),
        })


class MapPlace(wiring.Component):
    """Where the neurons of an update are in the map of a convolution, counted from the first of a time step on: updates
    of a group, columns, groups, rows.

    Parameters
    ----------
    core : spikeloom.program.MapCore

    Members
    -------
    step : In(1)
        on to the next update
    skip : In(1)
        on to the next row, when none is under way
    channel : Out(range(core.channel_updates))
        which ``units`` channels of the position
    column, row : Out
    ends_row : Out(1)
        no other update of the row follows
    """

    def __init__(self, core):
        self.core = core
        rows, columns, _ = core.layer.shape
        super().__init__({"step": In(1), "skip": In(1), "channel": Out(range(core.channel_updates)),
                          "column": Out(range(columns)), "row": Out(range(rows)), "ends_row": Out(1)})

    def elaborate(self, platform):
        m = Module()
        core, (rows, columns, _) = self.core, self.core.layer.shape
        base = Signal.like(self.channel)  # of the group
        last = self.channel == core.channel_updates - 1
        update = Signal(range(core.updates))
        ends_group, ends_columns = update == core.updates - 1, self.column == columns - 1
        m.d.comb += self.ends_row.eq(last & ends_columns)
        with m.If(self.step):
            m.d.sync += [update.eq(update + 1), self.channel.eq(self.channel + 1)]
            with m.If(ends_group):
                m.d.sync += [update.eq(0), self.channel.eq(base), self.column.eq(self.column + 1)]
                with m.If(ends_columns):
                    m.d.sync += [self.column.eq(0), self.channel.eq(self.channel + 1), base.eq(self.channel + 1)]
                    with m.If(last):
                        m.d.sync += [self.channel.eq(0), base.eq(0)]
        with m.If((self.step & self.ends_row) | self.skip):
            m.d.sync += self.row.eq(Mux(self.row == rows - 1, 0, self.row + 1))
        return m


class NeuronUpdate(wiring.Component):
    """``units`` update units in step, with the membrane memory they share.

    After ``start`` the units take a group's sums, ``units`` of them per cycle for ``core.updates`` cycles, and
    read the same neurons' membrane potentials (and thresholds and biases, where these differ between neurons). The
    time steps of a layer touch each membrane word once: a neuron comes back only after ``core.pace · core.groups``
    cycles, by when its potential has been written.

    Throughput: ``units`` neurons per cycle. Latency from ``start`` to the first ``update``: `latency` cycles.

    Parameters
    ----------
    core : spikeloom.program.Core

    Members
    -------
    start, last, final : In(1)
        a group's sums follow; it is the time step's last group; the time step is the sample's last
    skip : In(1), of a convolution that skips
        in place of ``start``: a row of the map stays as it is; ``last`` and ``final`` as there
    sums : In(signed(core.current_width)), one for each unit
    update : Out(UpdateSignature(core))
    load : In(CoreLoadSignature)
        of the memories but the weights', where the core is reloadable; every unit has its own copy of the leak table,
        all are written at once and the first is read
    """

    def __init__(self, core):
        self.core = core
        self.loaded = [name for name in core.images if name not in WEIGHTS] if core.reloadable else []
        super().__init__({
            "start": In(1),
            **({"skip": In(1)} if skips(core) else {}),
            "last": In(1),
            "final": In(1),
            "sums": In(signed(core.current_width)).array(core.units),
            "update": Out(UpdateSignature(core)),
            **({"load": In(CoreLoadSignature(core, self.loaded))} if self.loaded else {}),
        })

    @property
    def latency(self):
        """Cycles from ``start`` to ``update.valid``: control 1, read 2, leak and bias 1 (a table 2), then sum, compare,
        select and saturate."""
        return 1 + self._latency

    @property
    def _latency(self):
        """Cycles from reading a membrane potential to its successor."""
        return 7 + isinstance(self.core.layer.leak, TableLeak)

    def elaborate(self, platform):
        m = Module()
        core, layer = self.core, self.core.layer

        # Which neurons: a counter runs through the layer once a time step.
        skip = self.skip if skips(core) else C(0, 1)
        reading = Signal()
        running = Signal()
        left = Signal(signed(core.updates.bit_length() + 1))  # updates left after this one, less one
        step_last, step_final = Signal(), Signal()
        group_last, group_final = Signal(), Signal()
        m.d.comb += [
            reading.eq(self.start | running),
            step_last.eq(Mux(self.start | skip, self.last, group_last)),
            step_final.eq(Mux(self.start | skip, self.final, group_final)),
        ]
        with m.If(self.start):
            m.d.sync += [group_last.eq(self.last), group_final.eq(self.final)]
        if core.updates > 1:
            with m.If(self.start):
                m.d.sync += [running.eq(1), left.eq(core.updates - 3)]
            with m.Else():
                m.d.sync += left.eq(left - 1)
                with m.If(left[-1]):
                    m.d.sync += running.eq(0)
            word_last = step_last & running & left[-1] & ~self.start
        else:
            word_last = step_last & self.start
        reading, skipping, word_last, step_final = (
            delayed(m, signal, reset_less=False)
            for signal in (reading, skip, word_last | (skip & step_last), step_final))
        r_index = self._index(m, reading, skipping, word_last)
        r_channel = r_index
        if core.o_words.shape:
            m.submodules.r_place = r_place = MapPlace(core)
            m.d.comb += [r_place.step.eq(reading), r_place.skip.eq(skipping)]
            r_channel = r_place.channel
        first = Signal(init=1)  # the sample's first time step: potentials start from zero
        with m.If((reading | skipping) & word_last):
            m.d.sync += first.eq(step_final)
        from_zero = first
        if skips(core):
            # And so they do later, as long as their row has been skipped since.
            untouched = Signal(layer.shape[0], reset_less=True).bit_select(r_place.row, 1)
            from_zero = first | untouched
            with m.If(skipping):
                m.d.sync += untouched.eq(from_zero)
            with m.Elif(reading & r_place.ends_row):
                m.d.sync += untouched.eq(0)

        # Stage 2: potentials, thresholds and biases in registers, right behind their memories.
        m.submodules.membranes = membranes = storage(core.units * layer.v_width, core.update_count)
        r_port, w_port = membranes.read_port(), membranes.write_port()
        m.d.comb += r_port.addr.eq(r_index)
        stored = Signal(core.units * layer.v_width, reset_less=True)
        with m.If(delayed(m, from_zero)):
            m.d.sync += stored.eq(0)
        with m.Else():
            m.d.sync += stored.eq(r_port.data)
        minus_threshold, bias = self._parameters(m, r_channel)

        # The rest: one register after each addition, compare and choice.
        after_leak = 4 if isinstance(layer.leak, TableLeak) else 3
        v_next, z_next = [], []
        for unit in range(core.units):
            v = stored.word_select(unit, layer.v_width).as_signed()
            leaked = self._leak(m, v, unit)
            current = Signal(signed(self._biased_width), name=f"current_{unit}", reset_less=True)
            m.d.sync += current.eq(delayed(m, self.sums[unit], 2) + bias[unit])
            current = delayed(m, current, after_leak - 3)

            potential = Signal(signed(core.potential_width), name=f"potential_{unit}", reset_less=True)
            m.d.sync += potential.eq(leaked + current)
            minus_theta = delayed(m, minus_threshold[unit], after_leak - 1)
            above = Signal(signed(core.above_width), name=f"above_{unit}", reset_less=True)  # potential over threshold
            m.d.sync += above.eq(potential + minus_theta)
            potential = delayed(m, potential)

            fires = Signal(name=f"fires_{unit}")
            m.d.comb += fires.eq(0 if isinstance(layer.fire, Silent) else ~above[-1])
            # Only below a negative threshold does subtracting it leave the range of the potential.
            kept_width = core.above_width if core.minus_threshold.bounds[1] > 0 else core.potential_width
            kept = Signal(signed(max(kept_width, layer.v_width)), name=f"kept_{unit}", reset_less=True)
            if layer.reset == "subtract":
                m.d.sync += kept.eq(Mux(fires, above, potential))
            elif layer.reset == "zero":
                m.d.sync += kept.eq(Mux(fires, 0, potential))
            else:
                m.d.sync += kept.eq(potential)

            saturated = Signal(signed(layer.v_width), name=f"v_{unit}", reset_less=True)
            inside = kept[layer.v_width - 1:] == kept[-1].replicate(len(kept) - layer.v_width + 1)
            limit = Cat((~kept[-1]).replicate(layer.v_width - 1), kept[-1])
            m.d.sync += saturated.eq(Mux(inside, kept[:layer.v_width], limit))
            v_next.append(saturated)
            z_next.append(delayed(m, fires, 2))

        update, latency = self.update, self._latency
        skipped = delayed(m, skipping, latency, reset_less=False)
        w_index = self._index(m, update.valid, skipped, update.last_word)
        m.d.comb += [
            update.valid.eq(delayed(m, reading, latency, reset_less=False)),
            update.last_word.eq(delayed(m, word_last, latency)),
            update.final_step.eq(delayed(m, step_final, latency)),
            update.first_step.eq(delayed(m, first, latency)),
            update.index.eq(w_index),
            w_port.en.eq(update.valid),
            w_port.addr.eq(w_index),
            w_port.data.eq(Cat(v_next)),
        ]
        w_channel = w_index
        if core.o_words.shape:
            m.submodules.w_place = w_place = MapPlace(core)
            w_channel = w_place.channel
            widths = core.o_words.fields
            m.d.comb += [
                w_place.step.eq(update.valid),
                w_place.skip.eq(skipped),
                update.place.eq(Cat(field[:width] for field, width in
                                    zip((w_channel, w_place.column, w_place.row), widths, strict=True))),
                update.row.eq(w_place.ends_row),
            ]
        for unit in range(core.units):
            # Neurons that only fill up the last group are copies of the first, and have no say.
            words = -(-(layer.shape[2] - unit) // core.units)
            real = w_channel < words if words < core.channel_updates else 1
            m.d.comb += [update.z[unit].eq(z_next[unit] & real), update.v[unit].eq(v_next[unit])]
        if skips(core):
            before = Signal()  # a neuron of the row has fired
            m.d.comb += [update.skipped.eq(skipped), update.fired.eq(before | update.z.any())]
            with m.If(update.valid):
                m.d.sync += before.eq(update.fired & ~update.row)
        return m

    def _index(self, m, steps, skips_row, ends):
        """Which update of a time step, one or a whole row further each time."""
        index = Signal(self.update.index.shape())
        with m.If(steps | skips_row):
            further = Mux(skips_row, self.core.row_updates, 1) if skips(self.core) else 1
            m.d.sync += index.eq(Mux(ends, 0, index + further))
        return index

    @property
    def _biased_width(self):
        core = self.core
        return max(core.current_width, core.bias.width) + 1 if any(core.bias.bounds) else core.current_width

    def _load(self, name):
        """The `MemoryLoadSignature` of a memory, or None."""
        return getattr(self.load, name) if name in self.loaded else None

    def _leak(self, m, v, unit):
        """The register that holds the leaked potential, a cycle after ``v`` (two for a table)."""
        leak, shape = self.core.layer.leak, signed(self.core.layer.v_width)
        leaked = Signal(shape, name=f"leaked_{unit}", reset_less=True)
        if isinstance(leak, TableLeak):
            level = Cat(v[:-1], ~v[-1])  # v - v_min
            load = self._load("leak")
            m.d.sync += leaked.eq(image_memory(m, f"leak_{unit}", self.core.images["leak"], level, load))
            if load is not None and unit == 0:
                answer(m, load, leaked)
        elif isinstance(leak, ShiftLeak):
            m.d.sync += leaked.eq(v - (v >> leak.shift))
        else:
            m.d.sync += leaked.eq(v)
        return leaked

    def _parameters(self, m, r_channel):
        """Negated thresholds (an addition takes less logic than a subtraction) and biases of the units: constants
        or one register where all neurons share one, else registers behind a memory."""
        core = self.core
        found = {name: [C(int(parameter.values.flat[0]), signed(parameter.width))] * core.units
                 for name, parameter in core.parameters.items()}
        each, shared = ({name: parameter for name, parameter in core.parameters.items() if parameter.storage == storage}
                        for storage in ("each", "shared"))
        if each:
            load = self._load("parameters")
            layout = data.StructLayout({name: data.ArrayLayout(signed(parameter.width), core.units)
                                        for name, parameter in each.items()})
            row = image_memory(m, "parameters", core.images["parameters"], r_channel, load, layout=layout)
            for name, parameter in each.items():
                found[name] = []
                for unit in range(core.units):
                    register = Signal(signed(parameter.width), name=f"{name}_{unit}", reset_less=True)
                    m.d.sync += register.eq(row[name][unit])
                    found[name].append(register)
            if load is not None:
                answer(m, load, Cat(found[name] for name in each))
        if shared:
            load, image = self._load("shared"), core.images["shared"]
            register = Signal(8 * image.row_bytes, name="shared", init=image.words[0], reset_less=True)
            for byte in range(image.row_bytes):
                with m.If(load.write & (load.byte == byte)):
                    m.d.sync += register.word_select(byte, 8).eq(load.data)
            answer(m, load, register[:image.row_bits])
            row = data.View(data.StructLayout({name: signed(parameter.width) for name, parameter in shared.items()}),
                            register[:image.row_bits])
            found |= {name: [row[name]] * core.units for name in shared}
        return found["minus_threshold"], found["bias"]
