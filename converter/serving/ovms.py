"""OpenVINO Model Server: `NAME/VERSION/` with an ONNX file, a TFLite file or a SavedModel, and `config.json`."""

from __future__ import annotations

from converter.bundle.proven import Proven
from converter.core.foreign import JsonObject
from converter.core.jsonable import dumps
from converter.serving.content import Files, PackageOptions, files_of, model_name, served

FORMATS = ("onnx", "tflite", "saved-model")


def layout(proven: Proven, options: PackageOptions) -> Files:
    """The model's directory and the configuration. Raises UsageError for an artifact that is not there."""
    artifact = served(proven, options, FORMATS)
    name = model_name(proven, options)
    suffix = {"onnx": "/model.onnx", "tflite": "/model.tflite", "saved-model": ""}[artifact.format]
    model: JsonObject = {"name": name, "base_path": f"{options.base_path.rstrip('/')}/{name}"}
    model |= {"model_version_policy": {"specific": {"versions": [options.version]}}}
    config = dumps({"model_config_list": [{"config": model}]})
    return {**files_of(proven, artifact, f"{name}/{options.version}{suffix}"), "config.json": config}
