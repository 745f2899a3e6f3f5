"""KServe: Triton's model repository, and an InferenceService that serves it by protocol v2."""

from __future__ import annotations

import json
import re

from converter.bundle.proven import Proven
from converter.serving import triton
from converter.serving.content import Files, PackageOptions, model_name, served

SERVICE = "inference-service.yaml"


def layout(proven: Proven, options: PackageOptions) -> Files:
    """The repository in `models/` and the service. `base_path` is the storage URI, as in pvc://models or s3://bucket."""
    artifact = served(proven, options, tuple(triton.PLACES))
    name = model_name(proven, options)
    service = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-") or "model"
    form = {"onnx": "onnx", "saved-model": "tensorflow"}[artifact.format]
    text = "\n".join(
        [
            "apiVersion: serving.kserve.io/v1beta1",
            "kind: InferenceService",
            "metadata:",
            f"  name: {json.dumps(service)}",
            "spec:",
            "  predictor:",
            "    model:",
            "      modelFormat:",
            f"        name: {form}",
            "      protocolVersion: v2",
            "      runtime: kserve-tritonserver",
            f"      storageUri: {json.dumps(options.base_path.rstrip('/') + '/models')}",
        ]
    )
    return {**{f"models/{path}": each for path, each in triton.layout(proven, options).items()}, SERVICE: f"{text}\n"}
