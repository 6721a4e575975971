"""Bad calls from Python: settings of every solver, coupling and problem, and the methods of estimator and bridge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import torch

import sbridge
from calls import Case, answer_of_python
from sbridge import (
    Adaptive,
    Auto,
    BlockwiseSinkhorn,
    Bridge,
    Chain,
    FullMixturePotential,
    GeomlossSinkhorn,
    MaxMin,
    MinibatchSinkhorn,
    MixturePotential,
    OnlineSinkhorn,
    PotSinkhorn,
    Problem,
    Regression,
    SchrodingerBridge,
    SelfConsistent,
    Shaped,
    Simulation,
    Snapshots,
    WholePlan,
    compare,
)
from sbridge.baselines.markovian import MarkovianFitting
from sbridge.baselines.score_flow import MinibatchPot, ScoreFlowMatching
from sbridge.baselines.torchcfm import TorchCfm
from sbridge.evaluation import Effort
from sbridge.likelihood import FeynmanKac, Hutchinson, ProbabilityFlow, Tilted
from sbridge.networks import ResidualNetwork
from sbridge.problems.datasets import Digits
from sbridge.problems.gaussian import Gaussian
from sbridge.problems.mixture import Mixture
from sbridge.problems.shapes import Shapes
from sbridge.units import epsilon_named

__all__ = ["python_cases"]

WHOLE: Sequence[Any] = (0, -1, 1.5, "4", True, 10**400, float("nan"), [3])
REAL: Sequence[Any] = (0, -1.0, float("nan"), float("inf"), "0.1", True, 1j, np.zeros(2))
SHARE: Sequence[Any] = (-0.1, 1.1, float("nan"), "half", None)
KIND: Sequence[Any] = (3, int, "no-such-name")
CALLED: Sequence[Any] = (3, "no-such-name")
TRUTH: Sequence[Any] = (1, "yes", None)

NETWORK: Mapping[str, Sequence[Any]] = {
    "steps": WHOLE,
    "batch": (*WHOLE, None),
    "round_steps": WHOLE,
    "rate": REAL,
    "memory": (*SHARE, 0),
    "coupling": (*CALLED, int),
    "network": CALLED,
    "optimiser": CALLED,
    "schedule": CALLED,
    "answer": CALLED,
    "prior": CALLED,
}
INTERPOLANT: Mapping[str, Sequence[Any]] = {"interpolant": KIND, "gamma": KIND, "times": KIND, "group": (*WHOLE, 7, 48)}
OUTER: Mapping[str, Sequence[Any]] = {
    "outer_rate": REAL,
    "outer_width": WHOLE,
    "outer_depth": WHOLE,
    "learn_mean": TRUTH,
    "learn_gamma": TRUTH,
}
SINKHORN: Mapping[str, Sequence[Any]] = {"points": WHOLE, "iterations": WHOLE, "tolerance": REAL}
SETTINGS: Mapping[Callable[..., Any], Mapping[str, Sequence[Any]]] = {
    MaxMin: {**NETWORK, **INTERPOLANT, **OUTER},
    Regression: {**NETWORK, **INTERPOLANT},
    MarkovianFitting: {**NETWORK, "iterations": WHOLE, "batch": (*WHOLE, 3)},
    ScoreFlowMatching: NETWORK,
    TorchCfm: {"steps": WHOLE, "ot_method": (1, "none")},
    MixturePotential: {"components": WHOLE, "starts": WHOLE, "held_out": (*SHARE, 0, 1)},
    FullMixturePotential: {"components": WHOLE, "starts": WHOLE, "held_out": (*SHARE, 0, 1)},
    PotSinkhorn: SINKHORN,
    GeomlossSinkhorn: SINKHORN,
    BlockwiseSinkhorn: SINKHORN,
    Auto: {"network": (*KIND, None), "budget": ("soon", "-1s", -1, 0, float("nan"), [3])},
    ResidualNetwork: {"width": WHOLE, "depth": WHOLE, "logarithms": TRUTH},
    Simulation: {
        "steps": WHOLE,
        "batch": WHOLE,
        "diffusion": (-1, float("nan"), float("inf"), "0", lambda t: -t - 1, lambda t: t / 0),
        "stepper": CALLED,
    },
    Adaptive: {"rtol": REAL, "atol": REAL},
    Effort: {"points": WHOLE, "steps": WHOLE, "diffusion": ((-1.0,), ("a",))},
    Tilted: {"paths": (*WHOLE, 1), "steps": WHOLE},
    FeynmanKac: {"paths": (*WHOLE, 1)},
    ProbabilityFlow: {"steps": WHOLE, "stepper": CALLED, "divergence": CALLED},
    Hutchinson: {"probes": (*WHOLE, 1)},
    Gaussian: {"dim": WHOLE, "epsilon": REAL, "samples": WHOLE, "test_samples": WHOLE, "seed": (-1, 1.5, "0", 2**70)},
    Mixture: {"dim": WHOLE, "components": WHOLE, "epsilon": REAL},
    Shapes: {"dim": (*WHOLE, 3), "laws": ((), ("moons",), ("moons:moon",), (3,)), "epsilon": REAL},
    Digits: {"source": ((), (10,), ("3",)), "components": (0, 65, "3"), "held_out": (0, 1, "0.2")},
    partial(Shaped, make=lambda: torch.nn.Identity()): {"shape": ((), (0,), (-1, 2), 3, ("a",))},
}
COUPLINGS: Mapping[Callable[..., Any], Sequence[str]] = {
    OnlineSinkhorn: ("points", "batch", "partners"),
    MinibatchSinkhorn: ("batch", "partners", "iterations"),
    WholePlan: ("points", "partners"),
    SelfConsistent: ("points", "steps", "uses"),
    MinibatchPot: ("batch",),
}


@cache
def points() -> torch.Tensor:
    """Points (60, 2)."""
    return torch.randn(60, 2, generator=torch.Generator().manual_seed(0))


@cache
def fitted() -> SchrodingerBridge:
    """An estimator that was fitted in a moment."""
    return SchrodingerBridge(0.5, MixturePotential(1)).fit(points(), points() + 1)


@cache
def network_fit() -> Bridge:
    """A bridge by a network that was hardly trained."""
    return Regression(steps=6, batch=32).solve(_problem())


@cache
def _problem(**changes: Any) -> Problem:
    return Problem(points(), points() + 1, 0.5, points(), points() + 1)


def python_cases() -> Iterator[Case]:
    """All of them."""
    for make, fields in SETTINGS.items():
        for field, values in fields.items():
            for value in values:
                yield _case(f"{_name(make)}({field}={value!r})", partial(_made, make, field, value))
    for kind, fields_of_coupling in COUPLINGS.items():
        for field in fields_of_coupling:
            for value in WHOLE:
                call = partial(kind, points(), points(), 0.5, **{field: value})
                yield _case(f"{_name(kind)}({field}={value!r})", call)
    for name, call in _calls().items():
        yield _case(name, call)


def _made(make: Callable[..., Any], field: str, value: Any) -> Any:
    found = make(**{field: value})
    return found.build() if hasattr(found, "build") else found


def _name(make: Any) -> str:
    return str(getattr(make, "__name__", None) or make.func.__name__)


def _case(name: str, call: Callable[[], object]) -> Case:
    return Case(name, partial(answer_of_python, call))


def _calls() -> dict[str, Callable[[], object]]:
    return {**_problems(), **_fits(), **_answers(), **_others()}


def _problems() -> dict[str, Callable[[], object]]:
    x = points()
    make = Problem
    bad = {"a list": x.tolist(), "an array": x.numpy(), "whole": x.long(), "a vector": x[:, 0], "empty": x[:0]}
    bad |= {"None": None, "NaN": x / 0, "other columns": x[:, :1], "double": x.double(), "few": x[:5]}
    found = {f"Problem(x1={name})": partial(make, x, value, 0.5, x, x) for name, value in bad.items()}
    found |= {f"Problem(test1={name})": partial(make, x, x, 0.5, x, value) for name, value in bad.items()}
    found |= {f"Problem(epsilon={value!r})": partial(make, x, x, value, x, x) for value in (*REAL, None)}
    weights = {"short": torch.ones(3), "negative": -torch.ones(60), "NaN": torch.ones(60) / 0, "text": "w"}
    weights |= {"zero": torch.zeros(60), "two axes": torch.ones(60, 1)}
    return found | {
        f"Problem(weights0={name})": partial(make, x, x, 0.5, x, x, weights0=value) for name, value in weights.items()
    }


def _fits() -> dict[str, Callable[[], object]]:
    x, quick = points(), MixturePotential(1)

    def fit(x0: Any = x, x1: Any = x + 1, weights: Any = (None, None), **settings: Any) -> object:
        return SchrodingerBridge(**{"solver": quick, **settings}).fit(x0, x1, sample_weight=weights).bridge_

    found: dict[str, Callable[[], object]] = {}
    for value in (*REAL[:4], np.zeros(2), None, "automatic", "reg=-1", "blur=x", "sigma=nan"):
        found[f"fit(epsilon={value!r})"] = partial(fit, epsilon=value)
    for value in ("fast", 3, int, object()):
        found[f"fit(solver={value!r})"] = partial(fit, solver=value)
    for value in (-1, 1.5, "0", 2**70, [1]):
        found[f"fit(random_state={value!r})"] = partial(fit, random_state=value)
    for value in ("gpu", "cuda:99", 3, None):
        found[f"fit(device={value!r})"] = partial(fit, device=value)
    for value in ("rows", 3, True):
        found[f"fit(standardise={value!r})"] = partial(fit, standardise=value)
    found["fit(verbose='no')"] = partial(fit, verbose="no")
    data = {"NaN": x / 0, "words": [["a", "b"]] * 20, "complex": x.numpy() * 1j, "few": x[:3], "3 axes": x[None]}
    data |= {"ragged": [[1.0], [1.0, 2.0]] * 10, "None": None, "a number": 3, "constant": torch.ones(60, 2)}
    for name, value in data.items():
        found[f"fit(x0={name})"] = partial(fit, value)
        found[f"fit(x0=x1={name})"] = partial(fit, value, value)
    del found["fit(x0=constant)"]  # a point mass on one side is a good question
    sizes = {"short": np.ones(3), "negative": -np.ones(60), "NaN": np.full(60, np.nan), "zero": np.zeros(60)}
    sizes |= {"text": "ab", "infinite": np.full(60, np.inf)}
    for name, value in sizes.items():
        found[f"fit(sample_weight={name})"] = partial(fit, weights=(value, None))
    found["fit(sample_weight=None)"] = partial(fit, weights=None)
    found["fit(sample_weight=3 of them)"] = partial(fit, weights=(None, None, None))
    found["fit(epsilon=1e-9)"] = partial(fit, epsilon=1e-9, solver=MaxMin(steps=5))
    for value in ("soon", "-1s", -1, 0, float("nan"), "3 days ago"):
        found[f"fit(budget={value!r})"] = lambda value=value: SchrodingerBridge().fit(x, x + 1, budget=value)
    found["fit(callbacks=3)"] = lambda: SchrodingerBridge(solver=quick).fit(x, x, callbacks=3)  # type: ignore[arg-type]
    found["set_params(solver__stepz)"] = lambda: SchrodingerBridge().set_params(solver__stepz=3)
    found["set_params(solver__steps=-3)"] = lambda: SchrodingerBridge().set_params(solver__steps=-3)
    return found


def _answers() -> dict[str, Callable[[], object]]:
    x = points()
    found: dict[str, Callable[[], object]] = {}
    for title, made in (("potential", lambda: fitted().bridge_), ("network", network_fit)):
        options: dict[str, Sequence[Any]] = {
            "steps": WHOLE,
            "batch": WHOLE,
            "diffusion": (-1, float("nan"), "0", 1e9, 1e30),
            "direction": ("up", 3, None),
            "random_state": (-1, 1.5, "0", 2**70),
            "until": (-0.1, 1.1, float("nan"), "0.5"),
            "stepper": CALLED,
            "no_such_option": (1,),
            "simulation": (3, "fast"),
        }
        for option, values in options.items():
            for value in values:
                call = partial(_transported, made, **{option: value})
                found[f"{title}.transport({option}={value!r})"] = call
        for name, value in {"NaN": x / 0, "columns": x[:, :1], "words": ["a"], "None": None}.items():
            found[f"{title}.transport(x={name})"] = partial(_transported, made, x=value)
        for times in ((), (0.5,), (0, 2), (1, 1), (0, float("nan")), ("a",), 3):
            found[f"{title}.trajectories(times={times})"] = partial(_called, made, "trajectories", x, times)
        for t in (-0.1, 1.1, float("nan"), "0.5", None, torch.zeros(3, 1), [0.1, 0.2]):
            for method in ("forward_drift", "marginal_score"):
                found[f"{title}.{method}(t={t})"] = partial(_called, made, method, t, x)
        bad = (("at", "x2"), ("method", "magic"), ("base", 3), ("base", x[:, :1]), ("random_state", "0"))
        for option, value in bad:
            arguments = {"base": x, option: value}
            found[f"{title}.log_prob({option}={str(value)[:9]})"] = partial(_called, made, "log_prob", x, **arguments)
        found[f"{title}.certificate(few)"] = partial(_called, made, "certificate", x, x)
        found[f"{title}.save(no folder)"] = partial(_called, made, "save", "no/such/folder/b.safetensors")
        found[f"{title}.save(a folder)"] = partial(_called, made, "save", ".")
        found[f"{title}.save(long name)"] = partial(_called, made, "save", "a" * 300)
    return found


def _transported(made: Callable[[], Bridge], **options: Any) -> object:
    return made().transport(**{"x": points(), **options})


def _called(made: Callable[[], Bridge], name: str, /, *values: Any, **options: Any) -> object:
    return getattr(made(), name)(*values, **options)


def _others() -> dict[str, Callable[[], object]]:
    x, problem = points(), _problem()
    bridge = fitted().bridge_
    return {
        "solve(random_state=-1)": lambda: MixturePotential(1).solve(problem, -1),
        "solve(random_state='0')": lambda: MixturePotential(1).solve(problem, "0"),  # type: ignore[arg-type]
        "solve(problem=None)": lambda: PotSinkhorn().solve(None),  # type: ignore[arg-type]
        "solve(problem=points)": lambda: Regression(steps=2).solve(x),  # type: ignore[arg-type]
        "compare({})": lambda: compare({}, problem),
        "compare(3)": lambda: compare(3, problem),  # type: ignore[arg-type]
        "compare({'a': 3})": lambda: compare({"a": 3}, problem),  # type: ignore[dict-item]
        "compare(problem=3)": lambda: compare({"a": bridge}, 3),  # type: ignore[arg-type]
        "Bridge.load(no file)": lambda: Bridge.load("no-such-file"),
        "Bridge.load(3)": lambda: Bridge.load(3),  # type: ignore[arg-type]
        "Bridge.load(a folder)": lambda: Bridge.load("."),
        "Chain([])": lambda: Chain([], [0.0]),
        "Chain(one, 3 times)": lambda: Chain([bridge], [0.0, 1.0, 2.0]),
        "Chain(falling)": lambda: Chain([bridge], [1.0, 0.0]),
        "Snapshots(one)": lambda: Snapshots(solver=MixturePotential(1)).fit([x]),
        "Snapshots(times)": lambda: Snapshots(solver=MixturePotential(1)).fit([x, x], [1.0, 0.0]),
        "Snapshots(epsilon)": lambda: Snapshots(-1.0, MixturePotential(1)).fit([x, x]),
        "Snapshots(growth)": lambda: Snapshots(0.5, MixturePotential(1), growth=-1.0).fit([x, x]),
        "epsilon_named": lambda: epsilon_named("reg=nan"),
        "epsilon_named(-1)": lambda: epsilon_named("-1"),
        "points_of(None)": lambda: sbridge.points_of(None),
        "points_of(text)": lambda: sbridge.points_of("points"),
        "what_moves(few)": lambda: sbridge.what_moves(bridge, x[:0]),
        "what_moves(3)": lambda: sbridge.what_moves(3, x),  # type: ignore[arg-type]
        "what_moves(columns=3)": lambda: sbridge.what_moves(bridge, x, 3),  # type: ignore[arg-type]
        "what_moves(columns of one)": lambda: sbridge.what_moves(bridge, x, ("a",)),
        "what_moves(loadings=3)": lambda: sbridge.what_moves(bridge, x, loadings=3),  # type: ignore[arg-type]
        "what_moves(loadings='PCs')": lambda: sbridge.what_moves(bridge, x, loadings="PCs"),
        "what_moves(random_state=-1)": lambda: sbridge.what_moves(bridge, x, random_state=-1),
        "write_report({})": lambda: sbridge.write_report({}, problem, "page"),
        "write_report(3)": lambda: sbridge.write_report(3, problem, "page"),  # type: ignore[arg-type]
        "write_report({'a': 3})": lambda: sbridge.write_report({"a": 3}, problem, "page"),  # type: ignore[dict-item]
        "write_report(problem=3)": lambda: sbridge.write_report({"a": bridge}, 3, "page"),  # type: ignore[arg-type]
        "write_report(folder=3)": lambda: sbridge.write_report({"a": bridge}, problem, 3),  # type: ignore[arg-type]
        "write_report(a file)": lambda: sbridge.write_report({"a": bridge}, problem, "a.npy"),
        "write_report(random_state=-1)": lambda: sbridge.write_report({"a": bridge}, problem, "page", -1),
        "write_report(standardise)": lambda: sbridge.write_report({"a": bridge}, problem, "page", 0, "rows"),  # type: ignore[arg-type]
        "score(few)": lambda: fitted().score(x[:1], x),
        "score(columns)": lambda: fitted().score(x[:, :1], x),
        "score(sample_weight)": lambda: fitted().score(x, x, 3),  # type: ignore[arg-type]
        "cross_entropy(one)": lambda: fitted().cross_entropy(x[:1]),
        "at(2)": lambda: bridge.at(x, 2.0),
        "at(start=2)": lambda: bridge.at(x, 0.5, start=2.0),
        "sample('x2')": lambda: fitted().sample("x2"),  # type: ignore[arg-type]
        "report(a file)": lambda: fitted().report("a.npy", x, x),
        "LossVariance(3)": lambda: sbridge.LossVariance(3),  # type: ignore[arg-type]
        "GammaMatched(3)": lambda: sbridge.GammaMatched(3),  # type: ignore[arg-type]
        "Brownian(-1)": lambda: sbridge.Brownian(-1.0),
        "Brownian('1')": lambda: sbridge.Brownian("1"),  # type: ignore[arg-type]
        "Linear(3)": lambda: sbridge.Linear(3),  # type: ignore[arg-type]
        "VariancePreserving(-1)": lambda: sbridge.VariancePreserving(-1.0),
        "Snapshots(solver)": lambda: Snapshots(0.5, 3).fit([x, x]),  # type: ignore[arg-type]
    }
