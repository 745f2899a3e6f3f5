"""Whole fleets: on the embedded cluster and on one that was started by hand, with processes that are killed."""

from __future__ import annotations

import datetime
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from converter.core.errors import OutputError, UnavailableError, UsageError
from converter.fleets.fleet import fleet

psutil = pytest.importorskip("psutil")

SMALL = """
import os, signal, time
import keras
from keras import layers

def build(width=4):
    keras.utils.set_random_seed(width)
    image = keras.Input((16, 16, 3), name="image")
    x = layers.Conv2D(width, 3, activation="relu", name="conv")(image)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(4, name="main")(x), name=f"net{width}")

def kills_its_process():
    os.kill(os.getpid(), signal.SIGKILL)

def hangs():
    time.sleep(600)

def kills_its_worker():
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, with small.py, and two directories of artifacts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.py").write_text(SMALL)
    return tmp_path


def copies(exported: Any, place: Path, *names: str) -> None:
    """Directories of artifacts, of ONNX alone, which verifies fastest."""
    for name in names:
        shutil.copytree(exported.directory, place / name)


def test_directories_are_verified_once(exported: Any, place: Path) -> None:
    copies(exported, place, "a", "b")
    (place / "b" / "model.tflite").write_bytes(b"damaged")
    events: list[Any] = []
    report = fleet(["a", "b", "absent"], verify=True, runtimes=["onnxruntime", "litert"], output="out",
                   events=events.append)  # fmt: skip
    assert {row.name: (row.status, row.exit_code) for row in report.rows} == {
        "a": ("proven", 0), "b": ("failed", 3), "absent": ("failed", 3),
    }  # fmt: skip
    assert report.exit_code == 1
    assert "damaged" in report.rows[1].message
    assert {each["runtime"] for each in report.rows[0].comparisons} >= {"onnxruntime", "litert"}
    assert report.rows[0].memory > 50 << 20
    kinds = [each["event"] for each in events]
    assert (kinds[0], kinds[-1]) == ("fleet-started", "fleet-ended")
    assert "stage" in kinds
    again = fleet(["a", "b", "absent"], verify=True, runtimes=["onnxruntime", "litert"], output="out")
    assert [row.status for row in again.rows] == ["unchanged", "failed", "failed"]
    (place / "a" / "model.onnx").write_bytes(b"damaged")
    assert fleet(["a"], verify=True, runtimes=["onnxruntime", "litert"], output="out").exit_code == 1


def test_bad_arguments(
    exported: Any, place: Path, cnnexport: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("converter.fleets.cluster.CONNECT", 2)
    copies(exported, place, "a")
    outcome = cnnexport("fleet", "--verify", "a", "--scheduler", "tcp://127.0.0.1:9", "--quiet")
    assert outcome.code == 5
    assert "--scheduler tcp://127.0.0.1:9: no answer" in outcome.stderr
    with pytest.raises(UsageError, match="write tls:// instead"):
        fleet(["a"], verify=True, scheduler="tcp://h:1", tls=dict.fromkeys(("ca", "cert", "key"), Path("x")))
    with pytest.raises(UsageError, match="TLS needs three files"):
        fleet(["a"], verify=True, tls={"ca": Path("x")})
    with pytest.raises(UsageError, match="unknown keyword 'job'"):
        fleet(["a"], verify=True, job=3)  # type: ignore[call-arg]
    for given in ({"jobs": 0}, {"retries": -1}, {"timeout": 0.0}, {"memory": 0}, {"transfer": "fax"}):
        with pytest.raises(UsageError):
            fleet(["a"], verify=True, **given)  # type: ignore[arg-type]
    assert cnnexport("fleet", "--verify", "none", "-q").code == 1
    (place / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        fleet(["a"], verify=True, output="file/x")
    assert cnnexport("fleet", "absent.toml", "-q").code == 3
    outcome = cnnexport("fleet", "absent.keras", "--json", "-q", "--log", "log.jsonl")
    assert outcome.code == 1
    assert outcome.json["rows"][0]["message"] == "no such file: absent.keras"
    assert [json.loads(line)["event"] for line in Path("log.jsonl").read_text().splitlines()] == [
        "fleet-started", "model-ended", "fleet-ended",
    ]  # fmt: skip
    assert cnnexport("fleet", "absent.keras", "-q", "--log", "nowhere/log.jsonl").code == 7


def test_two_fleets_in_one_target(place: Path) -> None:
    from filelock import FileLock

    (place / "out/.fleet").mkdir(parents=True)
    with FileLock(place / "out/.fleet/lock"), pytest.raises(OutputError, match="another fleet"):
        fleet(["absent.keras"], output="out")


def command(*words: str) -> list[str]:
    return [sys.executable, "-P", "-c", f"from distributed.cli.{words[0]} import main; main()", *words[1:]]


@contextmanager
def started(*processes: list[str], cwd: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that end with the context."""
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    running = [
        subprocess.Popen(each, env=environment, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for each in processes
    ]
    try:
        yield running
    finally:
        for each in running:
            for inner in _descendants(each.pid):
                inner.kill()
            each.kill()
            each.wait()


def _descendants(pid: int) -> list[Any]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.Error:
        return []


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def a_cluster(
    place: Path, scheme: str = "tcp", tls: Sequence[str] = ()
) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and two workers as processes on loopback: its address, and the processes."""
    (place / "elsewhere").mkdir(exist_ok=True)
    port = free_port()
    address = f"{scheme}://127.0.0.1:{port}"
    scheduler = command(
        "dask_scheduler", "--host", f"{scheme}://127.0.0.1", "--port", str(port), "--no-dashboard", *tls
    )
    worker = command("dask_worker", address, "--nthreads", "1", "--no-dashboard", "--host", f"{scheme}://127.0.0.1",
                     "--memory-limit", "0", *tls)  # fmt: skip
    with started(scheduler, cwd=place) as first:
        time.sleep(1)
        with started(worker, worker, cwd=place / "elsewhere") as workers:
            import distributed

            files = dict(zip(("tls_ca_file", "tls_client_cert", "tls_client_key"), tls[1::2], strict=False))
            security = distributed.Security(**files, require_encryption=True) if tls else None
            with distributed.Client(address, timeout=30, security=security) as client:
                client.wait_for_workers(2, timeout=60)
            yield address, [*first, *workers]


def test_workers_of_another_version_are_refused_by_name(
    exported: Any, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies(exported, place, "a")
    monkeypatch.setattr("converter.fleets.cluster.__version__", "9.9")
    events: list[Any] = []
    with pytest.raises(UnavailableError, match=r"the worker tcp://\S+ has cnnexport \S+ instead of 9.9"):
        fleet(["a"], verify=True, output="out", events=events.append)
    assert not [each for each in events if each["event"] == "model-submitted"]


class Versions:
    """A client whose only worker has these versions."""

    def __init__(self, python: str, cnnexport: str | None, libraries: dict[str, str]) -> None:
        self.answer = {"host": {"python": python}, "packages": {"cnnexport": cnnexport}}
        self.libraries = libraries

    def get_versions(self, packages: list[str]) -> Any:
        assert packages == ["cnnexport"]
        return {"client": {"host": {"python": "3.12.1.final.0"}}, "workers": {"tcp://w:1": self.answer}}

    def run(self, function: object) -> dict[str, dict[str, str]]:
        return {"tcp://w:1": self.libraries}


def test_what_of_a_worker_must_be_the_same() -> None:
    from converter.core.version import __version__
    from converter.fleets import cluster
    from converter.fleets.keys import versions

    def refused(*given: Any) -> None:
        client = Versions(*given)
        cluster._refuse_other_workers(client, "tcp://s")
        cluster.refuse_other_libraries(cluster.Cluster(client, {}, 1))

    own = versions()
    refused("3.12.9.final.0", __version__, own)
    for given, words in (
        (("3.11.7.final.0", __version__, own), "tcp://w:1 has Python 3.11 instead of 3.12"),
        (("3.12.1.final.0", None, own), r"tcp://w:1 has cnnexport \(none\) instead of"),
        (("3.12.1.final.0", __version__, {**own, "keras": "1"}), "tcp://w:1 has keras 1 instead of"),
    ):
        with pytest.raises(UnavailableError, match=words):
            refused(*given)


@pytest.mark.slow
def test_two_workers_started_by_hand(exported: Any, place: Path) -> None:
    copies(exported, place, "a", "b", "c")
    with a_cluster(place) as (address, _):
        report = fleet(["a", "b", "c"], verify=True, runtimes=["onnxruntime"], scheduler=address, output="out")
    assert [row.exit_code for row in report.rows] == [0, 0, 0]
    assert len({row.worker for row in report.rows}) == 2
    assert report.warnings == ()


def list_of_small(place: Path, widths: Iterable[int]) -> None:
    """fleet.toml with a small model of each width, named n4 for width 4."""
    lines = ['[defaults]\nformat = "onnx"\nsamples = 2\n']
    lines += [
        f'[[model]]\nsource = "small.py:build"\nname = "n{width}"\nkwargs = {{ width = {width} }}\n' for width in widths
    ]
    (place / "fleet.toml").write_text("".join(lines))


def certificates(place: Path, name: str) -> tuple[str, str, str]:
    """An authority of its own, and a certificate and a key that it signed, as files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)
    pem, files = serialization.Encoding.PEM, []
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    titles = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} {each}")]) for each in ("authority", "fleet")]
    for number, (key, title) in enumerate(zip(keys, titles, strict=True)):
        certificate = (
            x509.CertificateBuilder()
            .subject_name(title)
            .issuer_name(titles[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=not number, path_length=None), critical=True)
            .sign(keys[0], hashes.SHA256())
        )
        files.append(place / f"{name}-{number}.pem")
        files[-1].write_bytes(certificate.public_bytes(pem))
    files.append(place / f"{name}-key.pem")
    plain = serialization.NoEncryption()
    files[-1].write_bytes(keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return str(files[0]), str(files[1]), str(files[2])


@pytest.mark.slow
def test_a_cluster_with_tls(exported: Any, place: Path) -> None:
    """With the cluster's certificates the fleet runs; with another authority's, or without any, it is refused."""
    copies(exported, place, "a", "b")
    own, other = certificates(place, "own"), certificates(place, "other")
    tls = [word for pair in zip(("--tls-ca-file", "--tls-cert", "--tls-key"), own, strict=True) for word in pair]
    with a_cluster(place, "tls", tls) as (address, _):
        given = dict(zip(("ca", "cert", "key"), map(Path, own), strict=True))
        report = fleet(["a", "b"], verify=True, runtimes=["onnxruntime"], scheduler=address, output="out", tls=given)
        assert [row.exit_code for row in report.rows] == [0, 0]
        assert {row.worker.partition(":")[0] for row in report.rows} == {"tls"}
        wrong = dict(zip(("ca", "cert", "key"), map(Path, other), strict=True))
        for files in (wrong, {}):
            with pytest.raises(UnavailableError, match=r"127\.0\.0\.1"):
                fleet(["a"], verify=True, scheduler=address, output="other", tls=files)
        assert not (place / "other" / "fleet.json").exists()


@pytest.mark.slow
def test_exports_are_streamed_from_workers(place: Path, snapshot: Callable[[Path], dict[str, str]]) -> None:
    with a_cluster(place) as (address, _):
        texts = ["small.py:build"]
        sent = fleet(texts, scheduler=address, output="sent", transfer="stream")
        assert sent.exit_code == 0, sent.rows
        again = fleet(texts, scheduler=address, output="sent", transfer="stream")
        assert [row.status for row in again.rows] == ["unchanged"]
    here = fleet(texts, output="here")
    names = ("model.onnx", "model.tflite", "golden.npz")
    both = [snapshot(Path(each) / "build") for each in ("sent", "here")]
    assert both[0].keys() == both[1].keys()
    assert [both[0][name] for name in names] == [both[1][name] for name in names]
    assert here.exit_code == 0
    assert not list(Path("/tmp").glob("cnnexport-fleet-*/export"))


@pytest.mark.slow
def test_what_a_model_does_to_its_process_is_a_row(place: Path) -> None:
    """One is killed, one hangs, one kills its worker; the two others are proven, once."""
    (place / "fleet.toml").write_text(
        '[defaults]\nformat = "onnx"\nsamples = 2\n[[model]]\nsource = "small.py:build"\n'
        'matrix = { layout = ["nhwc", "nchw"] }\n'
        + "".join(
            f'[[model]]\nsource = "small.py:{name}"\n' for name in ("kills_its_process", "hangs", "kills_its_worker")
        )
    )
    report = fleet("fleet.toml", output="out", timeout=40.0, retries=1)
    codes = {row.name: row.exit_code for row in report.rows}
    assert codes == {"build-nhwc": 0, "build-nchw": 0, "kills_its_process": 8, "hangs": 8, "kills_its_worker": 8}
    words = {row.name: row.message for row in report.failed}
    assert "killed (SIGKILL)" in words["kills_its_process"]
    assert "no answer after 40 s" in words["hangs"]
    assert "the worker that ran it died" in words["kills_its_worker"]
    again = fleet("fleet.toml", output="out", timeout=5.0, retries=0)
    assert [row.status for row in again.rows[:2]] == ["unchanged", "unchanged"]


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["nanny", "worker"])
def test_a_worker_that_is_killed_costs_no_model(victim: str, place: Path) -> None:
    """One of two workers is killed, with or without the nanny that would start it again: all is proven, once."""
    list_of_small(place, range(4, 10))
    events: list[Any] = []

    def watch(event: Any) -> None:
        events.append(event)
        if event["event"] == "model-ended" and len(killed) < 1:
            nanny = processes[1]
            chosen = [psutil.Process(nanny.pid)] if victim == "nanny" else _descendants(nanny.pid)[:1]
            killed.extend(chosen)
            for each in chosen:
                each.kill()

    killed: list[Any] = []
    with a_cluster(place) as (address, processes):
        report = fleet("fleet.toml", output="out", scheduler=address, events=watch)
    assert killed
    assert [row.exit_code for row in report.rows] == [0] * 6, [row.message for row in report.rows]
    finished = [each["model"] for each in events if each["event"] == "model-ended"]
    assert sorted(finished) == sorted(set(finished))
    assert all((place / "out" / row.name / "manifest.json").exists() for row in report.rows)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["client", "scheduler"])
