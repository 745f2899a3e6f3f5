"""`predict` and `evaluate` on a trained model: every format, every way to name images, wrong input, heat maps."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from conftest import once
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))
from pictures import bomb, photograph

COLOURS = {"blue": (20, 40, 200), "green": (30, 180, 40), "red": (200, 30, 30)}
SIZE = 24


def problems(found: Any) -> Iterator[str]:
    """What the schema of evaluation.json finds wrong."""
    text = (Path(__file__).parents[2] / "docs" / "schemas" / "evaluation.schema.json").read_text(encoding="utf-8")
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    yield from (error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(found))


def images(folder: Path, count: int, seed: int = 0) -> Path:
    """Noisy images of one colour each, larger than the model's input, in a folder for each class."""
    rng = np.random.default_rng(seed)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            values = np.array(colour) + rng.normal(0, 40, (40, 52, 3))
            Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


NET = """
import keras
from keras import layers


def colours(width=8):
    image = keras.Input((24, 24, 3), name="image")
    x = layers.Conv2D(width, 3, padding="same", activation="relu", name="conv")(image)
    x = layers.Conv2D(width, 3, groups=4, padding="same", activation="relu", name="grouped")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(3, activation="softmax", name="colour")(x), name="colours")
"""


@dataclass(frozen=True)
class Trained:
    """A trained model, its export, and images that it has not seen."""

    model: Path
    export: Path
    images: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    def make(root: Path) -> None:
        import converter

        root.mkdir()
        (root / "net.py").write_text(NET)
        images(root / "training", 20)
        images(root / "new", 6, seed=1)
        result = converter.train(
            f"{root / 'net.py'}:colours", root / "training", output=root / "model", epochs=12, batch=8, rate=0.02,
            preprocessing="torch", resize="stretch",
        )  # fmt: skip
        assert result.test_accuracy == 1.0
        report = converter.export(root / "model" / "model.keras", output=root / "export")
        assert report.verdict == "pass", report.reasons

    root = once(tmp_path_factory, "trained-colours", make)
    return Trained(root / "model" / "model.keras", root / "export", root / "new")


def test_preprocessing_and_labels_come_from_the_training(trained: Trained) -> None:
    manifest = json.loads((trained.export / "manifest.json").read_text())
    assert manifest["labels"] == sorted(COLOURS)
    assert manifest["preprocessing"]["mode"] == "torch"
    assert manifest["source"]["training"]["data"] == "training"


@pytest.mark.parametrize("runtime", ["onnxruntime", "onnxruntime-noopt", "litert", "tensorflow"])
def test_every_format_says_the_same(runtime: str, trained: Trained) -> None:
    import converter

    reference = converter.predict(trained.export, trained.images, runtime="onnxruntime")
    found = converter.predict(trained.export, trained.images, runtime=runtime)
    assert found.runtime == runtime
    assert len(found.predictions) == 18
    for one, other in zip(found.predictions, reference.predictions, strict=True):
        assert one.top[0].label == Path(one.image).parent.name
        assert [each.index for each in one.top] == [each.index for each in other.top]
        assert one.top[0].probability == pytest.approx(other.top[0].probability, abs=1e-5)
        assert sum(each.probability for each in one.top) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "saved_model"])
def test_an_artifact_alone_knows_what_it_needs(name: str, trained: Trained, tmp_path: Path) -> None:
    """Copied away from its manifest, it has its preprocessing and labels inside."""
    import converter

    source, target = trained.export / name, tmp_path / name
    shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    image = trained.images / "red" / "0.png"
    alone, beside = converter.predict(target, image), converter.predict(source, image)
    assert alone.predictions == beside.predictions
    assert alone.predictions[0].top[0].label == "red"


