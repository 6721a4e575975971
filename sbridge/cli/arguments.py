"""The commands of `sbridge`: a dataclass for each, whose fields are its options."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field, make_dataclass, replace
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import Annotated, Any, get_args, get_origin

import tyro

from sbridge.bench import SUITES, add_plugins
from sbridge.checks import Elsewhere, Seed
from sbridge.cli.bench import Bench
from sbridge.cli.commands import Compare, Likelihood, Report, Sample
from sbridge.cli.epsilon import Epsilon
from sbridge.cli.moves import Moves
from sbridge.cli.question import Files, in_our_epsilon
from sbridge.cli.recover import Recover
from sbridge.cli.snapshots import SnapshotsCommand
from sbridge.cli.tune import Tune
from sbridge.epsilon import AUTO
from sbridge.errors import InputError
from sbridge.problems import PROBLEMS

__all__ = ["Command", "parse"]

Command = (
    Recover[Any]
    | Tune[Any]
    | Epsilon[Any]
    | SnapshotsCommand
    | Sample
    | Moves
    | Likelihood
    | Compare
    | Report
    | Bench[Any]
)
_DESCRIPTION = (
    "Schrödinger bridges between two datasets, found by max–min over stochastic interpolants. "
    "sbridge COMMAND --help-verbose explains every option; sbridge --version prints the version."
)
_COMPLETION, _SHELLS = "--tyro-print-completion", ("bash", "zsh", "fish")
_STYLE = (
    tyro.conf.CascadeSubcommandArgs,
    tyro.conf.OmitArgPrefixes,
    tyro.conf.OmitSubcommandPrefixes,
    tyro.conf.FlagCreatePairsOff,
)


def parse(words: Sequence[str]) -> Command:
    """The command of a command line.

    Raises:
        InputError: there is no problem, or no completion for a shell, of that name.
        SystemExit: the words are not a command (code 2), or ask for help (code 0).
    """
    _check_shell(words)
    asked = _of_several_times(in_our_epsilon(words))
    if asked[:1] == ["bench"]:
        add_plugins(_plugins(asked))
    commands = _commands(_names_no_problem(asked))
    with _comma_lists():
        found: Any = tyro.cli(
            commands, prog="sbridge", description=_DESCRIPTION, args=asked, config=_STYLE, compact_help=True
        )
    command: Command = found.whole() if isinstance(found, _Parts) else found
    return command


def _check_shell(words: Sequence[str]) -> None:
    if words[:1] == [_COMPLETION] and words[1:] and words[1] not in _SHELLS:
        raise InputError(f"{_COMPLETION} knows {', '.join(_SHELLS)}, not {words[1]}")


class _Parts:
    """A command in two parts: its `problem`, and the command without it as `options`."""

    def whole(self) -> Any:
        parts: Any = self
        return replace(parts.options, problem=parts.problem)


def _commands(own: bool) -> Any:
    """All commands; with `own`, those that take a problem take the user's files, without naming them."""
    bundled = {name: _with_data_seed(family) for name, family in PROBLEMS.items()}
    problems = Files if own else _choice({Files.name: Files, **bundled})
    unset = _without_epsilon(Files) if own else _choice({Files.name: _without_epsilon(Files), **bundled})
    benchmark: Any = Bench
    more = f" Give your files, or name one of these problems: {', '.join(bundled)}." if own else ""
    fits = {
        "recover": _problem_first(Recover, problems, more),
        "epsilon": _problem_first(Epsilon, unset, more),
        "tune": _problem_first(Tune, problems, more),
        "snapshots": SnapshotsCommand,
    }
    finished = {"sample": Sample, "moves": Moves, "likelihood": Likelihood, "compare": Compare, "report": Report}
    return _choice({**fits, **finished, "bench": benchmark[_choice({**SUITES})]})


