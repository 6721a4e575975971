"""One thread, so that sums have one order; no deadlines, so that a busy machine changes no result."""

import os
import tempfile

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp()  # where searches are remembered
settings.register_profile("sbridge", deadline=None)
settings.load_profile("sbridge")


@pytest.fixture
def little_care(monkeypatch: pytest.MonkeyPatch) -> None:
    """Certificates by few paths, for tests that need them to be the same twice, but not exact."""
    from sbridge.evaluation.certificate.duality import Care  # here, because not every test needs the whole package

    little = Care(paths=1024, fitted_steps=20, starts=64, per_start=16)
    monkeypatch.setattr(Care, "for_points", staticmethod(lambda count: little))
