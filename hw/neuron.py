"""Neuron updates: leak, fire, reset and store, one neuron per unit and cycle."""

from functools import reduce
from operator import or_
from types import SimpleNamespace

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from spikeloom.network import FullLeak, ReLU, ShiftLeak, Silent, TableLeak, signed_width

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
    z : Out(units), or Out(signed) where they are graded
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
            "z": Out(signed(signed_width(*members[0].o_words.bounds)) if core.graded else core.units),
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
        core, members = self.core, self.core.members

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

        # Stage 2: states, thresholds and biases in registers, right behind their memories.
        stored, w_ports = {}, {}
        for name, width in core.state_widths.items():
            m.submodules[name] = states = storage(core.units * width, core.update_count)
            r_port, w_ports[name] = states.read_port(), states.write_port()
            m.d.comb += r_port.addr.eq(place.index)
            stored[name] = Signal(core.units * width, name=f"stored_{name}", reset_less=True)
            with m.If(delayed(m, from_zero)):
                m.d.sync += stored[name].eq(0)
            with m.Else():
                m.d.sync += stored[name].eq(r_port.data)
        parameters = self._parameters(m, place.parameters)
        if core.gated:
            m.d.comb += [self.channels.channel.eq(place.parameters),
                         self.channels.ends.eq((reading | skipping) & word_last)]

        units = [self._update(m, unit, {name: stored[name].word_select(unit, width).as_signed()
                                        for name, width in core.state_widths.items()},
                              SimpleNamespace(**{name: each[unit] for name, each in parameters.items()}))
                 for unit in range(core.units)]

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
        ]
        for name, w_port in w_ports.items():
            m.d.comb += [w_port.en.eq(update.valid), w_port.addr.eq(place.index),
                         w_port.data.eq(Cat(unit.states[name] for unit in units))]
        if members[0].o_words.shape:
            m.d.comb += [update.place.eq(place.word), update.row.eq(place.ends_row)]
        if len(members) > 1:
            m.d.comb += update.layer.eq(member)
        spikes = [Mux(real, unit.z, 0) for unit, real in zip(units, place.real, strict=True)]
        m.d.comb += update.z.eq(spikes[0] if core.graded else Cat(spikes))
        m.d.comb += [v.eq(unit.v) for v, unit in zip(update.v, units, strict=True)]
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

    def _load(self, name):
        """The `MemoryLoadSignature` of a memory, or None."""
        return getattr(self.load, name) if name in self.loaded else None

    def _update(self, m, unit, stored, parameters):
        """What a unit makes of its neuron's ``stored`` states: those that follow, its potential ``v`` among them, and
        its spike ``z``. One register after each addition, compare and choice, of which each is as many cycles behind
        the stored states as a number beside it says."""
        core, layer = self.core, self.core.layer
        at, end = core.potential_stage, self._latency - 2
        minus_threshold = parameters.minus_threshold
        current, states = self._driven(m, unit, stored, parameters.bias)

        potential = Signal(signed(core.potential_width), name=f"potential_{unit}", reset_less=True)
        leaked, since = C(0, 1), 0
        if not isinstance(layer.leak, FullLeak):
            leaked, since = self._leaked(m, unit, stored["membranes"], minus_threshold)
        m.d.sync += potential.eq(delayed(m, leaked, at - 1 - since) + delayed(m, current, at - 1 - core.driven_stage))
        minus_theta = delayed(m, minus_threshold, at)
        fired = (self._graded if core.graded else self._spike)(m, unit, stored, parameters, potential)
        states |= fired.states
        z = fired.z
        if layer.grid and core.encodes_at_once:
            cleared = fired.fires if core.clears else C(0, 1)
            before = delayed(m, minus_threshold, at - 1)
            v = self._encoded(m, unit, potential, before, delayed(m, cleared, core.encoding_cycles - 2))
        else:
            kept = Signal(signed(max(core.kept_width, layer.v_width)), name=f"kept_{unit}", reset_less=True)
            potential = delayed(m, potential)
            if layer.reset == "subtract":
                m.d.sync += kept.eq(fired.left)
            elif layer.reset == "zero":
                m.d.sync += kept.eq(Mux(fired.fires, 0, potential))
            else:
                m.d.sync += kept.eq(potential)
            if layer.grid:
                v = self._encoded(m, unit, kept, delayed(m, minus_theta), C(0, 1))
            else:
                v = self._saturated(m, f"v_{unit}", kept, layer.v_width)
        states = {name: delayed(m, state, end - since) for name, (state, since) in states.items()}
        return SimpleNamespace(v=v, z=delayed(m, z, end - at - 1), states={"membranes": v} | states)

    def _driven(self, m, unit, stored, bias):
        """What is added to the potential, `Core.driven_stage` cycles behind the stored states; and with a synaptic
        current its state that follows, and how many cycles behind."""
        core, layer = self.core, self.core.layer
        current = Signal(signed(core.biased_width), name=f"current_{unit}", reset_less=True)
        given = delayed(m, self.sums[unit], 2) + bias
        m.d.sync += current.eq(Mux(self.channels.open[unit], given, 0) if core.gated else given)
        if isinstance(layer.act, ReLU):
            current = delayed(m, Mux(current[-1], 0, current))
        elif layer.act:
            places = len(layer.act.table).bit_length() - 1
            index = self._saturated(m, f"act_index_{unit}", current >> layer.act.shift, places)
            found = image_memory(m, f"act_{unit}", core.images["act"], Cat(index[:-1], ~index[-1]))
            current = delayed(m, found.as_signed())
        if not layer.current:
            return current, {}
        total = Signal(signed(core.driving_width), name=f"driving_{unit}", reset_less=True)
        leaked, since = C(0, 1), 0
        if not isinstance(layer.current.leak, FullLeak):
            leaked, since = self._leaked_state(m, unit, "current", stored["currents"])
        at = core.driven_stage - 1
        m.d.sync += total.eq(delayed(m, current, at - core.act_stage) + delayed(m, leaked, at - since))
        return total, {"currents": (self._saturated(m, f"next_current_{unit}", total, layer.current.width), at + 2)}

    def _spike(self, m, unit, stored, parameters, potential):
        """Of a potential, a cycle later: whether the neuron ``fires``, which is its spike ``z`` too, what is ``left``
        where that subtracts the threshold, and the state that an adaptation has then."""
        core, layer, at = self.core, self.core.layer, self.core.potential_stage
        minus_raised, states = parameters.minus_threshold, {}
        if layer.adaptation:
            minus_raised = Signal(signed(core.minus_raised_width), name=f"minus_raised_{unit}", reset_less=True)
            m.d.sync += minus_raised.eq(parameters.minus_threshold - stored["adaptations"])
            minus_raised = delayed(m, minus_raised, at - 1)
        else:
            minus_raised = delayed(m, minus_raised, at)
        above = Signal(signed(core.above_width), name=f"above_{unit}", reset_less=True)  # potential over threshold
        m.d.sync += above.eq(potential + minus_raised)
        fires = Signal(name=f"fires_{unit}")
        m.d.comb += fires.eq(0 if isinstance(layer.fire, Silent) else ~above[-1])
        if layer.adaptation:
            leaked, since = self._leaked_state(m, unit, "adaptation", stored["adaptations"])
            raised = Signal(signed(core.raised_width), name=f"raised_{unit}", reset_less=True)
            step = delayed(m, parameters.step, at + 1)
            m.d.sync += raised.eq(delayed(m, leaked, at + 1 - since) + Mux(fires, step, 0))
            following = self._saturated(m, f"next_adaptation_{unit}", raised, layer.adaptation.width)
            states = {"adaptations": (following, at + 3)}
        return SimpleNamespace(fires=fires, z=fires, left=Mux(fires, above, delayed(m, potential)), states=states)

    def _graded(self, m, unit, stored, parameters, potential):
        """Of a potential, a cycle later: its count ``z``, whether that ``fires`` at all, and what is ``left`` where as
        many thresholds are subtracted. Between the least and the most that the neuron fires, these are the potential's
        bits above and below the threshold's, which is a power of two."""
        core, fire, at = self.core, self.core.layer.fire, self.core.potential_stage
        minus_theta = delayed(m, parameters.minus_threshold, at)
        places = range((-core.minus_threshold.bounds[1]).bit_length() - 1,
                       (-core.minus_threshold.bounds[0]).bit_length())
        count = signed(signed_width(fire.low, fire.high))
        found, any_bits = [], []
        for place in places:
            here = C(1, 1)
            if len(places) > 1:  # the lowest bit of a negated power of two that is set
                here = minus_theta[place] & ~minus_theta[places[0]:place].any()
            found.append(Mux(here, potential >> place, 0))
            any_bits.append(here & (potential >> place).any())
        whole, some = Signal(count, name=f"whole_{unit}", reset_less=True), Signal(name=f"some_{unit}", reset_less=True)
        m.d.sync += [whole.eq(reduce(or_, found)), some.eq(reduce(or_, any_bits))]

        def less(times, minus):
            """The potential less so many thresholds."""
            register = Signal(signed(core.over_width(times)), name=f"less_{times}_{unit}", reset_less=True)
            m.d.sync += register.eq(potential + delayed(m, minus, at))
            return register

        over, before = less(fire.high, parameters.minus_most), delayed(m, potential)
        inside = before & ~delayed(m, minus_theta)
        if fire.low:
            below, lowest = (under := less(fire.low, parameters.minus_least))[-1], under
        else:
            below, lowest = before[-1], before
        z = Mux(below, fire.low, Mux(over[-1], whole, fire.high))
        left = Mux(below, lowest, Mux(over[-1], inside, over))
        return SimpleNamespace(fires=some if fire.low else some & ~below, z=z, left=left, states={})

    def _encoded(self, m, unit, potential, minus_threshold, clear):
        m.submodules[f"encoder_{unit}"] = encoder = LevelEncoder(self.core, len(potential))
        m.d.comb += [encoder.potential.eq(potential), encoder.minus_threshold.eq(minus_threshold),
                     encoder.clear.eq(clear)]
        return encoder.level

    @staticmethod
    def _saturated(m, name, value, width):
        """The register that holds a signed ``value`` in ``width`` bits, saturated."""
        saturated = Signal(signed(width), name=name, reset_less=True)
        if len(value) <= width:
            m.d.sync += saturated.eq(value)
            return saturated
        inside = value[width - 1:] == value[-1].replicate(len(value) - width + 1)
        limit = Cat((~value[-1]).replicate(width - 1), value[-1])
        m.d.sync += saturated.eq(Mux(inside, value[:width], limit))
        return saturated

    def _leaked(self, m, unit, v, minus_threshold):
        """What is left of a stored potential ``v``, and how many cycles behind it."""
        leak, grid = self.core.layer.leak, self.core.layer.grid
        if grid and not isinstance(leak, TableLeak):
            m.submodules[f"decoder_{unit}"] = decoder = LevelDecoder(self.core)
            m.d.comb += [decoder.level.eq(v), decoder.minus_threshold.eq(minus_threshold)]
            return delayed(m, self._by_shift(leak, decoder.potential)), 2
        if isinstance(leak, TableLeak):
            index, load = v if grid else Cat(v[:-1], ~v[-1]), self._load("leak")  # the entry of the level, or V - v_min
            leaked = delayed(m, image_memory(m, f"leak_{unit}", self.core.images["leak"], index, load).as_signed())
            if load is not None and unit == 0:
                answer(m, load, leaked)
            return leaked, 2
        return delayed(m, self._by_shift(leak, v)), 1

    def _leaked_state(self, m, unit, name, state):
        """What is left of a current or an adaptation, by its ``name`` in the layer, and how many cycles behind it."""
        leak = getattr(self.core.layer, name).leak
        if isinstance(leak, FullLeak):
            return C(0, 1), 0
        if isinstance(leak, TableLeak):
            image, index = self.core.images[f"{name}_leak"], Cat(state[:-1], ~state[-1])
            return delayed(m, image_memory(m, f"{name}_leak_{unit}", image, index).as_signed()), 2
        return delayed(m, self._by_shift(leak, state)), 1

    @staticmethod
    def _by_shift(leak, value):
        return value - (value >> leak.shift) if isinstance(leak, ShiftLeak) else value

    def _parameters(self, m, r_channel):
        """The `Core.parameters` of the units, by name: constants or one register where all neurons share one, else
        registers behind a memory. Thresholds are negated, as an addition takes less logic than a subtraction."""
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
        return found
