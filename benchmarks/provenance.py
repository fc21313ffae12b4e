"""Where the numbers of a benchmark come from."""

import json
import os
import platform
import re
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

_PACKAGES = ("smoothlearn", "numpy", "scipy", "scikit-learn", "torch")
_FOLDERS = ("--data", "--keep", "--out")


def provenance(seed: int) -> dict[str, Any]:
    """The command, seed, versions, date and kind of machine, to stand beside measured numbers.

    Neither the machine nor a folder of it is named: of the command line, the options that
    are folders are left out.
    """
    words = iter(sys.argv[1:])
    options = []
    for word in words:
        if word in _FOLDERS:
            next(words, None)
        elif word.partition("=")[0] not in _FOLDERS:
            options.append(word)
    versions = {package: version(package) for package in _PACKAGES}
    return {
        "command": " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *options]),
        "seed": seed,
        "versions": versions | {"python": platform.python_version()},
        "date": date.today().isoformat(),
        "machine": {
            "processor": platform.machine(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
    }


def as_text(report: dict[str, Any]) -> str:
    """JSON with every list of numbers on one line, and four decimals."""
    report = json.loads(json.dumps(report), parse_float=lambda text: float(f"{float(text):.4g}"))
    text = json.dumps(report, indent=1, ensure_ascii=False)
    return re.sub(r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), text) + "\n"
