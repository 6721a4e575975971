"""Points with their column names, in whatever kind they come: arrays, tensors, tables, AnnData, files."""

from sbridge.points.annotated import loadings_of
from sbridge.points.kinds import Kind
from sbridge.points.memory import points_of
from sbridge.points.names import expanded, places_of
from sbridge.points.points import Points

__all__ = ["Kind", "Points", "expanded", "loadings_of", "places_of", "points_of"]
