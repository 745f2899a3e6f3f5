"""Shared by the tests of the line: one small model for each kind of layer, a tiny export, the command line in-process.

`small` is a parametrized fixture: every test that takes it runs once for each builder of `BUILDERS`. Keras and
TensorFlow are imported inside functions, so that tests which need neither do not wait for them.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from converter.core.data import Array, Traced
from converter.core.results import Report

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # as the command does before it loads TensorFlow
os.environ["CNNEXPORT_CACHE"] = "off"
if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # the cores are shared out among the processes of the run
    _threads = max(1, (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    for _variable in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(_variable, str(_threads))

SAMPLES = 3
HEIGHT, WIDTH = 12, 10  # not square: a transposed axis must show

TINY_NETS = """
import keras
import tensorflow as tf
from keras import layers

from converter.core.samples import generate
from converter.tracing.signature import describe
from zoo.calibrate import calibrate


def _calibrated(model, seed):
    calibrate(model, generate(describe(model).inputs, 8, seed)["image"], seed)
    return model


def two_heads(seed=0):
    image = keras.Input((32, 32, 3), name="image")
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(image)
    x = layers.BatchNormalization(name="stem_bn")(x)
    x = layers.ReLU(name="stem_relu")(x)
    x = layers.Conv2D(32, 3, strides=2, padding="same", groups=4, name="grouped")(x)
    x = layers.BatchNormalization(name="grouped_bn")(x)
    x = layers.ReLU(name="grouped_relu")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    main = layers.Dense(5, activation="softmax", name="main")(x)
    aux = layers.Dense(3, activation="softmax", name="aux")(x)
    return _calibrated(keras.Model(image, [main, aux], name="two_heads"), seed)


def stock(spread=1e-9):
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3), name="image")
    x = layers.Conv2D(8, 3, activation="relu", name="conv")(image)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    small = keras.initializers.RandomNormal(stddev=spread)
    return keras.Model(image, layers.Dense(10, activation="softmax", kernel_initializer=small, name="main")(x))


class Bessel(layers.Layer):
    def call(self, x):
        return x + 0.1 * tf.math.bessel_i0e(x)


def unmapped(seed=0):
    image = keras.Input((32, 32, 3), name="image")
    x = layers.Conv2D(8, 3, name="conv")(image)
    x = Bessel(name="strange")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return _calibrated(keras.Model(image, layers.Dense(4, name="main")(x), name="unmapped"), seed)
"""


LIGHT = (
    "core", "data", "bundle", "report", "packaging", "docs", "proof/test_compare.py", "proof/test_isolate.py",
    "prediction/test_statistics.py", "inspection/test_files.py",
)  # fmt: skip
"""Folders and files below tests/ whose tests need no TensorFlow, but for those that take a fixture of `HEAVY`."""

HEAVY = {"exported", "copied", "layered", "small", "build_small"}
"""Fixtures that build or export a model."""


_LIGHT_PLACES = tuple(str(Path(__file__).parent / name) for name in LIGHT)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m light`, do not even import the test modules that load TensorFlow."""
    tests = str(Path(__file__).parent)
    place = str(collection_path)
    only_light = config.option.markexpr == "light" and place.startswith(tests) and place != tests
    return (
        True
        if only_light and not any(each.startswith(place) or place.startswith(each) for each in _LIGHT_PLACES)
        else None
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need no TensorFlow as `light`."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if str(item.path).startswith(_LIGHT_PLACES) and not HEAVY & fixtures and not item.get_closest_marker("docs"):
            item.add_marker(pytest.mark.light)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """A light test that loads TensorFlow is not light."""
    if item.config.option.markexpr == "light" and "tensorflow" in sys.modules:
        pytest.fail(f"{item.nodeid}: TensorFlow is loaded; take the test out of LIGHT in tests/conftest.py")


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """The directory `name` that `make` fills: once in a run, whichever of its processes asks first."""
    root = factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    done = root / f"{name}.done"
    with FileLock(root / f"{name}.lock"):
        if not done.exists():
            make(root / name)
            done.touch()
    return root / name


@dataclass(frozen=True)
class Small:
    """A built model with random weights, its inputs and Keras's predictions by name; traced where a test asks."""

    name: str
    model: Any
    signature: Any
    inputs: dict[str, Array]
    expected: dict[str, Array]

    @cached_property
    def traced(self) -> Traced:
        from converter.tracing.trace import trace

        return trace(self.model, self.signature)


def _chain(*layers: Any, shape: tuple[int | None, ...] = (HEIGHT, WIDTH, 6)) -> Any:
    import keras

    inputs = x = keras.Input(shape, name="given")
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x, name="net")


