"""What is tested in every lesson's exercises; the lessons' own files say what the check answers.

A lesson's test file makes a class of it:

    class TestExercises(ExerciseSuite):
        REASONS = {"00.1": ["what the check says to the first wrong way", ...], ...}
"""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from exercise_cells import run_tagged, tagged_ids

NONSENSE = (None, ..., "text", object(), [], lambda: 1 / 0, {})


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
        return request.config.rootpath / request.path.parent.name

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _workplace(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:  # some solutions write files
            patch.chdir(tmp_path_factory.mktemp("workplace"))
            yield

    @pytest.fixture(scope="class")
    @classmethod
    def blanks(cls, folder: Path) -> dict[str, list]:
        """Results of the cells that readers fill in, untouched."""
        return run_tagged(folder / "exercises.ipynb", "exercise")

    @pytest.fixture(scope="class")
    @classmethod
    def solutions(cls, folder: Path) -> dict[str, list]:
        """Results of the solutions."""
        return run_tagged(folder / "solutions.ipynb", "solution")

    @pytest.fixture(scope="class")
    @classmethod
    def wrong_ways(cls, folder: Path) -> dict[str, list]:
        """Results of the usual wrong ways."""
        return run_tagged(folder / "solutions.ipynb", "wrong")

    def test_every_exercise_has_its_cells(self, folder: Path) -> None:
        import checks  # fills EXERCISES
        from exercise_checking import EXERCISES

        ids = sorted(EXERCISES)
        assert checks.check and ids
        assert tagged_ids(folder / "exercises.ipynb", "exercise") == ids
        assert tagged_ids(folder / "solutions.ipynb", "solution") == ids
        assert tagged_ids(folder / "solutions.ipynb", "wrong") == ids
        assert list(self.REASONS) == ids

    def test_solution_passes(self, exercise_id: str, solutions: dict[str, list]) -> None:
        assert solutions[exercise_id]
        assert [result for result in solutions[exercise_id] if not result.passed] == []

    def test_untouched_exercise_fails(self, exercise_id: str, blanks: dict[str, list]) -> None:
        assert [result.passed for result in blanks[exercise_id]] == [False]
        assert "cannot judge" not in blanks[exercise_id][0].reason

    def test_wrong_ways_get_their_reason(
        self, exercise_id: str, wrong_ways: dict[str, list]
    ) -> None:
        results, reasons = wrong_ways[exercise_id], self.REASONS[exercise_id]
        assert len(results) == len(reasons) >= 3
        for result, reason in zip(results, reasons, strict=True):
            assert result.verdict == "wrong"
            assert reason in result.reason

    @pytest.mark.parametrize("answer", NONSENSE)
    def test_nonsense_is_a_message(self, exercise_id: str, answer: object) -> None:
        from checks import check

        result = check(exercise_id, answer)
        assert not result.passed
        assert "cannot judge" not in result.reason
