"""The artifact directory: always complete or unchanged, and read as untrusted input."""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from converter.bundle import check_hashes, read_golden, read_manifest, stage, write_golden, write_manifest
from converter.bundle import directory as directory_module
from converter.core.data import Artifact, Golden, Interface, RuleResult, TensorSpec
from converter.core.errors import InputError, OutputError

INPUTS = (TensorSpec("image", (None, 4, 4, 3), layout="nhwc"),)
OUTPUTS = (TensorSpec("main", (None, 5), activation="softmax"), TensorSpec("aux/../1", (None, 2)))
ODD_NAMES = ["main", "a/b", "../up", "..", ".", "file", "ünï", "x\ny", "a%2Fb", "C:\\x", " "]


def golden(samples: int = 3) -> Golden:
    rng = np.random.default_rng(0)
    outputs = {spec.name: rng.random((samples, spec.shape[1]), np.float32) for spec in OUTPUTS}
    exact = {name: array.astype(np.float64) for name, array in outputs.items()}
    images = rng.random((samples, 4, 4, 3), np.float32)
    return Golden({"image": images}, outputs, exact, {"kernel-scaled-1.001": dict(outputs)})


def fill(directory: Path, content: str = "one") -> None:
    """A complete small export in `directory`."""
    (directory / "model.onnx").write_text(content * 100)
    (directory / "saved_model" / "variables").mkdir(parents=True)
    (directory / "saved_model" / "assets").mkdir()
    (directory / "saved_model" / "saved_model.pb").write_text(content)
    (directory / "saved_model" / "variables" / "variables.index").write_text(content)
    write_golden(directory / "golden.npz", golden())
    (directory / "report.json").write_text("{}")
    paths = (("onnx", "model.onnx"), ("saved-model", "saved_model"))
    artifacts = [Artifact(kind, path, "float32", INPUTS, OUTPUTS, {"Conv": 2}, 300, 0.5) for kind, path in paths]
    write_manifest(
        directory,
        {
            "model": content,
            "source": {"kind": "zoo", "trained": False},
            "artifacts": artifacts,
            "inputs": INPUTS,
            "outputs": OUTPUTS,
            "tolerance": {"chosen": None},
            "rewrites": (RuleResult("groups", "conv", True),),
            "environment": {"numpy": np.__version__},
            "seed": np.int64(7),
        },
    )


@pytest.fixture
def export(tmp_path: Path) -> Path:
    target = tmp_path / "out" / "net"
    with stage(target) as staging:
        fill(staging.path)
        staging.commit()
    return target


def edit(directory: Path, **changes: object) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def hidden(parent: Path) -> list[str]:
    return sorted(path.name for path in parent.iterdir() if path.name.startswith("."))


# staging


def test_an_export_reads_back_and_leaves_nothing_beside_it(export: Path):
    manifest = read_manifest(export)
    assert (manifest.model, manifest.seed, manifest.inputs, manifest.outputs) == ("one", 7, INPUTS, OUTPUTS)
    assert [artifact.path for artifact in manifest.artifacts] == ["model.onnx", "saved_model"]
    assert manifest.rewrites == (RuleResult("groups", "conv", True),)
    assert "saved_model/variables/variables.index" in manifest.files
    assert check_hashes(export, manifest) is True
    assert hidden(export.parent) == []
    assert "report.json" not in manifest.files
    text = (export / "manifest.json").read_bytes()
    assert text.isascii()
    assert json.loads(text)["created"].endswith("+00:00")


def test_leaving_without_commit_changes_nothing(export: Path):
    before = (export / "manifest.json").read_bytes()
    with stage(export) as staging:
        fill(staging.path, "two")

    def interrupted() -> None:
        with stage(export) as staging:
            fill(staging.path, "two")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (export / "manifest.json").read_bytes() == before
    assert hidden(export.parent) == []


