"""What a training run is: a TOML file, read strictly into frozen dataclasses.

A key that is unknown, missing, of the wrong type or impossible gives one `SpikeloomError` that names the
file, the key and what would be right. Where something comes in kinds, its table says ``kind = "..."`` and the
rest are the fields of the dataclass of that kind.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import types
import typing
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from spikeloom import data, files
from spikeloom.data.augment import Augment
from spikeloom.data.encode import Bands, Delta, Direct, Frames, Latency, Pixels, Rate, Spikes
from spikeloom.data.voc import Images
from spikeloom.detection import YOLO, Cells, Detection
from spikeloom.errors import SpikeloomError
from spikeloom.network import (
    INPUT,
    LONGEST_BLOCK,
    LONGEST_KERNEL,
    READOUTS,
    FullLeak,
    GradedSpike,
    NoLeak,
    Pool,
    ReLU,
    ShiftLeak,
    Silent,
    Spike,
    SynapticCurrent,
    TableActivation,
    TableLeak,
)
from spikeloom.network.checks import LONGEST_DELAY, between
from spikeloom.tasks import Classification

from . import hybrid
from .attention import JointAttention, sigmoid_table
from .baselines import GRU, LSTM
from .gates import PREDICTORS, SpikingBlockGate, SpikingChannelGate
from .hybrid import ActivityLayer, HybridDense, Spiking
from .layers import SpikingConv2d, SpikingDense
from .lmu import LMU
from .losses import TET, LastMembrane, MaximalMembrane, RateCrossEntropy, RateMSE
from .membranes import Levels, Shared, Tanh
from .model import SpikingNetwork
from .neuron import Adapting, Neuron
from .norm import BatchNorm, NoNorm
from .pruning import Pruning
from .quantizers import (
    SAWB,
    Binary,
    Integer,
    LearnedRange,
    NormalizedBinary,
    PowerOfTwo,
    SumOfSigmoids,
    Ternary,
    ThresholdTernary,
)
from .surrogate import ATan, FastSigmoid, Sigmoid, Triangle
from .synapses import SpikingBranch, SpikingShortcut
from .unrolled import SpikingUnrolled

PACKAGED = Path(__file__).parents[1] / "configs"
SCHEDULES = ("cosine", "constant")

#: Of neurons without batch norm, at the start.
THRESHOLD = 8.0

#: What learns a threshold: each channel, all of a layer together, or nothing.
THRESHOLDS = ("channel", "layer", "fixed")

#: Keys of layers and encoders that earlier versions did not know, with what goes without saying.
LATER = {"membrane": None, "thresholds": "channel", "threshold_gradient": "surrogate", "gate": None, "block_gate": None,
         "rows": 0, "images": None, "detection": None, "delay": 0, "recurrent": None, "branches": [], "act": None,
         "current": None, "adaptation": None}

#: Of membrane potentials, in bits, unless said otherwise.
V_WIDTH = 6

#: Kinds of weights: those without a step, those with one for all, and any.
Plain = Binary | Ternary | Integer | PowerOfTwo
Common = Plain | LearnedRange | SAWB | ThresholdTernary | SumOfSigmoids
Weights = Common | NormalizedBinary


@dataclass(frozen=True)
class Data:
    """Which images (where these are a user's own, what they are made into), and the part of the training set (0 to 0.5)
    kept to choose the best epoch by."""

    dataset: str = "digits"
    validation: float = 0.0
    images: Images | None = None

    def __post_init__(self):
        data.find(self.dataset, self.images)
        if not 0 <= self.validation <= 0.5:
            raise SpikeloomError(f"validation must lie within 0 to 0.5, not {self.validation}")


@dataclass(frozen=True)
class Recurrent:
    """A branch from a dense layer to itself; fields as in `SpikingBranch`."""

    weights: Plain = field(default_factory=Ternary)
    delay: int = 1

    def __post_init__(self):
        between("delay", self.delay, 1, LONGEST_DELAY, " time steps")


@dataclass(frozen=True)
class FurtherBranch:
    """One from anywhere; with a ``delay`` from a later layer too."""

    source: str
    weights: Plain = field(default_factory=Ternary)
    delay: int = 0

    def __post_init__(self):
        _check_delay(self)


def _check_delay(owner):
    between("delay", owner.delay, 0, LONGEST_DELAY, " time steps")


@dataclass(frozen=True)
class Projection:
    """A shortcut with weights of its own from every channel to every other; fields as in `SpikingShortcut`."""

    source: str
    stride: int = 1
    groups: int = 1
    pool: Pool | None = None
    weights: Plain = field(default_factory=Ternary)
    delay: int = 0
    kind = "projection"
    factor = None

    def __post_init__(self):
        _at_least_one(self, "groups")
        _check_delay(self)


@dataclass(frozen=True)
class Identity:
    """A shortcut from every channel to its like, times a ``factor`` that each channel learns from there on."""

    source: str
    factor: float = 4.0
    pool: Pool | None = None
    weights: Plain = field(default_factory=Integer)
    delay: int = 0
    kind = "identity"
    stride = 1

    def __post_init__(self):
        _check_delay(self)
        low, high = self.weights.format.bounds
        if not low <= self.factor <= high:
            raise SpikeloomError(f"factor must lie within its weights' {low} to {high}, not {self.factor}")


@dataclass(frozen=True)
class Attention:
    """Gates of ``width`` bits (1 to 8) for what comes in; the rest as in `JointAttention`."""

    kernel: int = 4
    width: int = 4
    weights: Common = field(default_factory=Ternary)

    def __post_init__(self):
        for name, high in (("kernel", LONGEST_KERNEL), ("width", 8)):
            if not 1 <= getattr(self, name) <= high:
                raise SpikeloomError(f"{name} must be between 1 and {high}, not {getattr(self, name)}")

    def build(self, shape, time_steps):
        """For a map of this ``shape``."""
        return JointAttention(shape, time_steps, kernel=self.kernel, weights=self.weights,
                              table=sigmoid_table(self.width))


@dataclass(frozen=True)
class ChannelGate:
    """Channels that a convolution leaves out for a time step; fields as in `SpikingChannelGate`."""

    predictor: str = "softmax"
    reduce: int = 1
    weights: Plain = field(default_factory=lambda: Integer(8))
    share: float | None = None
    strength: float = 1.0

    def __post_init__(self):
        if self.predictor not in PREDICTORS:
            raise SpikeloomError(f"predictor must be one of {', '.join(PREDICTORS)}, not {self.predictor!r}")
        _check_gate(self)

    def build(self, shape, channels, high):
        """For a map of this ``shape`` of values up to ``high``."""
        if self.reduce < 1 or shape[2] % self.reduce:
            raise SpikeloomError(f"reduce must divide the {shape[2]} channels that come in, not be {self.reduce}")
        return SpikingChannelGate(shape, channels, high=high, **vars(self))


@dataclass(frozen=True)
class BlockGate:
    """Blocks of a map that are left out for a time step; fields as in `SpikingBlockGate`."""

    kernel: int = 3
    rows: int = 2
    columns: int = 2
    depthwise: bool = False
    weights: Plain = field(default_factory=lambda: Integer(8))
    share: float | None = None
    strength: float = 1.0

    def __post_init__(self):
        if not 1 <= self.kernel <= LONGEST_KERNEL or self.kernel % 2 == 0:
            raise SpikeloomError(f"kernel must be odd and between 1 and {LONGEST_KERNEL}, not {self.kernel}")
        for name in ("rows", "columns"):
            if not 1 <= getattr(self, name) <= LONGEST_BLOCK:
                raise SpikeloomError(f"{name} must be between 1 and {LONGEST_BLOCK}, not {getattr(self, name)}")
        _check_gate(self)

    def build(self, shape):
        """For a layer whose map has this ``shape``."""
        return SpikingBlockGate(shape, **vars(self))


def _check_gate(gate):
    if gate.share is not None and not 0 < gate.share <= 1:
        raise SpikeloomError(f"share must lie above 0 and up to 1, not {gate.share}")
    if not 0 <= gate.strength < math.inf:
        raise SpikeloomError(f"strength must be 0 or more, not {gate.strength}")


@dataclass(frozen=True)
class _Layer:
    """What layers have in common: fields as in `spikeloom.training.neuron.Neuron` and `spikeloom.training.model`.

    ``threshold`` is what neurons start with, by default 8; with batch norm, which has its own, it cannot be set.
    ``name``: by default "hidden_1", "hidden_2" … "output".
    """

    v_width: int = V_WIDTH
    threshold: float | None = None
    weights: Weights = field(default_factory=Ternary)
    leak: NoLeak | ShiftLeak | FullLeak | TableLeak = field(default_factory=NoLeak)
    reset: str = "subtract"
    fire: Spike | GradedSpike | Silent = field(default_factory=Spike)
    surrogate: ATan | Sigmoid | Triangle | FastSigmoid = field(default_factory=ATan)
    detach_reset: bool = False
    membrane: Levels | Shared | Tanh | None = None
    thresholds: str = "channel"
    threshold_gradient: str = "surrogate"
    norm: NoNorm | BatchNorm = field(default_factory=NoNorm)
    name: str | None = None
    source: str | None = None
    attention: Attention | None = None
    pool: Pool | None = None
    delay: int = 0
    act: ReLU | TableActivation | None = None
    current: SynapticCurrent | None = None
    adaptation: Adapting | None = None

    def __post_init__(self):
        _check_delay(self)
        if self.threshold is not None:
            if isinstance(self.norm, BatchNorm):
                raise SpikeloomError(f"threshold cannot be set beside batch norm, whose alpha says where it starts, "
                                     f"but is {self.threshold}")
            if not 1 <= self.threshold < 2**15:
                raise SpikeloomError(f"threshold must be at least 1 and below 32768, not {self.threshold}")
        if self.membrane and self.v_width != V_WIDTH:
            raise SpikeloomError(f"v_width cannot be set beside a membrane of kind {self.membrane.kind}, which has a "
                                 "width of its own")
        if self.thresholds not in THRESHOLDS:
            raise SpikeloomError(f"thresholds must be one of {', '.join(THRESHOLDS)}, not {self.thresholds!r}")
        _ = self.neuron  # checks the rest

    @property
    def high(self):
        """The largest value that it sends."""
        return self.fire.high

    @property
    def neuron(self):
        return Neuron(self.v_width, self.leak, self.reset, self.fire, self.surrogate, self.detach_reset, self.membrane,
                      self.threshold_gradient, self.act, self.current, self.adaptation)

    @property
    def start(self):
        """What threshold latents are at the start."""
        return 1 / self.norm.alpha if isinstance(self.norm, BatchNorm) else self.threshold or THRESHOLD

    def further(self, name):
        """It has no branches beside its own."""
        return ()

    def _options(self, name, shape, time_steps):
        return {"weights": self.weights, "threshold": self.start, "name": name, "source": self.source,
                "attention": self.attention and self.attention.build(shape, time_steps), "pool": self.pool,
                "norm": self.norm, "thresholds": self.thresholds, "delay": self.delay}


@dataclass(frozen=True)
class DenseLayer(_Layer):
    """A dense layer of ``size`` neurons, which may take what it fires itself (``recurrent``), and what others do
    (``branches``)."""

    size: int = field(kw_only=True)
    recurrent: Recurrent | None = None
    branches: tuple[FurtherBranch, ...] = ()
    kind = "dense"
    implied = True

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= self.size <= 65536:
            raise SpikeloomError(f"size must be between 1 and 65536 neurons, not {self.size}")

    def build(self, shapes, highs, before, name, time_steps):
        """The layer called ``name`` that follows ``before``, given the map of each source and the largest value that it
        sends."""
        shape = shapes[self.source or before]
        others = [SpikingBranch(branch.source, math.prod(shapes[branch.source]), self.size, weights=branch.weights,
                                delay=branch.delay) for branch in self.further(name)]
        return SpikingDense(shape, self.size, self.neuron, others=others, **self._options(name, shape, time_steps))

    def further(self, name):
        """All branches beside its own of the layer called ``name``."""
        own = (FurtherBranch(name, self.recurrent.weights, self.recurrent.delay),) if self.recurrent else ()
        return own + self.branches


@dataclass(frozen=True)
class ConvLayer(_Layer):
    """A convolution with ``channels``; ``kernel``, ``stride``, ``padding``, ``groups``, ``shortcut``, ``gate`` and
    ``block_gate`` as in `SpikingConv2d`."""

    channels: int = field(kw_only=True)
    kernel: int = 3
    stride: int = 1
    padding: int | None = None
    groups: int = 1
    shortcut: Projection | Identity | None = None
    gate: ChannelGate | None = None
    block_gate: BlockGate | None = None
    kind = "conv"

    def __post_init__(self):
        super().__post_init__()
        _at_least_one(self, "channels", "groups")
        if not 1 <= self.kernel <= LONGEST_KERNEL:
            raise SpikeloomError(f"kernel must be between 1 and {LONGEST_KERNEL}, not {self.kernel}")

    def build(self, shapes, highs, before, name, time_steps):
        """As `DenseLayer.build`."""
        source = self.source or before
        shape = shapes[source]
        high = highs[source] * (2**self.attention.width - 1 if self.attention else 1)
        layer = SpikingConv2d(shape, self.channels, self.neuron, kernel=self.kernel, stride=self.stride,
                              padding=self.padding, groups=self.groups,
                              shortcut=self.shortcut and self._shortcut(shapes),
                              gate=self.gate and self.gate.build(shape, self.channels, high),
                              **self._options(name, shape, time_steps))
        layer.block_gate = self.block_gate and self.block_gate.build(layer.shape)
        return layer

    def further(self, name):
        """As `DenseLayer.further`."""
        return (self.shortcut,) if self.shortcut else ()

    def _shortcut(self, shapes):
        shortcut = self.shortcut
        groups = self.channels if isinstance(shortcut, Identity) else shortcut.groups
        return SpikingShortcut(shortcut.source, shapes[shortcut.source], self.channels, stride=shortcut.stride,
                               groups=groups, weights=shortcut.weights, pool=shortcut.pool, factor=shortcut.factor,
                               delay=shortcut.delay)


@dataclass(frozen=True)
class UnrolledLayer(_Layer):
    """A last layer that is dense in the network but learns as a convolution with ``channels``; fields as in
    `SpikingUnrolled`."""

    channels: int = field(kw_only=True)
    kernel: int = 1
    stride: int = 1
    padding: int | None = None
    kind = "unrolled"

    def __post_init__(self):
        super().__post_init__()
        _at_least_one(self, "channels")
        if not 1 <= self.kernel <= LONGEST_KERNEL:
            raise SpikeloomError(f"kernel must be between 1 and {LONGEST_KERNEL}, not {self.kernel}")

    def build(self, shapes, highs, before, name, time_steps):
        """As `DenseLayer.build`."""
        shape = shapes[self.source or before]
        return SpikingUnrolled(shape, self.channels, self.neuron, kernel=self.kernel, stride=self.stride,
                               padding=self.padding, **self._options(name, shape, time_steps))


@dataclass(frozen=True)
class _Activities:
    """What layers of activities have in common; fields as in `ActivityLayer`."""

    size: int
    name: str | None = None
    source: str | None = None

    #: As activities have no threshold.
    fire = None
    high = 1.0

    def __post_init__(self):
        if not 1 <= self.size <= 65536:
            raise SpikeloomError(f"size must be between 1 and 65536 neurons, not {self.size}")

    def further(self, name):
        """It has no branches beside its own."""
        return ()

    def build(self, shapes, highs, before, name, time_steps):
        """As `DenseLayer.build`."""
        source = self.source or before
        fields = {key: value for key, value in vars(self).items() if key not in ("name", "size")}
        return self.layer(shapes[source], self.size, **fields | {"high": highs[source], "name": name})


@dataclass(frozen=True)
class HybridLayer(_Activities):
    """A dense layer whose activities are sent as they are or as spikes; fields as in `HybridDense`."""

    activation: hybrid.ReLU | hybrid.Tanh | hybrid.Identity | hybrid.LIFRate = field(default_factory=hybrid.ReLU)
    spiking: Spiking | None = None
    width: int = 8
    entries: int = 256
    kind, layer = "hybrid", HybridDense

    def __post_init__(self):
        super().__post_init__()
        _check_integers(self)


@dataclass(frozen=True)
class LMULayer(_Activities):
    """Legendre memory units; fields as in `LMU`."""

    order: int = field(kw_only=True)
    window: float = field(kw_only=True)
    hidden: Spiking | None = None
    memory: Spiking | None = None
    exact: bool = True
    feedback: bool = False
    recurrent: bool = False
    segment: int = 0
    truncate: int = 0
    late: int = 0
    width: int = 8
    memory_width: int = 16
    entries: int = 256
    kind, layer = "lmu", LMU

    def __post_init__(self):
        super().__post_init__()
        if not 1 <= self.order <= 1024:
            raise SpikeloomError(f"order must be between 1 and 1024, not {self.order}")
        if not 1 <= self.window <= 65535:
            raise SpikeloomError(f"window must be between 1 and 65535 time steps, not {self.window}")
        for name in ("segment", "truncate", "late"):
            if getattr(self, name) < 0:
                raise SpikeloomError(f"{name} must be 0 or more, not {getattr(self, name)}")
        _check_integers(self)


def _check_integers(layer):
    for name in ("width", "memory_width"):
        if not 2 <= getattr(layer, name, 2) <= 16:
            raise SpikeloomError(f"{name} must be between 2 and 16 bits, not {getattr(layer, name)}")
    if not 2 <= layer.entries <= 2**16 or layer.entries & (layer.entries - 1):
        raise SpikeloomError(f"entries must be a power of two between 2 and 65536, not {layer.entries}")


@dataclass(frozen=True)
class LSTMLayer(_Activities):
    """Long short-term memory, to compare with."""

    kind, layer = "lstm", LSTM


@dataclass(frozen=True)
class GRULayer(_Activities):
    """Gated recurrent units, to compare with."""

    kind, layer = "gru", GRU


def _at_least_one(owner, *names):
    for name in names:
        if getattr(owner, name) < 1:
            raise SpikeloomError(f"{name} must be 1 or more, not {getattr(owner, name)}")


@dataclass(frozen=True)
class Training:
    """The loop.

    Parameters
    ----------
    loss : RateCrossEntropy, RateMSE, TET, MaximalMembrane or LastMembrane; YOLO for a detector
    epochs_float, epochs_quantized : int
        how long in floats, and then how long with everything rounded, which is 0 where layers have activities; each of
        these is a phase, which a round of
        `Pruning` divides
    batch : int
    rate : float
        Adam's learning rate at the start of each phase, for a parameter of natural size 1: weights take it
        times the span of their grid, thresholds and biases times the layer's initial threshold
    schedule : "cosine" (to zero over each phase) or "constant"
    augment : Augment
    threads : int
        of PyTorch on a CPU while it trains; 0 leaves what it chooses. Sums in another order round differently, so
        the same number makes a run repeat itself on machines with other numbers of cores.
    """

    loss: RateCrossEntropy | RateMSE | TET | MaximalMembrane | LastMembrane | YOLO
    epochs_float: int = 5
    epochs_quantized: int = 20
    batch: int = 128
    rate: float = 0.01
    schedule: str = "cosine"
    augment: Augment = field(default_factory=Augment)
    threads: int = 1

    def __post_init__(self):
        for name, least in (("epochs_float", 0), ("epochs_quantized", 0), ("batch", 1), ("threads", 0)):
            if getattr(self, name) < least:
                raise SpikeloomError(f"{name} must be {least} or more, not {getattr(self, name)}")
        if not self.rate > 0:
            raise SpikeloomError(f"rate must be positive, not {self.rate}")
        if self.schedule not in SCHEDULES:
            raise SpikeloomError(f"schedule must be one of {', '.join(SCHEDULES)}, not {self.schedule!r}")

    @property
    def epochs(self):
        return self.epochs_float + self.epochs_quantized


@dataclass(frozen=True)
class Config:
    """A whole training run. ``votes``: neurons of the last layer that vote for one class; ``pruning``: none by
    default; ``detection``: for data whose labels are boxes."""

    encoder: Direct | Rate | Latency | Delta | Pixels | Frames | Spikes | Bands
    layers: tuple[DenseLayer | ConvLayer | UnrolledLayer | HybridLayer | LMULayer | LSTMLayer | GRULayer, ...]
    training: Training
    data: Data = field(default_factory=Data)
    readout: str = "count"
    seed: int = 0
    votes: int = 1
    pruning: Pruning | None = None
    detection: Cells | None = None

    def __post_init__(self):
        if not self.layers:
            raise SpikeloomError("layers must hold at least one layer")
        if self.readout not in READOUTS:
            raise SpikeloomError(f"readout must be one of {', '.join(READOUTS)}, not {self.readout!r}")
        dataset, last = self.dataset, self.layers[-1]
        _at_least_one(self, "votes")
        if dataset.has_boxes != bool(self.detection):
            raise SpikeloomError("detection is " + ("missing: it says what boxes the last layer predicts, as data set "
                                                    f"{dataset.name} has boxes" if dataset.has_boxes else
                                                    f"for boxes, which data set {dataset.name} does not have"))
        if dataset.has_boxes:
            self._check_detector(last)
        elif isinstance(self.training.loss, YOLO):
            raise SpikeloomError(f"loss {YOLO.kind} is for boxes, which data set {dataset.name} does not have")
        size = self.task.size * self.votes
        if isinstance(last, DenseLayer) and last.size != size:
            each = f"{self.votes} votes for each of " if self.votes > 1 else ""
            what = ("the logits of boxes in all cells" if dataset.has_boxes else f"{each}the classes of {dataset.name}")
            raise SpikeloomError(f"size of the last layer must be {size}, {what}, not {last.size}")
        if any(isinstance(layer, UnrolledLayer) for layer in self.layers[:-1]):
            raise SpikeloomError('only the last layer may have kind = "unrolled"')
        if isinstance(last, _Activities):
            raise SpikeloomError(f"The last layer must be one of spiking neurons, not of kind {last.kind}")
        if self.readout == "membrane" and isinstance(last.weights, NormalizedBinary):
            raise SpikeloomError('readout "membrane" compares potentials of the last layer, which with weights of kind '
                                 f"{last.weights.kind} have a unit of their own for each class")
        if isinstance(last.fire, Silent):
            if self.readout == "count":
                raise SpikeloomError('readout "count" needs a last layer that fires, not fire = "silent"')
            if isinstance(self.training.loss, RateCrossEntropy | RateMSE):
                raise SpikeloomError(f"loss {self.training.loss.kind} needs a last layer that fires, not "
                                     'fire = "silent"')
        if any(isinstance(layer.fire, Silent) for layer in self.layers[:-1]):
            raise SpikeloomError('only the last layer may have fire = "silent"')
        if not 0 <= self.seed < 2**31:
            raise SpikeloomError(f"seed must be between 0 and 2^31 - 1, not {self.seed}")
        if dataset.has_frames and replace(self.training.augment, shift=0.0, flip=False) != Augment():
            raise SpikeloomError("training.augment: frames of recordings can be shifted and flipped, no more")
        if self.pruning and self.pruning.epochs[-1] >= self.training.epochs:
            raise SpikeloomError(f"pruning: its last round comes after {self.pruning.epochs[-1]} epochs, where "
                                 f"training has {self.training.epochs}")
        built = self.build(torch.Generator())
        if floats := next((layer for layer in built.layers if isinstance(layer, ActivityLayer)), None):
            if self.training.epochs_quantized or not self.training.epochs_float:
                raise SpikeloomError("training.epochs_quantized must be 0, and epochs_float 1 or more: layer "
                                     f"{floats.name} of kind {floats.kind} is trained in floats")
        elif not self.training.epochs_quantized:
            raise SpikeloomError("training.epochs_quantized must be 1 or more, not 0")
        else:
            built.to_network()  # the network's own rules

    def _check_detector(self, last):
        """The rules for data whose labels are boxes, by the ``last`` layer's configuration."""
        if self.readout != "membrane" or not isinstance(last.fire, Silent):
            raise SpikeloomError('detection needs readout "membrane" and a last layer with fire = "silent", whose '
                                 "potentials are logits")
        if self.votes != 1:
            raise SpikeloomError(f"detection has no votes, but votes is {self.votes}")
        if not isinstance(self.training.loss, YOLO):
            raise SpikeloomError(f"detection needs loss {YOLO.kind}, not {self.training.loss.kind}")
        if replace(self.training.augment, rotate=0.0, shear=0.0, elastic=0.0) != self.training.augment:
            raise SpikeloomError("training.augment: images with boxes can be shifted, scaled and flipped, no more")

    @property
    def dataset(self):
        return data.find(self.data.dataset, self.data.images)

    @property
    def task(self):
        """What scores are for: `Classification`, or `Detection`."""
        dataset = self.dataset
        return Detection(dataset.names, self.detection) if dataset.has_boxes else Classification(dataset.classes)

    def loss(self, spikes, membranes, labels):
        """That of a batch, by the last layer's spikes and membranes (time steps, batch, scores): a scalar."""
        if self.detection:
            return self.training.loss(self.task, membranes, labels)
        return self.training.loss(spikes, membranes, labels)

    @property
    def phases(self):
        """How many epochs are done where each phase of training begins: in floats, of each round of pruning, quantized;
        and where the last one ends."""
        begins = {0, self.training.epochs_float, *(self.pruning.epochs if self.pruning else ())}
        return [*sorted(begins - {self.training.epochs}), self.training.epochs]

    @property
    def input(self):
        """The network's `InputFormat`."""
        return self.dataset.input_format(self.encoder)

    def build(self, generator=None):
        """A fresh `SpikingNetwork`, its weights drawn from ``generator``."""
        shapes, highs, before, layers = {INPUT: self.input.shape}, {INPUT: self.input.bounds[1]}, INPUT, []
        names = [layer.name or f"hidden_{number}" for number, layer in enumerate(self.layers, 1)]
        names[-1] = self.layers[-1].name or "output"
        for name, layer in zip(names, self.layers, strict=True):  # a delay may lead back from these
            if hasattr(layer, "size"):
                shapes[name], highs[name] = (1, 1, layer.size), layer.high
        with torch.random.fork_rng(devices=[]):
            for number, (name, layer) in enumerate(zip(names, self.layers, strict=True)):
                branches = [(layer.source or before, getattr(layer, "delay", 0)), *(
                    (branch.source, branch.delay) for branch in layer.further(name))]
                for source, delay in branches:
                    known = [each for each in shapes if delay or each in (INPUT, *names[:number])]
                    if source not in known:
                        raise SpikeloomError(f"Layer {name}: a source must be one of {', '.join(known)}, "
                                             f"not {source!r}")
                layers.append(layer.build(shapes, highs, before, name, self.encoder.time_steps))
                shapes[name], highs[name], before = layers[-1].shape, layer.high, name
        for layer in layers:
            for drawn in (*layer.branches, *layer.gates):
                drawn.reset_parameters(generator)
        network = SpikingNetwork(self.input, layers, self.encoder.time_steps, self.readout, self.votes)
        size, outputs = self.task.size * self.votes, math.prod(layers[-1].shape)
        if isinstance(self.layers[-1], UnrolledLayer) and outputs != size:
            raise SpikeloomError(f"The last layer must have {size} neurons, not {outputs}")
        if self.pruning:
            self.pruning.prepare(network)
        return network

    @property
    def digest(self):
        """SHA-256 (hexadecimal) of everything above."""
        content = identity(describe(self))
        if self.pruning is None:
            del content["pruning"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def load(source):
    """The `Config` in a TOML file: a path, or the name of a packaged one such as ``"digits"``."""
    content, path = files.toml(source, PACKAGED, "configuration")
    return from_description(content, path)


def describe(value):
    """``value`` (a configuration or a part of one) as JSON-serialisable data; see `from_description`."""
    if dataclasses.is_dataclass(value):
        kind = {"kind": value.kind} if hasattr(value, "kind") else {}
        return kind | {each.name: describe(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [describe(each) for each in value]
    return value


def identity(content):
    """The ``content`` of a described `Config` without keys that there once were not, where they say what was so then:
    files from that time name the same configuration."""
    if isinstance(content, list):
        return [identity(each) for each in content]
    if not isinstance(content, dict):
        return content
    return {key: identity(value) for key, value in content.items() if key not in LATER or value != LATER[key]}


def from_description(content, source):
    """The `Config` that nested tables ``content`` describe; ``source`` is named in errors."""
    return _read(Config, content, f"{source}", "")


NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "a string"}


def _read(wanted, value, source, key):
    """``value`` as what the type ``wanted`` asks for."""

    def wrong(what):
        return SpikeloomError(f"{source}: {key + ' ' if key else ''}{what}")

    if wanted in NAMES:
        accepted = (int, float) if wanted is float else wanted
        if not isinstance(value, accepted) or (isinstance(value, bool) and wanted is not bool):
            raise wrong(f"must be {NAMES[wanted]}, not {value!r}")
        return wanted(value)
    if typing.get_origin(wanted) is tuple:
        if not isinstance(value, list):
            raise wrong(f"must be a list, not {value!r}")
        return tuple(_read(typing.get_args(wanted)[0], each, source, f"{key}[{number}]")
                     for number, each in enumerate(value))
    choices = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else ()
    if types.NoneType in choices:  # what can be left out; JSON says null
        if value is None:
            return None
        choices = choices[:-1]
        if len(choices) == 1:
            return _read(*choices, value, source, key)
    if not isinstance(value, dict):
        raise wrong(f"must be a table, not {value!r}")
    value = dict(value)
    if choices:
        kinds = {cls.kind: cls for cls in choices}
        kind = value.pop("kind", next((cls.kind for cls in choices if getattr(cls, "implied", False)), None))
        if kind not in kinds:
            raise wrong(f"must have a kind, one of {', '.join(kinds)}, not {kind!r}")
        wanted = kinds[kind]
    hints = typing.get_type_hints(wanted)
    known = {each.name: each for each in dataclasses.fields(wanted)}
    unknown = [name for name in value if name not in known]
    prefix = f"{key}." if key else ""
    if unknown:
        raise SpikeloomError(f"{source}: {prefix}{unknown[0]} is unknown; "
                             + (f"known here are {', '.join(known)}" if known else "nothing can be set here"))
    needed = [name for name, each in known.items() if name not in value
              and each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING]
    if needed:
        raise SpikeloomError(f"{source}: {prefix}{needed[0]} is missing")
    fields = {name: _read(hints[name], each, source, f"{prefix}{name}") for name, each in value.items()}
    try:
        return wanted(**fields)
    except SpikeloomError as error:
        raise SpikeloomError(f"{source}: {key + ': ' if key else ''}{error}") from None
