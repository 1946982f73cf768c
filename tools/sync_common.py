"""Copy one lesson's `common/` over those of the other lessons; each keeps only what it reaches.

`common/` holds what is not the lesson: the painter of scenes, the readers of labels, checkpoints.
Its files are the same bytes in every lesson that has them, so that a lesson's folder runs alone.
Change a file in one lesson, try it there, and then:

    python tools/sync_common.py 01_mask_r_cnn_fine_tuning
    python tools/sync_common.py 01_mask_r_cnn_fine_tuning --check    only say what would change
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from atomic import replacing
from rooms import (
    COMMON,
    ROOT,
    find_lessons,
    front_modules,
    graph_of,
    modules_of,
    reached_from,
)


@dataclass(frozen=True)
class Change:
    """A file of a lesson's `common/` that is to be written, or to be deleted (content None)."""

    path: Path
    content: bytes | None

    def apply(self) -> None:
        """Change the file."""
        if self.content is None:
            self.path.unlink()
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path) as file:
            file.write(self.content)


def is_common(name: str) -> bool:
    """Tell whether a module lies in `common/`."""
    return name.split(".")[0] == COMMON


def needed_files(lesson: Path, source: Path) -> dict[Path, Path]:
    """Return which files of `common/` a lesson needs, and where their content stands.

    Args:
        lesson: what asks: its own scripts and notebooks are read.
        source: whose `common/` counts; a file that it lacks is taken from the lesson's own.

    Returns:
        The path relative to the lesson, such as common/photos.py, and the file to copy.
    """
    own = {name: path for name, path in modules_of(lesson).items() if not is_common(name)}
    places: dict[str, tuple[Path, Path]] = {}
    for folder in (lesson, source):
        for name, path in modules_of(folder).items():
            if is_common(name):
                places[name] = (path.relative_to(folder), path)
    scripts = {**own, **{name: path for name, (_, path) in places.items()}}
    graph = graph_of(scripts)
    reached = reached_from(set(own) | front_modules(lesson, graph), graph)
    return dict(places[name] for name in reached if name in places)


def changes(source: Path, lessons: list[Path]) -> list[Change]:
    """Return what differs from `source` in the `common/` of the lessons."""
    found = []
    for lesson in lessons:
        wanted = needed_files(lesson, source)
        for relative, path in sorted(wanted.items()):
            target, content = lesson / relative, path.read_bytes()
            if not target.is_file() or target.read_bytes() != content:
                found.append(Change(target, content))
        present = [path for name, path in modules_of(lesson).items() if is_common(name)]
        found += [Change(p, None) for p in present if p.relative_to(lesson) not in wanted]
    return found


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit code: 0 nothing (left) to do, 1 --check found changes, 2 wrong usage.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("lesson", type=Path, help="the lesson whose common/ is copied")
    parser.add_argument("--check", action="store_true", help="change nothing, only list")
    options = parser.parse_args(arguments)
    lessons = find_lessons(root)
    source = root / options.lesson.name
    if source not in lessons or not (source / COMMON).is_dir():
        known = ", ".join(path.name for path in lessons if (path / COMMON).is_dir())
        parser.error(f"{options.lesson}: no lesson with a folder {COMMON}; there are {known}")
    found = changes(source, lessons)
    for change in found:
        verb = "delete" if change.content is None else "write"
        print(f"{verb} {change.path.relative_to(root).as_posix()}")
        if not options.check:
            change.apply()
    print(f"{len(found)} files {'differ' if options.check else 'changed'}")
    return int(options.check and bool(found))


if __name__ == "__main__":
    sys.exit(main())
