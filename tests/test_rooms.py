"""The rooms of a lesson: which imports which, what is reached, and copies that are equal."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rooms import (
    COMMON,
    GENERATED,
    find_lessons,
    front_modules,
    import_graph,
    imported_names,
    modules_of,
    project_files,
    reached_from,
)
from sync_common import changes, main

LESSONS = find_lessons()
WITH_COMMON = [lesson for lesson in LESSONS if (lesson / COMMON).is_dir()]
MOST_ENTRIES = {"02_yolo_v3_darknet": 28}
COMMANDS = [
    pytest.param(lesson, name, id=f"{lesson.name}-{name}")
    for lesson in LESSONS
    for name in ("predict", "detect")
    if (lesson / f"{name}.py").is_file()
]
NOT_FOR_PREDICTING = ("common.street", "common.labels", "common.training", "engine", "train")


def name(path: Path) -> str:
    return path.name


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Return the modules that reach themselves."""
    return sorted(one for one in graph if one in reached_from(graph[one], graph))


@pytest.mark.parametrize("lesson", LESSONS, ids=name)
def test_few_entries(lesson: Path) -> None:
    entries = {path.relative_to(lesson).parts[0] for path in project_files(lesson)}
    assert len(entries) <= MOST_ENTRIES.get(lesson.name, 20), sorted(entries)


@pytest.mark.parametrize("lesson", LESSONS, ids=name)
def test_no_import_runs_in_a_circle(lesson: Path) -> None:
    assert circles(import_graph(lesson)) == []


@pytest.mark.parametrize("lesson", LESSONS, ids=name)
def test_every_module_is_reached(lesson: Path) -> None:
    graph = import_graph(lesson)
    reached = reached_from(front_modules(lesson, graph), graph)
    assert sorted(set(graph) - reached) == []


@pytest.mark.parametrize("lesson", WITH_COMMON, ids=name)
def test_common_imports_nothing_of_a_lesson(lesson: Path) -> None:
    outside = {
        f"{module} imports {to}"
        for module, targets in import_graph(lesson).items()
        for to in targets
        if module.split(".")[0] == COMMON and to.split(".")[0] != COMMON
    }
    assert outside == set()


@pytest.mark.parametrize("lesson", WITH_COMMON, ids=name)
def test_common_is_the_same_everywhere(lesson: Path) -> None:
    found = [change.path.as_posix() for change in changes(lesson, WITH_COMMON)]
    assert found == [], f"run: python tools/sync_common.py {lesson.name} (or the other way round)"


@pytest.mark.parametrize(("lesson", "command"), COMMANDS)
def test_predicting_loads_little(lesson: Path, command: str) -> None:
    program = (
        f"import json, sys; sys.path.insert(0, {str(lesson)!r}); import {command}; print(json.dumps"
        "({n: getattr(m, '__file__', None) or '' for n, m in sys.modules.items()}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    own = sorted(one for one, file in loaded.items() if file.startswith(str(lesson)))
    scripts = [one for one in own if not loaded[one].endswith("__init__.py")]
    assert len(scripts) <= 20, scripts
    assert [one for one in own if one.startswith(NOT_FOR_PREDICTING)] == []


@pytest.fixture
def course(tmp_path: Path) -> Path:
    """Two lessons; the first has all of `common/`, the second asks for a part of it."""
    files = {
        "11_first/front.py": "from common.inner import deep\nimport common.late\n",
        "11_first/common/__init__.py": "",
        "11_first/common/late.py": "new = True\n",
        "11_first/common/inner/__init__.py": "",
        "11_first/common/inner/deep.py": "from common.helper import help\n",
        "11_first/common/helper.py": "help = 1\n",
        "12_second/front.py": "from common.helper import help\n",
        "12_second/common/__init__.py": "",
        "12_second/common/helper.py": "help = 0\n",
        "12_second/common/left.py": "",
        "12_second/runs/common/mine.py": "",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def test_sync(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["11_first", "--check"], course) == 1
    assert capsys.readouterr().out.splitlines() == [
        "write 12_second/common/helper.py",
        "delete 12_second/common/left.py",
        "2 files differ",
    ]
    assert (course / "12_second/common/helper.py").read_text() == "help = 0\n"
    assert main(["11_first"], course) == 0
    assert (course / "12_second/common/helper.py").read_text() == "help = 1\n"
    assert not (course / "12_second/common/left.py").exists()
    assert (course / "12_second/runs/common/mine.py").exists()  # nobody's but the reader's
    assert main(["11_first", "--check"], course) == 0


def test_a_new_need_is_copied(course: Path) -> None:
    (course / "12_second/front.py").write_text("from common.inner.deep import help\n")
    assert main(["11_first"], course) == 0
    assert sorted(modules_of(course / "12_second")) == [
        "common", "common.helper", "common.inner", "common.inner.deep", "front",
    ]  # fmt: skip


def test_sync_of_an_unknown_lesson(course: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["13_third"], course)
    assert ended.value.code == 2
    assert "13_third: no lesson with a folder common; there are 11_first" in capsys.readouterr().err


def test_circles_are_found(course: Path) -> None:
    (course / "11_first/common/helper.py").write_text("def late():\n    import common.inner.deep\n")
    assert circles(import_graph(course / "11_first")) == ["common.helper", "common.inner.deep"]


def test_names_of_imports() -> None:
    source = "import a.b as c\nfrom d import e\ndef f():\n    from g.h import i\nfrom . import j\n"
    assert sorted(imported_names(source)) == ["a.b", "d", "d.e", "g.h", "g.h.i"]
    assert "runs" in GENERATED
