"""Which neurons an update is about."""

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["UpdatePlace"]


class UpdatePlace(wiring.Component):
    """Counts the updates of a layer's time steps, and says where each is in the memories and on the map.

    The order is that of a convolution's passes: updates of a group, columns, groups, rows. A dense layer has one
    position.

    Parameters
    ----------
    core : spikeloom.compiler.core.Core
    index, row : int
        which entries of the membrane memory and of the parameters' the layer's begin with

    Members
    -------
    step : In(1)
        on to the next update
    skip : In(1)
        on to the next row of the map, when none is under way
    ends : In(1)
        with either of them: the time step ends
    index : Out(unsigned)
        which entry of the membrane memory
    channel : Out(range(core.channel_updates))
        which ``units`` channels of the position
    parameters : Out(unsigned)
        which entry of the parameters' memory
    column, row : Out
        where on the map
    ends_row : Out(1)
        no other update of the row follows
    """

    def __init__(self, core, index=0, row=0):
        self.core, self.first_index, self.first_row = core, index, row
        rows, columns, _ = core.layer.shape
        super().__init__({
            "step": In(1), "skip": In(1), "ends": In(1),
            "index": Out(range(max(2, index + core.update_count))),
            "channel": Out(range(core.channel_updates)),
            "parameters": Out(range(max(2, row + core.channel_updates))),
            "column": Out(range(columns)), "row": Out(range(rows)), "ends_row": Out(1),
        })

    def elaborate(self, platform):
        m = Module()
        core, (rows, columns, _) = self.core, self.core.layer.shape
        index = Signal(self.index.shape(), init=self.first_index)
        m.d.comb += [self.index.eq(index), self.parameters.eq(self.channel + self.first_row)]
        with m.If(self.step | self.skip):
            further = Mux(self.skip, core.row_updates, 1) if core.skips else 1
            m.d.sync += index.eq(Mux(self.ends, self.first_index, index + further))
        if (rows, columns) == (1, 1):
            # Nothing but the index tells one update from another.
            m.d.comb += [self.channel.eq(index - self.first_index), self.ends_row.eq(self.ends)]
            return m

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
