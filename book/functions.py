"""The index of functions: every public function and class of the lessons, from their docstrings.

The scripts are read, never imported: building the site needs none of the lessons' packages.
"""

import logging
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from textwrap import dedent

import griffe

from repository import BLOB

SHARED = "functions/shared"
KEPT = re.compile(r"(`[^`]+`|\*\*?\w[\w -]*\*\*?)")  # code, emphasis
GENERATED = {"runs", "out", "__pycache__", ".ipynb_checkpoints"}
INTRODUCTION = (
    "Every function and class of the lessons that a reader may call, as its docstring explains it: "
    "shapes, units, order of coordinates, errors. All names in one list: {ref}`genindex`."
)
logging.getLogger("griffe").setLevel(logging.ERROR)


def lesson_scripts(lessons: list[Path]) -> dict[str, list[Path]]:
    """Return the scripts by the page they are explained on.

    A helper that several lessons have a copy of stands once, on the page of shared helpers.
    """
    copies = defaultdict(list)
    for lesson in lessons:
        for path in sorted(lesson.rglob("*.py")):
            name = path.relative_to(lesson)
            if path.name != "__init__.py" and not GENERATED & set(name.parts):
                copies[name, path.read_bytes()].append(path)
    pages: dict[str, list[Path]] = {f"functions/{lesson.name}": [] for lesson in lessons}
    pages[SHARED] = []
    for paths in copies.values():
        page = SHARED if len(paths) > 1 else f"functions/{lesson_of(paths[0], lessons).name}"
        pages[page].append(paths[0])
    return {
        page: sorted(paths, key=lambda path: path.relative_to(lesson_of(path, lessons)))
        for page, paths in pages.items()
        if paths
    }


def lesson_of(path: Path, lessons: list[Path]) -> Path:
    """Return the lesson that a script lies in."""
    return next(lesson for lesson in lessons if path.is_relative_to(lesson))


def script_pages(lessons: list[Path]) -> dict[str, str]:
    """Return where every script is explained: "00_.../boxes.py" to "/functions/...#boxespy"."""
    pages = {}
    for page, paths in lesson_scripts(lessons).items():
        for path in paths:
            name = path.relative_to(lesson_of(path, lessons)).as_posix()
            for lesson in lessons:
                own = page == f"functions/{lesson.name}" or page == SHARED
                if own and (lesson / name).is_file():
                    anchor = re.sub(r"[^\w-]", "", name.lower())
                    pages[f"{lesson.name}/{name}"] = f"/{page}.md#{anchor}"
    return pages


def escaped(text: str) -> str:
    """Return text for Markdown: its code and its emphasis kept, every other sign as it is."""
    parts = KEPT.split(text)
    return "".join(
        part if KEPT.fullmatch(part) else re.sub(r"([\\*_<>\[\]$#{}|~`])", r"\\\1", part)
        for part in parts
    )


def code_block(text: str) -> str:
    """Return a block of code in Markdown."""
    return f"```\n{dedent(text).strip()}\n```"


def prose(text: str) -> str:
    """Return a docstring's text as Markdown; its indented lines become blocks of code."""
    groups = groupby(text.splitlines(), key=lambda line: line.startswith("    "))
    blocks = [(literal, "\n".join(lines)) for literal, lines in groups]
    return "\n".join(f"\n{code_block(b)}\n" if literal else escaped(b) for literal, b in blocks)


def listed(part: object) -> str:
    """Return one line of a docstring's list: the argument or error, and what is said of it."""
    if isinstance(part, tuple):  # an example: commands or code
        return code_block(part[1])
    name = getattr(part, "name", "") or str(part.annotation or "")
    if name.endswith(","):  # "height, width: of the photo"
        name = f"{name} {part.annotation}"
    described = escaped(" ".join(part.description.split()))
    return f"- **{escaped(name)}**: {described}" if name else f"- {described}"


