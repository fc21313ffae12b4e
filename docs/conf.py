"""Configuration of the documentation, built with ``sphinx-build -W docs docs/_build``."""

from typing import Any

from sphinx.application import Sphinx

import smoothlearn

project = "smoothlearn"
author = "the smoothlearn developers"
copyright = f"2026, {author}"
version = release = smoothlearn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
]
exclude_patterns = ["_build"]
default_role = "code"

autodoc_default_options = {"members": True, "inherited-members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings have them
autosummary_generate = False
numpydoc_show_class_members = False

html_theme = "furo"
html_title = "smoothlearn"


def skip_inherited(
    app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out the methods that other packages define and document."""
    module = getattr(member, "__module__", None) or "smoothlearn"
    return None if module.split(".")[0] == "smoothlearn" else True


def setup(app: Sphinx) -> None:
    app.connect("autodoc-skip-member", skip_inherited)