def conv2d_even_same() -> Any:
    from keras import layers

    return _chain(
        layers.Conv2D(16, 4, padding="same", activation="relu", name="even"),
        layers.Conv2D(8, (2, 3), strides=2, padding="same", use_bias=False, name="strided"),
        layers.Conv2D(8, 3, dilation_rate=2, padding="same", name="dilated"),
    )


def conv1d() -> Any:
    from keras import layers

    return _chain(
        layers.Conv1D(16, 5, padding="same", activation="relu", name="same"),
        layers.Conv1D(16, 4, padding="causal", name="causal"),
        layers.BatchNormalization(name="bn"),
        layers.GlobalMaxPooling1D(name="pool"),
        shape=(20, 6),
    )


def conv3d() -> Any:
    from keras import layers

    return _chain(
        layers.Conv3D(8, 3, padding="same", strides=(1, 2, 1), name="conv"),
        layers.BatchNormalization(name="bn"),
        layers.ReLU(name="relu"),
        layers.GlobalAveragePooling3D(name="pool"),
        shape=(5, 6, 4, 3),
    )


def transposed() -> Any:
    from keras import layers

    return _chain(
        layers.Conv2DTranspose(8, 3, strides=2, padding="same", name="same"),
        layers.BatchNormalization(name="bn"),
        layers.ReLU(name="relu"),
        layers.Conv2DTranspose(4, 4, padding="valid", name="valid"),
    )


def separable() -> Any:
    from keras import layers

    return _chain(
        layers.SeparableConv2D(32, 3, padding="same", depth_multiplier=2, use_bias=False, name="separable"),
        layers.BatchNormalization(name="bn"),
    )


def depthwise() -> Any:
    from keras import layers

    return _chain(
        layers.DepthwiseConv2D(3, padding="same", dilation_rate=2, name="dilated"),
        layers.DepthwiseConv2D(5, padding="same", depth_multiplier=3, strides=2, use_bias=False, name="strided"),
        layers.BatchNormalization(name="bn"),
        layers.ReLU(max_value=6.0, name="relu"),
    )


def prelu_shared() -> Any:
    from keras import layers

    return _chain(
        layers.Conv2D(8, 3, padding="same", name="conv"),
        layers.PReLU(shared_axes=[1, 2], name="shared"),
        layers.Conv2D(8, 3, padding="valid", name="last"),
        layers.PReLU(name="own"),
    )


def upsampling_nearest() -> Any:
    from keras import layers

    return _chain(
        layers.Conv2D(8, 3, padding="same", name="conv"),
        layers.UpSampling2D((2, 3), interpolation="nearest", name="up"),
    )


def upsampling_bilinear() -> Any:
    from keras import layers

    return _chain(
        layers.Conv2D(8, 3, padding="same", name="conv"),
        layers.UpSampling2D(2, interpolation="bilinear", name="up"),
    )


def upsampling_of_any_size() -> Any:
    """As segmentation networks have it: height and width are only known at run time."""
    from keras import layers

    return _chain(
        layers.Conv2D(8, 3, strides=2, padding="same", name="conv"),
        layers.UpSampling2D((2, 3), interpolation="bilinear", name="up"),
        layers.Conv2D(4, 1, activation="softmax", name="classes"),
        shape=(None, None, 6),
    )


def normalization() -> Any:
    from keras import layers

    return _chain(
        layers.Rescaling(2.0, offset=-0.5, name="rescale"),
        layers.Normalization(
            mean=[0.1, 0.2, 0.3, 0.0, -0.1, 0.5], variance=[1.0, 2.0, 0.5, 0.3, 0.7, 1.1], name="norm"
        ),
        layers.Conv2D(8, 3, name="conv"),
    )


def pools() -> Any:
    import keras
    from keras import layers

    given = keras.Input((HEIGHT, WIDTH, 6), name="given")
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="conv")(given)
    x = layers.AveragePooling2D(3, strides=2, padding="same", name="average")(x)
    x = layers.MaxPooling2D(2, padding="valid", name="maximum")(x)
    joined = layers.Concatenate(name="joined")(
        [layers.GlobalAveragePooling2D(name="mean")(x), layers.GlobalMaxPooling2D(name="peak")(x)]
    )
    return keras.Model(given, layers.Dense(5, activation="softmax", name="head")(joined), name="net")


