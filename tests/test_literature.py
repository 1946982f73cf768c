"""Every paper that is named has its entry in literature/; functions that pages name exist."""

import re
from functools import cache
from pathlib import Path

import pytest

from rooms import project_files

ROOT = Path(__file__).resolve().parents[1]
LITERATURE = ROOT / "literature" / "README.md"
ARXIV = re.compile(r"(?:arXiv:|arxiv\.org/(?:abs|pdf)/)(\d{4}\.\d{4,5})", re.IGNORECASE)
ENTRY = re.compile(r"@\w+\{(\w+),(.*?)\n\}", re.DOTALL)
# "Bodla et al., 2017", "Redmon and Farhadi, 2018", "He et al. (2015)"
CITED = re.compile(r"\b([A-Z][a-zé]+)(?: et al\.| and [A-Z][a-z]+),? \(?((?:19|20)\d\d)\b")
SLANTED = re.compile(r"(?<!\*)\*([^*\n]+)\*(?!\*)")
# "**YOLOv2.** J. Redmon, A. Farhadi: *YOLO9000: Better, ...*" and "- N. Bodla, ...: *Soft-NMS*"
NAMED = re.compile(r"^(?:\*\*(.+?)\.\*\*(?:.*?: \*([^:*]+))?|- .+?: \*(.+?)\*)", re.MULTILINE)
CODE = re.compile(r"\[[\w./]+\.py\]\(([\w./]+\.py)\)((?:,? (?:and )?`\w+`)+)")
YEARS_BEFORE_PRINT = 2  # an arXiv page may be older than the conference


def texts() -> list[Path]:
    """Return the files in which papers may be named."""
    found = project_files(ROOT)
    return [path for path in found if path.suffix in {".md", ".py", ".ipynb", ".yaml"}]


@cache
def read(path: Path) -> str:
    """Return a file's text without the pictures of a notebook."""
    text = path.read_text(encoding="utf-8")
    return re.sub(r'"image/[\w+]+": "[^"]*"', "", text) if path.suffix == ".ipynb" else text


@cache
def bibliography() -> dict[str, dict[str, str]]:
    """Return the fields of each entry of references.bib by the entry's key."""
    text = (LITERATURE.parent / "references.bib").read_text(encoding="utf-8")
    field = re.compile(r"^\s*(\w+) = \{(.*)\}", re.MULTILINE)
    return {key: dict(field.findall(body)) for key, body in ENTRY.findall(text)}


def names() -> set[str]:
    """Return the names that the page of the literature gives to papers."""
    return {name for found in NAMED.findall(read(LITERATURE)) for name in found if name}


def missing_numbers(text: str) -> set[str]:
    """Return the arXiv numbers of a text that the literature does not list."""
    listed = set(ARXIV.findall(read(LITERATURE)))
    entries = {entry.get("eprint") for entry in bibliography().values()}
    return set(ARXIV.findall(text)) - (listed & entries)


def missing_authors(text: str) -> set[str]:
    """Return the citations by author and year that fit no entry of references.bib."""
    known = [(entry["author"], int(entry["year"])) for entry in bibliography().values()]
    return {
        f"{author} {year}"
        for author, year in CITED.findall(text)
        if not any(
            authors.startswith(author) and 0 <= printed - int(year) <= YEARS_BEFORE_PRINT
            for authors, printed in known
        )
    }


def missing_definitions(page: Path) -> list[str]:
    """Return the names that a page says a script defines, and that it does not define."""
    problems = []
    for link, quoted in CODE.findall(read(page)):
        source = read((page.parent / link).resolve())
        for name in re.findall(r"`(\w+)`", quoted):
            if not re.search(rf"^\s*(?:def|class) {name}\b|^{name}\b.*=", source, re.MULTILINE):
                problems.append(f"{link}: {name}")
    return problems


@pytest.mark.parametrize("path", texts(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_papers_are_listed(path: Path) -> None:
    if path != Path(__file__):
        assert not missing_numbers(read(path)), "literature/ lacks these arXiv numbers"
        assert not missing_authors(read(path)), "literature/references.bib lacks these"


def test_page_and_bibliography_list_the_same_papers() -> None:
    page = read(LITERATURE)
    absent = []
    for key, entry in bibliography().items():
        address = entry.get("url") or f"https://doi.org/{entry.get('doi')}"
        if number := entry.get("eprint"):
            address = f"https://arxiv.org/abs/{number}"
        absent += [] if f"({address})" in page else [key]
    assert not absent, "literature/README.md has no link to these entries of references.bib"


def test_papers_of_the_notes_have_names_of_the_literature() -> None:
    lines = re.findall(r"^\*Papers?:\*(.+)$", read(ROOT / "README.md"), re.MULTILINE)
    assert len(lines) > 10
    named = {name for line in lines for name in SLANTED.findall(line)}
    assert named <= names(), f"not in literature/README.md: {named - names()}"


@pytest.mark.parametrize("page", [ROOT / "README.md", LITERATURE], ids=["notes", "literature"])
def test_named_functions_exist(page: Path) -> None:
    assert len(CODE.findall(read(page))) > 10
    assert not missing_definitions(page)


def test_a_gap_is_noticed(tmp_path: Path) -> None:
    assert missing_numbers("see arXiv:9999.12345 and arXiv:1506.01497") == {"9999.12345"}
    assert missing_authors("Nobody et al., 2017; Ren et al., 2015; Ren et al., 2019") == {
        "Nobody 2017",
        "Ren 2019",
    }
    (tmp_path / "a.py").write_text("def there():\n    pass\n")
    (tmp_path / "page.md").write_text("[a.py](a.py) `there`, `gone`")
    assert missing_definitions(tmp_path / "page.md") == ["a.py: gone"]
