"""One table of settings: from it come a command's options, their help, the checks and the presets.

A lesson's `settings.py` is a frozen dataclass whose fields are made by `setting`. A new setting is
one line there; `python train.py --help` shows it, and a value out of range is refused by name.
"""

from __future__ import annotations

import argparse
import dataclasses
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch

from common.checkpoint import CheckpointError, load_checkpoint
from common.command import make_parser
from common.smoke import SMOKE, SMOKE_SETTINGS

S = TypeVar("S")


def setting(
    default: Any,
    help: str,
    *,
    choices: Iterable[str] | None = None,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    parse: Callable[[str], Any] | None = None,
    metavar: str | None = None,
    option: bool = True,
    fixed: bool = True,
) -> Any:
    """Describe one setting; the value of a dataclass's field.

    Args:
        default: of the first preset.
        help: for `--help`; the default is added.
        choices: words that are allowed.
        at_least, above, at_most: bounds of a number, or of each number of a tuple.
        parse: reads the option's text; by default as the field's type says.
        metavar: stands for the value in `--help`.
        option: whether the command line has it.
        fixed: whether a resumed run has to have the same value.
    """
    about = {"help": help, "choices": None if choices is None else tuple(choices)}
    about |= {"at_least": at_least, "above": above, "at_most": at_most}
    about |= {"parse": parse, "metavar": metavar, "option": option, "fixed": fixed}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=lambda: dict(default), metadata=about)
    return dataclasses.field(default=default, metadata=about)


def check_settings(settings: Any) -> None:
    """Turn lists, as a file gives them, into tuples, and refuse values that are not allowed.

    Raises:
        ValueError: with the setting's name, its value and what is allowed.
    """
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, list):
            value = tuple(value)
            object.__setattr__(settings, field.name, value)
        if value is not None:
            _check(field.name, value, field.metadata)


def _check(name: str, value: Any, about: Mapping[str, Any]) -> None:
    choices = about["choices"]
    if choices is not None and value not in choices:
        raise ValueError(f"{name} is {value!r}; allowed are {', '.join(choices)}")
    for number in value if isinstance(value, tuple) else (value,):
        for bound, holds, words in (
            ("at_least", lambda limit: number >= limit, "at least {} is allowed"),  # noqa: B023
            ("above", lambda limit: number > limit, "it must be above {}"),  # noqa: B023
            ("at_most", lambda limit: number <= limit, "at most {} is allowed"),  # noqa: B023
        ):
            if about[bound] is not None and not holds(about[bound]):
                raise ValueError(f"{name} is {value}; {words.format(about[bound])}")


def plain_values(settings: Any) -> dict[str, Any]:
    """Return settings as values that a checkpoint or a JSON file holds: tuples become lists."""
    values = dataclasses.asdict(settings)
    return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


def fixed_names(settings: Any) -> list[str]:
    """Name the settings that a resumed run has to share with the run that was stopped."""
    return [one.name for one in dataclasses.fields(settings) if one.metadata["fixed"]]


def choose_preset(data: str | None = None) -> str:
    """Return "full" with a CUDA GPU; else "photos" for photos that were asked for, or "street"."""
    if torch.cuda.is_available() and not SMOKE:
        return "full"
    return "street" if data in (None, "street") else "photos"


def change_preset(presets: Mapping[str, S], preset: str | None, changes: Mapping[str, Any]) -> S:
    """Return the settings of one of the presets, with changes; `common/smoke.py` has the last word.

    Args:
        presets: by name.
        preset: which; None lets `choose_preset` choose.
        changes: settings by name.

    Raises:
        ValueError: unknown preset, or a value out of range.
        TypeError: a change that is no setting.
    """
    preset = preset or choose_preset(changes.get("data"))
    if preset not in presets:
        raise ValueError(f"preset is {preset!r}; allowed are {', '.join(presets)}")
    return dataclasses.replace(presets[preset], **{**changes, **SMOKE_SETTINGS})


def training_parser(
    description: str, epilog: str | None, settings_class: type, presets: Mapping[str, Any]
) -> argparse.ArgumentParser:
    """Return the parser of a lesson's `train.py`: the run's options, then one for each setting."""
    parser = make_parser(description, epilog)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder for checkpoints, metrics and curves")
    add(
        "--preset",
        choices=presets,
        help="settings to begin with: street on a CPU, photos there for other data, full with a "
        "CUDA GPU; the options below change single ones",
    )
    add("--resume", action="store_true", help="go on from OUT/last.pt, if it is there")
    add("--checkpoint-every", type=int, metavar="N", help="also write last.pt every N steps")
    hints = typing.get_type_hints(settings_class)
    for field in dataclasses.fields(settings_class):
        if field.metadata["option"]:
            _add_option(parser, field, hints[field.name], presets)
    return parser


def _add_option(
    parser: argparse.ArgumentParser,
    field: dataclasses.Field,
    hint: Any,
    presets: Mapping[str, Any],
) -> None:
    about, name = field.metadata, f"--{field.name.replace('_', '-')}"
    kind = next(one for one in _alternatives(hint) if one is not types.NoneType)
    words = {"dest": field.name, "default": None, "help": _help(field, presets)}
    if kind is bool:
        parser.add_argument(name, action=argparse.BooleanOptionalAction, **words)
    elif typing.get_origin(kind) is tuple and about["parse"] is None:
        numbers = typing.get_args(kind)
        metavar = about["metavar"] or ("A", "B")
        parser.add_argument(name, type=numbers[0], nargs=len(numbers), metavar=metavar, **words)
    elif about["choices"] is not None:
        parser.add_argument(name, choices=about["choices"], **words)
    else:
        metavar = about["metavar"] or {int: "N", float: "X"}.get(kind)
        parser.add_argument(name, type=about["parse"] or kind, metavar=metavar, **words)


def _alternatives(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _help(field: dataclasses.Field, presets: Mapping[str, Any]) -> str:
    """Add the presets' values to a setting's help: one where all agree."""
    values = {name: getattr(one, field.name) for name, one in presets.items()}
    if len({repr(value) for value in values.values()}) == 1:
        defaults = _shown(next(iter(values.values())))
    else:
        defaults = ", ".join(f"{name} {_shown(value)}" for name, value in values.items())
    return f"{field.metadata['help']} ({defaults})".replace("%", "%%")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "none" if value is None else str(value)


def read_run(path: str | Path, settings_class: type[S]) -> tuple[dict, tuple[str, ...], S]:
    """Read a run's checkpoint and return it with the class names and the settings inside.

    Raises:
        CheckpointError: see `common.checkpoint.load_checkpoint`; or the settings are of other
            programs.
    """
    checkpoint = load_checkpoint(path)
    stored = dict(checkpoint["settings"])
    try:
        class_names = tuple(stored.pop("class_names"))
        return checkpoint, class_names, settings_class(**stored)
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is a checkpoint of another program: {error}") from error
