"""The default solver: contenders from cheap to dear, chosen on held-out points.

closed      the contenders in closed form; contenders: both directions of a fit, and the choice between fits
held_out    the points by which they are compared; contest: the fit in progress; account: the table of what was tried
solver      `Auto`, and the solvers by their names
"""

from sbridge.auto.account import Account, Tried
from sbridge.auto.contest import Contest
from sbridge.auto.solver import SOLVERS, Auto, within

__all__ = ["SOLVERS", "Account", "Auto", "Contest", "Tried", "within"]
