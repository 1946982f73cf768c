"""Random boxes for all tests of this lesson, and the shapes that hypothesis makes of them."""

from lesson_tests import enter_lesson

enter_lesson(__file__)


from collections.abc import Callable, Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from torch import Tensor

# derandomize: the same cases in every run. Fixtures here hold no state.
settings.register_profile(
    "lesson",
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("lesson")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Compute thousands of tiny tensors in one thread: more of them wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def random_boxes() -> Callable[..., Tensor]:
    """Make boxes (count, 4), xyxy, float64, sides of 1 to 60 inside a square of 160 pixels."""

    def make(count: int, seed: int, extent: float = 100.0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        corner = torch.rand((count, 2), generator=generator, dtype=torch.float64) * extent
        size = torch.rand((count, 2), generator=generator, dtype=torch.float64) * 59 + 1
        return torch.cat((corner, corner + size), dim=1)

    return make


@pytest.fixture(scope="session")
def boxes_strategy() -> Callable[..., st.SearchStrategy[Tensor]]:
    """Lists of small whole-numbered boxes: many touch, are equal, or hold one another."""

    def make(least: int = 0, most: int = 8) -> st.SearchStrategy[Tensor]:
        box = st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(1, 5), st.integers(1, 5))
        rows = st.lists(box, min_size=least, max_size=most)
        return rows.map(
            lambda found: torch.tensor(
                [(x, y, x + w, y + h) for x, y, w, h in found], dtype=torch.float64
            ).reshape(-1, 4)
        )

    return make
