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

_EVERY = 10  # steps between two updates of the bases
_SHARE = 0.02  # of a new gradient in the running means of L and R
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
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    if parameter.dim() == 2:
                        parameter.mul_(1 - group["lr"] * group["decay"])
                    _move(parameter, parameter.grad, self.state[parameter], group["lr"], group["betas"])


def _move(parameter: Tensor, gradient: Tensor, state: dict[str, Any], rate: float, betas: tuple[float, float]) -> None:
    if not state:
        _begin(state, gradient)
    _update_bases(state, gradient)
    state["step"] += 1
    mean, square = (1 - beta ** state["step"] for beta in betas)  # bias correction of the running means
    entries = _to_bases(state, gradient)
    state["mean"].lerp_(entries, 1 - betas[0])
    state["square"].lerp_(entries.square(), 1 - betas[1])
    size = (state["square"] / square).sqrt_()
    size = size + _LEAST * size.max() + _TINY if _sides(state) else size + _TINY
    parameter.sub_(_from_bases(state, state["mean"] / size), alpha=rate / mean)


def _begin(state: dict[str, Any], gradient: Tensor) -> None:
    state["step"] = 0
    state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
    for side, count in zip(("left", "right"), gradient.shape if gradient.dim() == 2 else (), strict=False):
        if count <= _LARGEST:
            state[f"{side}_moment"] = gradient.new_zeros(count, count)
            state[side] = torch.eye(count, dtype=gradient.dtype, device=gradient.device)


def _sides(state: dict[str, Any]) -> list[str]:
    """The sides that have a basis."""
    return [side for side in ("left", "right") if side in state]


def _update_bases(state: dict[str, Any], gradient: Tensor) -> None:
    """Update the second moments by a gradient, and every few steps their bases towards the eigenvectors."""
    for side in _sides(state):
        rows = gradient if side == "left" else gradient.mT
        state[f"{side}_moment"].lerp_(rows @ rows.mT, _SHARE)
    if state["step"] % _EVERY == 0:
        mean = _from_bases(state, state["mean"])  # kept in the bases, which saves two products at every step
        for side in _sides(state):
            moment, basis = state[f"{side}_moment"], state[side]
            rest = _RIDGE * moment.diagonal().mean()
            state[side] = torch.linalg.qr(moment @ basis + rest * basis).Q
        state["mean"] = _to_bases(state, mean)


def _to_bases(state: dict[str, Any], gradient: Tensor) -> Tensor:
    """A gradient's entries in the bases."""
    rows = state["left"].mT @ gradient if "left" in state else gradient
    return rows @ state["right"] if "right" in state else rows


def _from_bases(state: dict[str, Any], entries: Tensor) -> Tensor:
    """Entries in the bases as a matrix of the parameter."""
    rows = state["left"] @ entries if "left" in state else entries
    return rows @ state["right"].mT if "right" in state else rows


def decaying_soap(params: Iterable[Tensor], lr: float) -> Soap:
    """Soap with a weight decay of 0.01, for drift networks; ten times the decay costs accuracy at small ε."""
    return Soap(params, lr=lr, decay=0.01)
