"""`package.module:function`: the user's function that builds a model, and the modules with the user's layers."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import site
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from converter.core.data import Source, SourceOptions
from converter.core.errors import InputError
from converter.core.foreign import Facts, Json, KerasModel, Module
from converter.core.text import reason_of
from converter.sources.finish import finish, require_built
from converter.sources.names import OWN_PACKAGES, function_parts, nearest, without_folder
from converter.sources.weights import assign_file

CustomObjects = Mapping[str, object]
"""Classes and functions of the user by every name that a file may use for them."""


def load_function(text: str, options: SourceOptions) -> Source:
    """The keras.Model that the function named `text` ("package.module:function") returns.

    It is called with `options.kwargs`. A Sequential or subclassed model that was never called is built for
    `options.input_shape`. The weights are those that the function sets, or come from `options.weights`. Raises
    InputError where the function is missing, raises an exception, or does not return a model.
    """
    model = call_builder(text, options.kwargs)
    detail: Facts = {"builder": without_folder(text)}
    if options.kwargs:
        detail["arguments"] = dict(options.kwargs)
    title = text.rpartition(":")[2]
    if options.weights is not None:
        require_built(model, text, options.input_shape)
        detail |= assign_file(model, Path(options.weights), text)
    return finish(model, title, "function", detail, input_shape=options.input_shape)


def call_builder(text: str, kwargs: Mapping[str, Json]) -> KerasModel:
    """The keras.Model that the function named `text` returns for `kwargs`. Raises InputError as `load_function`."""
    import keras

    function = find_function(text)
    try:
        with contextlib.redirect_stdout(sys.stderr):  # only the report goes to stdout
            model = function(**kwargs)
    except (Exception, SystemExit) as error:  # the user's function may raise anything
        raise InputError(
            f"{text}: raised {reason_of(error)}\ncorrect the function or its --kwargs; --debug shows where it happened"
        ) from error
    if not isinstance(model, keras.Model):
        raise InputError(f"{text}: returned {_described(model)}, not a keras.Model\nlet the function return the model")
    return model


def find_function(text: str) -> Callable[..., object]:
    """The callable that `text` ("package.module:name.name") names. Raises InputError."""
    module_name, path = function_parts(text)
    if not module_name:
        raise InputError(f"{text}: not package.module:function\nname a module and a function in it, as in nets:build")
    found: object = import_file(module_name, text) if module_name.endswith(".py") else import_module(module_name, text)
    for part in path.split("."):
        if not hasattr(found, part):
            names = [name for name in vars(found) if not name.startswith("_")] if hasattr(found, "__dict__") else []
            guess = nearest(part, names)
            hint = f"did you mean {module_name}:{guess}?" if guess else "check the name of the function"
            if module_name in OWN_PACKAGES:
                hint = _advice(module_name)
            raise InputError(f"{text}: {module_name} has no {part}\n{hint}")
        found = getattr(found, part)
    if not callable(found):
        raise InputError(f"{text}: {_described(found)}, not a function\nname a function that returns a keras.Model")
    return found


def import_module(name: str, title: str) -> Module:
    """Import `name`, also from the current directory. Raises InputError with the module's own error."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    with _reported(name, title):
        return importlib.import_module(name)


def import_file(path: str, title: str) -> Module:
    """Import the Python file `path` under its own name; it may import modules from its directory. Raises InputError."""
    file = Path(path).resolve()
    if not file.is_file():
        raise InputError(f"{title}: no such file: {path}\ncheck the path")
    if str(file.parent) not in sys.path:
        sys.path.append(
            str(file.parent)
        )  # last: child processes get this path, and a json.py there must not hide Python's
    importlib.invalidate_caches()
    taken = sys.modules.get(file.stem)
    free = taken is None or getattr(taken, "__file__", None) == str(file)
    name = file.stem if free else f"{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise InputError(f"{title}: {path} cannot be imported\ngive a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _reported(file.name, title):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _reported(name: str, title: str) -> Iterator[None]:
    """While the module `name` is imported: its output goes to stderr, its exceptions become InputErrors of `title`."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(error.name + ".")):
            raise InputError(f"{title}: no module named {error.name}\n{_advice(error.name)}") from error
        raise InputError(f"{title}: importing {name} needs {error.name}, which is not installed\ninstall it") from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything while it is imported
        raise InputError(
            f"{title}: importing {name} raised {reason_of(error)}\ncorrect the module; --debug shows where it happened"
        ) from error


def _advice(name: str) -> str:
    top = name.partition(".")[0]
    if top in OWN_PACKAGES:
        return f"cnnexport has a package {top} too, which hides yours: give {top}/FILE.py:FUNCTION, or rename it"
    return "run from the directory that contains it, or install it"


def custom_objects(modules: tuple[str, ...]) -> CustomObjects:
    """Keras classes and functions of the named modules, by every name a file may use.

    Those defined in a module, and those it imports from its own package or folder: what it imports from elsewhere, as
    `shutil.rmtree`, is no part of a model. A class registered with `register_keras_serializable` is also found by its
    registered name. Raises InputError where a module cannot be imported or has none.
    """
    if not modules:
        return {}  # before Keras is imported: most errors about a file do not need it
    import keras

    found: dict[str, object] = {}
    for name in modules:
        module = import_module(name, f"--custom-objects {name}")
        before = len(found)
        for attribute, value in vars(module).items():
            if attribute.startswith("__") or not _belongs(value, module):
                continue
            keras_class = inspect.isclass(value) and hasattr(value, "from_config")
            if keras_class or inspect.isfunction(value):
                found[attribute] = value
                registered = keras.saving.get_registered_name(value)
                found[registered] = value
        if len(found) == before:
            raise InputError(
                f"--custom-objects {name}: no Keras class or function in it\nname the module that defines the layers"
            )
    return found


def _belongs(value: object, module: Module) -> bool:
    """Whether `value` was defined in the package of `module`, or in a file beside it."""
    origin = sys.modules.get(str(getattr(value, "__module__", "")))
    if origin is None:
        return False
    if origin.__name__.partition(".")[0] == module.__name__.partition(".")[0]:
        return True
    files = [getattr(each, "__file__", None) for each in (origin, module)]
    installed = {Path(path).resolve() for path in (*site.getsitepackages(), sysconfig.get_path("stdlib"))}
    folders = [Path(file).resolve().parent for file in files if file]
    return len(folders) == 2 and folders[0] == folders[1] and folders[1] not in installed


def _described(value: object) -> str:
    return "nothing (None)" if value is None else f"a value of type {type(value).__name__}"
