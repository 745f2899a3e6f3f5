"""Sphinx: `sphinx-build -W -b html docs OUT`. Pages are Markdown; {{ name }} in one is made by generated.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import generated

from converter.core.version import __version__

project = "cnnexport"
author = "the authors of cnnexport"
copyright = "the authors of cnnexport, Apache License 2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"cnnexport {release}"
html_show_sphinx = False
html_copy_source = False

myst_heading_anchors = 3
default_role = "code"  # docstrings write names in single backticks, as Markdown does
add_module_names = False
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_default_options = {"exclude-members": "__init__,__new__"}
python_maximum_signature_line_length = 90


def _fill(app: Any, docname: str, source: list[str]) -> None:
    """Put what is made from the code in the place of its name in braces."""
    source[0] = generated.filled(source[0])


def _plain_bars(app: Any, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """A bar in a docstring is an absolute value, not the name of a substitution."""
    lines[:] = [generated.without_bars(line) for line in lines]


def setup(app: Any) -> None:
    """Connect the two."""
    app.connect("source-read", _fill)
    app.connect("autodoc-process-docstring", _plain_bars)
