"""What is tested in every lesson's notebooks: each runs, all cells, and its exercises check.

A notebook is executed once, in the smallest sizes (`run_lessons.py --smoke`); all tests read what
it shows then. A lesson's test file makes a class of each suite:

    class TestNotebooks(NotebookSuite):
        pass

    class TestExercises(ExerciseSuite):
        REASONS = {"00.1": ["what the check says to the first wrong way", ...], ...}
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import nbformat
import pytest

from exercise_cells import checked, tagged_ids
from freshness import source_sha256

NONSENSE = (None, ..., "text", object(), [], lambda: 1 / 0, {})
Smoke = Callable[[Path], nbformat.NotebookNode]  # the fixture `smoke`: executes once, and keeps


def folder_of(request: pytest.FixtureRequest) -> Path:
    """Return the lesson's folder of a test file in tests/<lesson folder>/."""
    return request.config.rootpath / request.path.parent.name


class NotebookSuite:
    """Every notebook of the lesson runs from top to bottom in the smallest sizes."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test that asks for a `name` once for each of the lesson's notebooks."""
        if "name" in metafunc.fixturenames:
            folder = metafunc.config.rootpath / Path(metafunc.module.__file__).parent.name
            metafunc.parametrize("name", sorted(path.name for path in folder.glob("*.ipynb")))

    def test_all_cells_run(self, name: str, smoke: Smoke, request: pytest.FixtureRequest) -> None:
        folder = folder_of(request)
        executed = smoke(folder / name)
        counts = [cell.execution_count for cell in executed.cells if cell.cell_type == "code"]
        assert counts == list(range(1, len(counts) + 1))
        noisy = [
            (index, output.name if "name" in output else "error")
            for index, cell in enumerate(executed.cells)
            for output in cell.get("outputs", [])
            if output.output_type == "error" or output.get("name") == "stderr"
        ]
        assert noisy == []
        assert executed.metadata.lesson.source_sha256 == source_sha256(executed, folder)

    @pytest.mark.full
    def test_in_full(self, name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
        from run_lessons import main

        notebook = folder_of(request) / name
        assert main([str(notebook), "--output", str(tmp_path)]) == 0


class ExerciseSuite:
    """Solutions pass, blanks do not, and the usual wrong ways get their reason.

    Attributes:
        REASONS: what the check says to the wrong ways in solutions.ipynb, in their order, by
            exercise.
    """

    REASONS: ClassVar[dict[str, list[str]]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run a test that asks for an `exercise_id` once for each of the lesson's exercises."""
        if "exercise_id" in metafunc.fixturenames:
            metafunc.parametrize("exercise_id", self.REASONS)

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, request: pytest.FixtureRequest) -> Path:
        """The lesson's folder."""
        return folder_of(request)

    @pytest.fixture(scope="class")
    @classmethod
    def blanks(cls, folder: Path, smoke: Smoke) -> dict[str, list]:
        """Results of the cells that readers fill in, untouched."""
        return checked(smoke(folder / "exercises.ipynb"), "exercise")

    @pytest.fixture(scope="class")
    @classmethod
    def solutions(cls, folder: Path, smoke: Smoke) -> dict[str, list]:
        """Results of the solutions."""
        return checked(smoke(folder / "solutions.ipynb"), "solution")

    @pytest.fixture(scope="class")
    @classmethod
    def wrong_ways(cls, folder: Path, smoke: Smoke) -> dict[str, list]:
        """Results of the usual wrong ways."""
        return checked(smoke(folder / "solutions.ipynb"), "wrong")

    def test_every_exercise_has_its_cells(self, folder: Path) -> None:
        from common.checking.check import EXERCISES
        from exercises import checks  # fills EXERCISES

        ids = sorted(EXERCISES, key=lambda one: int(one.split(".")[1]))
        assert checks.check and ids
        assert tagged_ids(folder / "exercises.ipynb", "exercise") == ids
        assert tagged_ids(folder / "solutions.ipynb", "solution") == ids
        assert tagged_ids(folder / "solutions.ipynb", "wrong") == ids
        assert list(self.REASONS) == ids

    def test_solution_passes(self, exercise_id: str, solutions: dict[str, list]) -> None:
        assert solutions[exercise_id]
        assert [result for result in solutions[exercise_id] if result.verdict != "right"] == []

    def test_untouched_exercise_fails(self, exercise_id: str, blanks: dict[str, list]) -> None:
        (result,) = blanks[exercise_id]
        assert result.verdict in ("wrong", "not yet")
        assert "cannot judge" not in result.reason

    def test_wrong_ways_get_their_reason(
        self, exercise_id: str, wrong_ways: dict[str, list]
    ) -> None:
        results, reasons = wrong_ways[exercise_id], self.REASONS[exercise_id]
        assert len(results) == len(reasons) >= 3
        for result, reason in zip(results, reasons, strict=True):
            assert result.verdict == "wrong"
            assert reason in result.reason

    @pytest.mark.parametrize("answer", NONSENSE)
    def test_nonsense_is_a_message(self, exercise_id: str, answer: Any) -> None:
        from exercises.checks import check

        result = check(exercise_id, answer)
        assert not result.passed
        assert "cannot judge" not in result.reason