def zeros_into_max_pool() -> Any:
    """Zero padding that wins the maximum: what is pooled is negative in whole windows, and no ReLU comes before."""
    import keras
    from keras import layers

    given = keras.Input((HEIGHT, WIDTH, 6), name="given")
    x = layers.Conv2D(8, 3, padding="same", bias_initializer="ones", name="conv")(given)
    x = layers.ReLU(name="relu")(x)
    padded = layers.ZeroPadding2D(((1, 2), (2, 1)), name="zeros")(layers.Rescaling(-1.0, -1.0, name="negative")(x))
    left = layers.MaxPooling2D(2, name="pool")(padded)
    right = layers.MaxPooling2D(3, 2, padding="same", name="pool_same")(layers.ZeroPadding2D(2, name="relu_zeros")(x))
    wide = layers.AveragePooling2D(2, name="mean")(layers.ZeroPadding2D(3, name="wide_zeros")(x))
    return keras.Model(given, [left, right, wide], name="net")


def scalar_after_convolution() -> Any:
    """A convolution without a bias, then a number added to every channel, as in a hard sigmoid."""
    from keras import layers

    return _chain(
        layers.Conv2D(8, 3, use_bias=False, name="conv"),
        layers.Activation("hard_sigmoid", name="gate"),
        layers.Conv2DTranspose(4, 3, strides=2, use_bias=False, name="up"),
        layers.Rescaling(1.0, 3.0, name="shift"),
    )


def grouped() -> Any:
    from keras import layers

    return _chain(
        layers.Conv2D(16, 3, padding="same", groups=2, use_bias=False, name="pairs"),
        layers.BatchNormalization(epsilon=1.001e-5, name="bn"),
        layers.ReLU(name="relu"),
        layers.Conv2D(32, 3, padding="same", strides=2, groups=8, activation="relu", name="eights"),
    )


def bn_around() -> Any:
    from keras import layers

    return _chain(
        layers.BatchNormalization(name="before"),
        layers.Conv2D(16, 3, padding="same", name="conv"),
        layers.BatchNormalization(scale=False, name="unscaled"),
        layers.ReLU(name="relu"),
        layers.Conv2D(8, 3, use_bias=False, name="second"),
        layers.BatchNormalization(center=False, name="uncentred"),
    )


def flatten_dense() -> Any:
    from keras import layers

    return _chain(
        layers.Conv2D(8, 3, padding="same", activation="relu", name="conv"),
        layers.Flatten(name="flatten"),
        layers.Dense(16, activation="relu", name="hidden"),
        layers.BatchNormalization(name="bn"),
        layers.Dropout(0.5, name="dropout"),
        layers.Dense(3, activation="sigmoid", name="head"),
    )


def nested() -> Any:
    import keras
    from keras import layers

    inside = keras.Input((HEIGHT, WIDTH, 6), name="inside")
    x = layers.Conv2D(8, 3, padding="same", name="inner_conv")(inside)
    inner = keras.Model(inside, layers.BatchNormalization(name="inner_bn")(x), name="inner")
    given = keras.Input((HEIGHT, WIDTH, 6), name="given")
    x = layers.ReLU(name="relu")(inner(given))
    return keras.Model(given, layers.Conv2D(4, 3, name="outer_conv")(x), name="net")


def shared() -> Any:
    import keras
    from keras import layers

    given = keras.Input((HEIGHT, WIDTH, 6), name="given")
    twice = layers.Conv2D(6, 3, padding="same", name="twice")
    once = layers.BatchNormalization(name="bn")(twice(given))
    again = layers.ReLU(name="relu")(twice(once))
    return keras.Model(given, layers.Add(name="sum")([once, again]), name="net")


def sequential() -> Any:
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((HEIGHT, WIDTH, 6), name="given"),
            layers.Conv2D(8, 3, name="conv"),
            layers.GlobalAveragePooling2D(name="pool"),
            layers.Dense(4, activation="softmax", name="head"),
        ],
        name="net",
    )


