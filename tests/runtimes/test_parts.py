"""Parts of the runtimes: names in an ONNX file, unsafe SavedModels, frames, the page's server, ncnn's padding."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from converter.core.data import Artifact, Prepared, TensorSpec
from converter.core.errors import ChildError, ConversionError, InputError, UnsafeError
from converter.core.foreign import Module, Tensor
from converter.runtimes import run_ncnn, run_tf
from converter.runtimes.javascript import frames
from converter.runtimes.javascript.page_server import PageServer
from converter.runtimes.shared import names, onnx_records
from converter.runtimes.shared.cuda import cuda_facts

if TYPE_CHECKING:
    from conftest import Exported

Function = Callable[[Module, Tensor], Tensor]


def test_the_names_of_an_onnx_file(exported: Exported) -> None:
    inputs, outputs = onnx_records.onnx_names(exported.directory / "model.onnx")
    assert inputs == ["image"]
    assert sorted(outputs) == ["aux", "main"]


def test_a_cut_onnx_file_is_an_input_error_or_has_names(exported: Exported, tmp_path: Path) -> None:
    content = (exported.directory / "model.onnx").read_bytes()
    path = tmp_path / "model.onnx"
    rng = np.random.default_rng(0)
    for cut in [0, 1, 2, 3, *rng.integers(4, len(content), 200)]:
        path.write_bytes(content[:cut])
        with pytest.raises(InputError, match="damaged"):
            onnx_records.onnx_names(path)
    for _ in range(300):
        noisy = bytearray(content)
        noisy[rng.integers(0, 3000)] = rng.integers(0, 256)
        path.write_bytes(noisy)
        try:
            onnx_records.onnx_names(path)
        except InputError as error:
            assert "damaged" in str(error)  # noqa: PT017  both are right; nothing else may be raised
    with pytest.raises(InputError, match="No such file"):
        onnx_records.onnx_names(tmp_path / "absent.onnx")


def test_weights_in_other_files_are_found_in_every_place_of_a_tensor(tmp_path: Path) -> None:
    """In the graph, an attribute, a list of them, a branch, a function, a sparse tensor and in a training graph."""
    import onnx
    from onnx import helper

    def outside(place: str) -> onnx.TensorProto:
        tensor = onnx.TensorProto(name=place, data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
        tensor.external_data.add(key="location", value=f"../{place}")
        return tensor

    def constant(place: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node("Constant", [], [place], **(attributes or {"value": outside(place)}))

    branch = helper.make_graph([constant("branch")], "b", [], [], [outside("initializer")])
    sparse = onnx.SparseTensorProto(values=outside("sparse"), indices=outside("indices"), dims=[1])
    nodes = [constant("node"), constant("list", values=[outside("list")]), constant("if", then_branch=branch)]
    graph = helper.make_graph(nodes, "g", [], [], sparse_initializer=[sparse])
    function = helper.make_function("d", "f", [], [], [constant("function")], [])
    model = helper.make_model(graph, functions=[function])
    model.training_info.add(algorithm=helper.make_graph([], "t", [], [], [outside("training")]))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    places = ["branch", "function", "indices", "initializer", "list", "node", "sparse", "training"]
    assert sorted(onnx_records._outside(path)) == [f"../{place}" for place in places]
    with pytest.raises(UnsafeError, match=r"reads weights from '\.\./branch'"):
        onnx_records.require_own_weights(path)


def saved(directory: Path, function: Function) -> Path:
    """A SavedModel with `function` as its signature."""
    import tensorflow as tf

    module = tf.Module()
    module.variable = tf.Variable([2.0])
    module.call = tf.function(lambda x: {"y": function(tf, x) * module.variable})
    signature = module.call.get_concrete_function(tf.TensorSpec([None, 1], name="x"))
    tf.saved_model.save(module, str(directory), signatures=signature)
    return directory


def prepared(directory: Path) -> Prepared:
    specs = (TensorSpec("x", (None, 1)),), (TensorSpec("y", (None, 1)),)
    return run_tf.prepare(directory, Artifact("saved-model", directory.name, "float32", *specs, {}, 1, 0.0), "cpu")


def writes(tf: Module, x: Tensor) -> Tensor:
    with tf.control_dependencies([tf.io.write_file("sentinel", "x")]):
        return tf.identity(x)


def reads(tf: Module, x: Tensor) -> Tensor:
    return x + tf.cast(tf.strings.length(tf.io.read_file("sentinel")), tf.float32)


def nested(tf: Module, x: Tensor) -> Tensor:
    return tf.function(lambda z: writes(tf, z))(x)


def saves(tf: Module, x: Tensor) -> Tensor:
    """Writes a checkpoint, as only the saver may."""
    with tf.control_dependencies(
        [tf.raw_ops.SaveV2(prefix="sentinel", tensor_names=["a"], shape_and_slices=[""], tensors=[x])]
    ):
        return tf.identity(x)


def saves_deeper(tf: Module, x: Tensor) -> Tensor:
    return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.function(lambda z: saves(tf, z))(x), lambda: x)


def restores(tf: Module, x: Tensor) -> Tensor:
    return (
        x + tf.raw_ops.RestoreV2(prefix="sentinel", tensor_names=["a"], shape_and_slices=[""], dtypes=[tf.float32])[0]
    )


def finds(tf: Module, x: Tensor) -> Tensor:
    return x + tf.cast(tf.size(tf.io.matching_files("*")), tf.float32)


def prints(tf: Module, x: Tensor) -> Tensor:
    with tf.control_dependencies([tf.print(x, output_stream="file://sentinel")]):
        return tf.identity(x)


def calls_python(tf: Module, x: Tensor) -> Tensor:
    return tf.reshape(tf.numpy_function(lambda z: z, [x], tf.float32), tf.shape(x))


@pytest.mark.parametrize(
    "function", [writes, reads, nested, saves, saves_deeper, restores, finds, prints, calls_python]
)
def test_a_saved_model_that_accesses_files_is_refused(
    function: Function, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = r"has the operation \w*(WriteFile|ReadFile|SaveV2|RestoreV2|MatchingFiles|PrintV2|PyFunc)\w*"
    with pytest.raises(UnsafeError, match=words):
        prepared(saved(tmp_path / "model", function))
    assert not list(tmp_path.glob("sentinel*"))


def test_the_saver_is_not_a_way_around(tmp_path: Path) -> None:
    """A file whose saver is said to be the serving function: what a signature answers is no saver."""
    from tensorflow.core.protobuf import saved_model_pb2

    path = saved(tmp_path / "model", saves) / "saved_model.pb"
    content = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    meta = content.meta_graphs[0]
    (output,) = meta.signature_def["serving_default"].outputs.values()
    meta.saver_def.save_tensor_name = output.name
    meta.saver_def.restore_op_name = output.name.split(":")[0]
    library = meta.graph_def.library.function  # TensorFlow's order varies; the first refused operation is named
    ordered = sorted(library, key=lambda each: any(node.op == "ShardedFilename" for node in each.node_def))
    meta.graph_def.library.ClearField("function")
    meta.graph_def.library.function.extend(ordered)
    path.write_bytes(content.SerializeToString())
    with pytest.raises(UnsafeError, match=r"the operation (SaveV2|RestoreV2)"):
        prepared(tmp_path / "model")


def test_loops_and_conditions_of_a_saved_model_are_no_side_effects(tmp_path: Path) -> None:
    def call(tf: Module, x: Tensor) -> Tensor:
        (grown,) = tf.while_loop(lambda y: tf.reduce_sum(y) < 100.0, lambda y: [y * 2.0 + tf.random.uniform([])], [x])
        return tf.cond(tf.reduce_sum(x) > 0, lambda: grown, lambda: x)

    prepared(saved(tmp_path / "model", call)).run({"x": np.ones((1, 1), np.float32)})


def test_a_damaged_saved_model_is_an_input_error(tmp_path: Path) -> None:
    whole = saved(tmp_path / "whole", lambda tf, x: tf.nn.relu(x))
    (result,) = prepared(whole).run({"x": np.ones((1, 1), np.float32)}).values()
    assert result.tolist() == [[2.0]]
    rng = np.random.default_rng(0)
    for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        content = (whole / name).read_bytes()
        noisy = bytearray(content)
        noisy[rng.integers(0, len(content))] ^= 0x40
        for number, damaged in enumerate((None, b"", content[: len(content) // 2], bytes(noisy))):
            copy = Path(shutil.copytree(whole, tmp_path / f"{Path(name).name}{number}"))
            (copy / name).unlink()
            if damaged is not None:
                (copy / name).write_bytes(damaged)
            try:
                prepared(copy).run({"x": np.ones((1, 1), np.float32)})
            except InputError as error:
                assert str(copy) in str(error)  # noqa: PT017  a flipped bit may be in bytes that nothing reads
            else:
                assert damaged == bytes(noisy)


def test_names_are_all_or_nothing(tmp_path: Path) -> None:
    names.require_names(tmp_path, "output", ["a", "b"], ["b", "a"])
    for found in (["a"], ["a", "b", "c"], ["a", "c"], ["a", "a"], []):
        with pytest.raises(InputError, match="the manifest declares a, b"):
            names.require_names(tmp_path, "output", ["a", "b"], found)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int8", "uint8", "bool", "int32", "int64"])
def test_frames_carry_every_type(dtype: str) -> None:
    rng = np.random.default_rng(1)
    arrays = {"a/ü": rng.integers(0, 2, (3, 5, 1)).astype(dtype), "none": np.zeros((0, 4), dtype)}
    header, back = frames.decode(frames.encode(arrays))
    assert list(header) == ["tensors"]
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


def test_bytes_that_are_not_a_frame_are_a_child_error() -> None:
    whole = frames.encode({"x": np.ones((2, 3), np.float32)})
    for frame in (b"", whole[:7], whole[:-1], whole + b"x", b"\xff" * 40, whole.replace(b"float32", b"objects")):
        with pytest.raises(ChildError):
            frames.decode(frame)
    with pytest.raises(ChildError, match="complex64"):
        frames.encode({"x": np.ones(1, np.complex64)})


@pytest.fixture
def page(tmp_path: Path) -> Iterator[PageServer]:
    (tmp_path / "model.onnx").write_bytes(b"the model")
    scripts = tmp_path / "dist"
    scripts.mkdir()
    (scripts / "ort.mjs").write_text("export {}")
    (tmp_path / "secret.mjs").write_text("not for the page")
    server = PageServer(tmp_path / "model.onnx", scripts, 2)
    yield server
    server.close()


def _get(url: str, path: str, body: bytes | None = None) -> tuple[http.client.HTTPResponse, bytes]:
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    connection.request("GET" if body is None else "POST", path, body)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response, content


def test_the_page_gets_its_files_isolated(page: PageServer) -> None:
    for name, kind in (
        ("browser.html", "text/html"),
        ("browser.mjs", "text/javascript"),
        ("model", "application/octet"),
    ):
        response, content = _get(page.url, page.prefix + name)
        assert response.status == 200
        assert content
        assert str(response.headers["Content-Type"]).startswith(kind)
        assert response.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert response.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert json.loads(_get(page.url, page.prefix + "settings")[1]) == {"threads": 2, "sidecar": None}
    assert _get(page.url, page.prefix + "ort/ort.mjs")[1] == b"export {}"


@pytest.mark.parametrize("name", ["ort/../secret.mjs", "ort/..%2fsecret.mjs", "../model", "model.data", "node.mjs", ""])
def test_the_server_serves_nothing_else(page: PageServer, name: str) -> None:
    assert _get(page.url, page.prefix + name)[0].status == 404


@pytest.mark.parametrize("path", ["/", "/browser.html", "/model", "/x/model"])
def test_the_server_answers_only_with_the_prefix(page: PageServer, path: str) -> None:
    assert _get(page.url, path)[0].status == 404
    assert _get(page.url, path, b"forged")[0].status == 404
    assert page.receive(0.01) is None


def test_jobs_and_answers_pass_through(page: PageServer) -> None:
    page.send(b"inputs")
    assert _get(page.url, page.prefix + "job")[1] == b"inputs"
    assert _get(page.url, page.prefix + "answer", b"outputs")[0].status == 204
    assert page.receive(5) == b"outputs"


def test_a_pad_that_pnnx_copies_becomes_ncnns() -> None:
    said = "ignore Pad Pad_3 param pads=(0,0,1,2,0,0,3,4)\n"
    completed = run_ncnn._complete("7767517\n2 3\nInput in0 0 1 in0\nPad   Pad_3 1 1 2 3\n", said, Path("m"))
    assert completed.splitlines()[-1] == "Padding   Pad_3 1 1 2 3 0=1 1=3 2=2 3=4 4=0 5=0.0 7=0 8=0"


@pytest.mark.parametrize(
    "said",
    [
        "",
        "ignore Pad Pad_3 param pads=(1,0,1,1,0,0,1,1)",
        "ignore Pad Pad_3 param pads=(0,0,-1,1,0,0,1,1)",
        "ignore Pad Pad_3 param pads=(0,1,1,0)",
        "ignore Pad Pad_3 param pads=(0,0,1,1,0,0,1,1)\nignore Pad Pad_3 param mode=reflect",
        "ignore Pad Pad_3 param pads=(0,0,1,1,0,0,1,1)\nignore Einsum e param equation=ij",
    ],
)
def test_what_pnnx_leaves_out_is_refused(said: str) -> None:
    with pytest.raises(ConversionError):
        run_ncnn._complete("7767517\nPad Pad_3 1 1 2 3\n", said, Path("m"))


def test_the_cuda_facts_never_raise() -> None:
    facts = cuda_facts()
    assert all(isinstance(name, str) and value for name, value in facts.items())


def test_tensorflow_runs_on_the_cpu_where_a_gpu_is_assigned(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Slurm job sets CUDA_VISIBLE_DEVICES; the row says that it ran on the CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    artifact = next(each for each in exported.report.artifacts if each.format == "saved-model")
    run_tf.prepare(exported.directory / artifact.path, artifact, "cpu")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
