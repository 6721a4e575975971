"""One thread, so that sums have one order; no deadlines, so that a busy machine changes no result."""

import os
import tempfile

import torch
from hypothesis import settings

torch.set_num_threads(1)
os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp()  # where searches are remembered
settings.register_profile("sbridge", deadline=None)
settings.load_profile("sbridge")
