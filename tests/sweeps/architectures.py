"""Export whole families of architectures and print the result of each format: one row per model.

    python tests/sweeps/architectures.py                          every builder of keras.applications, kimm, zeromodels
    python tests/sweeps/architectures.py --family applications ResNet50 VGG16 --markdown table.md --json rows.json

Each model is built at a small input with seeded and calibrated weights, exported by `converter.export` to all three
formats with four samples, and proven, in a new process. Rows that are already in `--json FILE` are not measured again,
so that a long sweep can be run in parts. kimm and zeromodels are not dependencies of cnnexport; if they are missing,
the script says how to install them. Exit code 1 if a row did not pass.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from converter.core.foreign import Json, JsonObject, KerasModel
from converter.core.text import last_line

FORMATS = ("onnx", "tflite", "saved-model")
SIZES = (32, 71, 75)  # the smallest inputs that builders of keras.applications accept
CLASSES, SAMPLES = 10, 4
INSTALL = """{package} is not installed, and must not be a dependency. To install it without changing anything else:
  pip install --no-deps --target sweep-packages kimm==0.2.5 zeromodels==1.3.6 "huggingface_hub<1" safetensors \\
      tokenizers sentencepiece pillow matplotlib contourpy cycler fonttools kiwisolver pyparsing python-dateutil six \\
      packaging filelock fsspec tqdm pyyaml requests
  PYTHONPATH=sweep-packages python tests/sweeps/architectures.py --family {package}"""

_APPLICATIONS = """
MobileNet MobileNetV2 MobileNetV3Small MobileNetV3Large NASNetMobile EfficientNetB0 EfficientNetV2B0 DenseNet121
ResNet50 ResNet50V2 VGG16 Xception InceptionV3 ConvNeXtTiny InceptionResNetV2 EfficientNetB1 EfficientNetB2
EfficientNetB3 EfficientNetB4 EfficientNetV2B1 EfficientNetV2B2 EfficientNetV2B3 DenseNet169 DenseNet201 ResNet101
ResNet101V2 ResNet152 ResNet152V2 VGG19 ConvNeXtSmall EfficientNetB5 EfficientNetB6 EfficientNetV2S EfficientNetB7
EfficientNetV2M ConvNeXtBase EfficientNetV2L NASNetLarge ConvNeXtLarge ConvNeXtXLarge
"""
APPLICATIONS = _APPLICATIONS.split()

_KIMM = {"include_preprocessing": False, "classes": CLASSES, "input_shape": (64, 64, 3), "weights": None}
Builder = tuple[str, str, JsonObject]
"""Module, function, and arguments of the function"""

KIMM: dict[str, Builder] = {
    name: ("kimm.models", name, _KIMM)
    for name in (
        "RegNetX002",
        "RegNetY004",
        "RepVGGA0",
        "MobileOneS0",
        "GhostNetW100",
        "GhostNetV3W100",
        "InceptionNeXtTiny",
        "HGNetV2B0",
        "LCNet050",
    )
}
REPARAMETERISED = " (reparameterised)"
"""After the name of a kimm model: its training-time branches are merged after calibration, as for deployment."""
KIMM |= {f"{name}{REPARAMETERISED}": KIMM[name] for name in ("RepVGGA0", "MobileOneS0")}


def _zeromodels(family: str, name: str, **arguments: Json) -> Builder:
    common = {"image_size": 64, "num_classes": CLASSES, "classifier_activation": "softmax"}
    return f"zeromodels.models.{family}", f"{name}ImageClassify", common | arguments


ZEROMODELS: dict[str, Builder] = {
    "ResNeXt50-32x4d": _zeromodels("resnext", "ResNeXt"),
    "SE-ResNet18": _zeromodels("senet", "SENet"),
    "SE-ResNeXt50": _zeromodels("senet", "SENet", block_fn_name="resnext_block", depths=(3, 4, 6, 3)),
    "Res2Net50": _zeromodels("res2net", "Res2Net"),
    "Res2NeXt50": _zeromodels("res2net", "Res2Net", base_width=4, cardinality=8),
    "RegNetY-040": _zeromodels("regnet", "RegNet"),
    "MobileNetV4-small": _zeromodels("mobilenetv4", "MobileNetV4"),
    "EfficientNetLite0": _zeromodels("efficientnet_lite", "EfficientNetLite"),
    "ConvNeXtV2-atto": _zeromodels(
        "convnextv2", "ConvNeXtV2", depths=(2, 2, 6, 2), projection_dim=(40, 80, 160, 320), use_conv=True
    ),
    "PoolFormer-S12": _zeromodels("poolformer", "PoolFormer"),
}
FAMILIES: dict[str, Iterable[str]] = {"applications": APPLICATIONS, "kimm": KIMM, "zeromodels": ZEROMODELS}


def export_row(family: str, name: str) -> JsonObject:
    """Build, export and prove one model in this process; returns its row."""
    import converter
    from converter.core.data import SourceOptions

    with tempfile.TemporaryDirectory(prefix="sweep-") as directory:
        options = {"output": Path(directory, "export"), "samples": SAMPLES}
        if family == "applications":
            from converter.core.errors import UsageError

            for size in SIZES:
                source = SourceOptions(classes=CLASSES, input_shape=(size, size, 3))
                try:
                    report = converter.export(f"keras:{name}", converter.ExportOptions(source=source, **options))
                except UsageError:
                    if size == SIZES[-1]:
                        raise
                else:
                    break
        else:
            report = converter.export(_built(family, name), converter.ExportOptions(**options))
        manifest = json.loads(Path(report.directory, "manifest.json").read_text())
    shape = "x".join(str(size) for size in manifest["inputs"][0]["shape"][1:])
    return {
        "layers": report.source["layers"],
        "parameters": report.source["parameters"],
        "input": shape,
        "export": sum(seconds for stage, seconds in report.timings.items() if stage.startswith(("trace", "write"))),
        "timings": dict(report.timings),
        "multiples": {row.subject: max((each.multiple or 0.0) for each in row.outputs) for row in report.rows},
        "errors": {row.subject: max((each.relative_l2 or 0.0) for each in row.outputs) for row in report.rows},
        "noise": max((bound.noise or 0.0) for bound in report.tolerances.values()),
        "verdict": report.verdict if not report.failures else "format missing",
        "reason": "; ".join((*report.failures, *report.reasons)),
    }


def _built(family: str, name: str) -> KerasModel:
    """A model of one of the packages, seeded and calibrated."""
    from converter.sources.untrained import calibrated

    module, attribute, arguments = (KIMM if family == "kimm" else ZEROMODELS)[name]
    model = getattr(importlib.import_module(module), attribute)(**arguments)
    calibrated(model, name, 0, {})
    if name.endswith(REPARAMETERISED):
        from kimm.utils import get_reparameterized_model

        model = get_reparameterized_model(model)
    return model


def measure(family: str, name: str, limit: float) -> JsonObject:
    """The row of one model from a child process; if that fails, a row with the reason."""
    started = time.perf_counter()
    command = [sys.executable, __file__, "--family", family, "--row", name]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        reason = last_line(child.stderr) or f"status {child.returncode}"
        row = json.loads(child.stdout.splitlines()[-1]) if child.returncode == 0 else {"reason": reason}
    except subprocess.TimeoutExpired:
        row = {"reason": f"no answer within {limit:.0f} s"}
    row.setdefault("verdict", "error")
    return {"family": family, "model": name, **row, "seconds": time.perf_counter() - started}


def table(rows: Iterable[JsonObject]) -> str:
    """The rows as a Markdown table; errors are multiples of the reference's own float32 noise."""
    lines = [
        "| model | layers | parameters | input | export | noise | onnx | tflite | saved-model | whole run | verdict |",
        "|---|--:|--:|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        cells = [f"`{row['model']}`"]
        if "layers" in row:
            cells += [f"{row['layers']:,}", f"{row['parameters']:,}", row["input"], f"{row['export']:.1f} s"]
            cells += [f"{row['noise']:.1e}", *(_multiple(row, name) for name in FORMATS)]
        else:
            cells += [""] * 8
        verdict = row["verdict"] + (f": {row['reason']}" if row["reason"] else "")
        cells += [f"{row['seconds']:.0f} s", verdict.replace("\n", " ").replace("|", "/")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _multiple(row: JsonObject, name: str) -> str:
    return f"{row['multiples'][name]:.2f}" if name in row["multiples"] else "-"


def main() -> int:
    parser = argparse.ArgumentParser(description="Export families of architectures; one table row per model.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these models")
    parser.add_argument("--family", choices=list(FAMILIES), help="only this family")
    parser.add_argument("--markdown", type=Path, help="write the table there too")
    parser.add_argument("--json", type=Path, help="keep the rows there, and use those it has")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds that one model may take")
    parser.add_argument("--budget", type=float, help="start no model after this many seconds; run again to continue")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(json.dumps(export_row(options.family, options.row)))
        return 0
    wanted = [
        (family, name)
        for family in ([options.family] if options.family else FAMILIES)
        for name in FAMILIES[family]
        if not options.names or name in options.names
    ]
    if options.names:
        wanted.sort(key=lambda key: options.names.index(key[1]))
    unknown = sorted(set(options.names) - {name for _, name in wanted})
    if unknown:
        parser.error(f"no such model: {', '.join(unknown)}")
    for package in sorted({family for family, _ in wanted} - {"applications"}):
        if importlib.util.find_spec(package) is None:
            parser.exit(5, INSTALL.format(package=package) + "\n")
    known = json.loads(options.json.read_text()) if options.json and options.json.exists() else []
    rows = {(row["family"], row["model"]): row for row in known}
    started = time.perf_counter()
    for key in wanted:
        if options.budget and time.perf_counter() - started > options.budget:
            print("the budget is used up; run again to continue", file=sys.stderr)
            return 1
        if key not in rows:
            rows[key] = measure(*key, options.limit)
            print(table([rows[key]]).splitlines()[-1], file=sys.stderr, flush=True)
            if options.json:
                options.json.write_text(json.dumps(list(rows.values()), indent=1) + "\n")
    text = table(rows[key] for key in wanted)
    print(text)
    if options.markdown:
        options.markdown.write_text(text + "\n")
    return 0 if all(rows[key]["verdict"] == "pass" for key in wanted) else 1


if __name__ == "__main__":
    sys.exit(main())
