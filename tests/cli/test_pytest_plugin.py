"""The pytest plugin: runs of pytest in directories of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "converter" / "cli" / "cnnexport"

TESTS = """
import numpy as np
import pytest

def net(scale=1.0):
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(4, 3, activation="relu", name="first")(image)
    x = layers.Conv2D(4, 3, activation="relu", name="second")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(3, name="main")(x), name="net")

def test_right(assert_exports):
    report = assert_exports(net(), formats="onnx", samples=2)
    assert report.verdict == "pass"

@pytest.mark.cnnexport_slow
def test_slow(assert_exports):
    raise AssertionError("this one is slow")
"""

WRONG = """
from test_nets import net

def test_wrong(assert_exports, monkeypatch):
    import onnx
    from onnx import numpy_helper
    from converter.formats import FORMATS
    from dataclasses import replace

    own = FORMATS["onnx"]

    def write(traced, directory, options):
        artifact = own.write(traced, directory, options)
        model = onnx.load(directory / artifact.path)
        for tensor in model.graph.initializer:
            if tensor.dims == [4, 4, 3, 3] or list(tensor.dims) == [4, 4, 3, 3]:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 1.01, tensor.name))
        onnx.save(model, directory / artifact.path)
        return replace(artifact, size=(directory / artifact.path).stat().st_size)

    monkeypatch.setitem(FORMATS, "onnx", replace(own, write=write))
    assert_exports(net(), formats="onnx", samples=2)
"""


def run(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest in `place`, with the plugin as an installation has it."""
    (place / "installed").mkdir(exist_ok=True)
    link = place / "installed" / "cnnexport"
    if not link.exists():
        link.symlink_to(PLUGIN)
    path = os.pathsep.join([str(link.parent), *filter(None, sys.path)])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    given = {**kept, "PYTHONPATH": path, "CNNEXPORT_CACHE": "off", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    words += ["-p", "cnnexport.pytest_plugin"]
    return subprocess.run(words, cwd=place, env=given, capture_output=True, text=True, check=False)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    (tmp_path / "test_nets.py").write_text(TESTS)
    return tmp_path


def test_the_plugin_loads_nothing_heavy_and_knows_its_marker(place: Path) -> None:
    (place / "test_light.py").write_text(
        "import sys\ndef test_light():\n    assert not {'tensorflow', 'converter', 'numpy'} & set(sys.modules)\n"
    )
    done = run(place, "test_light.py")
    assert done.returncode == 0, done.stdout
    done = run(place, "--markers")
    assert "cnnexport_slow" in done.stdout
    done = run(place, "test_nets.py::test_slow", "-rs")
    assert "1 skipped" in done.stdout
    assert run(place, "test_nets.py::test_slow", "--cnnexport-slow").returncode == 1


@pytest.mark.slow
def test_baselines_and_a_wrong_export(place: Path) -> None:
    done = run(place, "test_nets.py", "--cnnexport-update")
    assert done.returncode == 0, done.stdout
    (baseline,) = (place / "cnnexport-baselines").iterdir()
    assert baseline.name == "test_nets.py-test_right.json"
    text = baseline.read_text()
    assert run(place, "test_nets.py").returncode == 0
    baseline.write_text(text.replace('"Conv": 2', '"Conv": 3'))
    done = run(place, "test_nets.py")
    assert done.returncode == 1
    assert "operator counts changed: Conv 3 -> 2" in done.stdout
    (place / "test_wrong.py").write_text(WRONG)
    done = run(place, "test_wrong.py")
    assert done.returncode == 1
    assert "net: fail" in done.stdout
    assert "second" in done.stdout
