"""Configuration of the documentation, built with ``python -m sphinx -W docs docs/_build``."""

import pkgutil
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ConfigError
from sphinx_gallery.sorting import ExplicitOrder

import smoothlearn
from smoothlearn import datasets, theory

project = "smoothlearn"
author = "the smoothlearn developers"
copyright = f"2026, {author}"
version = release = smoothlearn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
templates_path = ["templates"]
default_role = "code"

autodoc_default_options = {"members": True, "inherited-members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings have them
autosummary_generate = True
toc_object_entries_show_parents = "hide"
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "within_subsection_order": ExplicitOrder(
        [
            "plot_digits_certified.py",
            "plot_energy_2d.py",
            "plot_under_the_hood.py",
            "plot_choose_sigma.py",
            "plot_grid_search_sigma.py",
            "plot_tabular.py",
            "plot_xhat_digits.py",
            "plot_walk_jump.py",
            "*",
            "plot_spirals_locally_biased.py",
            "plot_multiclass_locally_biased.py",
        ]
    ),
    "abort_on_example_error": True,
    "doc_module": ("smoothlearn",),
    "backreferences_dir": "auto_examples/backreferences",
    "capture_repr": ("_repr_html_",),
    "download_all_examples": False,
    "show_signature": False,
    "write_computation_times": False,  # the log has them
}

html_theme = "pydata_sphinx_theme"
html_title = "smoothlearn"
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["style.css"]
html_context = {"default_mode": "auto"}  # light or dark, as the browser says
html_theme_options = {
    "logo": {"text": "smoothlearn"},
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {"index": []}

#: Modules of the theory without a page: they serve others, or the package exports what they have.
INTERNAL = {"arguments", "screens", "spheres"}


def skip_inherited(
    app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out the methods that other packages define and document."""
    module = getattr(member, "__module__", None) or "smoothlearn"
    return None if module.split(".")[0] == "smoothlearn" else True


def check_reference(app: Sphinx) -> None:
    """Stop where the reference does not list what the package exports."""
    modules = {module.name for module in pkgutil.iter_modules(theory.__path__)} - INTERNAL
    exported = {f"theory.{module}" for module in modules}
    exported |= {*smoothlearn.__all__, *(f"datasets.{name}" for name in datasets.__all__)}
    listed = re.findall(r"^    ([\w.]+)$", Path(app.srcdir, "api.rst").read_text("utf-8"), re.M)
    if missing := sorted(exported - set(listed)):
        raise ConfigError(f"docs/api.rst does not list {', '.join(missing)}")


def setup(app: Sphinx) -> None:
    app.connect("builder-inited", check_reference, priority=0)
    app.connect("autodoc-skip-member", skip_inherited)