def test_a_failed_first_export_leaves_no_trace(tmp_path: Path):
    with pytest.raises(ZeroDivisionError), stage(tmp_path / "a" / "b" / "net"):
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("atomic", [True, False])
def test_a_commit_replaces_the_previous_export(export: Path, monkeypatch, atomic: bool):
    if not atomic:
        monkeypatch.setattr(directory_module, "_exchange", lambda one, other: False)
    with stage(export) as staging:
        fill(staging.path, "two")
        assert staging.commit() == export
        assert staging.committed == export
        with pytest.raises(OutputError, match="already"):
            staging.commit()
    assert read_manifest(export).model == "two"
    assert check_hashes(export, read_manifest(export))
    assert hidden(export.parent) == []


def test_the_exchange_is_used_on_linux(export: Path, monkeypatch):
    def never(staged: Path, target: Path) -> None:
        raise AssertionError("two renames although the filesystem supports an exchange")

    if sys.platform.startswith("linux"):
        monkeypatch.setattr(directory_module, "_swap_in_two", never)
    with stage(export) as staging:
        fill(staging.path, "two")
        staging.commit()
    assert read_manifest(export).model == "two"


def test_a_commit_elsewhere_leaves_the_export_alone(export: Path):
    unproven = export.with_name("net.unproven")
    for content in ("two", "three"):
        with stage(export) as staging:
            fill(staging.path, content)
            assert staging.commit(unproven) == unproven
        assert (read_manifest(export).model, read_manifest(unproven).model) == ("one", content)
    (unproven / "notes.txt").write_text("mine")
    with stage(export) as staging:
        fill(staging.path, "four")
        with pytest.raises(OutputError, match=r"notes\.txt"):
            staging.commit(unproven)
    assert read_manifest(unproven).model == "three"
    assert hidden(export.parent) == []


def test_a_commit_needs_a_manifest(tmp_path: Path):
    with stage(tmp_path / "net") as staging:
        (staging.path / "model.onnx").write_text("x")
        with pytest.raises(OutputError, match=r"manifest\.json"):
            staging.commit()
    assert list(tmp_path.iterdir()) == []


def test_an_empty_directory_and_a_link_to_one_are_targets(tmp_path: Path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for content in ("one", "two"):
        with stage(tmp_path / "link") as staging:
            fill(staging.path, content)
            staging.commit()
    assert (tmp_path / "link").is_symlink()
    assert read_manifest(tmp_path / "real").model == "two"


def test_the_permissions_of_the_directory_follow_the_umask(export: Path):
    umask = os.umask(0)
    os.umask(umask)
    assert export.stat().st_mode & 0o777 == 0o777 & ~umask


def refuse(target: Path, match: str) -> None:
    with pytest.raises(OutputError, match=match) as caught, stage(target):
        pytest.fail("the stage opened")
    assert str(caught.value).count("\n") <= 2
    assert not target.parent.is_dir() or hidden(target.parent) == []


def test_a_directory_that_is_not_an_export_is_not_replaced(tmp_path: Path, export: Path):
    (tmp_path / "file").write_text("x")
    refuse(tmp_path / "file", "is a file")
    refuse(tmp_path / "file" / "below", "cannot be written")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("x")
    refuse(tmp_path / "photos", "not empty and not an export")
    (tmp_path / "photos" / "manifest.json").write_text('{"name": "a web app"}')
    refuse(tmp_path / "photos", "manifest")
    assert (tmp_path / "photos" / "cat.jpg").exists()
    with pytest.raises(OutputError, match="give another directory"), stage(Path("/")):
        pass


@pytest.mark.parametrize("name", ["notes.txt", "saved_model/mine.bin", "a/b/c.txt"])
def test_a_foreign_file_in_an_export_is_named_and_kept(export: Path, name: str):
    (export / name).parent.mkdir(parents=True, exist_ok=True)
    (export / name).write_text("mine")
    refuse(export, name)
    assert (export / name).read_text() == "mine"


def test_a_foreign_link_is_refused_and_not_followed(export: Path, tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "precious").write_text("x")
    (export / "data").symlink_to(tmp_path / "data")
    refuse(export, "data")
    assert (tmp_path / "data" / "precious").exists()


def test_a_file_that_arrives_during_the_export_is_kept(export: Path):
    with stage(export) as staging:
        fill(staging.path, "two")
        (export / "late.txt").write_text("mine")
        with pytest.raises(OutputError, match=r"late\.txt"):
            staging.commit()
    assert (export / "late.txt").exists()
    assert read_manifest(export).model == "one"


SCRIPT = """
    import sys, time
    from pathlib import Path
    from converter import bundle
    sys.path.insert(0, {tests!r})
    from test_bundle import fill
    if {two!r}:
        from converter.bundle import directory
        directory._exchange = lambda one, other: False
    target = Path(sys.argv[1])
    {body}
"""


def start(target: Path, body: str, two: bool = False) -> subprocess.Popen[str]:
    source = textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent), two=two, body=body)
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", source, str(target)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.stdout is not None
    process.stdout.close()