def test_a_file_of_someone_else(trained: Trained, tmp_path: Path) -> None:
    """Without metadata the graph gives the interface, and the user the rest."""
    import onnx

    import converter
    from converter.core.errors import UsageError

    model = onnx.load(trained.export / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    image = trained.images / "green" / "0.png"
    with pytest.raises(UsageError, match="not known how an image becomes its input"):
        converter.predict(tmp_path / "foreign.onnx", image)
    (tmp_path / "labels.txt").write_text("blue\ngreen\nred\n")
    found = converter.predict(tmp_path / "foreign.onnx", image, preprocessing="torch", labels=tmp_path / "labels.txt")
    assert found.predictions[0].top == converter.predict(trained.export, image).predictions[0].top
    (tmp_path / "labels.txt").write_text("blue\ngreen\n")
    with pytest.raises(UsageError, match="2 labels, fewer than the model's 3 classes"):
        converter.predict(trained.export, image, labels=tmp_path / "labels.txt")


def test_a_fixed_batch_and_channels_first(trained: Trained, tmp_path: Path) -> None:
    """The last batch is filled, and the layout of the file is that of its inputs."""
    import converter

    report = converter.export(trained.model, formats="onnx", batch=4, layout="nchw", output=tmp_path / "fixed")
    assert report.verdict == "pass"
    found = converter.predict(tmp_path / "fixed", trained.images)
    expected = converter.predict(trained.export, trained.images)
    for one, other in zip(found.predictions, expected.predictions, strict=True):
        assert [each.index for each in one.top] == [each.index for each in other.top]
        assert one.top[0].probability == pytest.approx(other.top[0].probability, abs=1e-5)


def test_an_evaluation_does_not_keep_an_export_from_being_replaced(
    trained: Trained, tmp_path: Path, cnnexport: Callable[..., Any]
) -> None:
    directory = Path(shutil.copytree(trained.export, tmp_path / "export"))
    assert cnnexport("evaluate", directory, "--data", trained.images, "--max-drop", 30, "-q").code == 0
    assert (directory / "evaluation.json").is_file()
    assert cnnexport(trained.model, "-o", directory, "-f", "onnx", "--samples", 3, "-q").code == 0
    assert not (directory / "evaluation.json").exists()


def test_a_table_and_one_json_document(trained: Trained, cnnexport: Callable[..., Any]) -> None:
    pattern = trained.images / "red" / "*.png"
    outcome = cnnexport("predict", trained.export, pattern, "--top", 1)
    assert outcome.code == 0
    assert outcome.stdout.splitlines()[0].split() == ["image", "probability", "class"]
    assert sum(line.rstrip().endswith(" red") for line in outcome.stdout.splitlines()) == 6
    found = cnnexport("predict", trained.export, pattern, "--json", "-q")
    assert found.stderr == ""
    assert len(found.json["predictions"]) == 6
    assert found.json["predictions"][0]["top"][0]["label"] == "red"


def test_tensorflow_is_not_loaded_for_onnx_and_tflite(trained: Trained) -> None:
    import subprocess

    code = (
        "import sys, converter\n"
        f"for name in ('onnxruntime', 'litert'):\n    converter.predict({str(trained.export)!r}, "
        f"{str(trained.images)!r}, runtime=name)\n"
        "assert not {'tensorflow', 'keras', 'onnx'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_images_that_cannot_be_read(trained: Trained, cnnexport: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    shutil.copy(trained.images / "red" / "0.png", folder / "a.png")
    bomb(folder / "b.png")
    (folder / "c.jpg").write_text("text")
    photograph().convert("CMYK").save(folder / "d.jpg")
    Image.new("RGB", (1, 1), COLOURS["blue"]).save(folder / "e.png")
    outcome = cnnexport("predict", trained.export, folder, "--json")
    assert outcome.code == 3
    errors = {Path(each["image"]).name: each["error"] for each in outcome.json["predictions"]}
    assert [name for name, error in errors.items() if error] == ["b.png", "c.jpg"]
    assert "decompression" in errors["b.png"] or "pixels" in errors["b.png"]
    assert outcome.json["predictions"][4]["top"][0]["label"] == "blue"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nowhere.onnx", "{image}"), 3, "no such file"),
        (("{export}", "nowhere.png"), 3, "no such image"),
        (("{export}", "{image}", "--runtime", "magic"), 2, "no such runtime"),
        (("{export}/model.onnx", "{image}", "--runtime", "litert"), 5, "litert does not read onnx"),
        (("{export}", "{image}", "--output", "magic"), 2, "has no output magic"),
        (("{export}", "{image}", "--size", "8x8"), 2, "the input of"),
        (("{export}", "{image}", "--size", "8"), 2, "expected height and width"),
        (("{export}", "{image}", "--preprocessing", "magic"), 2, "no such preprocessing"),
        (("{export}", "{text}"), 3, "not an image"),
        (("{text}", "{image}"), 3, "not an artifact"),
        (("{export}",), 2, "Missing argument"),
    ],
)
def test_bad_input(
    arguments: tuple[str, ...], code: int, words: str, trained: Trained, cnnexport: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("text")
    names = {"export": trained.export, "image": trained.images / "red" / "0.png", "text": tmp_path / "text.jpg"}
    outcome = cnnexport("predict", *(each.format(**names) for each in arguments))
    assert (outcome.code, outcome.stdout) == (code, "")
    assert words in outcome.stderr
    assert 1 <= len([line for line in outcome.stderr.splitlines() if " s  " not in line]) <= 3


def test_a_heat_map_shows_where_the_class_is() -> None:
    """A classifier that looks at one square only: hiding it costs most, hiding the rest costs nothing."""
    from converter.data.preprocessing import named
    from converter.prediction.occlusion import occlusion_map, overlaid

    pixels = np.random.default_rng(0).integers(0, 80, (48, 48, 3), np.uint8)
    pixels[4:20, 8:24, 0] = 250

    def run(inputs: Any) -> Any:
        redness = inputs[:, 4:20, 8:24, 0].mean((1, 2)) / 255
        return np.stack([redness, 1 - redness], 1).astype(np.float64)

    found = occlusion_map(pixels, named("plain"), run, 0)
    assert found.shape == (12, 12)
    assert found.max() == 1.0
    assert found[1:5, 2:6].min() > 0.2
    assert found[7:, 8:].max() == 0.0
    picture = np.asarray(overlaid(pixels, found), np.float64)
    redness = picture[..., 0] - picture[..., 2]
    assert redness[6:18, 10:22].mean() > 40
    assert abs(redness[32:, 32:]).max() < 1


def test_heat_maps_are_written(trained: Trained, tmp_path: Path) -> None:
    import converter

    found = converter.predict(trained.export, trained.images / "red", heatmap=tmp_path / "maps")
    assert found.heatmaps == "occlusion"
    files = [Path(each.heatmap) for each in found.predictions]
    assert len(set(files)) == 6
    for file in files:
        with Image.open(file) as picture:
            assert picture.size == (SIZE, SIZE)


def test_evaluation_beside_keras(trained: Trained, tmp_path: Path, cnnexport: Callable[..., Any]) -> None:
    directory = Path(shutil.copytree(trained.export, tmp_path / "export"))
    outcome = cnnexport(
        "evaluate", directory, "--data", trained.images, "--keras", trained.model, "--max-drop", 30, "--json"
    )
    assert outcome.code == 0, outcome.json["reasons"]
    found = outcome.json
    assert [row["subject"] for row in found["rows"]] == ["keras", "model.onnx", "model.tflite", "saved_model"]
    assert all(row["top1"] == 1.0 for row in found["rows"])
    for row in found["rows"][1:]:
        assert row["flipped"] == 0
        assert row["largest_difference"] < 1e-5
        assert row["paired"]["answer"] == "within"
        assert row["seconds"] > 0
    assert json.loads((directory / "evaluation.json").read_text()) == found
    assert list(problems(found)) == []
    assert list(problems({**found, "verdict": "perhaps"}))
    loading = found["loading"]
    assert loading["verdict"] == "pass"
    assert loading["pixels"] == 0.0
    assert max(loading["differences"].values()) < 1e-5
    assert {each["name"]: each["detected"] for each in loading["controls"]} == {
        "no-antialias": True, "channels-reversed": True, "wrong-scale": True, "labels-shifted": True,
    }  # fmt: skip


def test_the_page_has_a_section_once(trained: Trained, tmp_path: Path, cnnexport: Callable[..., Any]) -> None:
    directory = Path(shutil.copytree(trained.export, tmp_path / "export"))
    for _ in range(2):
        assert cnnexport("evaluate", directory, "--data", trained.images, "--max-drop", 30, "-q").code == 0
    page = (directory / "report.html").read_text()
    assert page.count("Accuracy on labelled images") == 1
    assert page.count("<svg") > 2
    assert page.rstrip().endswith("</html>")
    assert cnnexport("verify", directory, "--runtime", "onnxruntime", "-q").code == 0


def test_the_training_images_are_not_evaluated_silently(trained: Trained, cnnexport: Callable[..., Any]) -> None:
    data = trained.images.parent / "training"
    found = cnnexport("evaluate", trained.export, "--data", data, "--max-drop", 90, "--json").json
    assert (found["subset"], found["images"]) == ("test", 6)
    found = cnnexport("evaluate", trained.export, "--data", data, "--max-drop", 90, "--subset", "all", "--json").json
    assert found["images"] == 60
    assert any("trained on" in each for each in found["notes"])


def test_another_model_is_beyond(trained: Trained, tmp_path: Path, cnnexport: Callable[..., Any]) -> None:
    """Labels in another order: the reference is right, the artifact is not."""
    import onnx

    directory = Path(shutil.copytree(trained.export, tmp_path / "export"))
    model = onnx.load(directory / "model.onnx")
    for tensor in model.graph.initializer:
        if tensor.dims and tensor.dims[-1] == 3:
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values[..., ::-1]), tensor.name))
    onnx.save(model, directory / "model.onnx")
    record = json.loads((directory / "manifest.json").read_text())
    content = (directory / "model.onnx").read_bytes()
    import hashlib

    record["files"]["model.onnx"] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (directory / "manifest.json").write_text(json.dumps(record))
    outcome = cnnexport("evaluate", directory, "--data", trained.images, "--keras", trained.model, "--max-drop", 10)
    assert outcome.code == 1
    assert "the accuracy drops by more than allowed" in outcome.stdout
    assert "flipped in model.onnx" in outcome.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--data", "nowhere"), 3, "no such folder"),
        (("--data", "{other}"), 2, "is not a label of the model"),
        (("--data", "{images}", "--subset", "test"), 2, "was not trained on"),
        (("--data", "{images}", "--keras", "resnet18"), 2, "its inputs are"),
        (("--data", "{images}", "--max-drop", "-1"), 2, "--max-drop"),
        (("--data", "{images}", "--confidence", "101"), 2, "--confidence"),
        (("--data", "{images}", "--max-drop", "0.1"), 9, "too few images"),
        ((), 2, "Missing option"),
    ],
)
def test_evaluations_that_are_refused(
    arguments: tuple[str, ...], code: int, words: str, trained: Trained, cnnexport: Callable[..., Any], tmp_path: Path
) -> None:
    directory = shutil.copytree(trained.export, tmp_path / "export")
    other = images(tmp_path / "other", 2)
    (other / "red").rename(other / "scarlet")
    names = {"images": trained.images, "other": other}
    outcome = cnnexport("evaluate", directory, *(each.format(**names) for each in arguments))
    assert outcome.code == code, outcome.stderr
    assert words in outcome.stderr + outcome.stdout