def many_inputs() -> Any:
    import keras
    from keras import layers

    left = keras.Input((HEIGHT, WIDTH, 3), name="left")
    right = keras.Input((HEIGHT, WIDTH, 6), name="right")
    facts = keras.Input((4,), name="facts")
    x = layers.Concatenate(name="joined")([layers.Conv2D(8, 3, name="a")(left), layers.Conv2D(8, 3, name="b")(right)])
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Concatenate(name="with_facts")([x, facts])
    return keras.Model({"right": right, "left": left, "facts": facts}, layers.Dense(3, name="head")(x), name="net")


def outputs_in_a_list() -> Any:
    import keras
    from keras import layers

    given = keras.Input((HEIGHT, WIDTH, 6), name="given")
    x = layers.Conv2D(8, 3, name="conv")(given)
    pooled = layers.GlobalAveragePooling2D(name="pool")(x)
    main = layers.Dense(4, activation="softmax", name="main")(pooled)
    aux = layers.Dense(4, activation="sigmoid", name="aux1")(pooled)
    return keras.Model(given, [main, aux, x], name="net")


def outputs_in_a_dict() -> Any:
    import keras
    from keras import layers

    given = keras.Input((HEIGHT, WIDTH, 6), name="given")
    x = layers.Conv2D(8, 3, name="conv")(given)
    pooled = layers.GlobalAveragePooling2D(name="pool")(x)
    heads = {key: layers.Dense(size, name=f"dense_{key}")(pooled) for key, size in (("zebra", 4), ("ant", 3))}
    return keras.Model(given, heads, name="net")


def subclassed() -> Any:
    import keras
    import tensorflow as tf
    from keras import layers

    class Net(keras.Model):
        def __init__(self) -> None:
            super().__init__(name="net")
            self.conv = layers.Conv2D(16, 3, padding="same", groups=2, name="conv")
            self.bn = layers.BatchNormalization(name="bn")
            self.head = layers.Dense(3, name="head")
            self.raw = tf.Variable(np.linspace(0.5, 1.5, 32, dtype=np.float32), trainable=False)
            self.constant = tf.constant(np.linspace(-1.0, 1.0, 16, dtype=np.float32))

        def call(self, x: Any) -> Any:
            y = tf.nn.relu(self.bn(self.conv(x))) + self.constant
            joined = tf.concat([y, tf.square(y)], axis=-1) * self.raw
            return self.head(tf.reduce_mean(joined, axis=[1, 2]))

    model = Net()
    model(np.zeros((1, HEIGHT, WIDTH, 6), np.float32))
    return model


BUILDERS: tuple[Callable[[], Any], ...] = (
    conv2d_even_same, conv1d, conv3d, transposed, separable, depthwise, prelu_shared, upsampling_nearest,
    upsampling_bilinear, upsampling_of_any_size, normalization, pools, zeros_into_max_pool, scalar_after_convolution,
    grouped, bn_around, flatten_dense, nested, shared, sequential, many_inputs, outputs_in_a_list, outputs_in_a_dict,
    subclassed,
)  # fmt: skip


def randomise(model: Any, seed: int) -> None:
    """Every weight drawn from `seed`: no statistic stays 0 or 1, so that nothing is folded as an identity."""
    rng = np.random.default_rng(seed)
    for variable in model.variables:
        if not str(variable.dtype).startswith("float") or variable.path.startswith("norm/"):
            continue
        name, shape = variable.path.rsplit("/", 1)[-1], tuple(variable.shape)
        if "variance" in name or name == "gamma":
            variable.assign(rng.uniform(0.5, 1.5, shape))
        elif len(shape) > 1:
            variable.assign(rng.standard_normal(shape) * max(1, np.prod(shape[:-1])) ** -0.5)
        else:
            variable.assign(rng.standard_normal(shape) * 0.3)


def make_small(builder: Callable[[], Any]) -> Small:
    """The model of `builder` with random weights, and what Keras predicts for random inputs."""
    import keras

    from converter.tracing.signature import describe

    keras.backend.clear_session()
    model = builder()
    randomise(model, 1)
    signature = describe(model)
    rng = np.random.default_rng(2)
    inputs = {
        spec.name: rng.standard_normal((SAMPLES, *(size or HEIGHT for size in spec.shape[1:])), np.float32)
        for spec in signature.inputs
    }
    outputs = model.predict(signature.pack([inputs[spec.name] for spec in signature.inputs]), verbose=0)
    arrays = keras.tree.flatten(outputs)
    expected = {spec.name: np.asarray(array) for spec, array in zip(signature.outputs, arrays, strict=True)}
    for name, array in expected.items():
        assert np.std(array) > 1e-3, f"{builder.__name__}: {name} is constant, so comparing it proves nothing"
    return Small(builder.__name__, model, signature, inputs, expected)


