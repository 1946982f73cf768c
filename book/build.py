"""Build the site: python book/build.py. `make site` does this in an environment of its own.

The sources are prepared in build/site-sources, then Sphinx makes build/site of them; every warning
is an error. The site needs no other host: formulas come with the PyPI package
sphinx-mathjax-offline (MathJax, Apache License 2.0), of which only the needed files are kept.
"""

import argparse
import importlib.util
import json
import os
import shutil
import sys
import time
from pathlib import Path

from sphinx.cmd.build import build_main

from prepare import Sources
from repository import ROOT

MATHJAX = ("tex-chtml.js", "output/chtml/fonts/woff-v2/*.woff")
NOT_NEEDED = ("**/*.map", "_static/plus.png", "_static/minus.png", "objects.inv", ".buildinfo")


def copy_mathjax(target: Path) -> None:
    """Copy what MathJax needs to show TeX formulas as text."""
    package = importlib.util.find_spec("sphinx-mathjax-offline")
    if package is None or package.origin is None:
        raise FileNotFoundError("the package sphinx-mathjax-offline is missing")
    source = Path(package.origin).parent / "static" / "mathjax"
    for pattern in MATHJAX:
        for path in source.glob(pattern):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def finish(site: Path) -> None:
    """Add what Sphinx did not, and delete what no page uses."""
    copy_mathjax(site / "_static" / "mathjax")
    for pattern in NOT_NEEDED:
        for path in site.glob(pattern):
            path.unlink()
    (site / ".nojekyll").touch()  # GitHub Pages would leave out folders that begin with _


def cpu_seconds() -> float:
    """Return the time that this process and its children have computed."""
    return sum(os.times()[:4])


def build(output: Path) -> int:
    """Build the site in the folder `output` and return an exit code."""
    started, cpu = time.perf_counter(), cpu_seconds()
    sources = output.with_name(f"{output.name}-sources")
    shutil.rmtree(output, ignore_errors=True)
    try:
        Sources(ROOT, sources).write_all()
    except (OSError, ValueError) as error:
        print(f"{error}", file=sys.stderr)
        return 2
    book = Path(__file__).resolve().parent
    doctrees = output.with_name(f"{output.name}-doctrees")
    shutil.rmtree(doctrees, ignore_errors=True)
    extra = f"html_extra_path={sources / 'extra'}"
    options = [
        "-D",
        extra,
        "-b",
        "html",
        "-c",
        book,
        "-d",
        doctrees,
        "-W",
        "--keep-going",
        "-q",
        "-j",
        "auto",
    ]
    if code := build_main([*map(str, options), str(sources), str(output)]):
        return code
    finish(output)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    seconds = time.perf_counter() - started
    figures = {
        "seconds": round(seconds, 1),
        "cpu_seconds": round(cpu_seconds() - cpu, 1),
        "bytes": size,
    }
    output.with_name(f"{output.name}.json").write_text(json.dumps(figures) + "\n", encoding="utf-8")
    print(f"{output / 'index.html'}: {figures['seconds']} s, {size / 1e6:.1f} MB")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code: 0 built, 1 warnings, 2 nothing to build."""
    parser = argparse.ArgumentParser(description="Build the course as a website.")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build" / "site", help="the folder (default: build/site)"
    )
    return build(parser.parse_args(arguments).out.resolve())


if __name__ == "__main__":
    sys.exit(main())
