"""Adam in the eigenbases of Shampoo's preconditioner, for the small networks that drifts and interpolants are.

The gradients G (m, n) of a weight matrix have the second moments L = E[G Gᵀ] and R = E[Gᵀ G].  Adam divides each entry
by the root of its mean square, as if entries were independent.  In the eigenbases of L and R they nearly are.  L and R
are running means.  Every few steps their bases are updated by one step of orthogonal iteration; slightly stale bases
only make the preconditioner slightly worse.

Vyas, Morwani, Zhao, Shapira, Brandfonbrener, Janson, Kakade, arXiv 2409.11321 (SOAP, algorithm 3).  Weight decay is
decoupled from the gradients (Loshchilov and Hutter, arXiv 1711.05101).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

__all__ = ["Soap", "decaying_soap"]

_EVERY = 20  # steps between two updates of the bases
_SEEN = 4  # steps between two gradients that L and R see
_SHARE = 0.08  # of a gradient that they see in their running means
_LARGEST = 512  # rows or columns; beyond, products with a basis would cost more than the network
_LEAST = 1e-4  # root mean square of an entry over the largest: what is smaller is rounding
_RIDGE = 1e-2  # of the mean second moment, added to it: rounding does not decide directions without gradients
_TINY = 1e-8  # as Adam's


class Soap(Optimizer):
    """Adam in the eigenbases of the gradients' second moments.

    Vectors, and sides of more than 512, keep their own basis, where it is Adam.

    Args:
        params: the parameters to optimise.
        lr: about how far an entry moves in a step while its gradients agree.
        betas: decay rates of the running means of the gradients and of their squares.
        decay: weight decay of matrices; each step removes the share lr · decay.  Without it, deep networks keep rare
            regions where they are far off.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, betas: tuple[float, float] = (0.9, 0.99), decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update all parameters; one without a gradient counts as one whose gradient is zero, and does not decay."""
        for group in self.param_groups:
            for parameters in _by_shape(group["params"]):
                gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
                steps = _steps(torch.stack(gradients), self.state[parameters[0]], group["lr"], group["betas"])
                for parameter, step in zip(parameters, steps, strict=True):
                    if parameter.dim() == 2 and parameter.grad is not None:
                        parameter.mul_(1 - group["lr"] * group["decay"])
                    parameter.sub_(step)


def _by_shape(parameters: list[Tensor]) -> list[list[Tensor]]:
    """Parameters of one shape together: products of stacks take less time than those of single small matrices."""
    stacks: dict[Any, list[Tensor]] = {}
    for one in parameters:
        stacks.setdefault((one.shape, one.dtype, one.device), []).append(one)
    return list(stacks.values())


def _steps(gradients: Tensor, state: dict[str, Any], rate: float, betas: tuple[float, float]) -> Tensor:
    """What to subtract from a stack of parameters; the stack's state is that of its first parameter."""
    if not state:
        _begin(state, gradients)
    _update_bases(state, gradients)
    state["step"] += 1
    mean, square = (1 - beta ** state["step"] for beta in betas)  # bias correction of the running means
    entries = _to_bases(state, gradients)
    state["mean"].lerp_(entries, 1 - betas[0])
    state["square"].lerp_(entries.square(), 1 - betas[1])
    size = (state["square"] / square).sqrt_()
    least = _LEAST * size.amax((-2, -1), keepdim=True) if _sides(state) else 0.0
    value: Tensor = _from_bases(state, state["mean"] / (size + least + _TINY)) * (rate / mean)
    return value


def _begin(state: dict[str, Any], gradients: Tensor) -> None:
    state["step"] = 0
    state["mean"], state["square"] = torch.zeros_like(gradients), torch.zeros_like(gradients)
    count, *shape = gradients.shape
    for side, size in zip(("left", "right"), shape if len(shape) == 2 else (), strict=False):
        if size <= _LARGEST:
            state[f"{side}_moment"] = gradients.new_zeros(count, size, size)
            state[side] = torch.eye(size, dtype=gradients.dtype, device=gradients.device).repeat(count, 1, 1)


def _sides(state: dict[str, Any]) -> list[str]:
    """The sides that have a basis."""
    return [side for side in ("left", "right") if side in state]


def _update_bases(state: dict[str, Any], gradients: Tensor) -> None:
    """Update the second moments by gradients now and then, and more seldom their bases towards the eigenvectors."""
    if state["step"] % _SEEN == 0:
        for side in _sides(state):
            rows = gradients if side == "left" else gradients.mT
            state[f"{side}_moment"].lerp_(rows @ rows.mT, _SHARE)
    if state["step"] % _EVERY == 0:
        mean = _from_bases(state, state["mean"])  # kept in the bases, which saves two products at every step
        for side in _sides(state):
            moment, basis = state[f"{side}_moment"], state[side]
            rest = _RIDGE * moment.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
            state[side] = torch.linalg.qr(moment @ basis + rest * basis).Q
        state["mean"] = _to_bases(state, mean)


def _to_bases(state: dict[str, Any], gradients: Tensor) -> Tensor:
    """Entries of gradients in the bases."""
    rows = state["left"].mT @ gradients if "left" in state else gradients
    return rows @ state["right"] if "right" in state else rows


def _from_bases(state: dict[str, Any], entries: Tensor) -> Tensor:
    """Entries in the bases as matrices of the parameters."""
    rows = state["left"] @ entries if "left" in state else entries
    return rows @ state["right"].mT if "right" in state else rows


def decaying_soap(params: Iterable[Tensor], lr: float) -> Soap:
    """Soap with a weight decay of 0.01, for drift networks; ten times the decay costs accuracy at small ε."""
    return Soap(params, lr=lr, decay=0.01)
