"""LiteRT (ai-edge-litert) on the CPU, with the delegate that it applies by default: reads TFLite files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from converter.core.data import Array, Arrays, Artifact, Prepared, Runtime, Watched
from converter.core.errors import InputError, UnavailableError
from converter.core.foreign import Facts, Session
from converter.core.text import first_line
from converter.runtimes.shared.installed import installed, missing, threads
from converter.runtimes.shared.names import require_interface, require_names

_DELEGATE = "DELEGATE"  # the operator that LiteRT adds for a part of the graph that a delegate runs


class _Tensor(TypedDict):
    """What LiteRT reports of a tensor, as far as it is used here."""

    name: str
    index: int
    shape: Array


class Operator(TypedDict):
    """What LiteRT reports of an operator, as far as it is used here; inputs and outputs are indices of tensors."""

    index: int
    op_name: str
    inputs: Array
    outputs: Array


def version() -> str | None:
    """The installed version, or None."""
    return installed("ai-edge-litert")


def unavailable(device: str) -> str | None:
    """Why LiteRT cannot run on `device` here, or None. LiteRT itself is not imported."""
    return "LiteRT runs on the CPU only" if device != "cpu" else missing("ai_edge_litert", "ai-edge-litert")


def warm() -> None:
    """Import LiteRT."""
    import ai_edge_litert.interpreter  # noqa: F401


def prepare(path: Path, artifact: Artifact, device: str) -> Prepared:
    """Load a TFLite file; inputs and outputs are paired by the tensor names that `artifact` declares.

    The first run goes through the file's signature, as most programs call it; the others set and read the tensors
    themselves. After the first run, `facts` report whether a delegate was applied. Raises InputError where LiteRT
    refuses the file, where its inputs are not exactly the declared ones, or a declared output is not in it.
    """
    interpreter = _loaded(path)
    invoke = _invoker(interpreter, path, artifact)
    returned = _indices(interpreter.get_output_details(), [spec.name for spec in artifact.outputs], path)
    foreign = artifact.options.get("signature") == "none"  # a file of another origin, whose names may be others there
    signature = None if foreign else _signature(interpreter, path, artifact)
    facts: Facts = {"litert": version()}

    def run(inputs: Arrays) -> dict[str, Array]:
        if "signature" not in facts and signature is not None:
            facts["signature"] = signature
            outputs = _through_signature(interpreter, signature, inputs, path)
        else:
            facts.setdefault("signature", "none")
            invoke(inputs)
            outputs = {name: interpreter.get_tensor(index) for name, index in returned.items()}
        if "delegate" not in facts:  # it is applied when the tensors are allocated, so not before the first run
            facts.update(delegate_facts(interpreter))
        return outputs

    return Prepared(run, facts)


def tensors(
    path: Path, artifact: Artifact, device: str, wanted: Collection[str] | None, at_once: int
) -> Iterator[Watched]:
    """What operators of a TFLite file compute, outputs included: one `Watched`, `at_once` has no effect.

    Without a delegate: XNNPACK joins operators, and what is between them is then not available. LiteRT keeps all
    tensors in memory; one at a time is copied. Raises what `prepare` raises.
    """
    interpreter = _loaded(path, every_tensor=True)
    invoke = _invoker(interpreter, path, artifact)
    given = {detail["index"] for detail in interpreter.get_input_details()}
    outputs = {detail["name"] for detail in interpreter.get_output_details()}

    def run(inputs: Arrays) -> Iterator[tuple[str, Array]]:
        invoke(inputs)
        batch = len(next(iter(inputs.values())))
        details = [detail for detail in interpreter.get_tensor_details() if detail["index"] not in given]
        times = Counter(detail["name"] for detail in details)  # LiteRT's scratch tensors share names
        for detail in details:
            name, shape = detail["name"], detail["shape"]
            requested = wanted is None or name in wanted or name in outputs
            if not name or times[name] > 1 or not requested or not len(shape) or shape[0] != batch:
                continue  # mostly constants
            try:
                array = interpreter.get_tensor(detail["index"])
            except ValueError:  # the tensor has no value
                continue
            yield name, array

    yield run


def delegate_facts(interpreter: Session) -> Facts:
    """Whether a delegate was applied, and how many operators it runs; empty where LiteRT does not report it.

    Call it after the tensors were allocated. LiteRT does not report which delegate it is; none but its default one
    (XNNPACK on a CPU) is ever requested here.
    """
    report = getattr(interpreter, "_get_ops_details", None)  # experimental in LiteRT 2.3
    if report is None:
        return {}
    try:
        listed: Sequence[Operator] = report()
    except UnicodeDecodeError:  # a name in the file that is no text
        return {}
    own = [each for each in listed if each["op_name"] != _DELEGATE]
    delegated = _delegated(own, [each for each in listed if each["op_name"] == _DELEGATE])
    return {
        "delegate": "default" if len(own) < len(listed) else "none",
        "nodes": {"delegate": len(delegated), "litert": len(own) - len(delegated)},
    }


def _delegated(own: Sequence[Operator], parts: Sequence[Operator]) -> set[int]:
    """The indices of the operators that are inside `parts`: between the outputs and the inputs of one of them.

    LiteRT lists the operators of the file unchanged, and after them a DELEGATE for each part of the graph.
    """
    producers = {int(index): each for each in own for index in each["outputs"]}
    inside: set[int] = set()
    for part in parts:
        borders = {int(index) for index in part["inputs"]}
        waiting = [int(index) for index in part["outputs"]]
        while waiting:
            producer = producers.get(waiting.pop())
            if producer is not None and producer["index"] not in inside:
                inside.add(producer["index"])
                waiting += [int(index) for index in producer["inputs"] if int(index) not in borders]
    return inside


def _loaded(path: Path, *, every_tensor: bool = False) -> Session:
    """An interpreter; with `every_tensor`, one without a delegate that keeps what every operator computes."""
    try:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType
    except ImportError as error:
        raise UnavailableError(f"ai-edge-litert cannot be imported ({error}); pip install ai-edge-litert") from error
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if every_tensor else OpResolverType.AUTO
    try:
        return Interpreter(
            model_path=str(path),
            num_threads=threads(),
            experimental_op_resolver_type=resolver,
            experimental_preserve_all_tensors=every_tensor,
        )
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path}: LiteRT cannot load it: {first_line(error)}") from error


def _signature(interpreter: Session, path: Path, artifact: Artifact) -> str | None:
    """The name of the file's signature, whose inputs and outputs must be the declared ones; None if it has none."""
    found = interpreter.get_signature_list()
    if not found:
        return None
    name = next(iter(found))
    require_interface(path, artifact, found[name]["inputs"], found[name]["outputs"])
    return str(name)


