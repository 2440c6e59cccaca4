"""Meters of counts: on ones that can be counted by hand, and together whatever the parts they came in."""

import math

import numpy as np
import pytest
from spikeloom.report.counts import DEVICES, Counts, bits, energy


def counted(n, fan_out=1):
    counts = Counts(np.asarray(n).shape[-1], fan_out)
    counts.add(n)
    return counts


def test_by_hand():
    counts = counted([[0, -1], [3, -1], [0, -4], [3, 1]], fan_out=10)
    assert (counts.sent, counts.nonzero, counts.spikes) == (8, 6, 13)
    assert counts.significant == 2 + 2 + 1 + 1 + 3 + 1
    assert counts.level_bits.tolist() == [1.0, math.log2(3)]
    assert counts.entropy.tolist() == [1.0, pytest.approx(0.25 * 2 + 0.25 * 2 + 0.5)]
    found = bits([counts])
    assert found.significant == 10 / 6
    assert found.significant_of_all == 10 / 8
    assert found.rate == 13 / 8
    assert found.sparsity == 0.25


def test_each_multiplication_counts():
    """A layer whose counts meet ten times as many weights weighs ten times as much in bits per multiply, and no more in
    those of activities."""
    found = bits([counted([[1], [0]], fan_out=10), counted([[7], [7]], fan_out=1)])
    assert found.significant == (10 + 6) / (10 + 2)
    assert found.significant_of_all == (10 + 6) / (20 + 2)
    assert found.levels == 0.5
    assert found.sparsity == 0.25


def test_nothing_was_sent():
    for counts in (Counts(3, 2), counted(np.zeros((5, 3), int))):
        assert (counts.nonzero, counts.spikes, counts.significant) == (0, 0, 0)
        assert bits([counts]).significant == 0
        assert counts.level_bits.tolist() == counts.entropy.tolist() == [0, 0, 0]


def test_parts_make_the_whole():
    rng = np.random.default_rng(1)
    n = rng.integers(-9, 6, (40, 3, 5)) * (rng.random((40, 3, 5)) < 0.3)
    whole, parts = counted(n, 7), Counts(5, 7)
    for part in np.array_split(n, 9):
        parts.add(part)
    assert parts.low == whole.low
    assert np.array_equal(parts.histogram, whole.histogram)
    flat = n.reshape(-1, 5)
    assert whole.spikes == np.abs(n).sum()
    assert whole.significant == sum(int(abs(each)).bit_length() for each in flat.ravel())
    for neuron, (level_bits, entropy) in enumerate(zip(whole.level_bits, whole.entropy, strict=True)):
        share = np.unique(flat[:, neuron], return_counts=True)[1] / len(flat)
        assert level_bits == math.log2(len(share))
        assert entropy == pytest.approx(-(share * np.log2(share)).sum())


def test_energies_of_the_table():
    counts = counted([[0, -2], [1, 0]], fan_out=10)
    assert energy([counts], "loihi") == pytest.approx(30 * 27.1e-12 + 4 * 81e-12)
    assert energy([counts, counts], "gpu") == pytest.approx(2 * (40 + 4) * 0.3e-9)
    assert list(DEVICES) == ["loihi", "spinnaker", "spinnaker2", "cpu", "gpu", "arm"]
