"""int8 kernels: their error, their neighbours, and what 16 bits make of them."""

from __future__ import annotations

import numpy as np
import pytest

from converter.core.processor import FLAGS, Processor, processor
from converter.quantize.weights import SAFE, accumulated, bias_of, neighbours, quantized


@pytest.mark.parametrize("axis", [0, 3])
@pytest.mark.parametrize("safe", [False, True])
def test_every_channel_has_a_scale_of_its_own(axis: int, safe: bool) -> None:
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((6, 3, 3, 6)).astype(np.float32)
    kernel *= np.logspace(-3, 3, 6).reshape([-1 if place == axis else 1 for place in range(4)]).astype(np.float32)
    weight = quantized(kernel, axis, safe=safe)
    assert weight.values.dtype == np.int8
    assert weight.values.shape == kernel.shape
    rows, real = (np.moveaxis(each, axis, 0).reshape(6, -1) for each in (kernel, weight.real))
    assert np.all(np.abs(rows - real) <= weight.scales[:, None] * 0.501)
    limit = 1 / 127 if not safe else 2 / 127
    assert np.all(weight.scales <= np.abs(rows).max(axis=1) * limit * 1.0001)


def test_a_channel_of_zeros_stays_zero() -> None:
    kernel = np.zeros((2, 4), np.float32)
    kernel[1] = 1e-3
    weight = quantized(kernel, 0)
    assert np.isfinite(weight.scales).all()
    assert not weight.values[0].any()
    np.testing.assert_allclose(weight.real[1], kernel[1], rtol=1e-6)


def test_neighbours_are_looked_at_in_both_layouts() -> None:
    """Large weights that are neighbours along the channels only, or along the rows only."""
    channels_first = np.zeros((1, 4, 3, 3), np.int8)
    channels_first[0, :2, 1, 1] = 100  # apart in OIHW, neighbours in OHWI
    assert neighbours(channels_first)[0] == 200
    assert neighbours(np.moveaxis(channels_first, 1, -1))[0] == 200
    rows = np.zeros((1, 4, 3, 3), np.int8)
    rows[0, 0, 1, 1:] = -100
    assert neighbours(rows)[0] == neighbours(np.moveaxis(rows, 1, -1))[0] == 200
    assert neighbours(np.array([[0, 127, 0, 127]]))[0] == 127


def test_a_kernel_made_to_saturate_is_found_and_made_safe() -> None:
    """255 * (127 + 127) is twice what 16 bits hold; with `safe` no two products exceed them."""
    rng = np.random.default_rng(1)
    kernel = rng.uniform(0.9, 1.0, (4, 64)).astype(np.float32)
    bright = np.full((3, 64), 255, np.uint8)
    eight, seven = quantized(kernel, 0), quantized(kernel, 0, safe=True)
    assert eight.saturates
    assert not seven.saturates
    assert seven.pairs <= SAFE
    assert seven.narrowed == 4
    lost = accumulated(bright, eight.values, bits16=True) / accumulated(bright, eight.values, bits16=False)
    assert np.all(lost < 0.6)
    for weight in (seven, quantized(np.zeros((2, 8), np.float32), 0)):
        exact = accumulated(bright[:, : weight.values.shape[1]], weight.values, bits16=False)
        assert np.array_equal(accumulated(bright[:, : weight.values.shape[1]], weight.values, bits16=True), exact)
    real = accumulated(bright, seven.values, bits16=True) * seven.scales
    np.testing.assert_allclose(real, bright.astype(np.float64) @ kernel.T.astype(np.float64), rtol=0.01)


def test_what_is_called_safe_never_saturates() -> None:
    """The proof against the simulation, on many random kernels with the brightest activations."""
    rng = np.random.default_rng(2)
    bright = np.full((1, 54), 255, np.uint8)
    for _ in range(50):
        kernel = rng.standard_normal((8, 6, 3, 3)).astype(np.float32) ** 3
        for safe in (False, True):
            weight = quantized(kernel, 0, safe=safe)
            flat = weight.values.reshape(8, -1)
            same = np.array_equal(*(accumulated(bright, flat, bits16=bits) for bits in (True, False)))
            assert same or weight.saturates
            assert not (safe and weight.saturates)


def test_a_bias_has_the_scale_of_its_products() -> None:
    bias = np.array([0.5, -2.0, 0.0], np.float32)
    stored, scales = bias_of(bias, 0.1, np.array([0.01, 0.02, 1.0], np.float32))
    assert stored.dtype == np.int32
    np.testing.assert_allclose(stored * scales, bias, atol=1e-3)


def test_the_processor_says_what_it_can() -> None:
    found = processor()
    assert found.machine
    assert set(found.flags) <= set(FLAGS)
    assert found.machine in str(found)
    assert "none of avx2" in str(Processor("x86_64", (), exact=False, known=True))
