"""The command `python compare.py NAME --seeds N` of every lesson that stores comparisons."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from common.command import Command, make_parser
from common.comparison import mean_and_spread, read_comparison, run_comparison

Arms = Mapping[str, Callable[[int], dict[str, Any]]]


def compare_main(
    description: str,
    epilog: str,
    comparisons: Mapping[str, tuple[str, Arms]],
    results: Path,
    figures: Callable[[dict[str, Any]], dict[str, float]],
    arguments: list[str] | None = None,
) -> int:
    """Make the comparison that is asked for, print its table, and return the exit code.

    Args:
        description, epilog: of the command's help.
        comparisons: by name the question, and what trains each way with a seed.
        results: folder of the JSON files, unless `--out` names another.
        figures: from what one training has returned, the numbers to print, by name.
        arguments: of the command line.
    """
    parser = make_parser(description, epilog)
    parser.add_argument("name", choices=comparisons, help="which comparison")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="seeds of each (1)")
    parser.add_argument("--out", type=Path, default=results, help="folder of the result (results)")
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"--seeds is {options.seeds}; allowed are 1 and more")
    with Command(f"stopped; go on with python compare.py {options.name}") as command:
        question, arms = comparisons[options.name]
        path = options.out / f"{options.name}.json"
        run_comparison(path, question, arms, range(options.seeds))
        print(question)
        for arm, runs in read_comparison(path).items():
            rows = [figures(one) for one in runs]
            for name in rows[0]:
                print(f"  {arm:30} {name:8} {mean_and_spread([row[name] for row in rows])}")
    return command.exit_code