@pytest.fixture(scope="session", params=BUILDERS, ids=lambda builder: builder.__name__.replace("_", "-"))
def small(request: pytest.FixtureRequest) -> Small:
    return make_small(request.param)


@pytest.fixture(scope="session")
def build_small() -> Callable[[Callable[[], Any] | str], Small]:
    """Builds the Small of a builder, or of the one in `BUILDERS` with that name."""
    by_name = {builder.__name__: builder for builder in BUILDERS}
    return lambda builder: make_small(by_name[builder] if isinstance(builder, str) else builder)


@pytest.fixture(scope="session")
def assert_close() -> Callable[[dict[str, Array], dict[str, Array]], None]:
    """Same names in the same order, same shapes, and no more apart than float32 rounding."""

    def check(actual: dict[str, Array], expected: dict[str, Array]) -> None:
        assert sorted(actual) == sorted(expected)
        for name, array in expected.items():
            assert actual[name].shape == array.shape, name
            assert actual[name].dtype == array.dtype, name
            distance = np.max(np.abs(actual[name] - array)) / np.max(np.abs(array))
            assert distance < 1e-5, f"{name}: {distance:.3g}"

    return check


@dataclass(frozen=True)
class Outcome:
    """What one call of the command line left: exit code, standard output, standard error."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """Standard output, which must be exactly one JSON document."""
        return json.loads(self.stdout)


@pytest.fixture
def cnnexport(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path, nets: Path
) -> Callable[..., Outcome]:
    """`cnnexport ARGUMENTS...` in this process and a directory of its own: the exit code and both streams."""
    from converter.cli import main as cli

    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["cnnexport", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        streams = capfd.readouterr()
        assert isinstance(left.value.code, int)
        return Outcome(left.value.code, streams.out, streams.err)

    return call


@pytest.fixture(scope="session")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory on sys.path that holds a user's module, `tiny_nets`."""
    directory = tmp_path_factory.mktemp("nets")
    (directory / "tiny_nets.py").write_text(textwrap.dedent(TINY_NETS))
    sys.path.insert(0, str(directory))
    yield directory
    sys.path.remove(str(directory))
    sys.modules.pop("tiny_nets", None)


@dataclass(frozen=True)
class Exported:
    directory: Path
    report: Report


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, nets: Path) -> Exported:
    """tiny_nets:two_heads in all three formats. Read it; change only a copy."""

    def make(root: Path) -> None:
        import converter

        report = converter.export("tiny_nets:two_heads", output=root / "export" / "two_heads")
        (root / "report.pickle").write_bytes(pickle.dumps(report))

    root = once(tmp_path_factory, "exported", make)
    return Exported(root / "export" / "two_heads", pickle.loads((root / "report.pickle").read_bytes()))


@pytest.fixture(scope="session")
def layered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models of `layered_nets` by name, exported to ONNX and TFLite. Read them; change only copies."""
    names = ("plain", "residual", "branches")

    def make(root: Path) -> None:
        from layered_nets import NETS

        import converter

        space: dict[str, Any] = {}
        exec(NETS, space)
        for name in names:
            report = converter.export(space[name](), formats=("onnx", "tflite"), output=root / name)
            assert report.verdict == "pass", report.reasons

    root = once(tmp_path_factory, "layered", make)
    return {name: root / name for name in names}


@pytest.fixture
def copied(exported: Exported, tmp_path: Path) -> Path:
    """A copy of `exported`, free to be damaged."""
    return Path(shutil.copytree(exported.directory, tmp_path / "copied" / "two_heads"))


@pytest.fixture(scope="session")
def repair() -> Callable[[Path, str], None]:
    """Enter the present size and hash of a changed file into the manifest, as a forger would."""

    def enter(directory: Path, name: str) -> None:
        manifest = json.loads((directory / "manifest.json").read_text())
        content = (directory / name).read_bytes()
        manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        (directory / "manifest.json").write_text(json.dumps(manifest))

    return enter


@pytest.fixture(scope="session")
def snapshot() -> Callable[[Path], dict[str, str]]:
    """sha256 of every file under a directory, hidden ones included, by relative path."""

    def take(directory: Path) -> dict[str, str]:
        return {
            path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(directory.rglob("*"))
            if path.is_file()
        }

    return take