def _through_signature(interpreter: Session, name: str, inputs: Arrays, path: Path) -> dict[str, Array]:
    try:
        return dict(interpreter.get_signature_runner(name)(**inputs))
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path}: LiteRT cannot run its signature {name}: {first_line(error)}") from error


def _invoker(interpreter: Session, path: Path, artifact: Artifact) -> Callable[[Arrays], None]:
    """A function that sets inputs by name, of any batch size, and runs the model."""
    details = interpreter.get_input_details()
    given = _indices(details, [spec.name for spec in artifact.inputs], path)
    require_names(path, "input", list(given), [detail["name"] for detail in details])
    shapes: dict[str, tuple[int, ...]] = {}

    def invoke(inputs: Arrays) -> None:
        changed = {name: array.shape for name, array in inputs.items() if shapes.get(name) != array.shape}
        try:
            for name, shape in changed.items():
                interpreter.resize_tensor_input(given[name], list(shape))
            if changed:
                interpreter.allocate_tensors()
                shapes.update(changed)
            for name, array in inputs.items():
                interpreter.set_tensor(given[name], array)
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{path}: LiteRT cannot run it: {first_line(error)}") from error

    return invoke


def _indices(details: Sequence[_Tensor], names: Sequence[str], path: Path) -> Mapping[str, int]:
    """The index of each tensor of `names`. Raises InputError for a name that the file does not have."""
    found = {detail["name"]: detail["index"] for detail in details}
    for name in names:
        if name not in found:
            raise InputError(f"{path}: has no tensor called {name}, only {', '.join(sorted(found))[:200]}")
    return {name: found[name] for name in names}


RUNTIME = Runtime("litert", ("tflite",), ("cpu",), version, unavailable, prepare, tensors, warm)
