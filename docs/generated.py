"""Parts of the pages that are made when the documentation is built: options, keywords, zoo, runtimes, coverage.

A page asks for one by its name in double braces, on a line of its own: {{ commands }}. `PARTS` is the table of them.
Nothing heavy is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import click
import coverage_table

_DEFAULT = re.compile(r"\s*\[default: ([^\]]*)\]$")
_ASKED = re.compile(r"^\{\{ (\w+) \}\}$", re.MULTILINE)


def filled(text: str) -> str:
    """`text` with every part that it asks for. Raises KeyError for one that there is not."""
    return _ASKED.sub(lambda found: PARTS[found[1]](), text)


def without_bars(line: str) -> str:
    """A line of reStructuredText in which a bar outside of backticks is a character."""
    pieces = line.split("`")
    return "`".join(piece.replace("|", r"\|") if place % 2 == 0 else piece for place, piece in enumerate(pieces))


def commands() -> str:
    """A section for each command: how it is called, what it does, its options."""
    from converter.cli.main import cli

    parts = []
    top = _top()
    for name, command in cli.commands.items():
        context = click.Context(command, info_name=name, parent=top)
        usage = " ".join(["cnnexport", name, *command.collect_usage_pieces(context)])
        parts.append(f"## {name}\n\n```text\n{usage}\n```\n\n{_sentences(command.help)}\n\n{options(command, context)}")
    return "\n\n".join(parts)


def top_options() -> str:
    """The options that stand before a command."""
    from converter.cli.main import cli

    return options(cli, _top())


def _top() -> click.Context:
    from converter.cli.main import cli

    return click.Context(cli, info_name="cnnexport", **cli.context_settings)


def options(command: click.Command, context: click.Context) -> str:
    """The options of `command` as a table."""
    rows = []
    for parameter in command.get_params(context):
        if isinstance(parameter, click.Option):
            help_text, default = _help_and_default(parameter)
            variable = f"`{parameter.envvar}`" if isinstance(parameter.envvar, str) else ""
            rows.append((_spelling(parameter, context), variable, default, help_text))
    return _table(("option", "environment variable", "default", "meaning"), rows)


def _spelling(option: click.Option, context: click.Context) -> str:
    """All names of an option, and what it takes."""
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag or option.count else f" `{option.make_metavar(context)}`"
    return f"{names}{value}{' (repeatable)' if option.multiple else ''}"


def _help_and_default(option: click.Option) -> tuple[str, str]:
    """The help without its default, and the default: what the help says, or what click knows."""
    text = (option.help or "").strip()
    written = _DEFAULT.search(text)
    if written:
        return text[: written.start()], written[1]
    known = option.default
    if option.is_flag or not isinstance(known, str | int | float):
        return text, "required" if option.required else ""
    return text, f"`{known}`"


def _sentences(text: str | None) -> str:
    """A command's help without its line ends."""
    return " ".join((text or "").split())


def export_keywords() -> str:
    """The keywords of `converter.export` as a table."""
    from converter.cli.export import command
    from converter.pipeline.options import ExportKeywords

    return _keywords(ExportKeywords, command)


def verify_keywords() -> str:
    """The keywords of `converter.verify` as a table."""
    from converter.cli.verify import command
    from converter.pipeline.options import VerifyKeywords

    return _keywords(VerifyKeywords, command)


def train_keywords() -> str:
    """The keywords of `converter.train` as a table."""
    from converter.cli.train import command
    from converter.pipeline.options import TrainKeywords

    return _keywords(TrainKeywords, command)


def predict_keywords() -> str:
    """The keywords of `converter.predict` as a table."""
    from converter.cli.predict import command
    from converter.pipeline.options import PredictKeywords

    return _keywords(PredictKeywords, command)


def evaluate_keywords() -> str:
    """The keywords of `converter.evaluate` as a table."""
    from converter.cli.evaluate import command
    from converter.pipeline.options import EvaluateKeywords

    return _keywords(EvaluateKeywords, command)


def rewrite_keywords() -> str:
    """The keywords of `converter.rewrite` as a table."""
    from converter.cli.rewrite import command
    from converter.pipeline.options import RewriteKeywords

    return _keywords(RewriteKeywords, command)


def load_keywords() -> str:
    """The keywords of `converter.load` as a table."""
    from converter.cli.export import command
    from converter.pipeline.options import SourceKeywords

    return _keywords(SourceKeywords, command)


def _keywords(kind: type, command: click.Command) -> str:
    """The keys of the TypedDict `kind` with their types, and the option of `command` that each is."""
    known = {option.name: option for option in command.params if isinstance(option, click.Option)}
    rows = []
    for name, annotation in kind.__annotations__.items():
        text = getattr(annotation, "__forward_arg__", None) or str(annotation)
        option = known.get(name)
        meaning = _help_and_default(option)[0] if option else ""
        spelling = f"`{max(option.opts, key=len)}`" if option else ""
        rows.append((f"`{name}`", f"`{text}`", spelling, meaning))
    return _table(("keyword", "type", "option", "meaning"), rows)


