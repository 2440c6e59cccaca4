"""Clocks: what each family's phase-locked loop can make of a board's oscillator, and the primitive that makes it.

An oscillator and a PLL setting have the same face: ``clock`` in MHz, and `Clocking` puts them into hardware. The ranges
are those that icepll, ecppll and gowin_pll keep to, whose answers the tests compare with ours.
"""

from dataclasses import dataclass
from typing import ClassVar

from amaranth import *
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["ECP5PLL", "ICE40PLL", "Clocking", "GowinPLL", "Oscillator"]


@dataclass(frozen=True)
class Oscillator:
    """The pin's clock as it is.

    Parameters
    ----------
    oscillator : float
        MHz
    """

    oscillator: float

    @property
    def clock(self):
        """MHz that come out."""
        return self.oscillator

    def connect(self, m, pin, clk, locked):
        """Add what drives ``clk`` and ``locked`` from ``pin`` to the module ``m``."""
        m.d.comb += [clk.eq(pin), locked.eq(1)]

    def __str__(self):
        return "oscillator"


@dataclass(frozen=True)
class ICE40PLL:
    """The PLL of an iCE40, feedback from its oscillator's divider.

    Parameters
    ----------
    oscillator : float
        MHz
    reference, feedback : int
        divisors of the reference and of the feedback
    shift : int
        the output is the VCO's divided by 2^``shift``
    pad : bool
        the reference comes straight from the pin beside the PLL, which then can be used for nothing else
    """

    oscillator: float
    reference: int
    feedback: int
    shift: int
    pad: bool = False

    #: MHz: of the phase detector, of the VCO, and of the output.
    PFD: ClassVar = 10.0, 133.0
    VCO: ClassVar = 533.0, 1066.0
    OUTPUT: ClassVar = 16.0, 275.0
    #: The loop filter's setting goes by the phase detector's rate: 1 below the first of these, 2 below the next, …
    FILTER: ClassVar = 17.0, 26.0, 44.0, 66.0, 101.0

    @classmethod
    def settings(cls, oscillator, *, pad=False):
        """Every setting within the ranges."""
        for reference in range(1, 17):
            pfd = oscillator / reference
            if not cls.PFD[0] <= pfd <= cls.PFD[1]:
                continue
            for feedback in range(1, 129):
                if cls.VCO[0] <= pfd * feedback <= cls.VCO[1]:
                    for shift in range(1, 7):
                        setting = cls(oscillator, reference, feedback, shift, pad)
                        if cls.OUTPUT[0] <= setting.clock <= cls.OUTPUT[1]:
                            yield setting

    @property
    def clock(self):
        """MHz that come out."""
        return self.oscillator * self.feedback / (self.reference << self.shift)

    @property
    def filter_range(self):
        return 1 + sum(self.oscillator / self.reference >= limit for limit in self.FILTER)

    def connect(self, m, pin, clk, locked):
        """Add what drives ``clk`` and ``locked`` from ``pin`` to the module ``m``."""
        m.submodules.pll = Instance(
            "SB_PLL40_PAD" if self.pad else "SB_PLL40_CORE",
            p_FEEDBACK_PATH="SIMPLE", p_DIVR=Const(self.reference - 1, 4), p_DIVF=Const(self.feedback - 1, 7),
            p_DIVQ=Const(self.shift, 3), p_FILTER_RANGE=Const(self.filter_range, 3),
            **{"i_PACKAGEPIN" if self.pad else "i_REFERENCECLK": pin},
            i_RESETB=Const(1), i_BYPASS=Const(0), o_PLLOUTGLOBAL=clk, o_LOCK=locked)

    def __str__(self):
        return f"PLL {self.oscillator:g} / {self.reference} · {self.feedback} / {1 << self.shift}"


@dataclass(frozen=True)
class ECP5PLL:
    """The PLL of an ECP5. Its first output only feeds back, at the phase detector's rate, so that the VCO can run at
    any multiple of that; the second is the clock.

    Parameters
    ----------
    oscillator : float
        MHz
    reference, feedback, output : int
        divisors of the reference, of the first output and of the second
    """

    oscillator: float
    reference: int
    feedback: int
    output: int

    #: MHz: of the reference, of the phase detector (below 10 only where the reference is: the data sheet promises the
    #: jitter from there on), of the VCO, and of the output.
    REFERENCE: ClassVar = 8.0, 400.0
    PFD: ClassVar = 10.0, 400.0
    VCO: ClassVar = 400.0, 800.0
    OUTPUT: ClassVar = 3.125, 400.0

    @classmethod
    def settings(cls, oscillator):
        """Every setting within the ranges."""
        if not cls.REFERENCE[0] <= oscillator <= cls.REFERENCE[1]:
            return
        for reference in range(1, 129):
            pfd = oscillator / reference
            if not min(cls.PFD[0], oscillator) <= pfd <= cls.PFD[1]:
                continue
            for feedback in range(1, 129):
                if cls.VCO[0] <= pfd * feedback <= cls.VCO[1]:
                    for output in range(1, 129):
                        setting = cls(oscillator, reference, feedback, output)
                        if cls.OUTPUT[0] <= setting.clock <= cls.OUTPUT[1]:
                            yield setting

    @property
    def clock(self):
        """MHz that come out."""
        return self.oscillator * self.feedback / (self.reference * self.output)

    def connect(self, m, pin, clk, locked):
        """Add what drives ``clk`` and ``locked`` from ``pin`` to the module ``m``."""
        back = Signal(name="pll_feedback")
        m.submodules.pll = Instance(
            "EHXPLLL",
            a_ICP_CURRENT="12", a_LPF_RESISTOR="8", a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED", p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA", p_OUTDIVIDER_MUXB="DIVB", p_OUTDIVIDER_MUXC="DIVC", p_OUTDIVIDER_MUXD="DIVD",
            p_CLKI_DIV=self.reference, p_CLKFB_DIV=1, p_FEEDBK_PATH="CLKOP",
            p_CLKOP_ENABLE="ENABLED", p_CLKOP_DIV=self.feedback, p_CLKOP_CPHASE=self.feedback - 1, p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED", p_CLKOS_DIV=self.output, p_CLKOS_CPHASE=self.output - 1, p_CLKOS_FPHASE=0,
            i_CLKI=pin, i_CLKFB=back, o_CLKOP=back, o_CLKOS=clk, o_LOCK=locked,
            i_RST=Const(0), i_STDBY=Const(0), i_PHASESEL0=Const(0), i_PHASESEL1=Const(0), i_PHASEDIR=Const(1),
            i_PHASESTEP=Const(1), i_PHASELOADREG=Const(1), i_PLLWAKESYNC=Const(0), i_ENCLKOP=Const(0),
            i_ENCLKOS=Const(0))

    def __str__(self):
        return f"PLL {self.oscillator:g} / {self.reference} · {self.feedback} / {self.output}"


