"""The one-way order of the package's imports, and what `import smoothlearn` brings along."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import smoothlearn

ROOT = Path(smoothlearn.__file__).parent
#: A module imports from what stands before it; in a folder, from what stands before it there.
ORDER = (
    "theory", "views", "nn", "certificates", "denoisers", "augmentation", "bases", "probabilities",
    "smoother", "voted", "randomized", "xhat", "bias_points", "smoothed_rows", "locally_biased",
    "jobs", "metrics", "robustness", "displays", "datasets",
)  # fmt: skip
FOLDERS = {
    "denoisers": (
        "base", "deen", "parzen", "fitting", "two_level", "walk_jump", "attractor",
    ),
    "theory": (
        "arguments", "norms", "binomial", "stopping", "means", "decisions", "gaussian", "bayes",
        "screens", "neighbors", "locally_biased", "activations", "lipschitz", "spheres",
    ),
    "views": (
        "copies", "affine", "expansion", "linear", "gamma", "radial", "ridge", "kernel", "mlp",
        "network", "predictor", "probabilities",
    ),
    "nn": (
        "randomness", "networks", "energies", "classifiers", "projection", "first_layer",
        "convolution", "layers", "graph", "wiring", "bounds", "curvature", "rounding", "lipschitz",
        "training", "balls", "attacks", "adversarial", "dynamics", "memory",
        "noise", "threads", "voting",
    ),
    "jobs": (
        "units", "chunks", "assembly", "fingerprint", "checkpoint", "certify", "exchange",
    ),
    "displays": ("accuracy", "votes", "denoising", "energy", "spheres"),
    "datasets": ("source", "mnist", "cifar10", "spirals"),
}  # fmt: skip
#: Imported where they are used, and nowhere else.
LAZY = ("matplotlib", "pandas", "polars", "dask")
MODULES = {
    path.relative_to(ROOT).with_suffix("").parts: ast.parse(path.read_text("utf-8"))
    for path in sorted(ROOT.rglob("*.py"))
    if path.stem != "__init__"
}


def place(module):
    """Where a module stands; an error where the lists above do not name it."""
    if module[0] in FOLDERS:
        return ORDER.index(module[0]), FOLDERS[module[0]].index(module[1])
    return ORDER.index(module[0]), 0


def imports(tree):
    """(dotted name of a module, name taken from it or None) for every import in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield from ((node.module, alias.name) for alias in node.names)


def own_imports(tree):
    """The modules of this package that a file imports, as paths below it."""
    for module, name in imports(tree):
        if module.split(".")[0] != "smoothlearn":
            continue
        path = tuple(module.split(".")[1:])
        yield path if path in MODULES else (*path, name)


def named(module):
    return ".".join(module)


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_imports_run_one_way(module):
    for imported in own_imports(MODULES[module]):
        assert imported in MODULES, f"{named(module)} imports {named(imported)}: not a module"
        assert place(imported) < place(module), f"{named(module)} imports {named(imported)}"


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_no_private_name_crosses_a_module(module):
    for imported, name in imports(MODULES[module]):
        parts = [*imported.split("."), *([name] if name else [])]
        private = [p for p in parts if p.startswith("_") and p not in ("__future__", "__version__")]
        assert not private, f"{named(module)} imports {'.'.join(parts)}"


@pytest.mark.parametrize("module", [m for m in MODULES if m[0] == "theory"], ids=named)
def test_theory_is_numpy_and_scipy(module):
    allowed = {"numpy", "scipy", "smoothlearn", *sys.stdlib_module_names}
    assert {name.split(".")[0] for name, _ in imports(MODULES[module])} <= allowed


@pytest.mark.parametrize("module", MODULES, ids=named)
def test_drawing_and_frames_are_imported_where_they_are_used(module):
    at_import = [node for node in MODULES[module].body if not isinstance(node, ast.FunctionDef)]
    for node in at_import:
        if isinstance(node, ast.ClassDef):
            continue
        assert not {name.split(".")[0] for name, _ in imports(node)} & set(LAZY)


def test_folders_hold_nothing_but_a_docstring():
    for folder in sorted(set(FOLDERS) - {"datasets"}):
        (docstring,) = ast.parse((ROOT / folder / "__init__.py").read_text("utf-8")).body
        assert isinstance(docstring, ast.Expr)


def test_importing_the_package_leaves_drawing_and_frames_alone():
    # scikit-learn loads pandas where it is installed; this package must not add to that.
    code = f"""
import sys
import joblib, scipy.stats, sklearn.pipeline, skorch, torch, tqdm.auto
before = set(sys.modules)
import smoothlearn
print([name for name in {LAZY} if name in set(sys.modules) - before])
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


def test_all_names_what_is_public():
    public = {
        name
        for name, value in vars(smoothlearn).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert smoothlearn.__all__ == sorted(public)


@pytest.mark.parametrize("name", smoothlearn.__all__)
def test_public_names_are_documented(name):
    thing = getattr(smoothlearn, name)
    doc = inspect.getdoc(thing)
    assert doc
    methods = [
        value
        for key, value in vars(thing).items()
        if inspect.isclass(thing) and inspect.isfunction(value) and not key.startswith("_")
    ]
    for method in methods:
        assert inspect.getdoc(method), f"{name}.{method.__name__} has no docstring"
    assert ">>> " in doc or methods or "See Also" in doc
