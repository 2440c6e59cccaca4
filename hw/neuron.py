"""Neuron updates: leak, fire, reset and store, one neuron per unit and cycle."""

from types import SimpleNamespace

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from spikeloom.network import ShiftLeak, Silent, TableLeak

from .gate import ChannelsSignature
from .levels import LevelDecoder, LevelEncoder
from .load import CoreLoadSignature, answer, image_memory
from .place import UpdatePlace
from .storage import delayed, storage

__all__ = ["NeuronUpdate", "UpdateSignature"]

#: Memories of a core that its synapses have.
WEIGHTS = ("weights", "shortcut")


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
        their membrane potentials as stored
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
    layer : Out(unsigned), of a core that several layers share
        which of ``core.members`` they belong to
    """

    def __init__(self, core):
        members, on_map = core.members, {}
        if members[0].o_words.shape:
            on_map = {"place": Out(max(member.o_words.index_width for member in members)), "row": Out(1)}
        if core.skips:
            on_map |= {"skipped": Out(1), "fired": Out(1)}
        if len(members) > 1:
            on_map["layer"] = Out(range(len(members)))
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


class NeuronUpdate(wiring.Component):
    """``units`` update units in step, with the membrane memory they share.

    After ``start`` the units take a group's sums, ``units`` of them per cycle for ``core.updates`` cycles, and
    read the same neurons' membrane potentials (and thresholds and biases, where these differ between neurons). The
    time steps of a layer touch each membrane word once: a neuron comes back only after ``core.pace · core.groups``
    cycles, by when its potential has been written.

    Throughput: ``units`` neurons per cycle. Latency from ``start`` to the first ``update``: `latency` cycles.

    Parameters
    ----------
    core : spikeloom.compiler.core.Core

    Members
    -------
    start, last, final : In(1)
        a group's sums follow; it is the time step's last group; the time step is the sample's last
    skip : In(1), of a convolution that skips
        in place of ``start``: a row of the map stays as it is; ``last`` and ``final`` as there
    layer : In(unsigned), of a core that several layers share
        with ``start``: which of ``core.members``
    sums : In(signed(core.current_width)), one for each unit
    channels : Out(ChannelsSignature(core)), of a convolution with a gate
        asks which channels are open: others get neither their sums nor their biases
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
            **({"skip": In(1)} if core.skips else {}),
            **({"layer": In(range(len(core.members)))} if len(core.members) > 1 else {}),
            "last": In(1),
            "final": In(1),
            "sums": In(signed(core.current_width)).array(core.units),
            **({"channels": Out(ChannelsSignature(core))} if core.gated else {}),
            "update": Out(UpdateSignature(core)),
            **({"load": In(CoreLoadSignature(core, self.loaded))} if self.loaded else {}),
        })

    @property
    def latency(self):
        """Cycles from ``start`` to ``update.valid``: control 1, read 2, leak and bias 1 (a table 2, as levels that are
        decoded first), then sum, compare, select and saturate (or encode)."""
        return 1 + self._latency

    @property
    def _latency(self):
        """Cycles from reading a membrane potential to its successor."""
        return self.core.update_cycles - 2 + isinstance(self.core.layer.leak, TableLeak)

    def elaborate(self, platform):
        m = Module()
        core, layer, members = self.core, self.core.layer, self.core.members

        # Which neurons: a counter runs through each layer once a time step.
        skip = self.skip if core.skips else C(0, 1)
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
        member = C(0, 0)
        if len(members) > 1:
            group_member = Signal.like(self.layer)
            with m.If(self.start):
                m.d.sync += group_member.eq(self.layer)
            member = delayed(m, Mux(self.start | skip, self.layer, group_member))
        place = self._place(m, "r", member, reading, skipping, word_last)
        firsts = Signal(len(members), init=-1)  # the sample's first time step: potentials start from zero
        first = firsts.bit_select(member, 1)
        with m.If((reading | skipping) & word_last):
            m.d.sync += first.eq(step_final)
        from_zero = first
        if core.skips:
            # And so they do later, as long as their row has been skipped since.
            rows = max(each.layer.shape[0] for each in members)
            untouched = Signal(rows * len(members), reset_less=True)
            row = Signal(range(rows * len(members)))
            m.d.comb += row.eq(place.row + (member * rows if len(members) > 1 else 0))
            from_zero = first | untouched.bit_select(row, 1)
            with m.If(skipping):
                m.d.sync += untouched.bit_select(row, 1).eq(from_zero)
            with m.Elif(reading & place.ends_row):
                m.d.sync += untouched.bit_select(row, 1).eq(0)

        # Stage 2: potentials, thresholds and biases in registers, right behind their memories.
        m.submodules.membranes = membranes = storage(core.units * layer.v_width, core.update_count)
        r_port, w_port = membranes.read_port(), membranes.write_port()
        m.d.comb += r_port.addr.eq(place.index)
        stored = Signal(core.units * layer.v_width, reset_less=True)
        with m.If(delayed(m, from_zero)):
            m.d.sync += stored.eq(0)
        with m.Else():
            m.d.sync += stored.eq(r_port.data)
        minus_threshold, bias = self._parameters(m, place.parameters)
        if core.gated:
            m.d.comb += [self.channels.channel.eq(place.parameters),
                         self.channels.ends.eq((reading | skipping) & word_last)]

        units = [self._update(m, unit, stored.word_select(unit, layer.v_width), self.sums[unit], minus_threshold[unit],
                              bias[unit]) for unit in range(core.units)]
        v_next, z_next = zip(*units, strict=True)

        update, latency = self.update, self._latency
        skipped = delayed(m, skipping, latency, reset_less=False)
        member = delayed(m, member, latency)
        place = self._place(m, "w", member, update.valid, skipped, update.last_word)
        m.d.comb += [
            update.valid.eq(delayed(m, reading, latency, reset_less=False)),
            update.last_word.eq(delayed(m, word_last, latency)),
            update.final_step.eq(delayed(m, step_final, latency)),
            update.first_step.eq(delayed(m, first, latency)),
            update.index.eq(place.index),
            w_port.en.eq(update.valid),
            w_port.addr.eq(place.index),
            w_port.data.eq(Cat(v_next)),
        ]
        if members[0].o_words.shape:
            m.d.comb += [update.place.eq(place.word), update.row.eq(place.ends_row)]
        if len(members) > 1:
            m.d.comb += update.layer.eq(member)
        for unit in range(core.units):
            m.d.comb += [update.z[unit].eq(z_next[unit] & place.real[unit]), update.v[unit].eq(v_next[unit])]
        if core.skips:
            before = Signal()  # a neuron of the row has fired
            m.d.comb += [update.skipped.eq(skipped), update.fired.eq(before | update.z.any())]
            with m.If(update.valid):
                m.d.sync += before.eq(update.fired & ~update.row)
        return m

    def _place(self, m, name, member, steps, skips_row, ends):
        """What the `UpdatePlace` of the layer that an update belongs to says, ``member`` being that layer. And which
        ``word`` the spikes are, and which of the units' neurons are ``real``: those that only fill up the last group
        are copies of the first, and have no say."""
        units, found, index, row = self.core.units, [], 0, 0
        for number, core in enumerate(self.core.members):
            m.submodules[f"{name}_place_{number}"] = place = UpdatePlace(core, index, row)
            index, row = index + core.update_count, row + core.channel_updates
            mine = member == number if len(member) else 1
            m.d.comb += [place.step.eq(steps & mine), place.skip.eq(skips_row & mine), place.ends.eq(ends)]
            words = [-(-(core.layer.shape[2] - unit) // units) for unit in range(units)]
            fields = zip((place.channel, place.column, place.row), core.o_words.fields, strict=True)
            found.append({
                "index": place.index, "parameters": place.parameters, "row": place.row, "ends_row": place.ends_row,
                "word": Cat(field[:width] for field, width in fields),
                "real": Cat(place.channel < count if count < core.channel_updates else C(1, 1) for count in words)})
        if len(found) == 1:
            return SimpleNamespace(**found[0])
        chosen = {key: Signal(max(len(each[key]) for each in found), name=f"{name}_{key}") for key in found[0]}
        for number, each in enumerate(found):
            with m.If(member == number):
                m.d.comb += [chosen[key].eq(value) for key, value in each.items()]
        return SimpleNamespace(**chosen)

    @property
    def _biased_width(self):
        core = self.core
        return max(core.current_width, core.bias.width) + 1 if any(core.bias.bounds) else core.current_width

    def _load(self, name):
        """The `MemoryLoadSignature` of a memory, or None."""
        return getattr(self.load, name) if name in self.loaded else None

    def _update(self, m, unit, v, total, minus_threshold, bias):
        """What a unit makes of the stored potential ``v``: the next one and whether the neuron fires, each in a
        register. One register after each addition, compare and choice."""
        core, layer = self.core, self.core.layer
        after_leak = 4 if layer.grid or isinstance(layer.leak, TableLeak) else 3
        leaked = self._leak(m, v, unit, minus_threshold)
        current = Signal(signed(self._biased_width), name=f"current_{unit}", reset_less=True)
        given = delayed(m, total, 2) + bias
        m.d.sync += current.eq(Mux(self.channels.open[unit], given, 0) if core.gated else given)
        current = delayed(m, current, after_leak - 3)

        potential = Signal(signed(core.potential_width), name=f"potential_{unit}", reset_less=True)
        m.d.sync += potential.eq(leaked + current)
        minus_theta = delayed(m, minus_threshold, after_leak - 1)
        above = Signal(signed(core.above_width), name=f"above_{unit}", reset_less=True)  # potential over threshold
        m.d.sync += above.eq(potential + minus_theta)
        fires = Signal(name=f"fires_{unit}")
        m.d.comb += fires.eq(0 if isinstance(layer.fire, Silent) else ~above[-1])
        if layer.grid and core.encodes_at_once:
            cleared = fires if core.clears else C(0, 1)
            before = delayed(m, minus_threshold, after_leak - 2)
            level = self._encoded(m, unit, potential, before, delayed(m, cleared, core.encoding_cycles - 2))
            return level, delayed(m, fires, core.encoding_cycles - 1)

        potential = delayed(m, potential)
        # Only below a negative threshold does subtracting it leave the range of the potential.
        kept_width = core.above_width if core.minus_threshold.bounds[1] > 0 else core.potential_width
        kept = Signal(signed(max(kept_width, layer.v_width)), name=f"kept_{unit}", reset_less=True)
        if layer.reset == "subtract":
            m.d.sync += kept.eq(Mux(fires, above, potential))
        elif layer.reset == "zero":
            m.d.sync += kept.eq(Mux(fires, 0, potential))
        else:
            m.d.sync += kept.eq(potential)
        if layer.grid:
            level = self._encoded(m, unit, kept, delayed(m, minus_theta), C(0, 1))
            return level, delayed(m, fires, 1 + core.encoding_cycles)
        return self._saturated(m, unit, kept), delayed(m, fires, 2)

    def _encoded(self, m, unit, potential, minus_threshold, clear):
        m.submodules[f"encoder_{unit}"] = encoder = LevelEncoder(self.core, len(potential))
        m.d.comb += [encoder.potential.eq(potential), encoder.minus_threshold.eq(minus_threshold),
                     encoder.clear.eq(clear)]
        return encoder.level

    def _saturated(self, m, unit, kept):
        width = self.core.layer.v_width
        saturated = Signal(signed(width), name=f"v_{unit}", reset_less=True)
        inside = kept[width - 1:] == kept[-1].replicate(len(kept) - width + 1)
        limit = Cat((~kept[-1]).replicate(width - 1), kept[-1])
        m.d.sync += saturated.eq(Mux(inside, kept[:width], limit))
        return saturated

    def _leak(self, m, v, unit, minus_threshold):
        """The register that holds the leaked potential, a cycle after what is stored, ``v`` (two for a table or a
        grid)."""
        leak, grid = self.core.layer.leak, self.core.layer.grid
        leaked = Signal(signed(self.core.stored_width), name=f"leaked_{unit}", reset_less=True)
        if grid and not isinstance(leak, TableLeak):
            m.submodules[f"decoder_{unit}"] = decoder = LevelDecoder(self.core)
            m.d.comb += [decoder.level.eq(v), decoder.minus_threshold.eq(minus_threshold)]
            v = decoder.potential
        else:
            v = v.as_signed()
        if isinstance(leak, TableLeak):
            level = v if grid else Cat(v[:-1], ~v[-1])  # v - v_min
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