@dataclass(frozen=True)
class GowinPLL:
    """The PLL (rPLL) of a Gowin device.

    Parameters
    ----------
    oscillator : float
        MHz
    device : str
        a key of `RANGES`
    reference, feedback : int
        divisors of the reference and of the feedback
    output : int
        the VCO runs at so many times the output
    """

    oscillator: float
    device: str
    reference: int
    feedback: int
    output: int

    #: MHz: of the phase detector, of the VCO, and of the output.
    RANGES: ClassVar = {
        "GW1NR-9C": ((3.0, 400.0), (400.0, 1200.0), (3.125, 600.0)),
        "GW2A-18C": ((3.0, 500.0), (500.0, 1250.0), (3.90625, 625.0)),
    }
    OUTPUTS: ClassVar = 2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128

    @classmethod
    def settings(cls, oscillator, *, device):
        """Every setting within the ranges; none for a ``device`` that we know none for."""
        if device not in cls.RANGES:
            return
        pfds, vcos, outputs = cls.RANGES[device]
        for reference in range(1, 65):
            if not pfds[0] <= oscillator / reference <= pfds[1]:
                continue
            for feedback in range(1, 65):
                for output in cls.OUTPUTS:
                    setting = cls(oscillator, device, reference, feedback, output)
                    if (vcos[0] <= setting.clock * output <= vcos[1]
                            and outputs[0] <= setting.clock <= outputs[1]):
                        yield setting

    @property
    def clock(self):
        """MHz that come out."""
        return self.oscillator * self.feedback / self.reference

    def connect(self, m, pin, clk, locked):
        """Add what drives ``clk`` and ``locked`` from ``pin`` to the module ``m``."""
        m.submodules.pll = Instance(
            "rPLL",
            p_DEVICE=self.device, p_FCLKIN=f"{self.oscillator:g}", p_IDIV_SEL=self.reference - 1,
            p_FBDIV_SEL=self.feedback - 1, p_ODIV_SEL=self.output,
            p_DYN_IDIV_SEL="false", p_DYN_FBDIV_SEL="false", p_DYN_ODIV_SEL="false", p_DYN_DA_EN="false",
            p_DYN_SDIV_SEL=2, p_PSDA_SEL="0000", p_DUTYDA_SEL="1000", p_CLKFB_SEL="internal",
            p_CLKOUT_BYPASS="false", p_CLKOUTP_BYPASS="false", p_CLKOUTD_BYPASS="false",
            p_CLKOUTD_SRC="CLKOUT", p_CLKOUTD3_SRC="CLKOUT",
            p_CLKOUT_FT_DIR=Const(1, 1), p_CLKOUTP_FT_DIR=Const(1, 1), p_CLKOUT_DLY_STEP=0, p_CLKOUTP_DLY_STEP=0,
            i_CLKIN=pin, i_CLKFB=Const(0), i_RESET=Const(0), i_RESET_P=Const(0), i_FBDSEL=Const(0, 6),
            i_IDSEL=Const(0, 6), i_ODSEL=Const(0, 6), i_PSDA=Const(0, 4), i_DUTYDA=Const(0, 4), i_FDLY=Const(0, 4),
            o_CLKOUT=clk, o_LOCK=locked)

    def __str__(self):
        return f"PLL {self.oscillator:g} / {self.reference} · {self.feedback}"


class Clocking(wiring.Component):
    """A clock from a pin.

    Parameters
    ----------
    source : Oscillator, ICE40PLL, ECP5PLL or GowinPLL

    Members
    -------
    pin : In(1)
    clk : Out(1)
    locked : Out(1)
        low until the clock is what it is to be; of no clock domain
    """

    pin: In(1)
    clk: Out(1)
    locked: Out(1)

    def __init__(self, source):
        self.source = source
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        self.source.connect(m, self.pin, self.clk, self.locked)
        return m
