"""The top of the page: whether to trust the fit, and the one figure that says why."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, sqrt

import torch

from sbridge.estimates import rounded
from sbridge.evaluation import FLOOR, Comparison
from sbridge.evaluation.certificate.statement import Certificate, Passage
from sbridge.problem import Problem
from sbridge.report.material import Material

__all__ = ["Headline", "caution", "certified", "few_points", "headline", "sizes", "told_apart"]

_FEW = 500  # held-out points of one side, below which small errors stay hidden
_TONES = {"trust": "good", "cannot tell": "open", "do not trust": "bad"}


@dataclass(frozen=True)
class Headline:
    """What a reader sees first.

    Args:
        word: trust, cannot tell, do not trust, or no certificate.
        tone: good, open or bad: its colour.
        reason: a sentence.
        figure: the most important figure with its unit; empty if there is none.
        meaning: what the figure is.
    """

    word: str
    tone: str
    reason: str
    figure: str
    meaning: str


def headline(material: Material) -> Headline | None:
    """The verdict of the certificate; without one, how the ends compare with held-out points; None before both."""
    found = material.run.certificate()
    if isinstance(found, Certificate):
        return certified(found)
    if material.comparison is None:
        return None
    figure, meaning = _ends(material.comparison, material.fitted)
    reason = f"No certificate: {found}." if found else "There is no certificate of this fit."
    return Headline("only the ends are checked", "open", reason, figure, meaning)


def certified(found: Certificate) -> Headline:
    """The verdict of a certificate."""
    verdict = found.verdict
    worse = max((found.forward, found.backward), key=lambda one: one.divergence.value)
    reason = f"{verdict.reason[0].upper()}{verdict.reason[1:]}."
    return Headline(verdict.word, _TONES[verdict.word], reason, worse.stated, _meaning(worse))


def _meaning(one: Passage) -> str:
    """What the stated divergence is."""
    of = "distance of the fitted process from the Schrödinger bridge of your data"
    kind = "(KL divergence, in the worse direction; 0 is perfect)"
    if one.bounded:
        return f"is the {of} {kind}, as far as your points show it. Finer differences add to it."
    chance = round(100 * told_apart(one.divergence.value + 2 * one.divergence.standard_error))
    return (
        f"is the estimated {of} {kind}. If it is two standard errors larger in truth, then one path tells in at most "
        f"{chance} of 100 cases which of the two processes it comes from. A guess is right in 50."
    )


def told_apart(divergence: float) -> float:
    """A bound on the share of single draws that anybody assigns to the right one of two laws.

    It is (1 + TV)/2, with TV² ≤ min(KL/2, 1 − e^−KL) by Pinsker and by Bretagnolle and Huber (1979).
    """
    kl = max(divergence, 0.0)
    return (1 + sqrt(min(kl / 2, 1 - exp(-kl)))) / 2


def _ends(comparison: Comparison, method: str) -> tuple[str, str]:
    """W2 of the ends over its floor in the worse direction."""
    row, floor = comparison.rows.get(method, {}), comparison.rows.get(FLOOR, {})
    names = ("forward_wasserstein", "backward_wasserstein")
    ratios = [
        value / lowest
        for name in names
        if isinstance(value := row.get(name), float) and isinstance(lowest := floor.get(name), float) and lowest > 0
    ]
    if not ratios:
        return "", ""
    return f"{rounded(max(ratios))} × the floor", (
        "is the distance of the moved points from the held-out points (W2, in the worse direction). The floor is the "
        "same distance between two samples of the true data, so 1 is perfect. This checks where paths end, not how "
        "they get there."
    )


def sizes(problem: Problem) -> str:
    """How many points there are."""
    counts = {label: f"{len(getattr(problem, label)):,}" for label in ("x0", "x1", "test0", "test1")}
    return (
        f"Fitted to {counts['x0']} points of x0 and {counts['x1']} of x1, in {problem.dim} "
        f"dimension{'s' * (problem.dim > 1)}. Judged on {counts['test0']} points of x0 and {counts['test1']} of x1."
    )


def caution(problem: Problem) -> str:
    """A warning where there are too few points to judge the fit by; else empty."""
    if torch.equal(problem.x0, problem.test0):
        return "No points were held out. Everything here is judged on the points of the fit, so it looks too good."
    return few_points(min(len(problem.test0), len(problem.test1)))


def few_points(count: int) -> str:
    """A warning where the smaller sample of held-out points is small; else empty."""
    return f"Few points (n = {count:,}): small errors stay hidden, and all figures are rough." if count < _FEW else ""