def zoo() -> str:
    """The architectures of the zoo as a table."""
    from zoo import MODELS

    rows = []
    for spec in MODELS.values():
        shape = "x".join(map(str, spec.input_shape))
        outputs = ", ".join(f"`{name}`" for name in spec.outputs)
        weights = "yes" if spec.published else ""
        rows.append(
            (f"`{spec.name}`", shape, str(spec.classes), f"{spec.parameters:,}", outputs, weights, spec.summary)
        )
    head = ("name", "input", "classes", "parameters", "outputs", "`--weights imagenet`", "what it is")
    return _table(head, rows)


def runtimes() -> str:
    """The runtimes as a table: what each reads, and on which devices it runs."""
    from converter.runtimes import RUNTIMES

    rows = [
        (f"`{name}`", ", ".join(runtime.reads), ", ".join(runtime.devices), HOW_TO_GET[name])
        for name, runtime in RUNTIMES.items()
    ]
    return _table(("runtime", "reads", "devices", "how to install it"), rows)


_WITH_NODE = "Node.js, and `npm install --ignore-scripts onnxruntime-node onnxruntime-web`"
HOW_TO_GET = {
    "onnxruntime": "always there; `cnnexport[cuda]` for CUDA",
    "onnxruntime-noopt": "always there: onnxruntime with its graph optimizations off",
    "litert": "always there",
    "tensorflow": "comes with `cnnexport`; `cnnexport-verify` is without it",
    "openvino": "`cnnexport[openvino]`, or `cnnexport[runtimes]`",
    "opencv": "`cnnexport[opencv]`, or `cnnexport[runtimes]`",
    "tract": "`cnnexport[tract]`, or `cnnexport[runtimes]`",
    "ncnn": "`cnnexport[ncnn]`; pnnx converts the ONNX file for it",
    "onnxruntime-node": _WITH_NODE,
    "onnxruntime-web": _WITH_NODE,
    "chromium": "the same packages, and Chromium: onnxruntime-web in a page",
}
"""How each runtime is installed; a test compares the names with those of `converter.runtimes.RUNTIMES`."""


def exit_codes() -> str:
    """The exit codes as a table: those of the error classes, and those that belong to none."""
    from converter.core import errors

    base = errors.CnnExportError
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, base)]
    rows = [
        ("0", "Exported and proven", ""),
        (str(base.exit_code), "A bug in cnnexport; `--debug` shows the traceback", ""),
        ("130", "Interrupted; the previous export is as it was", ""),
        *(
            (str(each.exit_code), _sentences(each.__doc__).rstrip("."), f"`{each.__name__}`")
            for each in classes
            if each is not base
        ),
    ]
    return _table(("exit code", "meaning", "exception in Python"), sorted(rows, key=lambda row: int(row[0])))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; a bar in a cell is a character of it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cells(line)) + " |" for line in lines)


def _cells(line: Sequence[str]) -> Iterator[str]:
    return (" ".join(cell.split()).replace("|", r"\|") for cell in line)


def operators() -> str:
    """Each operator that a format gets in another form, and that form: the first sentence of its rule."""
    from converter.formats.onnx import operators as onnx
    from converter.formats.tflite import operators as tflite
    from converter.tracing.equivalents import RULES, convolutions

    lists = {"ONNX": {*onnx.OPERATORS, *convolutions.PADDED}, "TFLite": {*tflite.OPERATORS, *tflite.FUSED}}
    rows = []
    for name in sorted(set().union(*lists.values())):
        formats = [each for each, names in lists.items() if name in names]
        rules = {"ONNX": {**RULES, **convolutions.PADDED}, "TFLite": RULES}
        texts = {_rule_text(rules[each][name]): None for each in formats}
        rows.append((f"`{name}`", ", ".join(formats), " ".join(texts)))
    return _table(("operator", "where", "becomes"), rows)


def _rule_text(rule: Callable[..., object]) -> str:
    """The first sentence of the docstring of a rule, or of the function that it was made of."""
    inner = rule
    while isinstance(inner, partial) or getattr(inner, "__closure__", None):
        if isinstance(inner, partial):
            inner = inner.func
        else:
            inner = next(cell.cell_contents for cell in inner.__closure__ or () if callable(cell.cell_contents))
    paragraph = (inner.__doc__ or "").split("\n\n")[0]
    return " ".join(paragraph.split())


PARTS: dict[str, Callable[[], str]] = {
    "commands": commands,
    "top_options": top_options,
    "export_keywords": export_keywords,
    "verify_keywords": verify_keywords,
    "rewrite_keywords": rewrite_keywords,
    "load_keywords": load_keywords,
    "train_keywords": train_keywords,
    "predict_keywords": predict_keywords,
    "evaluate_keywords": evaluate_keywords,
    "zoo": zoo,
    "runtimes": runtimes,
    "exit_codes": exit_codes,
    "operators": operators,
    "coverage_counts": coverage_table.counts,
    "coverage_reasons": coverage_table.reasons,
    "coverage_layers": partial(coverage_table.rows, "layers"),
    "coverage_ops": partial(coverage_table.rows, "ops"),
    "coverage_activations": partial(coverage_table.rows, "activations"),
    "coverage_not_called": coverage_table.not_called,
    "coverage_left_out": coverage_table.left_out,
}
