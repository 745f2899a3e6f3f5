"""The real subject: a ResNeXt-50 of 1,201 layers, half of them Lambdas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from grouped_models import applied, kinds

from converter.rewrites import equivalence, rewrite
from converter.tracing.context import inlined_functions
from zoo import MODELS


@pytest.fixture(scope="module")
def subject() -> keras.Model:
    return MODELS["resnext50-lambda"].build(input_shape=(32, 32, 3))


@pytest.fixture(scope="module")
def rewritten(subject: keras.Model) -> keras.Model:
    return rewrite(subject).model


def test_layers_and_parameters(subject: keras.Model, rewritten: keras.Model) -> None:
    assert (len(subject.layers), len(rewritten.layers)) == (1201, 177)
    assert subject.count_params() == rewritten.count_params() == 23_056_388
    assert "Lambda" not in kinds(rewritten)
    assert sum(getattr(layer, "groups", 1) == 32 for layer in rewritten.layers) == 16


def test_it_has_the_layers_of_the_grouped_form(rewritten: keras.Model) -> None:
    grouped = MODELS["resnext50"].build(input_shape=(32, 32, 3))
    assert [layer.name for layer in rewritten.layers] == [layer.name for layer in grouped.layers]
    assert [weight.shape for weight in rewritten.weights] == [weight.shape for weight in grouped.weights]


def test_it_computes_the_same(subject: keras.Model, rewritten: keras.Model) -> None:
    x = np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)
    with inlined_functions():
        old, new = np.asarray(subject(x)), np.asarray(rewritten(x))
    assert equivalence.distance([new], [old]) <= 1e-6


@pytest.mark.slow
def test_whole_model_saved_loaded_and_trained(subject: keras.Model, tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)
    result = rewrite(subject, inputs=x)
    assert len(applied(result.results)) == 16
    result.model.save(tmp_path / "r.keras")
    loaded = keras.models.load_model(tmp_path / "r.keras", safe_mode=True)
    kernel = loaded.get_layer("stage1_block1_conv2").kernel
    before = kernel.numpy()
    np.testing.assert_array_equal(before, result.model.get_layer("stage1_block1_conv2").kernel.numpy())
    loaded.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    loaded.fit(x, np.array([0, 3]), epochs=1, verbose=0)
    assert np.abs(kernel.numpy() - before).max() > 0


def test_importing_the_rules_loads_no_framework() -> None:
    code = "import sys, converter.rewrites; sys.exit(bool({'keras', 'tensorflow'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
