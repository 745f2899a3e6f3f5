"""OpenCV's dnn module on the CPU: reads ONNX files. The graph engine of version 5 takes any batch size."""

from __future__ import annotations

from pathlib import Path

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime
from converter.core.errors import InputError, UnavailableError
from converter.core.text import first_line
from converter.runtimes.shared.installed import cpu_name, installed, missing
from converter.runtimes.shared.names import onnx_interface

_DISTRIBUTIONS = (
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python-headless",
    "opencv-contrib-python",
)
_REQUIREMENT = "cnnexport[opencv]"


def version() -> str | None:
    """The installed version, or None."""
    return installed(*_DISTRIBUTIONS)


def unavailable(device: str) -> str | None:
    """Why OpenCV cannot run on `device` here, or None. OpenCV itself is not imported."""
    if device != "cpu":
        return "OpenCV runs on the CPU only"
    reason, found = missing("cv2", _REQUIREMENT), version()
    if reason is None and found is not None and int(found.split(".")[0]) < 5:
        return f'OpenCV {found} has no dnn engine for a dynamic batch; pip install "{_REQUIREMENT}"'
    return reason


def prepare(path: Path, artifact: Artifact, device: str) -> Prepared:
    """Load an ONNX file into the graph engine, which does not fall back to the older one.

    Raises InputError where OpenCV refuses the file or a name differs, UnavailableError for an OpenCV before 5.
    """
    import cv2

    engine = getattr(cv2.dnn, "ENGINE_NEW", None)
    if engine is None:
        raise UnavailableError(f"OpenCV {cv2.__version__} is too old; {unavailable('cpu') or 'version 5 is needed'}")
    _, outputs = onnx_interface(path, artifact)
    try:
        net = cv2.dnn.readNetFromONNX(str(path), engine)
    except cv2.error as error:
        raise InputError(f"{path}: OpenCV cannot load it: {first_line(error)}") from error

    def run(inputs: Arrays) -> dict[str, Array]:
        try:
            for name, array in inputs.items():
                net.setInput(array, name)
            results = net.forward(outputs)
        except cv2.error as error:
            raise InputError(f"{path}: OpenCV cannot run it: {first_line(error)}") from error
        return dict(zip(outputs, results, strict=True))

    facts = {"opencv": cv2.__version__, "engine": "new", "device_name": cpu_name(), "threads": cv2.getNumThreads()}
    return Prepared(run, facts)


RUNTIME = Runtime("opencv", ("onnx",), ("cpu",), version, unavailable, prepare)
