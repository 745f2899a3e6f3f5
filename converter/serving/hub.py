"""Hugging Face Hub: the export as it is, and a model card with the verdict, its table and metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from converter.bundle.proven import Proven
from converter.report.markdown import cell, table
from converter.serving.content import Files, PackageOptions, model_name

LARGE = ("*.onnx", "*.data", "*.tflite", "*.npz", "saved_model/**/*.pb", "saved_model/variables/*")


def layout(proven: Proven, options: PackageOptions) -> Files:
    """All files of the export, so that `cnnexport verify` works on the package, README.md and .gitattributes."""
    names = (*proven.manifest.files, "manifest.json", "report.json")
    files: dict[str, Path | str] = {name: proven.directory / name for name in names}
    files["README.md"] = card(proven, options)
    files[".gitattributes"] = "".join(f"{each} filter=lfs diff=lfs merge=lfs -text\n" for each in LARGE)
    return files


def card(proven: Proven, options: PackageOptions) -> str:
    """The model card."""
    manifest = proven.manifest
    name = model_name(proven, options)
    lines = ["---", *_metadata(proven), "---", "", f"# {name}", ""]
    lines += [
        f"Exported by cnnexport and compared with Keras's own predictions: **{cell(proven.report['verdict'])}**.",
        "",
    ]
    lines += table(proven.report)
    lines += ["", "## Inputs and outputs", "", "| | name | shape | type | layout |", "|---|---|---|---|---|"]
    for kind, specs in (("input", manifest.inputs), ("output", manifest.outputs)):
        for spec in specs:
            shape = ", ".join("any" if axis is None else str(axis) for axis in spec.shape)
            lines.append(f"| {kind} | {cell(spec.name)} | {shape} | {cell(spec.dtype)} | {spec.layout} |")
    if manifest.preprocessing:
        lines += ["", "## Preprocessing", ""]
        lines += [f"- {cell(key)}: {cell(json.dumps(value))}" for key, value in manifest.preprocessing.items()]
    if manifest.source.get("untrained") is True:
        lines += ["", "The weights are untrained: this proves the export, not the accuracy of the model."]
    if manifest.warnings:
        lines += ["", "## Warnings", "", *(f"- {cell(each)}" for each in manifest.warnings)]
    lines += ["", "## Files", "", "| file | size | sha256 |", "|---|---|---|"]
    lines += [f"| {cell(path)} | {each.size:,} | `{each.sha256}` |" for path, each in manifest.files.items()]
    lines += ["", "Repeat the proof from these files alone: `cnnexport verify DIRECTORY`.", ""]
    return "\n".join(lines)


def _metadata(proven: Proven) -> Iterator[str]:
    """The lines of the card's metadata, as YAML whose values are JSON."""
    manifest = proven.manifest
    yield "library_name: keras"
    image = len(manifest.inputs) == 1 and manifest.inputs[0].layout != "" and len(manifest.inputs[0].shape) == 4
    if image and [each.activation for each in manifest.outputs] == ["softmax"]:
        yield "pipeline_tag: image-classification"
    yield "tags:"
    tags = {"onnx": "onnx", "tflite": "tflite", "saved-model": "tensorflow"}
    for tag in dict.fromkeys(["cnnexport", *(tags.get(each.format, each.format) for each in manifest.artifacts)]):
        yield f"- {json.dumps(tag)}"
