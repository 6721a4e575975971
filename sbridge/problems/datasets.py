"""Real data that scikit-learn contains, so that nothing is downloaded.  The bridges are not known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Le, MinLen
from torch import Tensor

from sbridge.checks import Checked, Count, Fraction, Positive, Seed
from sbridge.errors import InputError
from sbridge.problem import Problem

__all__ = ["Digits", "Photos"]

_PICTURES = ("china", "flower")


_Classes = Annotated[tuple[Annotated[int, Ge(0), Le(9)], ...], MinLen(1)]


@dataclass(frozen=True)
class Photos(Checked):
    """The colours of one photograph transported to those of another: scikit-learn's china.jpg and flower.jpg.

    A point is the red, green and blue of a pixel, each in [0, 1]; a picture has 273,280.  The default ε leaves a noise
    of √(ε/2) = 0.05 in each channel half-way between two given colours: far less than the palettes' spread of 0.2–0.35,
    so colours keep their order, and several times the 1/255 between neighbouring colours, so the palette's grain does
    not matter.

    Raises:
        InputError: more points are asked for than a picture has pixels.
    """

    name: ClassVar[str] = "photos"

    epsilon: Positive = 0.005
    """ε of dX = u dt + √(2ε) dW, in squared units of a colour channel that runs from 0 to 1."""
    samples: Count = 20_000
    """Training pixels per picture, chosen at random."""
    test_samples: Count = 10_000
    """Held-out pixels per picture, none of them among the training pixels."""
    seed: Seed = 0
    """Seed of the choice of pixels."""

    @staticmethod
    def pictures() -> tuple[Tensor, Tensor]:
        """Both pictures, (height, width, 3), with channels in [0, 1]."""
        from sklearn.datasets import load_sample_image  # here, because importing it takes long

        china, flower = (torch.from_numpy(load_sample_image(f"{name}.jpg") / np.float32(255)) for name in _PICTURES)
        return china, flower

    def build(self) -> Problem:
        """The problem; its truth is not known."""
        generator = torch.Generator().manual_seed(self.seed)
        (x0, test0), (x1, test1) = (self._pixels(picture, generator) for picture in self.pictures())
        return Problem(x0, x1, self.epsilon, test0, test1, self.name, columns=("red", "green", "blue"))

    def _pixels(self, picture: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        colours, wanted = picture.reshape(-1, 3), self.samples + self.test_samples
        if wanted > len(colours):
            raise InputError(f"samples and test_samples come to {wanted}, but a picture has {len(colours)} pixels")
        chosen = colours[torch.randperm(len(colours), generator=generator)[:wanted]]
        return chosen[: self.samples], chosen[self.samples :]


@dataclass(frozen=True)
class Digits(Checked):
    """Handwritten digits of some classes to those of others: scikit-learn's 8 × 8 images, about 180 of each class.

    Pixels are in [0, 1].  At the default ε the entropic plan from 3 to 8 gives a digit about 12 partners among 174: at
    0.01 it is near a matching of single images (2 partners), at 0.5 near independence (149).

    Raises:
        InputError: a class is not a digit, or one list is empty; both lists share a class; or components does not fit.
    """

    name: ClassVar[str] = "digits"

    source: _Classes = (3,)
    """Classes of x0, from 0 to 9."""
    target: _Classes = (8,)
    """Classes of x1, from 0 to 9."""
    components: Annotated[int, Ge(1), Le(64)] | None = None
    """Principal components of the training images to keep; None keeps all 64 pixels."""
    epsilon: Positive = 0.05
    """ε of dX = u dt + √(2ε) dW, in squared units of a pixel that runs from 0 to 1."""
    held_out: Fraction = 0.2
    """Fraction of the images that is held out."""
    seed: Seed = 0
    """Seed of the split."""

    def validate(self) -> None:
        if set(self.source) & set(self.target):
            raise InputError(f"source {self.source} and target {self.target} must not share a class")

    def build(self) -> Problem:
        """The problem; its truth is not known."""
        from sklearn.datasets import load_digits  # here, because importing it takes long

        digits = load_digits()
        images = torch.from_numpy(digits.data / 16).float()
        x0, x1 = (images[np.isin(digits.target, classes)] for classes in (self.source, self.target))
        generator = torch.Generator().manual_seed(self.seed)
        problem = Problem.split(x0, x1, self.epsilon, self.held_out, generator, self.name)
        return problem if self.components is None else _reduced(problem, self.components)


def _reduced(problem: Problem, components: int) -> Problem:
    """The problem in the leading principal axes of its training points, which keep distances in the pixels' unit."""
    points = torch.cat([problem.x0, problem.x1])
    centre = points.mean(0)
    axes = torch.linalg.svd(points - centre, full_matrices=False).Vh[:components].T
    x0, x1, test0, test1 = ((x - centre) @ axes for x in (problem.x0, problem.x1, problem.test0, problem.test1))
    return Problem(x0, x1, problem.epsilon, test0, test1, f"{problem.name} d={components}")
