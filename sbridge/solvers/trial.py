"""A short trial before a training: should the network correct the linear drifts, or learn everything itself?

Where the drifts are nearly linear, as at large ε, a network needs long to find what the linear drifts know.  But where
a rotation mixes many dimensions and most of the drifts is not linear, it is their linear part that shows a network the
directions that matter.  Without it a network is slow, and on rotated products of six or eight planar shapes it is still
much farther from the bridge when the training ends.  With four planes it catches up, and a trial would cost more than
it brings.

So both are trained for a few steps.  The network alone has the harder task at first and overtakes later, so it is taken
where it comes nearly as far.
"""

from __future__ import annotations

from collections.abc import Callable

from sbridge.fields import Corrected, Drifts
from sbridge.solvers.training import Training

__all__ = ["better_start", "trial_steps"]

_SHARE = 10  # steps of a training for each step of a trial
_FEWEST, _MOST = 200, 600  # steps of a trial; fewer tell little
_MANY_DIMS = 10  # in 8 a trial brought nothing
_LINEAR = 0.8  # of what can be gained over no drift: where linear drifts gain more, they stay
_NEARLY = 0.1  # of what the correction gains over the linear drifts: the network alone may be so far behind


def trial_steps(steps: int, dim: int) -> int:
    """Steps of the trial before a training of `steps` in `dim` dimensions; 0 where none pays."""
    share = steps // _SHARE
    return min(share, _MOST) if share >= _FEWEST and dim >= _MANY_DIMS else 0


def better_start(corrected: Corrected, alone: Drifts, train: Callable[[Drifts], Training]) -> Drifts:
    """Linear drifts with a correction, or a network alone; as a short training leaves it.

    Args:
        corrected, alone: what to train.
        train: makes the training of one of them.
    """
    first, second = (_trained(train(one)) for one in (corrected, alone))
    losses = (first.monitor.losses(one) for one in (corrected.known, first.averaged, second.averaged))
    linear, both, own = (-float(values.mean()) for values in losses)  # gains over no drift, in nats
    nearly_linear = linear > _LINEAR * max(both, own)
    as_far = both - own < _NEARLY * (both - linear)
    return alone if as_far and not nearly_linear else corrected


def _trained(training: Training) -> Training:
    """To its last step, without checks."""
    while training.step < training.steps:
        training.round()
    return training
