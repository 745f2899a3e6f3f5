"""Hugging Face Hub: the export as it is, and a model card with the verdict, its table and metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from converter.core.foreign import JsonObject
from converter.core.text import clean
from converter.report.summary import summary_of
from converter.serving.content import Files, PackageOptions, Proven, model_name

LARGE = ("*.onnx", "*.data", "*.tflite", "*.npz", "saved_model/**/*.pb", "saved_model/variables/*")
TEXT = 300


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
    summary: JsonObject = summary_of(proven.report)
    name = model_name(proven, options)
    lines = ["---", *_metadata(proven), "---", "", f"# {name}", ""]
    lines += [
        f"Exported by cnnexport and compared with Keras's own predictions: **{_cell(proven.report['verdict'])}**.",
        "",
    ]
    lines += ["| artifact | precision | runtime | error (relative L2) | verdict |", "|---|---|---|---|---|"]
    for row in summary["comparisons"]:
        error = row.get("error")
        shown = f"{error:.2e}" if isinstance(error, int | float) else "-"
        cells = [_cell(row.get(key)) for key in ("subject", "precision", "runtime")]
        lines.append(f"| {' | '.join([*cells, shown, 'pass' if row['passed'] else 'fail'])} |")
    lines += ["", "## Inputs and outputs", "", "| | name | shape | type | layout |", "|---|---|---|---|---|"]
    for kind, specs in (("input", manifest.inputs), ("output", manifest.outputs)):
        for spec in specs:
            shape = ", ".join("any" if axis is None else str(axis) for axis in spec.shape)
            lines.append(f"| {kind} | {_cell(spec.name)} | {shape} | {_cell(spec.dtype)} | {spec.layout} |")
    if manifest.preprocessing:
        lines += ["", "## Preprocessing", ""]
        lines += [f"- {_cell(key)}: {_cell(json.dumps(value))}" for key, value in manifest.preprocessing.items()]
    if manifest.source.get("untrained") is True:
        lines += ["", "The weights are untrained: this proves the export, not the accuracy of the model."]
    if manifest.warnings:
        lines += ["", "## Warnings", "", *(f"- {_cell(each)}" for each in manifest.warnings)]
    lines += ["", "## Files", "", "| file | size | sha256 |", "|---|---|---|"]
    lines += [f"| {_cell(path)} | {each.size:,} | `{each.sha256}` |" for path, each in manifest.files.items()]
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


def _cell(value: object) -> str:
    """Untrusted text for a cell of a Markdown table: no markup."""
    text = clean(str(value if value is not None else ""), TEXT).replace("\\", "\\\\")
    for mark in "|<>`*_[]":
        text = text.replace(mark, f"\\{mark}")
    return text