def test_killed_in_the_middle_and_continued(victim: str, place: Path) -> None:
    """After the first proof the client with its cluster, or the scheduler, is killed; the next run continues."""
    list_of_small(place, (4, 5, 6))
    words = [sys.executable, "-P", "-m", "converter", "fleet", "fleet.toml", "-o", "out", "--jobs", "1", "-q"]
    state = place / "out/.fleet/state"
    if victim == "scheduler":
        with (
            a_cluster(place) as (address, processes),
            started([*words, "--scheduler", address], cwd=place) as (client,),
        ):
            _wait_for_the_first(state)
            processes[0].kill()
            assert client.wait(timeout=120) in (1, 5)
    else:
        with started(words, cwd=place) as (client,):
            _wait_for_the_first(state)
            client.send_signal(signal.SIGKILL)
            client.wait()
    before = {path.parent.name: path.read_bytes() for path in place.glob("out/*/manifest.json")}
    assert before
    events: list[Any] = []
    report = fleet("fleet.toml", output="out", events=events.append)
    assert [row.exit_code for row in report.rows] == [0, 0, 0]
    kept = [row.name for row in report.rows if row.status == "unchanged"]
    assert set(kept) == set(before)  # nothing that was committed is proven again, nothing else is kept
    assert all((place / "out" / name / "manifest.json").read_bytes() == text for name, text in before.items())


def _wait_for_the_first(state: Path) -> None:
    for _ in range(1200):
        done = [path for path in state.glob("export-*.json") if '"status": "done"' in path.read_text()]
        if done:
            return
        time.sleep(0.1)
    pytest.fail("no model was proven in two minutes")