def docstring(item: griffe.Object) -> Iterator[str]:
    """Yield the parts of a docstring as Markdown."""
    if not item.docstring:
        return
    for section in item.docstring.parse("google", warnings=False, returns_multiple_items=False):
        if section.kind is griffe.DocstringSectionKind.text:
            yield prose(section.value)
            continue
        yield f"**{section.title or section.kind.value.capitalize()}**"
        if isinstance(section.value, list):
            yield "\n".join(listed(part) for part in section.value)
        else:
            yield escaped(section.value.description)


def signature(function: griffe.Function, name: str) -> str:
    """Return a function's name, parameters and result on one line."""
    parts, starred = [], False
    for parameter in function.parameters:
        if parameter.name in {"self", "cls"}:
            continue
        kind = parameter.kind
        if kind is griffe.ParameterKind.keyword_only and not starred:
            parts.append("*")
        starred = starred or kind in {
            griffe.ParameterKind.keyword_only, griffe.ParameterKind.var_positional
        }  # fmt: skip
        stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}
        text = stars.get(kind, "") + parameter.name
        text += f": {parameter.annotation}" if parameter.annotation else ""
        plain = parameter.default is not None and kind not in stars
        parts.append(f"{text} = {parameter.default}" if plain else text)
    result = f" -> {function.returns}" if function.returns else ""
    return " ".join(f"{name}({', '.join(parts)}){result}".split())


def public(items: dict[str, griffe.Object]) -> list[griffe.Object]:
    """Return the documented public members in the order of the file."""
    return [item for name, item in items.items() if not name.startswith("_") and not item.is_alias]


def directive(kind: str, head: str, body: str, depth: int = 0) -> str:
    """Return an entry of the index; deeper ones stand inside it."""
    fence = ":" * (6 - depth)
    return f"{fence}{{py:{kind}}} {head}\n{body}\n{fence}\n"


def class_entry(item: griffe.Class) -> str:
    """Return a class with its public methods."""
    own = item.members.get("__init__")
    head = item.name
    if isinstance(own, griffe.Function):
        head = signature(own, head).removesuffix(" -> None")
    body = list(docstring(item))
    for method in public(item.members):
        if method.is_function and method.docstring:
            kind = "property" if "property" in method.labels else "method"
            name = method.name if kind == "property" else signature(method, method.name)
            body.append(directive(kind, name, "\n\n".join(docstring(method)), depth=1))
    return directive("class", head, "\n\n".join(body))


def module_entry(path: Path, lesson: Path) -> str:
    """Return a script: what it is for, its functions and classes."""
    place = path.relative_to(lesson)
    module = griffe.visit(path.stem, filepath=path, code=path.read_text(encoding="utf-8"))
    name = ".".join((lesson.name, *place.with_suffix("").parts))
    parts = [
        f"## {place.as_posix()}",
        f"[Source on GitHub]({BLOB}/{lesson.name}/{place.as_posix()})",
        *docstring(module),
        f"```{{py:currentmodule}} {name}\n```",
    ]
    for item in public(module.members):
        if item.is_class:
            parts.append(class_entry(item))
        elif item.is_function and item.docstring:
            body = "\n\n".join(docstring(item))
            parts.append(directive("function", signature(item, item.name), body))
    return "\n\n".join(parts)


def function_pages(lessons: list[Path], titles: dict[str, str]) -> dict[str, str]:
    """Return the pages of the index of functions by their names."""
    pages = {}
    for page, paths in lesson_scripts(lessons).items():
        first = lesson_of(paths[0], lessons)
        title = "Helpers of several lessons" if page == SHARED else titles[first.name]
        entries = "\n\n".join(module_entry(path, lesson_of(path, lessons)) for path in paths)
        pages[page] = f"# Functions: {title}\n\n{entries}\n"
    return pages


def overview(pages: list[str]) -> str:
    """Return the first page of the index of functions."""
    entries = "\n".join(f"/{page}" for page in pages)
    return f"# Functions\n\n{INTRODUCTION}\n\n```{{toctree}}\n:maxdepth: 2\n{entries}\n```\n"