def _problem_first(command: Any, problems: Any, more: str) -> Any:
    """A command as two parts, its problem and its other options: the help shows one after the other."""
    hidden = ("problem", Annotated[tyro.conf.Suppress[str], Elsewhere()], field(default=""))
    words = {"__doc__": f"{_first_line(command)}{more}"}
    generic = {**words, "__orig_bases__": (command[str],)}
    options = make_dataclass(command.__name__, [hidden], bases=(command,), frozen=True, namespace=generic)
    unnamed = [Annotated[part, tyro.conf.arg(name="")] for part in (problems, options)]
    parts = zip(("problem", "options"), unnamed, strict=True)
    return make_dataclass(command.__name__, parts, bases=(_Parts,), frozen=True, namespace=words)


def _with_data_seed(family: type[Any]) -> type[Any]:
    """The family with its option `seed` spelled --data-seed: --seed is the fit's."""
    spelled = Annotated[Seed, tyro.conf.arg(name="data-seed", help="Seed that the problem's data are drawn with.")]
    seed = ("seed", spelled, field(default=family.seed))
    return make_dataclass(family.__name__, [seed], bases=(family,), frozen=True, namespace={"__doc__": family.__doc__})


def _without_epsilon(family: type[Any]) -> type[Any]:
    """The family without the option --epsilon."""
    hidden, words = ("epsilon", Annotated[Any, tyro.conf.Suppress], field(default=AUTO)), {"__doc__": family.__doc__}
    return make_dataclass(family.__name__, [hidden], bases=(family,), frozen=True, namespace=words)


def _choice(types: dict[str, Any]) -> Any:
    """A union of types to choose from by name."""
    choices = {name: tyro.conf.subcommand(name, description=_first_line(kind)) for name, kind in types.items()}
    return reduce(or_, (Annotated[types[name], choice] for name, choice in choices.items()))


def _first_line(kind: Any) -> str:
    return str((get_origin(kind) or kind).__doc__).partition("\n")[0]


def _names_no_problem(words: Sequence[str]) -> bool:
    """Whether the words name no bundled problem, as in `recover --x0 … --x1 …`; completion is for those.

    Raises:
        InputError: they name one that does not exist.
    """
    if words[:1] == [_COMPLETION]:
        return True
    name = next(iter(words[1:]), "-")
    if not {*words[:1]} & {"recover", "epsilon", "tune"} or name in (*PROBLEMS, Files.name):
        return False
    if not name.startswith("-"):
        raise InputError(f"there is no problem {name!r}; choose {', '.join(PROBLEMS)}, or give --x0 and --x1")
    return True


def _of_several_times(words: Sequence[str]) -> list[str]:
    """`recover cells.h5ad --time-key day` asks for the bridge through all times of a file: `snapshots`."""
    timed = any(word.partition("=")[0] in ("--time-key", "--time-column") for word in words)
    return ["snapshots", *words[1:]] if timed and words[0] == "recover" else list(words)


def _plugins(words: Sequence[str]) -> list[str]:
    """The modules of --plugin, which may add suites and are needed before the words can be understood."""
    spread = [part for word in words for part in (word.split("=", 1) if word.startswith("--plugin=") else [word])]
    named = [word for before, word in pairwise(spread) if before == "--plugin"]
    return [name for word in named for name in word.split(",")]


def _element(kind: Any) -> Any:
    """int of tuple[int, ...], also where its numbers have requirements; None of any other type."""
    element, *rest = get_args(kind) or (None,)
    if get_origin(kind) is not tuple or rest != [...]:
        return None
    return get_args(element)[0] if get_origin(element) is Annotated else element


def _comma_lists() -> tyro.constructors.ConstructorRegistry:
    """Tuples of words or numbers are one argument: a,b,c."""
    registry = tyro.constructors.ConstructorRegistry()
    kinds: dict[Any, tuple[Callable[[str], Any], str]] = {
        str: (str, "NAME,…"),
        int: (int, "INTEGER,…"),
        float: (float, "NUMBER,…"),
    }

    @registry.primitive_rule
    def comma_list(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
        element = _element(info.type)
        if element not in kinds:
            return None
        kind, metavar = kinds[element]
        return tyro.constructors.PrimitiveConstructorSpec(
            nargs=1,
            metavar=metavar,
            instance_from_str=lambda words: tuple(kind(word) for word in words[0].split(",")),
            is_instance=lambda value: isinstance(value, tuple),
            str_from_instance=lambda value: [",".join(map(str, value))],
        )

    return registry
