"""One thread, so that sums have one order, and no deadlines, so that a busy machine changes no result."""

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("sbridge", deadline=None)
settings.load_profile("sbridge")
