"""Change every kind of file that the program reads, and see that it only ever ends in a documented way.

    python tests/fuzzing/run.py [--count N] [--seed S] [--kind KIND ...] [--keep FOLDER]

Each changed file is read in a forked process with 2 GB of memory and 30 seconds. It may end with one of the documented
exit codes. Everything else is a finding: another exception, a crash outside of what the program isolates, a hang, a
file written outside of the process's own directory, a process left behind. The table has the exit codes by kind;
`--keep` stores the files of the findings. Exit code 1 if there is a finding. Linux only.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from targets import TARGETS, Target, write_small_files

import converter
from converter.core.errors import CnnExportError

SECONDS, MEMORY = 30, 2 << 30
CORPUS = Path(__file__).with_name("corpus")
DOCUMENTED = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
CRASH, HANG, UNEXPECTED = 8, 98, 99
_ALL = "model.keras", "model.h5", "model.weights.h5"
_OTHERS = (
    *_ALL,
    "image.*",
    "labels.txt",
    "preprocessing.json",
    "samples.npz",
    "calibration",
    "fleet.toml",
    "arguments.json",
)


@dataclass(frozen=True)
class Finding:
    """A changed file with which the program ended in an undocumented way, and how."""

    kind: str
    number: int
    content: bytes
    told: str


def valid(directory: Path) -> dict[str, int]:
    """The exit code of each kind's own sample, unchanged: 0, or its changed files would show nothing."""
    return {
        kind: attempt(target, directory, (directory / target.sample).read_bytes())[0]
        for kind, target in TARGETS.items()
    }


def prepare(directory: Path) -> None:
    """Fill `directory` with a valid sample of every kind, which takes TensorFlow."""
    import keras

    keras.utils.set_random_seed(0)
    image = keras.Input((32, 32, 3), name="image")
    x = keras.layers.Conv2D(4, 3, groups=1, activation="relu", name="conv")(image)
    model = keras.Model(image, keras.layers.Dense(5, name="scores")(keras.layers.GlobalAveragePooling2D()(x)))
    converter.export(model, output=directory, samples=3)
    for name in _ALL[:2]:
        model.save(directory.parent / name)
    model.save_weights(directory.parent / _ALL[2])
    sign(directory)
    for name in _ALL:
        shutil.move(directory.parent / name, directory / name)
    write_small_files(directory)


def sign(directory: Path) -> None:
    """Sign the directory with a new key; its public half becomes `key.pub` there."""
    from cryptography.hazmat.primitives import serialization as kinds
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(kinds.Encoding.PEM, kinds.PrivateFormat.PKCS8, kinds.NoEncryption())
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "key.pem")
        path.write_bytes(private)
        converter.sign(directory, path)
    public = key.public_key().public_bytes(kinds.Encoding.PEM, kinds.PublicFormat.SubjectPublicKeyInfo)
    (directory / "key.pub").write_bytes(public)


