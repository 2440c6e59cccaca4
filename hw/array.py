"""The array: a core for each layer, in a pipeline over time steps, and the read-out behind the last."""

from amaranth import *
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect
from spikeloom.network import INPUT

from .core import LayerCore
from .event import EventWord
from .load import Loader, LoadSignature
from .map_core import MapCore
from .neuron import UpdateSignature
from .pooling import Pooling
from .raster import Admission, Raster
from .readout import Readout, Result

__all__ = ["Array"]


class Array(wiring.Component):
    """All of a program's layers, working on different time steps at once; those that share a core, in turn.

    Throughput: of dense layers, a time step every max over layers of ``core.groups`` · max(events + 1, ``core.pace``)
    cycles.

    Parameters
    ----------
    program : spikeloom.compiler.program.Program
    counter_width : int
        bits of each counter, which wrap; 0 leaves the counters out
    tells : bool
        add ports for who counts himself
    observe : bool
        add ports that show every neuron update

    Members
    -------
    i : In(stream of EventWord)
        the input, time step after time step, sample after sample
    o : Out(stream of Result)
        the scores of each sample
    cycles : Out(counter_width)
        clock cycles since reset
    events, stalls : Out(counter_width), one for each layer
        input events; cycles in which the layer waited for its update units or for the layer behind it
    finished : Out(1), where it tells
        high for one cycle for each sample, whose scores are then all on their way to ``o``
    event, stalled : Out(1), one for each layer, where it tells
        of what the counters count, one more
    update_N : Out, where observed, for each layer N from 0 on
        ``valid``, ``last_word``, ``z`` and ``v`` of the layer's `UpdateSignature`, and ``skipped`` where it has that
    load : In(LoadSignature(program))
        where the program is reloadable
    """

    def __init__(self, program, *, counter_width=24, tells=False, observe=False):
        self.program = program
        self.counter_width = counter_width
        self.tells = tells
        self.observe = observe
        cores = program.cores
        self.engines = [MapCore(engine) if engine.members[0].o_words.shape else LayerCore(engine)
                        for engine in program.engines]
        #: For each layer, the core that it is on and its number there.
        self.places = [(self.engines[engine], number) for engine, number in program.places]
        self.readout = Readout(cores[-1], count=program.network.readout == "count",
                               score_width=program.score_width, votes=program.network.votes)
        super().__init__({
            "i": In(stream.Signature(EventWord(program.i_words))),
            "o": Out(stream.Signature(Result(program.score_width, program.network.n_out))),
            **({
                "cycles": Out(counter_width),
                "events": Out(counter_width).array(len(cores)),
                "stalls": Out(counter_width).array(len(cores)),
            } if counter_width else {}),
            **({
                "finished": Out(1),
                "event": Out(1).array(len(cores)),
                "stalled": Out(1).array(len(cores)),
            } if tells else {}),
            **({"load": In(LoadSignature(program))} if program.reloadable else {}),
            **({f"update_{number}": Out(_observation(core)) for number, core in enumerate(cores)} if observe else {}),
        })

    @property
    def lines(self):
        """What the streams carry, for the head of the Verilog."""
        lines = []
        for stream_name, meaning in (("i", "input words"), ("o", "scores")):
            fields = ", ".join(f"{name}[{field.width}]" for name, field in getattr(self, stream_name).payload.shape())
            lines.append(f"{stream_name}__payload ({meaning}), lowest bit first: {fields}")
        return lines

    def elaborate(self, platform):
        m = Module()
        m.submodules.readout = self.readout
        for engine in self.engines:
            m.submodules[f"layer_{engine.core.members[0].layer.name}"] = engine
        self._connect(m)
        last, _ = self.places[-1]
        connect(m, last.update, self.readout.update)
        connect(m, self.readout.o, wiring.flipped(self.o))

        if self.program.reloadable:
            m.submodules.loader = loader = Loader(self.program)
            connect(m, wiring.flipped(self.load), loader.bus)
            memories = [getattr(core.load, name) for core in self.engines for name in core.core.images]
            for port, memory in zip(loader.ports, memories, strict=True):
                connect(m, port, memory)

        if self.counter_width:
            m.d.sync += self.cycles.eq(self.cycles + 1)
            for (core, number), events, stalls in zip(self.places, self.events, self.stalls, strict=True):
                m.d.sync += [events.eq(events + core.event[number]), stalls.eq(stalls + core.stalled[number])]
        if self.tells:
            m.d.comb += self.finished.eq(self.readout.finished)
            for (core, number), event, stalled in zip(self.places, self.event, self.stalled, strict=True):
                m.d.comb += [event.eq(core.event[number]), stalled.eq(core.stalled[number])]
        if self.observe:
            for layer, (core, number) in enumerate(self.places):
                shown, update = getattr(self, f"update_{layer}"), core.update
                mine = update.layer == number if len(core.core.members) > 1 else 1
                m.d.comb += [shown.valid.eq(update.valid & mine), shown.last_word.eq(update.last_word),
                             shown.z.eq(update.z)]
                m.d.comb += [v.eq(of_core) for v, of_core in zip(shown.v, update.v, strict=True)]
                if core.core.skips:
                    m.d.comb += shown.skipped.eq(update.skipped & mine)
        return m

    def _connect(self, m):
        """Lead the input and each core's spikes to all that take them: one that waits makes all wait."""
        takers = {name: [] for name in (INPUT, *(layer.name for layer in self.program.network.layers))}
        for (core, number), sources in zip(self.places, self.program.network.sources, strict=True):
            entries = core.entries(number)
            if isinstance(core, LayerCore) and len(entries) > 1:
                sources = [each.source for each in core.core.i_words.inputs]
            if isinstance(core, LayerCore) and core.core.pooling:
                m.submodules[f"pooling_{core.core.layer.name}"] = pooling = Pooling(core.core)
                connect(m, pooling.o, core.i_0)
                entries = [(pooling.i, pooling.i_permit)]
            for source, entry in zip(sources, entries, strict=True):
                takers[source].append(entry)

        senders = {layer.name: core.exit(number) for layer, (core, number)
                   in zip(self.program.network.layers, self.places, strict=True)}
        permits = {name: [permit for _, permit in entries] for name, entries in takers.items()}
        permits[self.program.network.layers[-1].name].append(self.readout.permit)
        words = takers[INPUT][0][0].payload.shape().words
        if words.shape:
            m.submodules.raster = raster = Raster(self.program.i_words, words)
            connect(m, wiring.flipped(self.i), raster.i)
            senders[INPUT] = raster.o, raster.permit
        elif len(takers[INPUT]) > 1:
            m.submodules.admission = admission = Admission(words)
            connect(m, wiring.flipped(self.i), admission.i)
            senders[INPUT] = admission.o, admission.permit
        else:
            ((i, _),) = takers[INPUT]  # whose ready is waited for
            connect(m, wiring.flipped(self.i), i)
        for name, (o, o_permit) in senders.items():
            granted = _all(permit.valid for permit in permits[name])
            m.d.comb += o_permit.valid.eq(granted)
            m.d.comb += [permit.ready.eq(o_permit.ready & granted) for permit in permits[name]]
            for i, _ in takers[name]:
                m.d.comb += [i.payload.eq(o.payload), i.valid.eq(o.valid)]


def _all(conditions):
    return Cat(*conditions).all()


def _observation(core):
    # The rest of an update is kept for nobody: ports must not make an array much larger than it is without them.
    members = UpdateSignature(core).members
    shown = ("valid", "last_word", "z", "v", *(["skipped"] if core.skips else []))
    return wiring.Signature({name: members[name] for name in shown})
