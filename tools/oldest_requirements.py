"""Write the list of the oldest releases that the requirements allow.

A lower bound promises that the code works with that release. The list pins every package there, so
that it can be tried. Only the standard library is used: nothing has to be installed before.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

INCLUDE = re.compile(r"(?:-r|--requirement)[\s=]\s*(?P<file>\S.*)")
REQUIREMENT = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)(?P<extras>\[[^\]]*\])?(?P<bounds>[^;@]*)(?P<marker>;.*)?",
    re.ASCII,
)
LOWER_BOUND = re.compile(r"\s*(?:>=|==|~=)\s*(?P<version>\d[\w.!+-]*)\s*", re.ASCII)


class RequirementsError(ValueError):
    """A requirements file from which no oldest releases can be read."""


def requirement_lines(path: Path, above: tuple[Path, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield "file:line" and text of each requirement, of the files included with `-r` too.

    Args:
        path: the file, UTF-8. An included name is relative to the file that includes it.
        above: the files that led to this one.

    Raises:
        RequirementsError: if a file cannot be read, or includes itself.
    """
    if path.resolve() in above:
        raise RequirementsError(f"{path} includes itself: remove one of the -r lines")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise RequirementsError(f"{path} cannot be read as UTF-8 text: {error}") from error
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(?:^|\s)#.*", "", raw).strip()
        if included := INCLUDE.fullmatch(line):
            yield from requirement_lines(path.parent / included["file"], (*above, path.resolve()))
        elif line:
            yield f"{path}:{number}", line


def pin(line: str) -> tuple[str, str]:
    """Return a requirement's package, as registries compare names, and its oldest release.

    Args:
        line: like "torch>=2.4"; an extra and a marker are kept, other bounds are dropped.

    Raises:
        RequirementsError: if the line is no requirement, or has not just one lower bound.
    """
    match = REQUIREMENT.fullmatch(line)
    if not match:
        raise RequirementsError(f"{line!r} is not understood: write NAME>=VERSION")
    name, extras, marker = match["name"], match["extras"] or "", match["marker"] or ""
    parts = map(LOWER_BOUND.fullmatch, match["bounds"].split(","))
    versions = [bound["version"] for bound in parts if bound]
    if len(versions) != 1:
        fault = "several lower bounds" if versions else "no lower bound that names a release"
        raise RequirementsError(f"{line!r} has {fault}: write {name}>=THE OLDEST THAT WORKS")
    return re.sub(r"[-_.]+", "-", name).lower(), f"{name}{extras}=={versions[0]}{marker}"


def oldest(path: Path) -> list[str]:
    """Return "name==version" for each requirement of a file, in its order, each once.

    Raises:
        RequirementsError: naming file and line, if one cannot be pinned or two disagree.
    """
    pins: dict[str, tuple[str, str]] = {}
    for place, line in requirement_lines(path):
        try:
            package, pinned = pin(line)
        except RequirementsError as error:
            raise RequirementsError(f"{place}: {error}") from None
        before, earlier = pins.setdefault(package, (place, pinned))
        if earlier != pinned:
            raise RequirementsError(
                f"{place}: {pinned}, but {earlier} in {before}: give both the same lower bound"
            )
    return [pinned for _, pinned in pins.values()]


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Write the list for the requirements in the folder `root`; return the exit code."""
    parser = argparse.ArgumentParser(
        description="Write NAME==LOWER BOUND for each package of the root's requirements.txt.",
        epilog="Install the list in a fresh environment: python -m pip install -r FILE. "
        "Exit code 1: a line has no lower bound, or a file cannot be read or written.",
    )
    parser.add_argument("--dev", action="store_true", help="those of requirements-dev.txt as well")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there, do not print")
    options = parser.parse_args(arguments)
    try:
        pins = oldest(root / ("requirements-dev.txt" if options.dev else "requirements.txt"))
        text = "".join(f"{one}\n" for one in pins)
        if not options.output:
            print(text, end="")
        elif options.output.name in ("requirements.txt", "requirements-dev.txt"):
            raise RequirementsError(f"{options.output} may be what is read: name another file")
        else:
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(text, encoding="utf-8", newline="\n")
    except (RequirementsError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