def attempt(target: Target, directory: Path, content: bytes) -> tuple[int, str]:
    """Read `content` in a forked process. Returns its exit code, and what it said if that is not documented."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        path = Path(place, target.sample)
        if target.whole:
            shutil.copytree(directory, place, dirs_exist_ok=True, ignore=shutil.ignore_patterns("key.pub", *_OTHERS))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        said = Path(place, ".said")
        pid = os.fork()
        if not pid:
            os._exit(_child(lambda: target.read(directory, path), said))
        until = time.monotonic() + SECONDS
        while True:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            if time.monotonic() > until:
                os.killpg(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                return HANG, f"no end after {SECONDS} s"
            time.sleep(0.002)
        left = _left_behind(pid)
        text = said.read_text(errors="replace") if said.exists() else ""
        if left:
            return UNEXPECTED, "left a process behind"
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            return (CRASH, "") if target.isolated else (UNEXPECTED, f"killed by {name}")
        return os.WEXITSTATUS(status), text


def _child(read: Callable[[], object], said: Path) -> int:
    os.setsid()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    try:
        read()
    except CnnExportError as error:
        told = str(error)
        lines, plain = len(told.splitlines()), all(each.isprintable() or each == "\n" for each in told)
        if error.exit_code not in DOCUMENTED or lines > 4 or not plain or not told.strip():
            said.write_text(f"{type(error).__name__}: {told!r}"[:2000])
            return UNEXPECTED
        return error.exit_code
    except MemoryError:
        return CRASH
    except BaseException:  # noqa: BLE001  whatever it is, it is a finding
        said.write_text(traceback.format_exc()[-3000:])
        return UNEXPECTED
    return 0


def _left_behind(group: int) -> bool:
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def outside(directory: Path) -> dict[str, int]:
    """The files below `directory` with their sizes: what no attempt may change."""
    return {str(path): path.lstat().st_size for path in sorted(directory.rglob("*")) if not path.is_dir()}


def fuzz(
    directory: Path, count: int, seed: int, kinds: Sequence[str] = tuple(TARGETS)
) -> tuple[dict[str, Counter[int]], list[Finding]]:
    """Read `count` changed files, the kinds in turn. Returns the exit codes by kind, and the findings."""
    codes: dict[str, Counter[int]] = {kind: Counter() for kind in kinds}
    findings = []
    before = outside(directory)
    for number in range(count):
        kind = kinds[number % len(kinds)]
        target = TARGETS[kind]
        rng = random.Random(f"{seed} {kind} {number}")
        content = target.change((directory / target.sample).read_bytes(), rng)
        code, told = attempt(target, directory, content)
        codes[kind][code] += 1
        if code not in DOCUMENTED or told:
            findings.append(Finding(kind, number, content, told))
        if outside(directory) != before:
            findings.append(Finding(kind, number, content, "changed a file outside of its own directory"))
            before = outside(directory)
    return codes, findings


def replay(directory: Path) -> list[Finding]:
    """The files of `corpus/`, findings of earlier runs, that end in an undocumented way again."""
    found = []
    for path in sorted(CORPUS.iterdir()):
        kind = next(kind for kind in TARGETS if path.name.startswith(f"{kind.strip('.')}-"))
        code, told = attempt(TARGETS[kind], directory, path.read_bytes())
        if code not in DOCUMENTED or told:
            found.append(Finding(kind, 0, b"", f"{path.name}: {told or code}"))
    return found


def table(codes: dict[str, Counter[int]]) -> str:
    """The exit codes by kind as Markdown."""
    found = sorted({code for each in codes.values() for code in each})
    lines = [f"| kind | {' | '.join(map(str, found))} |", f"|---|{'--:|' * len(found)}"]
    lines += [f"| {kind} | {' | '.join(f'{each[code]:,}' for code in found)} |" for kind, each in codes.items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=list(TARGETS))
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--samples", type=Path, metavar="FOLDER", help="valid files, made there if it does not exist")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        directory = options.samples or Path(place, "samples")
        if not directory.exists():
            making = multiprocessing.get_context("spawn").Process(target=prepare, args=(directory,))
            making.start()  # a process that has run TensorFlow cannot be forked
            making.join()
            if making.exitcode:
                raise SystemExit("the valid files could not be made")
        for name in (
            "model_signing.verifying",
            "onnxruntime",
            "ai_edge_litert.interpreter",
            "PIL.Image",
            "h5py",
            "tensorflow",
        ):
            importlib.import_module(name)  # so that no forked process has to
        unread = {kind: code for kind, code in valid(directory).items() if code}
        if unread:
            raise SystemExit(f"valid files are not read: {unread}")
        replayed = replay(directory)
        codes, findings = fuzz(directory, options.count, options.seed, options.kind or tuple(TARGETS))
    print(table(codes))
    for each in (*replayed, *findings):
        print(f"\n{each.kind} number {each.number}: {each.told}")
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            suffix = Path(TARGETS[each.kind].sample).suffix
            (options.keep / f"{each.kind.strip('.')}-{options.seed}-{each.number}{suffix}").write_bytes(each.content)
    return 1 if findings or replayed else 0


if __name__ == "__main__":
    sys.exit(main())
