"""Soap: Adam where it has no basis of its own, diagonal second moments where it has, and what that is good for."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from sbridge.solvers.soap import Soap

RATE, BETAS = 1e-2, (0.9, 0.99)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=_generator(seed), dtype=torch.float64)


def _follow(optimiser: Optimizer, parameter: Tensor, gradients: list[Tensor]) -> Tensor:
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimiser.step()
    return parameter.detach()


@pytest.mark.parametrize("shape", [(7,), (513, 600), (2, 3, 4)], ids=str)
def test_without_a_basis_it_is_adam(shape: tuple[int, ...]) -> None:
    """Vectors, large sides and other tensors; the first step too."""
    gradients = [_normal(*shape, seed=k) for k in range(25)]
    mine, adams = (torch.nn.Parameter(_normal(*shape, seed=99)) for _ in range(2))
    found = _follow(Soap([mine], RATE, BETAS), mine, gradients)
    torch.testing.assert_close(found, _follow(Adam([adams], RATE, BETAS), adams, gradients), rtol=0, atol=1e-12)


def test_one_large_side_leaves_the_other_its_basis() -> None:
    gradients = [_normal(600, 4, seed=k) for k in range(30)]
    mine, adams = (torch.nn.Parameter(torch.zeros(600, 4, dtype=torch.float64)) for _ in range(2))
    optimiser = Soap([mine], RATE, BETAS)
    found = _follow(optimiser, mine, gradients)
    assert {"right"} == {"left", "right"} & optimiser.state[mine].keys()
    assert (found - _follow(Adam([adams], RATE, BETAS), adams, gradients)).abs().max() > RATE


def test_bases_diagonalise_the_second_moments() -> None:
    rows, columns = (_normal(6, 6, seed=k) * torch.tensor([8.0, 4, 2, 1, 0.5, 0.25]) for k in (1, 2))
    matrix = torch.nn.Parameter(torch.zeros(6, 6, dtype=torch.float64))
    optimiser = Soap([matrix], RATE, BETAS)
    _follow(optimiser, matrix, [rows @ _normal(6, 6, seed=k) @ columns.T for k in range(2000)])
    state = optimiser.state[matrix]
    for side in ("left", "right"):
        basis, moment = state[side][0], state[f"{side}_moment"][0]
        torch.testing.assert_close(basis.mT @ basis, torch.eye(6, dtype=torch.float64))
        turned = (basis.mT @ moment @ basis).abs()
        sizes = turned.diagonal().sqrt()
        apart, before = ((m.abs() / s.outer(s)).fill_diagonal_(0).max() for m, s in
                         ((turned, sizes), (moment, moment.diagonal().sqrt())))
        assert apart < before / 2  # the running mean is never at rest


def _least_squares(optimiser: type[Optimizer], rate: float) -> float:
    """The excess loss of ½E|W x − W* x|² with inputs of very different sizes along oblique axes."""
    axes = torch.linalg.qr(_normal(16, 16, seed=1)).Q
    spread = axes * torch.logspace(0, -3, 16, dtype=torch.float64)
    truth, found = _normal(16, 16, seed=2), torch.nn.Parameter(torch.zeros(16, 16, dtype=torch.float64))
    steps = optimiser([found], lr=rate, betas=BETAS)
    for k in range(400):
        error = (found - truth) @ spread @ _normal(16, 64, seed=100 + k)
        steps.param_groups[0]["lr"] = rate * (1 - k / 400)
        steps.zero_grad()
        (error.square().sum() / 128).backward()
        steps.step()
    return (((found - truth) @ spread).square().sum() / 2).item()


def test_it_solves_an_oblique_problem_that_adam_does_not() -> None:
    best = min(_least_squares(Adam, rate) for rate in (0.01, 0.03, 0.1))
    assert min(_least_squares(Soap, rate) for rate in (0.01, 0.03, 0.1)) < best / 3


def test_a_silent_layers_gradient_of_zero_moves_nothing() -> None:
    matrix = torch.nn.Parameter(_normal(5, 3))
    start = matrix.detach().clone()
    assert torch.equal(_follow(Soap([matrix], RATE), matrix, [torch.zeros(5, 3, dtype=torch.float64)] * 15), start)


def test_matrices_decay_apart_from_their_gradients_and_vectors_do_not() -> None:
    """Shrinking at each step, before an update that is what it is without decay."""
    decay, gradients = 0.3, [_normal(5, 3, seed=k) for k in range(25)]
    plain, fading = (torch.nn.Parameter(_normal(5, 3, seed=99)) for _ in range(2))
    plainly, fadingly = Soap([plain], RATE), Soap([fading], RATE, decay=decay)
    for gradient in gradients:
        before, wanted = plain.detach().clone(), (1 - RATE * decay) * fading.detach()
        wanted += _follow(plainly, plain, [gradient]) - before
        torch.testing.assert_close(_follow(fadingly, fading, [gradient]), wanted, rtol=0, atol=1e-12)
    bias, bare = (torch.nn.Parameter(_normal(5, seed=99)) for _ in range(2))
    assert torch.equal(_follow(Soap([bias], RATE, decay=decay), bias, [g[:, 0] for g in gradients]),
                       _follow(Soap([bare], RATE), bare, [g[:, 0] for g in gradients]))


def test_it_goes_on_from_its_state_to_the_last_bit() -> None:
    gradients = [_normal(5, 3, seed=k) for k in range(40)]
    straight, stopped = (torch.nn.Parameter(_normal(5, 3, seed=99)) for _ in range(2))
    _follow(Soap([straight], RATE), straight, gradients)
    first = Soap([stopped], RATE)
    _follow(first, stopped, gradients[:17])
    again = Soap([stopped], RATE)
    again.load_state_dict(deepcopy(first.state_dict()))
    _follow(again, stopped, gradients[17:])
    assert torch.equal(stopped, straight)


def test_parameters_of_one_shape_move_as_they_would_alone() -> None:
    """One of them has no gradient and stays; the others have bases and sizes of their own."""
    gradients = [[10.0**j * _normal(5, 3, seed=3 * k + j) for j in range(2)] for k in range(45)]
    together = [torch.nn.Parameter(_normal(5, 3, seed=90 + j)) for j in range(3)]
    alone = [torch.nn.Parameter(_normal(5, 3, seed=90 + j)) for j in range(2)]
    stack, single = Soap(together, RATE, decay=0.3), [Soap([one], RATE, decay=0.3) for one in alone]
    for step in gradients:
        for one, other, gradient in zip(together, alone, step, strict=False):  # the third has none
            one.grad, other.grad = gradient.clone(), gradient.clone()
        stack.step()
        for one in single:
            one.step()
    for one, other in zip(together, alone, strict=False):
        torch.testing.assert_close(one.detach(), other.detach(), rtol=0, atol=1e-9)
    assert torch.equal(together[2].detach(), _normal(5, 3, seed=92))
