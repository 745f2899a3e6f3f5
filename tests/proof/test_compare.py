"""The comparison: it passes correct outputs and fails every kind of wrong output that it has to detect."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from converter.core.data import Golden, TensorSpec
from converter.core.errors import InputError, UsageError
from converter.core.results import Comparison, Control, OutputResult
from converter.proof.comparison import compare_outputs, separation
from converter.proof.controls import check_controls, check_shifted
from converter.proof.tolerance import tolerances
from converter.proof.verdict import beside_the_gpu, judge

SAMPLES, CLASSES = 8, 50
SOFT = {"main": TensorSpec("main", (None, CLASSES), activation="softmax")}
PAIR = {name: TensorSpec(name, (None, CLASSES), activation="softmax") for name in ("main", "aux")}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def single(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32)


def logits(seed: int = 0, spread: float = 1.0, shape: tuple[int, ...] = (SAMPLES, CLASSES)) -> np.ndarray:
    return rng(seed).normal(size=shape) * spread


def bounds_of(reference, specs=SOFT, exact=None, **options):
    return tolerances(Golden({}, reference, exact or {}, {}), specs, **options)


def one(reference, actual, specs=SOFT, **options) -> OutputResult:
    (result,) = compare_outputs(reference, actual, specs, bounds_of(reference, specs, **options))
    return result


def row(outputs, samples=SAMPLES) -> Comparison:
    return Comparison("onnx", "onnxruntime", "cpu", "float32", tuple(outputs), samples)


# outputs that pass


def test_float32_rounding_passes_and_is_measured_as_a_multiple_of_the_noise():
    exact = {"main": softmax(logits())}
    reference = {"main": single(exact["main"])}
    actual = {"main": single(softmax(logits() * (1 + 1e-7)))}
    result = one(reference, actual, exact=exact)
    assert result.passed, result.reason
    assert result.domain == "log-probability"
    assert result.multiple is not None
    assert 0.1 < result.multiple < 20
    assert result.top1_agreement == 1.0


def test_an_identical_output_has_distance_zero_and_infinite_sqnr():
    reference = {"main": single(softmax(logits()))}
    result = one(reference, {"main": reference["main"].copy()})
    assert (result.relative_l2, result.relative_max, result.max_abs) == (0.0, 0.0, 0.0)
    assert result.sqnr_db == math.inf
    assert result.cosine == pytest.approx(1.0)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_logits_are_recovered(activation):
    """Scaling the logits by 1.001 must be measured as 1e-3, for both activations."""
    specs = {"main": TensorSpec("main", (None, CLASSES), activation=activation)}
    squash = softmax if activation == "softmax" else sigmoid
    reference = {"main": single(squash(logits()))}
    result = one(reference, {"main": single(squash(logits() * 1.001))}, specs)
    assert result.relative_l2 == pytest.approx(1e-3, rel=0.02)
    assert not result.passed


def test_an_untrained_classifier_is_distinguished_although_allclose_is_true():
    """Two nearly uniform classifiers over 1,000 classes agree to atol 1e-3 and still fail here."""
    specs = {"main": TensorSpec("main", (None, 1000), activation="softmax")}
    first, second = (single(softmax(logits(seed, 1e-2, (8, 1000)))) for seed in (1, 2))
    assert np.allclose(first, second, atol=1e-3)
    assert not one({"main": first}, {"main": second}, specs).passed


# failures before numbers are compared


def test_swapped_outputs_fail_both():
    reference = {"main": single(softmax(logits(1))), "aux": single(softmax(logits(2)))}
    swapped = {"main": reference["aux"], "aux": reference["main"]}
    results = compare_outputs(reference, swapped, PAIR, bounds_of(reference, PAIR))
    assert [result.output for result in results] == ["main", "aux"]
    assert not any(result.passed for result in results)


def test_permuted_classes_fail():
    reference = {"main": single(softmax(logits()))}
    actual = {"main": np.roll(reference["main"], 1, axis=-1)}
    result = one(reference, actual)
    assert not result.passed
    assert result.top1_agreement == 0.0
    assert result.flips == SAMPLES


def test_one_wrong_sample_of_many_is_the_result():
    reference = {"main": single(softmax(logits()))}
    wrong = logits()
    wrong[5, 7] += 0.5
    result = one(reference, {"main": single(softmax(wrong))})
    assert not result.passed
    assert result.worst_index == (5, 7)


def test_one_wrong_element_of_a_million_fails_by_the_maximum():
    specs = {"mask": TensorSpec("mask", (None, 1000, 1000))}
    reference = {"mask": single(logits(0, 1.0, (2, 1000, 1000)))}
    actual = reference["mask"].copy()
    actual[1, 700, 30] += 1e-3
    result = one(reference, {"mask": actual}, specs)
    assert result.relative_l2 < 1e-5
    assert not result.passed
    assert "max|d|" in result.reason
    assert result.worst_index == (1, 700, 30)


def test_missing_and_extra_outputs_fail_by_name():
    reference = {"main": single(softmax(logits(1))), "aux": single(softmax(logits(2)))}
    actual = {"main": reference["main"], "Aux": reference["aux"]}
    results = compare_outputs(reference, actual, PAIR, bounds_of(reference, PAIR))
    assert [(result.output, result.passed) for result in results] == [("main", True), ("aux", False), ("Aux", False)]
    assert "missing" in results[1].reason
    assert "not an output" in results[2].reason
    assert not row(results).passed


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: p[:-1], "shape"),
        (lambda p: p[:, :-1], "shape"),
        (lambda p: p[..., None], "shape"),
        (lambda p: p.astype(np.float64), "dtype float64 instead of float32"),
        (lambda p: np.where(np.arange(CLASSES) == 3, np.nan, p).astype(np.float32), "8 of 400 values"),
        (lambda p: np.where(np.arange(CLASSES) == 3, np.inf, p).astype(np.float32), "NaN or Inf"),
        (lambda p: p * np.float32(1.01), "sum to 1.01"),
        (lambda p: p - np.float32(0.1), "not softmax probabilities"),
        (lambda p: np.zeros_like(p), "sum to 0"),
    ],
)
def test_what_differs_before_numbers_fails_with_a_reason_and_no_numbers(change, reason):
    reference = {"main": single(softmax(logits()))}
    result = one(reference, {"main": change(reference["main"])})
    assert not result.passed
    assert reason in result.reason
    assert result.relative_l2 is None


def test_a_bad_reference_fails_too():
    good = {"main": single(softmax(logits()))}
    bad = {"main": np.full_like(good["main"], np.nan)}
    (result,) = compare_outputs(bad, good, SOFT, bounds_of(good))
    assert not result.passed
    assert "reference" in result.reason


@pytest.mark.parametrize("shape", [(0, CLASSES), (SAMPLES, 0), ()])
def test_empty_outputs_never_pass(shape):
    specs = {"main": TensorSpec("main", (None, CLASSES))}
    empty = {"main": np.zeros(shape, np.float32)}
    (result,) = compare_outputs(empty, empty, specs, bounds_of({"main": np.ones((2, 2))}, specs))
    assert not result.passed
    assert result.reason.startswith("empty")


def test_no_outputs_do_not_pass():
    assert compare_outputs({}, {}, {}, {}) == ()
    assert not row(()).passed
    assert judge([row(())], [], {}, {})[0] != "pass"


# the ends of the range


def test_elements_that_underflow_are_compared_as_values_and_counted():
    wide = logits() * 2
    wide[:, :5] -= 90
    reference = {"main": single(softmax(wide))}
    assert (reference["main"][:, :5] < 1e-30).all()
    flushed = reference["main"].copy()
    flushed[flushed < 1e-30] = 0
    result = one(reference, {"main": flushed})
    assert result.passed, result.reason
    assert result.underflows == SAMPLES * 5


@pytest.mark.parametrize("size", [1e-25, 1e-10, 1e-6])
def test_an_element_that_underflows_on_one_side_only_fails(size):
    """The difference of the values is far below any tolerance, but that of the logits is large."""
    wide = logits() * 2
    wide[:, 0] -= 90
    reference = {"main": single(softmax(wide))}
    actual = reference["main"].copy()
    actual[2, 0] = size
    result = one(reference, {"main": actual})
    assert not result.passed
    assert "near 0 or 1" in result.reason or result.relative_l2 > 1e-5
    assert not one({"main": actual}, reference).passed


def test_one_hot_outputs_are_compared_as_values():
    hot = np.eye(CLASSES, dtype=np.float32)[:SAMPLES]
    assert one({"main": hot}, {"main": hot.copy()}).passed
    result = one({"main": hot}, {"main": np.roll(hot, 1, axis=-1)})
    assert not result.passed
    assert result.relative_l2 == pytest.approx(math.sqrt(2))
    assert separation({"main": hot}, SOFT)["main"] == pytest.approx(math.sqrt(2))


def test_a_certain_prediction_is_measured_relative_to_full_scale():
    """All other classes are below 1e-30, where libraries differ: their values count as zero."""
    sure = np.full((2, CLASSES), 1e-33, np.float32)
    sure[:, 2] = 1.0
    sure[0, 0] = 4e-36
    other = sure.copy()
    other[0, :2] = 0.0, 2e-33
    result = one({"main": sure}, {"main": other})
    assert result.passed, result.reason
    assert 0 < result.relative_l2 < 1e-30
    assert result.underflows == 2 * (CLASSES - 1)
    tolerance = bounds_of({"main": sure}, exact={"main": other.astype(np.float64)})["main"]
    assert 0 < tolerance.noise < 1e-30
    assert tolerance.value == tolerance.floor
    other[0, 1] = 1e-20
    assert not one({"main": sure}, {"main": other}).passed


def test_saturated_sigmoids_pass_with_rounding_and_fail_with_a_wrong_logit():
    specs = {"mask": TensorSpec("mask", (None, 16, 16, 1), activation="sigmoid")}
    high = logits(3, 6.0, (4, 16, 16, 1))
    exact = {"mask": sigmoid(high)}
    reference = {"mask": single(exact["mask"])}
    assert (reference["mask"] == 1).any()
    actual = {"mask": np.nextafter(reference["mask"], np.float32(0))}
    result = one(reference, actual, specs, exact=exact)
    assert result.passed, result.reason
    assert result.domain == "logit"
    assert result.underflows > 0
    assert not one(reference, {"mask": single(sigmoid(high * 1.001))}, specs, exact=exact).passed
    saturated = exact["mask"].copy()
    saturated[saturated > 0.9999] = 0.9999
    assert not one(reference, {"mask": single(saturated)}, specs, exact=exact).passed


def test_a_sigmoid_that_underflows_everywhere_is_measured_relative_to_full_scale():
    specs = {"p": TensorSpec("p", (None, 1), activation="sigmoid")}
    reference = {"p": np.full((2, 1), 1e-35, np.float32)}
    assert one(reference, {"p": np.full((2, 1), 1.001e-35, np.float32)}, specs).passed
    assert not one(reference, {"p": np.full((2, 1), 1e-20, np.float32)}, specs).passed


def test_a_probability_just_below_and_just_above_the_limit_agree():
    specs = {"p": TensorSpec("p", (None, 2), activation="sigmoid")}
    p = np.float32(0.999)
    reference = {"p": np.array([[p, 0.3], [p, 0.2]], np.float32)}
    actual = {"p": reference["p"].copy()}
    actual["p"][:, 0] = np.nextafter(p, np.float32(1))
    assert one(reference, actual, specs, exact={"p": actual["p"].astype(np.float64)}).passed


# constants


@pytest.mark.parametrize("value", [0.0, 3.0])
@pytest.mark.parametrize("activation", ["linear", "softmax", "sigmoid"])
def test_constant_outputs_are_inconclusive_without_a_division_by_zero(value, activation):
    specs = {"main": TensorSpec("main", (None, CLASSES), activation=activation)}
    values = np.full((SAMPLES, CLASSES), value)
    values = {"linear": lambda z: z, "softmax": softmax, "sigmoid": sigmoid}[activation](values)
    reference = {"main": single(values)}
    bounds = bounds_of(reference, specs, {"main": values})
    results = compare_outputs(reference, {"main": reference["main"].copy()}, specs, bounds)
    assert results[0].passed
    golden = Golden({}, reference, {"main": values}, {})
    apart = separation(reference, specs)
    verdict, reasons = judge([row(results)], both_controls(golden, specs, bounds), apart, bounds)
    assert apart == {"main": 0.0}
    assert verdict == "inconclusive"
    assert any("no control changes it" in reason for reason in reasons)


def test_a_difference_from_a_zero_reference_fails():
    specs = {"main": TensorSpec("main", (None, 2))}
    zero = {"main": np.zeros((2, 2), np.float32)}
    result = one(zero, {"main": np.full((2, 2), 1e-9, np.float32)}, specs)
    assert not result.passed
    assert result.relative_l2 == math.inf
    assert result.cosine is None


def test_a_classifier_that_is_all_rounding_error_is_inconclusive_and_not_failed():
    exact = {"main": softmax(logits(0, 3e-12))}
    reference = {"main": single(exact["main"])}
    actual = {"main": np.nextafter(reference["main"], np.float32(logits(1)))}
    bounds = bounds_of(reference, exact=exact)
    results = compare_outputs(reference, actual, SOFT, bounds)
    assert not results[0].passed
    golden = Golden({}, reference, exact, {})
    controls = [*check_controls(golden, SOFT, bounds), check_shifted(golden, actual, SOFT, bounds)]
    verdict, _ = judge([row(results)], controls, separation(reference, SOFT), bounds)
    assert verdict == "inconclusive"


def test_huge_values_do_not_overflow():
    specs = {"main": TensorSpec("main", (None, 3), "float64")}
    huge = {"main": np.array([[1e300, -1e300, 2e300]] * 2)}
    assert one(huge, huge, specs).relative_l2 == 0.0
    assert not one(huge, {"main": -huge["main"]}, specs).passed
    assert not one(huge, {"main": huge["main"] * 1.001}, specs).passed


# top-1


def test_a_flip_between_ties_does_not_count():
    tie = np.array([[2.0, 2.0 + 1e-6, 0.0]] * 2, np.float32)
    assert tie[0, 0] != tie[0, 1]
    specs = {"main": TensorSpec("main", (None, 3))}
    other = tie[:, [1, 0, 2]]
    result = one({"main": tie}, {"main": other}, specs)
    assert result.flips == 0
    assert result.top1_agreement == 1.0


def test_top1_is_counted_for_classes_only():
    shape = (2, 4, 4, 3)
    specs = {"main": TensorSpec("main", (None, 4, 4, 3))}
    values = {"main": single(logits(0, 1.0, shape))}
    assert one(values, values, specs).top1_agreement is None
    assert one(values, values, {"main": replace(specs["main"], shape=(None, 4, 4, 3))}).flips == 0
    soft = {"main": replace(specs["main"], activation="softmax")}
    planes = {"main": single(softmax(logits(0, 1.0, shape)))}
    assert one(planes, {"main": planes["main"][..., ::-1]}, soft).flips > 0
    column = {"main": TensorSpec("main", (None, 1))}
    assert one({"main": np.ones((2, 1))}, {"main": np.ones((2, 1))}, column).top1_agreement is None


# tolerances


@pytest.mark.parametrize(
    ("noise", "options", "expected"),
    [
        (1e-9, {}, 1e-6),
        (2e-6, {}, 1.6e-5),
        (1e-3, {}, 1e-4),
        (1e-3, {"tf32": True}, 3e-3),
        (1.0, {"tf32": True}, 1e-1),
        (1e-6, {"precision": "float16"}, 1e-4),
        (1e-2, {"precision": "float16"}, 3e-2),
        (1e-2, {"precision": "int8"}, 1e-1),
        (1e-3, {"chosen": 0.5}, 0.5),
    ],
)
def test_the_table_of_tolerances(noise, options, expected):
    specs = {"x": TensorSpec("x", (None, 200_000))}
    exact = {"x": rng().normal(size=(2, 200_000))}
    bound = tolerances(Golden({}, exact, {"x": exact["x"] * (1 + noise)}, {}), specs, **options)["x"]
    assert bound.value == pytest.approx(expected, rel=1e-2)
    assert bound.noise == pytest.approx(noise, rel=1e-2)
    assert bound.chosen == ("chosen" in options)


def test_the_noise_is_that_of_the_worst_sample():
    specs = {"x": TensorSpec("x", (None, 4))}
    exact = np.ones((3, 4))
    reference = exact * np.array([[1.0], [1 + 1e-6], [1 + 1e-7]])
    bound = tolerances(Golden({}, {"x": reference}, {"x": exact}, {}), specs)["x"]
    assert bound.noise == pytest.approx(1e-6, rel=1e-3)
    assert bound.value == bound.factor * bound.noise


def test_a_noise_of_few_values_is_not_known_well():
    """Eight numbers say less than a thousand about the largest error of eight others."""
    factors = []
    for size in (1, 10, 1000):
        specs = {"x": TensorSpec("x", (None, size))}
        exact = np.ones((8, size))
        bound = tolerances(Golden({}, {"x": exact * (1 + 2e-6)}, {"x": exact}, {}), specs)["x"]
        factors.append(bound.factor)
        assert bound.value == pytest.approx(bound.factor * 2e-6, rel=1e-3)
    assert factors == [pytest.approx(8 * (1 + 4 / math.sqrt(8 * size))) for size in (1, 10, 1000)]
    low = tolerances(Golden({}, {"x": exact}, {"x": exact}, {}), specs, tf32=True)["x"]
    assert low.factor == 3


def test_a_sigmoid_near_zero_rounds_like_a_number_near_a_half():
    """Runtimes compute 0.5 plus a polynomial: 6e-8 of a probability of 0.002 is 3e-5 of it."""
    specs = {"main": TensorSpec("main", (None, 4), activation="sigmoid")}
    exact = {"main": sigmoid(logits(shape=(SAMPLES, 4)) - 6.0)}
    reference = {"main": single(exact["main"])}
    fine = {"main": reference["main"] + np.float32(1.2e-7)}
    assert one(reference, fine, specs, exact=exact).passed
    wrong = {"main": single(sigmoid((logits(shape=(SAMPLES, 4)) - 6.0) * 1.001))}
    assert not one(reference, wrong, specs, exact=exact).passed
    saturated = {"main": np.array([[1e-35, 0.5, 1.0, 0.3]] * SAMPLES, np.float32)}
    clamped = {"main": np.array([[1.5e-8, 0.5, 1.0, 0.3]] * SAMPLES, np.float32)}
    assert one(saturated, clamped, specs).passed
    clamped["main"][:, 0] = 1e-5
    assert not one(saturated, clamped, specs).passed


def test_an_unmeasured_noise_gives_a_strict_tolerance():
    reference = {"main": single(softmax(logits()))}
    bound = bounds_of(reference)["main"]
    assert (bound.value, bound.noise, bound.noise_max) == (1e-5, None, None)
    assert bounds_of(reference, precision="float16")["main"].value == 1e-3
    assert one(reference, reference).multiple is None


def test_bad_tolerances_are_refused():
    reference = {"main": single(softmax(logits()))}
    for chosen in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(UsageError, match="positive"):
            bounds_of(reference, chosen=chosen)
    with pytest.raises(UsageError, match="precision"):
        bounds_of(reference, precision="float8")
    with pytest.raises(InputError, match="main"):
        bounds_of(reference, exact={"main": reference["main"][:, :2]})
    with pytest.raises(InputError, match="NaN"):
        bounds_of(reference, exact={"main": np.full((SAMPLES, CLASSES), np.nan)})


# negative controls


def golden_of(specs, controls, seed=0) -> Golden:
    exact = {name: softmax(logits(seed + index)) for index, name in enumerate(specs)}
    return Golden({}, {name: single(array) for name, array in exact.items()}, exact, controls)


def both_controls(golden, specs, bounds):
    """The controls of the golden arrays, and that of an artifact which returns the references."""
    return [*check_controls(golden, specs, bounds), check_shifted(golden, golden.references, specs, bounds)]


def test_controls_are_detected_on_a_sound_model():
    golden = golden_of(SOFT, {"channels-reversed": {"main": single(softmax(logits(9)))}})
    scaled = {"kernel-scaled-1.001": {"main": single(softmax(logits() * 1.001))}}
    golden = replace(golden, controls={**golden.controls, **scaled})
    found = both_controls(golden, SOFT, bounds_of(golden.references, exact=golden.exact))
    names = ["another-sample", "channels-exchanged", "channels-reversed", "kernel-scaled-1.001", "another sample"]
    assert [control.name for control in found] == names
    assert all(control.detected and control.outputs == ("main",) for control in found)
    assert found[3].relative_l2 == pytest.approx(1e-3, rel=0.02)


def test_a_control_must_fail_by_its_numbers():
    """Wrong outputs that fail for a NaN, a shape or a name prove nothing about the tolerance."""
    good = golden_of(SOFT, {})
    reference = good.references["main"]
    wrong = {
        "nan": {"main": np.full_like(reference, np.nan)},
        "shape": {"main": reference[:, :-1]},
        "name": {"other": reference},
        "same": {"main": reference.copy()},
    }
    golden = replace(good, controls=wrong)
    found = {control.name: control for control in check_controls(golden, SOFT, bounds_of(good.references))}
    assert [name for name, control in found.items() if control.detected] == ["another-sample", "channels-exchanged"]
    assert [name for name, control in found.items() if not control.applicable] == ["same"]
    assert "Keras itself gives the same answer" in found["same"].detail
    assert "not distinguished from the reference on main" in found["nan"].detail


def test_a_control_is_detected_on_the_outputs_that_keras_answers_differently():
    """A kernel in the branch of one output, or channels that another does not read, say nothing about the others."""
    good = golden_of(PAIR, {})
    only_main = {"main": single(softmax(logits() * 1.01)), "aux": good.references["aux"]}
    golden = replace(good, controls={"channels-reversed": only_main})
    (*_, found) = check_controls(golden, PAIR, bounds_of(good.references, PAIR))
    assert found.detected
    assert found.outputs == ("main",)
    (*_, lax) = check_controls(golden, PAIR, bounds_of(good.references, PAIR, chosen=0.1))
    assert not lax.detected
    assert lax.applicable
    assert "main" in lax.detail


def test_an_output_without_a_detected_control_is_in_doubt():
    good = golden_of(PAIR, {})
    bounds = bounds_of(good.references, PAIR, exact=good.exact)
    results = compare_outputs(good.references, good.references, PAIR, bounds)
    controls = [Control("kernel-scaled-1.001 x", True, 0.1, outputs=("main",))]
    verdict, reasons = judge([row(results)], controls, dict.fromkeys(PAIR, 0.5), bounds)
    assert verdict == "inconclusive"
    assert [reason for reason in reasons if "output aux: no control changes it" in reason and "--range" in reason]
    assert (
        judge([row(results)], [replace(controls[0], outputs=tuple(PAIR))], dict.fromkeys(PAIR, 0.5), bounds)[0]
        == "pass"
    )


def test_kernel_controls_apply_to_float32_only():
    golden = golden_of(SOFT, {"kernel-scaled-1.001": {"main": single(softmax(logits() * 1.001))}})
    found = check_controls(golden, SOFT, bounds_of(golden.references, exact=golden.exact, precision="float16"))
    assert [control.name for control in found] == ["another-sample", "channels-exchanged"]
    lax = check_controls(golden, SOFT, bounds_of(golden.references, chosen=0.01))
    assert [control.detected for control in lax] == [True, True, False]


def test_one_sample_is_inconclusive():
    specs = {"main": TensorSpec("main", (None, CLASSES), activation="softmax")}
    reference = {"main": single(softmax(logits(shape=(1, CLASSES))))}
    bounds = bounds_of(reference, specs)
    controls = check_controls(Golden({}, reference, {}, {}), specs, bounds)
    assert not controls[0].detected
    results = compare_outputs(reference, reference, specs, bounds)
    verdict, reasons = judge([row(results, 1)], controls, separation(reference, specs), bounds)
    assert verdict == "inconclusive"
    assert any("1 sample" in reason for reason in reasons)


def test_separation_is_the_smallest_distance():
    specs = {"x": TensorSpec("x", (None, 2))}
    values = {"x": np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.01]])}
    assert separation(values, specs)["x"] == pytest.approx(0.01, rel=1e-3)


# the verdict


def passing(seed=0):
    golden = golden_of(SOFT, {}, seed)
    bounds = bounds_of(golden.references, exact=golden.exact)
    results = compare_outputs(golden.references, golden.references, SOFT, bounds)
    return row(results), both_controls(golden, SOFT, bounds), bounds


def test_the_verdict_passes_only_with_everything_in_place():
    good, controls, bounds = passing()
    assert judge([good], controls, {"main": 0.5}, bounds) == ("pass", ())
    assert judge([], controls, {"main": 0.5}, bounds)[0] == "inconclusive"
    assert judge([good, row(())], controls, {"main": 0.5}, bounds)[0] == "inconclusive"
    assert judge([good], [], {"main": 0.5}, bounds)[0] == "inconclusive"
    assert judge([good], controls, {}, bounds)[0] == "inconclusive"
    assert judge([good], controls, {"main": math.nan}, bounds)[0] == "inconclusive"
    near = 99 * bounds["main"].value
    assert judge([good], controls, {"main": near}, bounds)[0] == "inconclusive"
    assert judge([good], [*controls, Control("x", False, 0.0, "missed")], {"main": 0.5}, bounds)[0] == "inconclusive"


def test_a_failure_outranks_inconclusive_and_names_row_output_and_figure():
    good, _, bounds = passing()
    wrong = {"main": single(softmax(logits() * 1.001))}
    reference = golden_of(SOFT, {}).references
    bad = row(compare_outputs(reference, wrong, SOFT, bounds))
    verdict, reasons = judge([good, bad], [], {}, bounds)
    assert verdict == "fail"
    assert "onnx in onnxruntime on cpu, output main: relative L2 0.001 exceeds 1e-06" in reasons[0]


def test_low_precision_needs_less_separation():
    golden = golden_of(SOFT, {})
    bounds = bounds_of(golden.references, exact=golden.exact, precision="int8")
    results = compare_outputs(golden.references, golden.references, SOFT, bounds)
    controls = check_controls(golden, SOFT, bounds)
    assert judge([row(results)], controls, {"main": 0.31}, bounds)[0] == "pass"
    assert judge([row(results)], controls, {"main": 0.29}, bounds)[0] == "inconclusive"


@pytest.mark.parametrize("seed", range(20))
def test_any_single_wrong_class_is_detected(seed):
    """Property: a logit of one sample changed by half a percent of the spread never passes, for any logit."""
    random = rng(seed)
    spread = float(random.uniform(0.1, 8))
    values = logits(seed, spread)
    exact = {"main": softmax(values)}
    reference = {"main": single(exact["main"])}
    wrong = values.copy()
    wrong[random.integers(SAMPLES), random.integers(CLASSES)] += spread * 5e-3
    assert not one(reference, {"main": single(softmax(wrong))}, exact=exact).passed
    assert one(reference, {"main": single(softmax(values + 1e-9))}, exact=exact).passed


def test_nodes_that_ran_beside_the_gpu_are_named() -> None:
    placement = {"CUDAExecutionProvider": {"Conv": 5, "Relu": 3}, "CPUExecutionProvider": {"Shape": 1, "Gather": 1}}
    gpu = Comparison("onnx", "onnxruntime", "cuda", "float32", (), facts={"placement": placement})
    whole = replace(gpu, facts={"placement": {"CUDAExecutionProvider": {"Conv": 5}}})
    assert beside_the_gpu([replace(gpu, device="cpu"), gpu, whole, replace(gpu, facts={})]) == (
        "onnx in onnxruntime on cuda: 2 of 10 nodes on the CPU: Gather, Shape",
    )