HOLD = """
with bundle.stage(target) as staging:
    (staging.path / "half").write_text("x")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_kept_out_and_a_killed_one_is_cleaned_up(export: Path):
    process = start(export, HOLD)
    try:
        with pytest.raises(OutputError, match="another cnnexport") as caught, stage(export):
            pass
        assert "\n" not in str(caught.value)
    finally:
        kill(process)
    assert check_hashes(export, read_manifest(export))
    assert [name for name in hidden(export.parent) if "partial" in name]
    with stage(export) as staging:
        assert len([name for name in hidden(export.parent) if "partial" in name]) == 1
        fill(staging.path, "two")
        staging.commit()
    assert hidden(export.parent) == []


LOOP = """
count = 0
while True:
    with bundle.stage(target) as staging:
        fill(staging.path, "ab"[count % 2])
        if not count:
            print("ready", flush=True)
        staging.commit()
    count += 1
"""


@pytest.mark.parametrize("two", [False, True])
def test_killed_at_any_moment_an_export_is_complete(export: Path, two: bool):
    """Kills a process that commits in a loop; the directory is complete, without an exchange after the next `stage`."""
    for wait in (0.0, 0.013, 0.029, 0.041):
        process = start(export, LOOP, two)
        time.sleep(wait)
        kill(process)
        if two:
            with stage(export):
                pass
        assert check_hashes(export, read_manifest(export))
    with stage(export):
        pass
    assert hidden(export.parent) == []


def test_the_gap_between_two_renames_is_closed_by_the_next_stage(export: Path):
    previous = export.with_name(".net.previous")
    export.rename(previous)
    with stage(export):
        assert read_manifest(export).model == "one"
    assert hidden(export.parent) == []
    shutil.copytree(export, previous)
    with stage(export):
        pass
    assert hidden(export.parent) == []
    previous.mkdir()
    (previous / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match="previous"), stage(export):
        pass
    assert (previous / "mine.txt").exists()


def test_directories_with_other_names_are_not_removed(export: Path):
    others = [".net.partial-notes", ".network.partial-1-00000000", ".net.partial-1-00000000.txt"]
    for name in others:
        (export.parent / name).mkdir()
    with stage(export):
        pass
    assert hidden(export.parent) == sorted(others)


# golden arrays


def test_golden_arrays_are_read_back_and_are_the_same_bytes_each_time(tmp_path: Path):
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    write_golden(first, golden())
    time.sleep(0.01)
    write_golden(second, golden())
    assert first.read_bytes() == second.read_bytes()
    back, wanted = read_golden(first, Interface(INPUTS, OUTPUTS)), golden()
    for name in wanted.references:
        assert np.array_equal(back.references[name], wanted.references[name])
        assert np.array_equal(back.exact[name], wanted.exact[name])
        assert np.array_equal(back.controls["kernel-scaled-1.001"][name], wanted.references[name])
    assert back.references["main"].flags.writeable
    assert set(np.load(first)) >= {"input/image", "reference/main"}


def test_any_name_can_be_stored(tmp_path: Path):
    specs = [TensorSpec(name, (None, 2)) for name in ODD_NAMES]
    arrays = {name: np.full((2, 2), index, np.float32) for index, name in enumerate(ODD_NAMES)}
    write_golden(tmp_path / "g.npz", Golden(arrays, arrays, {}, dict.fromkeys(ODD_NAMES, arrays)))
    with zipfile.ZipFile(tmp_path / "g.npz") as archive:
        for name in archive.namelist():
            assert name.isascii()
            assert not set(name.removesuffix(".npy").replace("%2E", "")) & set(". \\:\n")
    back = read_golden(tmp_path / "g.npz", Interface(specs, specs))
    assert list(back.controls) == ODD_NAMES
    assert all(np.array_equal(back.references[name], arrays[name]) for name in ODD_NAMES)


def test_transposed_and_sliced_arrays_are_stored_by_value(tmp_path: Path):
    array = np.arange(24, dtype=np.float32).reshape(4, 6).T[::2]
    spec = [TensorSpec("x", (None, 4))]
    write_golden(tmp_path / "g.npz", Golden({"x": array}, {"x": array}, {}, {}))
    assert np.array_equal(read_golden(tmp_path / "g.npz", Interface(spec, spec)).inputs["x"], array)


def test_objects_are_not_written(tmp_path: Path):
    with pytest.raises(OutputError, match="object"):
        write_golden(tmp_path / "g.npz", Golden({"x": np.array([{}, {}])}, {}, {}, {}))


def damaged(tmp_path: Path, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        read_golden(tmp_path / "golden.npz", Interface(INPUTS, OUTPUTS))
    message = str(caught.value)
    assert "golden.npz" in message
    assert message.count("\n") <= 2


def replaced(kind: str, name: str, array: np.ndarray | None) -> Golden:
    value = golden()
    sides = {"input": dict(value.inputs), "reference": dict(value.references), "exact": dict(value.exact)}
    controls = {key: dict(arrays) for key, arrays in value.controls.items()}
    side = sides.get(kind) or controls["kernel-scaled-1.001"]
    if array is None:
        del side[name]
    else:
        side[name] = array
    return Golden(sides["input"], sides["reference"], sides["exact"], controls)


@pytest.mark.parametrize(
    ("kind", "name", "array", "match"),
    [
        ("input", "image", None, "'image' is missing"),
        ("reference", "main", None, "'main' is missing"),
        ("exact", "main", None, "exact 'main' is missing"),
        ("control", "main", None, "kernel-scaled-1.001 'main' is missing"),
        ("reference", "extra", np.ones((3, 5), np.float32), "'extra' does not belong to this model"),
        ("reference", "main", np.ones((3, 5), np.float64), "dtype float64"),
        ("exact", "main", np.ones((3, 5), np.float32), "dtype float32"),
        ("input", "image", np.ones((3, 4, 4, 3), np.int32), "dtype int32"),
        ("input", "image", np.ones((3, 4, 4, 3), ">f4"), "dtype >f4"),
        ("reference", "main", np.ones((3, 6), np.float32), "shape"),
        ("reference", "main", np.ones((3, 5, 1), np.float32), "shape"),
        ("control", "main", np.ones((3, 4), np.float32), "shape"),
        ("reference", "main", np.ones((2, 5), np.float32), "same number of samples"),
        ("reference", "main", np.float32(1), "same number of samples"),
        ("reference", "main", np.full((3, 5), np.nan, np.float32), "NaN"),
        ("control", "main", np.full((3, 5), np.inf, np.float32), "NaN or Inf"),
        ("exact", "main", np.full((3, 5), np.nan), "NaN"),
    ],
)
def test_golden_arrays_that_do_not_fit_are_refused(tmp_path: Path, kind, name, array, match):
    value = replaced(kind, name, np.asarray(array) if array is not None else None)
    write_golden(tmp_path / "golden.npz", value)
    damaged(tmp_path, match)


def test_no_samples_is_refused(tmp_path: Path):
    write_golden(tmp_path / "golden.npz", golden(0))
    damaged(tmp_path, "at least 1")


def test_a_missing_file_and_a_directory_are_refused(tmp_path: Path):
    damaged(tmp_path, "No such file")
    (tmp_path / "golden.npz").mkdir()
    damaged(tmp_path, "directory")


def test_damage_at_any_byte_is_an_input_error_or_harmless(tmp_path: Path):
    path = tmp_path / "golden.npz"
    write_golden(path, golden())
    data = path.read_bytes()
    for cut in range(0, len(data), 97):
        path.write_bytes(data[:cut])
        with pytest.raises(InputError):
            read_golden(path, Interface(INPUTS, OUTPUTS))
    for position in range(0, len(data), 13):
        flipped = bytearray(data)
        flipped[position] ^= 0xFF
        path.write_bytes(flipped)
        try:  # a changed flag or date of the zip is harmless
            back = read_golden(path, Interface(INPUTS, OUTPUTS))
        except InputError:
            continue
        assert np.array_equal(back.references["main"], golden().references["main"])


def npy(array: np.ndarray, pickled: bool = False) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=pickled)
    return stream.getvalue()


def header(shape: str) -> bytes:
    text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def entries(path: Path, extra: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    write_golden(path, golden())
    with zipfile.ZipFile(path, "a", compression) as archive:
        for name, data in extra.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("exact/x.npy", npy(np.array([print, print]), True), "dtype object"),
        ("exact/x.npy", npy(np.array(["a", "b", "c"])), "not a plain number"),
        ("exact/x.npy", header("(-3,)"), "negative size"),
        ("exact/x.npy", b"not an array", "damaged"),
        ("exact/x.npy", b"", "damaged"),
        ("exact/x.npy", npy(np.ones((3, 2)))[:-8], "another number of values"),
        ("readme.txt", b"hello", "unexpected entry"),
        ("other/x.npy", npy(np.ones((3, 2))), "unexpected entry"),
        ("exact/a/b.npy", npy(np.ones((3, 2))), "unexpected entry"),
        ("exact/a%2fb.npy", npy(np.ones((3, 2))), "unexpected entry"),
        ("../../x.npy", npy(np.ones((3, 2))), "unexpected entry"),
    ],
)
def test_hostile_entries_are_refused(tmp_path: Path, name, data, match):
    entries(tmp_path / "golden.npz", {name: data})
    damaged(tmp_path, match)


def test_a_file_above_the_limits_is_refused_before_it_is_read(tmp_path: Path, monkeypatch):
    write_golden(tmp_path / "golden.npz", golden())
    monkeypatch.setattr("converter.bundle.golden.MAX_BYTES", 1000)
    damaged(tmp_path, "at most 1000 are read")
    monkeypatch.setattr("converter.bundle.golden.MAX_ENTRIES", 3)
    damaged(tmp_path, "7 entries")


def test_a_pickle_is_not_run(tmp_path: Path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    entries(tmp_path / "golden.npz", {"exact/x.npy": npy(np.array([Bomb()] * 3), True)})
    damaged(tmp_path, "object")
    assert not (tmp_path / "ran").exists()


def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path: Path):
    entries(tmp_path / "golden.npz", {"exact/x.npy": npy(np.zeros((3, 10**6)))}, zipfile.ZIP_DEFLATED)
    damaged(tmp_path, "compressed")
    entries(tmp_path / "golden.npz", {"exact/x.npy": header("(1000000000000,)") + bytes(64)})
    damaged(tmp_path, "another number of values")
    with pytest.warns(UserWarning, match="Duplicate"):
        entries(tmp_path / "golden.npz", {"input/image.npy": npy(np.zeros((3, 4, 4, 3), np.float32))})
    damaged(tmp_path, "occurs twice")


# the manifest


def unreadable(directory: Path, match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        read_manifest(directory)
    assert str(caught.value).count("\n") <= 2


def test_a_directory_that_is_not_an_export_is_not_read(tmp_path: Path):
    unreadable(tmp_path / "nothing", "no such directory")
    (tmp_path / "file").write_text("x")
    unreadable(tmp_path / "file", "not a directory")
    unreadable(tmp_path, "not an export")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '{"schema": NaN}', "[" * 100_000, '{"schema": ' + "9" * 5000 + "}", "\udcff"]
)
def test_malformed_manifests_are_refused(tmp_path: Path, text: str):
    (tmp_path / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    unreadable(tmp_path, r"manifest\.json")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"schema": 99}, "upgrade"),
        ({"schema": 0}, "does not exist"),
        ({"schema": "1"}, "whole number"),
        ({"schema": True}, "whole number"),
        ({"model": None}, "model"),
        ({"inputs": {}}, "inputs"),
        ({"inputs": []}, "empty"),
        ({"inputs": [3]}, r"inputs\[0\]"),
        ({"inputs": [{"name": "x", "shape": [None, 1.5]}]}, "shape"),
        ({"inputs": [{"name": "x", "shape": [None, -1]}]}, "shape"),
        ({"inputs": [{"name": "x", "shape": [None]}] * 2}, "twice"),
        ({"outputs": [{"name": "x", "shape": [None], "activation": "relu"}]}, "activation"),
        ({"outputs": [{"name": "x", "shape": [None], "layout": "hwc"}]}, "layout"),
        ({"artifacts": [{"path": "model.onnx"}]}, r"artifacts\[0\]: format"),
        ({"files": {"model.onnx": {"size": "1", "sha256": ""}}}, "size"),
        ({"files": {}}, "no hash of artifact"),
        ({"labels": [1]}, "labels"),
        ({"seed": 1.5}, "seed"),
        ({"rewrites": [{"rule": "x", "layer": "y", "applied": 1}]}, "applied"),
    ],
)
def test_wrong_types_in_a_manifest_are_named(export: Path, change, match):
    edit(export, **change)
    unreadable(export, match)


def first(raw: dict, **fields: object) -> dict:
    """A manifest's artifacts with the first one changed."""
    return {"artifacts": [{**raw["artifacts"][0], **fields}, *raw["artifacts"][1:]]}


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda raw: first(raw, size=10**400), "size: .* 64 bits"),
        (lambda raw: first(raw, seconds=10**400), "seconds: .* 64 bits"),
        (lambda raw: first(raw, operators={"Conv": 10**400}), "operators"),
        (lambda raw: first(raw, precision="x"), "precision"),
        (lambda raw: first(raw, inputs=[]), "the inputs of artifact 'model.onnx' differ from the model's"),
        (lambda raw: first(raw, outputs=[]), "the outputs of artifact 'model.onnx' differ from the model's"),
        (lambda raw: first(raw, inputs=[{**raw["artifacts"][0]["inputs"][0], "name": "\ud800"}]), "the inputs of"),
        (lambda raw: first(raw, inputs=[{**raw["artifacts"][0]["inputs"][0], "shape": [2**31]}]), "sizes of at most"),
        (lambda raw: {"artifacts": raw["artifacts"] * 65}, "artifacts: expected at most 64"),
        (lambda raw: {"outputs": raw["outputs"] * 5000}, "outputs: expected at most 4,096"),
        (lambda raw: {"files": {str(index): {} for index in range(10_001)}}, "files: expected at most 10,000"),
        (lambda raw: {"warnings": ["x"] * 10_001}, "warnings: expected at most 10,000"),
        (lambda raw: {"source": {"x": json.loads("[" * 100 + "]" * 100)}}, "nested deeper"),
        *((lambda raw, bad=bad: {"tolerance": {"chosen": bad}}, "tolerance") for bad in ("x", -1, 0, True, [], 1e999)),
    ],
)
def test_absurd_values_in_a_manifest_are_named(export: Path, change, match):
    raw = json.loads((export / "manifest.json").read_text())
    text = json.dumps({**raw, **change(raw)}).replace("Infinity", "1e999")  # valid JSON, read as infinity
    (export / "manifest.json").write_text(text)
    unreadable(export, match)


