"""Encoders: what each says about an image, and that nothing else matters."""

import pytest
import torch
from spikeloom.data.encode import ENCODERS, Delta, Direct, Latency, Pixels, Rate
from spikeloom.errors import SpikeloomError
from spikeloom.network import InputFormat


def grey(*values):
    return torch.tensor([values], dtype=torch.uint8)


def test_direct_takes_the_highest_bits():
    levels = torch.arange(256, dtype=torch.uint8)[None]
    for width in range(1, 9):
        encoder = Direct(5, width)
        codes = encoder(levels)
        assert codes.shape == (1, 5, 256)
        assert codes.stride(1) == 0
        assert torch.equal(codes[0, 3], levels[0] >> (8 - width))
        assert encoder.input_format((16, 16, 1)).bounds == (0, 2**width - 1)
    assert Direct(1, 1)(torch.tensor([[0.0, 0.49, 0.5, 1.0]])).tolist() == [[[0, 0, 1, 1]]]


def test_rate_fires_in_proportion_and_only_by_seed_and_image():
    images = grey(0, 64, 128, 191, 255).repeat(1, 1)
    encoder = Rate(4000, seed=3)
    spikes = encoder(images)
    assert set(spikes.unique().tolist()) == {0, 1}
    rates = spikes.float().mean(1)[0]
    assert rates[0] == 0
    assert rates[4] == 1
    assert (rates - images[0] / 255).abs().max() < 0.03
    others = torch.randint(0, 256, (6, 5), dtype=torch.uint8)
    together = encoder(torch.cat([others, images]))
    assert torch.equal(together[6], spikes[0])  # whatever the batch
    assert not torch.equal(Rate(4000, seed=4)(images), spikes)
    assert not torch.equal(together[0], together[1])


def test_rate_noise_is_not_shared():
    half = torch.full((40, 50), 128, dtype=torch.uint8)
    half[:, 0] = torch.arange(40)  # forty different images
    spikes = Rate(60)(half)[:, :, 1:].double() - 128 / 255
    for flat in (spikes.permute(0, 1, 2).flatten(1), spikes.permute(1, 0, 2).flatten(1),
                 spikes.permute(2, 0, 1).flatten(1)):
        correlation = torch.corrcoef(flat)
        assert (correlation - torch.eye(len(flat))).abs().max() < 0.15


def test_latency_fires_once_the_brighter_the_earlier():
    spikes = Latency(5, threshold=0.1)(grey(255, 191, 128, 64, 26, 25, 0))
    assert spikes.sum(1).tolist() == [[1, 1, 1, 1, 1, 0, 0]]
    assert spikes[0, :, :5].argmax(0).tolist() == [0, 1, 2, 3, 4]
    assert Latency(1)(grey(255, 100, 0)).tolist() == [[[1, 1, 0]]]


def test_delta_fires_where_rows_change():
    encoder = Delta(3, threshold=0.5)
    spikes = encoder(grey(255, 0, 255, 200, 0, 200))  # rows: (255, 0), (255, 200), (0, 200)
    assert spikes.tolist() == [[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]]
    assert encoder.input_format((3, 2, 1)) == InputFormat(4, 1, (2, 2, 1))
    colors = Delta(2, threshold=0.5)(grey(255, 0, 0, 0, 0, 255, 255, 255, 0, 0, 0, 0))  # 2 x 2 pixels
    assert colors.tolist() == [[[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]]]
    assert encoder.input_format((3, 2, 3)) == InputFormat(12, 1, (2, 2, 3))
    with pytest.raises(SpikeloomError, match="images of 7 pixels do not divide into 3 rows"):
        encoder.input_format((7, 1, 3))


def test_pixels_come_one_after_the_other():
    images = torch.randint(0, 256, (3, 12), dtype=torch.uint8)
    assert torch.equal(Pixels(12)(images)[..., 0], images)
    assert torch.equal(Pixels(4)(images), images.view(3, 4, 3))
    assert torch.equal(Pixels(12, width=3)(images)[..., 0], images >> 5)
    assert Pixels(4).input_format((2, 6, 1)) == InputFormat(3, 8, (1, 3, 1))
    assert Pixels(4).input_format((2, 2, 3)) == InputFormat(3, 8, (1, 1, 3))
    with pytest.raises(SpikeloomError, match="images of 12 pixels do not divide into 5 time steps"):
        Pixels(5).input_format((2, 6, 1))


def test_pixels_come_in_an_order_drawn_once():
    images = torch.randint(0, 256, (3, 784), dtype=torch.uint8)
    permuted = Pixels(784, permute=1)
    order = permuted.order(784)
    assert order[:4].tolist() == [649, 265, 111, 301]  # whatever the version of NumPy
    assert sorted(order) == list(range(784))
    assert torch.equal(permuted(images)[..., 0], images[:, order])
    assert not torch.equal(Pixels(784, permute=2)(images), permuted(images))


@pytest.mark.parametrize("cls", [cls for cls in ENCODERS.values() if cls.takes == "images"])
def test_every_encoder_fits_its_input_format_and_repeats_itself(cls):
    encoder = cls(time_steps=4)
    images = torch.randint(0, 256, (7, 64), dtype=torch.uint8)
    codes = encoder(images)
    entry = encoder.input_format((4, 16, 1))
    assert entry.shape == ({Delta: 2, Pixels: 1}.get(cls, 4), 16, 1)
    assert codes.dtype == torch.uint8
    assert codes.shape == (7, 4, entry.size)
    assert codes.max() <= entry.bounds[1]
    assert torch.equal(encoder(images), codes)
    assert torch.equal(encoder(images[2:3])[0], codes[2])
    assert torch.equal(encoder(images.float() / 255), codes)
    with pytest.raises(SpikeloomError) as error:
        cls(time_steps=0)
    assert str(error.value) == f"Encoder {cls.kind}: time_steps must be between 1 and 65535, not 0"


@pytest.mark.parametrize(("cls", "options", "message"), [
    (Direct, {"width": 9}, "Input width must be between 1 and 8 bits, not 9"),
    (Latency, {"threshold": 0.0}, "Encoder latency: threshold must lie above 0 and up to 1, not 0.0"),
    (Pixels, {"permute": -1}, "Encoder pixels: permute must be between 0 and 2^32 - 1, not -1"),
    (Delta, {"threshold": 1.5}, "Encoder delta: threshold must lie above 0 and up to 1, not 1.5")])
def test_impossible_settings_are_refused(cls, options, message):
    with pytest.raises(SpikeloomError) as error:
        cls(**options)
    assert str(error.value) == message
