"""Neuron updates: leak, fire, reset and store, one neuron per unit and cycle."""

from amaranth import *
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from spikeloom.network import ShiftLeak, Silent, TableLeak

__all__ = ["NeuronUpdate", "UpdateSignature"]


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
    """

    def __init__(self, core):
        super().__init__({
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
    core : spikeloom.program.Core

    Members
    -------
    start, last, final : In(1)
        a group's sums follow; it is the time step's last group; the time step is the sample's last
    sums : In(signed(core.current_width)), one for each unit
    update : Out(UpdateSignature(core))
    """

    def __init__(self, core):
        self.core = core
        super().__init__({
            "start": In(1),
            "last": In(1),
            "final": In(1),
            "sums": In(signed(core.current_width)).array(core.units),
            "update": Out(UpdateSignature(core)),
        })

    @property
    def latency(self):
        """Cycles from ``start`` to ``update.valid``: read 2, leak and bias 1 (a table 2), sum, compare, select, saturate."""
        return 7 + isinstance(self.core.layer.leak, TableLeak)

    def elaborate(self, platform):
        m = Module()
        core, layer = self.core, self.core.layer

        def delayed(value, cycles=1):
            for _ in range(cycles):
                register = Signal(Value.cast(value).shape())
                m.d.sync += register.eq(value)
                value = register
            return value

        # Which neurons: a counter runs through the layer once a time step.
        reading = Signal()
        running = Signal()
        left = Signal(signed(core.updates.bit_length() + 1))  # updates left after this one, less one
        step_last, step_final = Signal(), Signal()
        group_last, group_final = Signal(), Signal()
        m.d.comb += [
            reading.eq(self.start | running),
            step_last.eq(Mux(self.start, self.last, group_last)),
            step_final.eq(Mux(self.start, self.final, group_final)),
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
        r_index = Signal(self.update.index.shape())
        with m.If(reading):
            m.d.sync += r_index.eq(Mux(word_last, 0, r_index + 1))
        first = Signal(init=1)  # the sample's first time step: potentials start from zero
        with m.If(reading & word_last):
            m.d.sync += first.eq(step_final)

        # Stage 2: potentials, thresholds and biases in registers, right behind their memories.
        m.submodules.membranes = membranes = memory.Memory(
            shape=core.units * layer.v_width, depth=core.update_count, init=[])
        r_port, w_port = membranes.read_port(), membranes.write_port()
        m.d.comb += r_port.addr.eq(r_index)
        stored = Signal(core.units * layer.v_width)
        with m.If(delayed(first)):
            m.d.sync += stored.eq(0)
        with m.Else():
            m.d.sync += stored.eq(r_port.data)
        threshold, bias = self._parameters(m, r_index)

        # The rest: one register after each addition, compare and choice.
        after_leak = 4 if isinstance(layer.leak, TableLeak) else 3
        v_next, z_next = [], []
        for unit in range(core.units):
            v = stored.word_select(unit, layer.v_width).as_signed()
            leaked = self._leak(m, v, unit)
            current = Signal(signed(self._biased_width), name=f"current_{unit}")
            m.d.sync += current.eq(delayed(self.sums[unit]) + bias[unit])
            current = delayed(current, after_leak - 3)

            potential = Signal(signed(core.potential_width), name=f"potential_{unit}")
            m.d.sync += potential.eq(leaked + current)
            theta = delayed(threshold[unit], after_leak - 1) if isinstance(threshold[unit], Signal) else threshold[unit]
            above = Signal(signed(core.above_width), name=f"above_{unit}")  # potential over threshold
            m.d.sync += above.eq(potential - theta)
            potential = delayed(potential)

            fires = Signal(name=f"fires_{unit}")
            m.d.comb += fires.eq(0 if isinstance(layer.fire, Silent) else ~above[-1])
            # Only below a negative threshold does subtracting it leave the range of the potential.
            kept_width = core.above_width if core.threshold.min() < 0 else core.potential_width
            kept = Signal(signed(max(kept_width, layer.v_width)), name=f"kept_{unit}")
            if layer.reset == "subtract":
                m.d.sync += kept.eq(Mux(fires, above, potential))
            elif layer.reset == "zero":
                m.d.sync += kept.eq(Mux(fires, 0, potential))
            else:
                m.d.sync += kept.eq(potential)

            saturated = Signal(signed(layer.v_width), name=f"v_{unit}")
            inside = kept[layer.v_width - 1:] == kept[-1].replicate(len(kept) - layer.v_width + 1)
            limit = Cat((~kept[-1]).replicate(layer.v_width - 1), kept[-1])
            m.d.sync += saturated.eq(Mux(inside, kept[:layer.v_width], limit))
            v_next.append(saturated)
            z_next.append(delayed(fires, 2))

        update, latency = self.update, self.latency
        w_index = Signal(update.index.shape())
        m.d.comb += [
            update.valid.eq(delayed(reading, latency)),
            update.last_word.eq(delayed(word_last, latency)),
            update.final_step.eq(delayed(step_final, latency)),
            update.first_step.eq(delayed(first, latency)),
            update.index.eq(w_index),
            w_port.en.eq(update.valid),
            w_port.addr.eq(w_index),
            w_port.data.eq(Cat(v_next)),
        ]
        for unit in range(core.units):
            # Neurons that only fill up the last group are copies of the first, and have no say.
            words = -(-(layer.n_out - unit) // core.units)
            real = w_index < words if words < core.update_count else 1
            m.d.comb += [update.z[unit].eq(z_next[unit] & real), update.v[unit].eq(v_next[unit])]
        with m.If(update.valid):
            m.d.sync += w_index.eq(Mux(update.last_word, 0, w_index + 1))
        return m

    @property
    def _biased_width(self):
        core = self.core
        return max(core.current_width, core.bias_width) + 1 if core.bias_width else core.current_width

    def _leak(self, m, v, unit):
        """The register that holds the leaked potential, a cycle after ``v`` (two for a table)."""
        leak, shape = self.core.layer.leak, signed(self.core.layer.v_width)
        leaked = Signal(shape, name=f"leaked_{unit}")
        if isinstance(leak, TableLeak):
            level = Cat(v[:-1], ~v[-1])  # v - v_min
            rom = memory.Memory(shape=shape, depth=len(leak.table), init=leak.table)
            m.submodules[f"leak_{unit}"] = rom
            port = rom.read_port()
            m.d.comb += port.addr.eq(level)
            m.d.sync += leaked.eq(port.data)
        elif isinstance(leak, ShiftLeak):
            m.d.sync += leaked.eq(v - (v >> leak.shift))
        else:
            m.d.sync += leaked.eq(v)
        return leaked

    def _parameters(self, m, r_index):
        """Thresholds and biases of the units: constants where all neurons share one, else from a memory."""
        core = self.core
        fields = []
        if core.uniform_threshold is None:
            fields.append((core.threshold, core.threshold_width))
        if core.bias_width:
            fields.append((core.bias, core.bias_width))
        words = []
        if fields:
            rows = [0] * core.update_count
            offset = 0
            for unit in range(core.units):
                for values, width in fields:
                    for row in range(core.update_count):
                        rows[row] |= (int(values[row, unit]) & ((1 << width) - 1)) << offset
                    offset += width
            m.submodules.parameters = rom = memory.Memory(shape=offset, depth=core.update_count, init=rows)
            port = rom.read_port()
            m.d.comb += port.addr.eq(r_index)
            offset = 0
            for unit in range(core.units):
                for number, (_, width) in enumerate(fields):
                    register = Signal(signed(width), name=f"parameter_{number}_{unit}")
                    m.d.sync += register.eq(port.data[offset: offset + width].as_signed())
                    words.append(register)
                    offset += width
        per_unit = [words[n: n + len(fields)] for n in range(0, len(words), len(fields))] if fields else [[]] * core.units
        threshold = [C(core.uniform_threshold, signed(core.threshold_width))] * core.units \
            if core.uniform_threshold is not None else [own[0] for own in per_unit]
        bias = [own[-1] for own in per_unit] if core.bias_width else [C(0, 1)] * core.units
        return threshold, bias
