"""Print what a report of a failed cell needs: the versions of everything that may differ.

    python tools/environment.py

Run it with the Python that ran the notebook. It prints no path, no name and no address of the
machine, and changes nothing.
"""

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAME = re.compile(r"^([A-Za-z0-9][\w.-]*)", re.MULTILINE)


def required_packages(requirements: str) -> list[str]:
    """Return the names of the packages of a requirements file, in its order."""
    return NAME.findall(requirements)


def installed_version(package: str) -> str:
    """Return the version of an installed package, or "missing"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def accelerator() -> str:
    """Return the name of the GPU that PyTorch sees, "none", or why that cannot be told."""
    try:
        import torch  # only here: without PyTorch the versions are to be printed as well
    except Exception as error:  # a broken installation raises OSError, ImportError or others
        return f"torch cannot be imported: {str(error).splitlines()[0]}"
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return "Apple MPS" if torch.backends.mps.is_available() else "none"


def commit(root: Path = ROOT) -> str:
    """Return the commit of the checkout, and whether files differ from it, or "no git checkout"."""
    try:
        command = ["git", "describe", "--always", "--dirty= with changes", "--exclude=*"]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    except FileNotFoundError:
        return "no git"
    return done.stdout.strip() if done.returncode == 0 else "no git checkout"


def describe(root: Path = ROOT) -> dict[str, str]:
    """Return all facts by name: the checkout, the machine, Python, the packages of all lessons.

    Args:
        root: the repository; its requirements.txt names the packages.
    """
    facts = {
        "commit": commit(root),
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "in Colab": "yes" if "google.colab" in sys.modules or os.environ.get("COLAB_GPU") else "no",
        "gpu": accelerator(),
    }
    packages = required_packages((root / "requirements.txt").read_text(encoding="utf-8"))
    return facts | {package: installed_version(package) for package in packages}


def main() -> int:
    """Print the facts, one a line."""
    for name, value in describe().items():
        print(f"{name + ':':<34}{value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
