"""Recurrent layers: time to write each format, and latency in onnxruntime, beside Keras's own export.

    python tests/benchmarks/recurrent_speed.py [--runs 20] [--only TEXT]

The models are written by this package (trace and write, without the proof) and by `model.export`, one after the other,
in one process, and each file's largest relative L2 from `model.predict` is printed. Latency is the median of runs that
alternate between the two ONNX files, batch 1, with onnxruntime's own number of threads. "-" is a file that was not
written or not loaded.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np

from converter.core.data import WriteOptions
from converter.core.distance import relative_l2
from converter.tracing.context import quiet_tensorflow

quiet_tensorflow()

import keras  # noqa: E402
from keras import layers  # noqa: E402

from converter.formats import FORMATS  # noqa: E402
from converter.tracing.signature import describe  # noqa: E402
from converter.tracing.trace import trace  # noqa: E402

PEERS = {"onnx": "onnx", "tflite": "litert", "saved-model": "tf_saved_model"}
"""The formats by Keras's names"""


def _sequence(steps: int, features: int, *stack: Any) -> keras.Model:
    inputs = keras.Input((steps, features), name="sequence")
    outputs = inputs
    for layer in stack:
        outputs = layer(outputs)
    return keras.Model(inputs, outputs)


def _text_line() -> keras.Model:
    inputs = keras.Input((32, 128, 1), name="line")
    outputs = inputs
    for filters in (32, 64):
        outputs = layers.Conv2D(filters, 3, padding="same", activation="relu")(outputs)
        outputs = layers.MaxPooling2D()(outputs)
    outputs = layers.TimeDistributed(layers.Flatten())(layers.Permute((2, 1, 3))(outputs))
    for _ in range(2):
        outputs = layers.Bidirectional(layers.LSTM(64, return_sequences=True))(outputs)
    return keras.Model(inputs, layers.Dense(80)(outputs))


MODELS: dict[str, Callable[[], keras.Model]] = {
    "LSTM 128, 100 steps": lambda: _sequence(100, 64, layers.LSTM(128)),
    "two GRU 128, 100 steps": lambda: _sequence(
        100, 64, layers.GRU(128, return_sequences=True), layers.GRU(128, return_sequences=True)
    ),
    "bidirectional LSTM 64": lambda: _sequence(100, 64, layers.Bidirectional(layers.LSTM(64, return_sequences=True))),
    "SimpleRNN 64": lambda: _sequence(100, 64, layers.SimpleRNN(64, return_sequences=True)),
    "CRNN 32x128": _text_line,
    "ConvLSTM2D 16, 8 frames of 32x32": lambda: keras.Sequential(
        [keras.Input((8, 32, 32, 1)), layers.ConvLSTM2D(16, 3, padding="same", return_sequences=True)]
    ),
}


def main() -> None:
    """Measure each model and print one table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=20)
    options.add_argument("--only", default="")
    given = options.parse_args()
    print("| model | format | written in | Keras's export | error | Keras's | latency | Keras's |")
    print("|---|---|---|---|---|---|---|---|")
    for name, build in MODELS.items():
        if given.only in name:
            _measure(name, build, given.runs)


def _measure(name: str, build: Callable[[], keras.Model], runs: int) -> None:
    keras.utils.set_random_seed(0)
    model = build()
    signature = describe(model)
    shape = signature.inputs[0].shape[1:]
    sample = np.random.default_rng(0).normal(size=(1, *(size or 1 for size in shape))).astype(np.float32)
    reference = model.predict(sample, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        for format_name, peer in PEERS.items():
            own = Path(folder, format_name)
            own.mkdir()
            began = time.perf_counter()
            FORMATS[format_name].write(trace(model, signature), own, WriteOptions())
            seconds = time.perf_counter() - began
            theirs = Path(folder, f"keras-{format_name}.{format_name}")
            began = time.perf_counter()
            try:
                model.export(str(theirs), format=peer, verbose=False)
                peer_seconds = f"{time.perf_counter() - began:.2f} s"
            except Exception as error:  # noqa: BLE001 - whatever it raises, the table says so
                peer_seconds = f"- ({type(error).__name__})"
            files = own / FORMATS[format_name].filename, theirs
            errors = [_error(format_name, file, sample, reference) for file in files]
            latency = _latencies(files, sample, runs) if format_name == "onnx" else ("", "")
            cells = (name, format_name, f"{seconds:.2f} s", peer_seconds, *errors, *latency)
            print("|", " | ".join(cells), "|", flush=True)


def _error(format_name: str, path: Path, sample: np.ndarray, reference: np.ndarray) -> str:
    try:
        return f"{relative_l2(reference, _run(format_name, path, sample)):.0e}"
    except Exception as error:  # noqa: BLE001
        return f"- ({type(error).__name__})"


def _run(format_name: str, path: Path, sample: np.ndarray) -> np.ndarray:
    if format_name == "onnx":
        session = _session(path)
        return session.run(None, {session.get_inputs()[0].name: sample})[0]
    if format_name == "tflite":
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(model_path=str(path))
        runner = interpreter.get_signature_runner()
        return next(iter(runner(**{next(iter(runner.get_input_details())): sample}).values()))
    import tensorflow as tf

    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    return next(iter(signature(**{next(iter(signature.structured_input_signature[1])): sample}).values())).numpy()


def _session(path: Path) -> Any:
    import onnxruntime

    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _latencies(files: tuple[Path, Path], sample: np.ndarray, runs: int) -> tuple[str, str]:
    sessions: list[Any] = []
    for path in files:
        try:
            session = _session(path)
            session.run(None, {session.get_inputs()[0].name: sample})
            sessions.append(session)
        except Exception:  # noqa: BLE001
            sessions.append(None)
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs):
        for session, times in zip(sessions, taken, strict=True):
            if session is not None:
                began = time.perf_counter()
                session.run(None, {session.get_inputs()[0].name: sample})
                times.append(time.perf_counter() - began)
    own, theirs = (f"{statistics.median(times) * 1e3:.2f} ms" if times else "-" for times in taken)
    return own, theirs


if __name__ == "__main__":
    main()