ABSURD = (None, [], {}, "\ud800\n::error::" + "y" * 1000, -1, 1e308, 10**400)


def places(value, path=()):
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inside:
        yield from places(each, (*path, key))


def put(value, path, new):
    if not path:
        return new
    copy = value.copy()
    copy[path[0]] = put(value[path[0]], path[1:], new)
    return copy


def test_any_value_in_a_manifest_is_read_or_refused(export: Path):
    raw = json.loads((export / "manifest.json").read_text())
    refused = 0
    for path in places(raw):
        for new in ABSURD:
            (export / "manifest.json").write_text(json.dumps(put(raw, path, new)))
            try:
                manifest = read_manifest(export)
            except InputError:
                refused += 1
            else:
                assert (
                    manifest.seed + sum(artifact.size + artifact.seconds for artifact in manifest.artifacts) < math.inf
                )
    assert refused > 300


HOSTILE = [
    "/etc/passwd",
    "../x",
    "a/../../x",
    "saved_model/..",
    "a\\b",
    "C:x",
    "",
    ".",
    "./x",
    "a//b",
    "x\n",
    "x\x1b[31m",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_paths_that_leave_the_directory_are_refused(export: Path, path: str):
    raw = json.loads((export / "manifest.json").read_text())
    record = raw["files"]["model.onnx"]
    edit(export, files={**raw["files"], path: record})
    unreadable(export, "path inside")
    artifacts = [{**raw["artifacts"][0], "path": path}]
    edit(export, files=raw["files"], artifacts=artifacts)
    unreadable(export, "path inside")


def test_links_out_of_the_directory_are_refused(export: Path, tmp_path: Path):
    shutil.move(export / "model.onnx", tmp_path / "elsewhere")
    (export / "model.onnx").symlink_to(tmp_path / "elsewhere")
    unreadable(export, "link")


def test_a_link_is_not_written_into_a_manifest(tmp_path: Path):
    (tmp_path / "secret").write_text("x")
    with stage(tmp_path / "net") as staging:
        (staging.path / "model.tflite").symlink_to(tmp_path / "secret")
        with pytest.raises(OutputError, match="link"):
            fill(staging.path)


def test_a_manifest_that_could_not_be_read_back_is_not_written(tmp_path: Path):
    for wrong in ({"model": 3}, {"model": "x"}, {"model": object()}):
        with pytest.raises(OutputError, match="read back"):
            write_manifest(tmp_path, wrong)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_named_by_file(export: Path):
    manifest = read_manifest(export)
    model = export / "model.onnx"
    data = bytearray(model.read_bytes())
    data[7] ^= 1
    model.write_bytes(data)
    with pytest.raises(InputError, match=r"model\.onnx: damaged, its sha256"):
        check_hashes(export, manifest)
    model.write_bytes(data[:-1])
    with pytest.raises(InputError, match=r"model\.onnx: damaged, 299 bytes instead of 300"):
        check_hashes(export, manifest)
    model.unlink()
    with pytest.raises(InputError, match=r"model\.onnx"):
        check_hashes(export, manifest)


def test_a_missing_saved_model_is_named_by_its_first_file(export: Path):
    shutil.rmtree(export / "saved_model")
    with pytest.raises(InputError, match=r"saved_model/saved_model\.pb: missing"):
        check_hashes(export, read_manifest(export))


def test_a_file_smuggled_into_a_saved_model_is_named(export: Path):
    (export / "saved_model" / "assets" / "extra").write_text("x")
    with pytest.raises(InputError, match=r"assets/extra: not listed"):
        check_hashes(export, read_manifest(export))


@pytest.mark.parametrize("link", [False, True])
def test_a_sidecar_that_is_not_listed_is_named(export: Path, tmp_path: Path, link: bool):
    (tmp_path / "weights").write_text("x")
    sidecar = export / "model.onnx.data"
    sidecar.symlink_to(tmp_path / "weights") if link else sidecar.write_text("x")
    with pytest.raises(InputError, match=r"model\.onnx\.data: not listed"):
        check_hashes(export, read_manifest(export))


def test_a_changed_golden_file_is_reported_and_not_raised(export: Path):
    with (export / "golden.npz").open("ab") as stream:
        stream.write(b"x")
    assert check_hashes(export, read_manifest(export)) is False
    (export / "model.onnx").write_text("x")
    with pytest.raises(InputError, match=r"model\.onnx"):
        check_hashes(export, read_manifest(export))
