"""The tolerance of a row of CUDA with TF32 on: the error that TF32 makes in this very file, emulated on the CPU.

Golden arrays have the rounding error of float32 alone, and TF32's is hundreds of times larger. So the file is run on
the CPU twice, as it is and with the inputs of its products rounded to TF32 (`run_ort.prepare_tf32`), and the distance
of both is the noise. A fault in the file changes both runs alike: it is not part of the noise.
"""

from __future__ import annotations

from dataclasses import replace

from converter.core.data import Arrays, Golden, float64
from converter.proof.isolate import Ran, run_artifact
from converter.proof.protocol import Subject
from converter.runtimes import TF32_ON_CPU


def with_tf32_noise(golden: Golden, subject: Subject) -> Golden:
    """`golden` with what its tolerances are measured from replaced by the two runs of `subject`, an ONNX file.

    Raises ChildError and InputError where the file does not run on the CPU.
    """
    own = run_artifact(replace(subject, runtime="onnxruntime", device="cpu"), (golden.samples,)).read()
    rounded = run_artifact(replace(subject, runtime=TF32_ON_CPU, device="cpu"), (golden.samples,)).read()
    other = golden.resized
    if other is not None:
        other = replace(other, single=_resized(rounded), exact=_doubled(_resized(own)))
    return replace(golden, single=rounded.largest, exact=_doubled(own.largest), resized=other)


def _resized(ran: Ran) -> Arrays:
    return ran.resized.get("fresh", {})


def _doubled(arrays: Arrays) -> Arrays:
    return {name: float64(array) for name, array in arrays.items()}
