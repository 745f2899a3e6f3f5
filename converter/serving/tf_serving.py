"""TensorFlow Serving: `NAME/VERSION/` with the SavedModel, and `models.config`."""

from __future__ import annotations

from converter.bundle.proven import Proven
from converter.serving.content import Files, PackageOptions, files_of, model_name, served
from converter.serving.triton import quoted


def layout(proven: Proven, options: PackageOptions) -> Files:
    """The model's directory and the list of models. Raises UsageError without a SavedModel."""
    artifact = served(proven, options, ("saved-model",))
    name = model_name(proven, options)
    place = f"{options.base_path.rstrip('/')}/{name}"
    text = (
        "model_config_list {\n  config {\n"
        f"    name: {quoted(name)}\n    base_path: {quoted(place)}\n"
        '    model_platform: "tensorflow"\n'
        f"    model_version_policy {{ specific {{ versions: {options.version} }} }}\n"
        "  }\n}\n"
    )
    return {**files_of(proven, artifact, f"{name}/{options.version}"), "models.config": text}
