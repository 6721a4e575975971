"""The commands of `sbridge`: a dataclass for each, whose fields are its options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field, make_dataclass
from functools import reduce
from operator import or_
from typing import Annotated, Any

import tyro

from sbridge.bench import SUITES
from sbridge.cli.bench import Bench
from sbridge.cli.commands import Compare, Likelihood, Report, Sample
from sbridge.cli.recover import Recover
from sbridge.cli.snapshots import SnapshotsCommand
from sbridge.cli.tune import Tune
from sbridge.errors import InputError
from sbridge.io import FileProblem
from sbridge.problems import PROBLEMS

__all__ = ["Command", "parse"]

Command = Recover[Any] | Tune[Any] | SnapshotsCommand | Sample | Likelihood | Compare | Report | Bench[Any]
_DESCRIPTION = "Schrödinger bridges between two datasets, found by max–min over stochastic interpolants."
_STYLE = (
    tyro.conf.CascadeSubcommandArgs,
    tyro.conf.OmitArgPrefixes,
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.FlagCreatePairsOff,
)


def parse(words: Sequence[str]) -> Command:
    """The command of a command line.

    Raises:
        InputError: there is no problem of that name.
        SystemExit: the words are not a command (code 2), or ask for help (code 0).
    """
    with _comma_lists():
        command: Command = tyro.cli(
            _commands(), prog="sbridge", description=_DESCRIPTION, args=_with_problem(words), config=_STYLE
        )
    return command


def _commands() -> Any:
    bundled = {name: _with_data_seed(family) for name, family in PROBLEMS.items()}
    problems = _choice({**bundled, FileProblem.name: FileProblem})
    recover: Any = Recover
    tune: Any = Tune
    benchmark: Any = Bench
    fits = {"recover": recover[problems], "tune": tune[problems], "snapshots": SnapshotsCommand}
    finished = {"sample": Sample, "likelihood": Likelihood, "compare": Compare, "report": Report}
    return _choice({**fits, **finished, "bench": benchmark[_choice({**SUITES})]})


def _with_data_seed(family: type[Any]) -> type[Any]:
    """The family with its option `seed` spelled --data-seed: --seed is the fit's."""
    spelled = Annotated[int, tyro.conf.arg(name="data-seed", help="Seed that the problem's data are drawn with.")]
    seed = ("seed", spelled, field(default=family.seed))
    return make_dataclass(family.__name__, [seed], bases=(family,), frozen=True, namespace={"__doc__": family.__doc__})


def _choice(types: dict[str, Any]) -> Any:
    """A union of types to choose from by name."""
    return reduce(or_, (Annotated[kind, tyro.conf.subcommand(name)] for name, kind in types.items()))


def _with_problem(words: Sequence[str]) -> list[str]:
    """`recover --x0 … --x1 …` means `recover files --x0 … --x1 …`."""
    command, options = words[:1], words[1:]
    if not {*command} & {"recover", "tune"} or not options:
        return list(words)
    first = options[0]
    if not first.startswith("-") and first not in (*PROBLEMS, FileProblem.name):
        raise InputError(f"there is no problem {first!r}; choose {', '.join(PROBLEMS)}, or give --x0 and --x1")
    own = first.startswith("-") and any(word.split("=")[0] in ("--x0", "--x1") for word in options)
    return [*command, FileProblem.name, *options] if own else list(words)


def _comma_lists() -> tyro.constructors.ConstructorRegistry:
    """Tuples of words or numbers are one argument: a,b,c."""
    registry = tyro.constructors.ConstructorRegistry()
    kinds: dict[Any, tuple[Callable[[str], Any], str]] = {
        tuple[str, ...]: (str, "NAME,…"),
        tuple[int, ...]: (int, "INTEGER,…"),
        tuple[float, ...]: (float, "NUMBER,…"),
    }

    @registry.primitive_rule
    def comma_list(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
        if info.type not in kinds:
            return None
        kind, metavar = kinds[info.type]
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar=metavar,
            instance_from_str=lambda words: tuple(kind(word) for word in words[0].split(",")),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [",".join(map(str, value))],
        )

    return registry
