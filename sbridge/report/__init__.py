"""The report: a run as one page that needs no other file."""

from sbridge.report.content import Exhibit, Material, Section
from sbridge.report.page import SECTIONS, build

__all__ = ["SECTIONS", "Exhibit", "Material", "Section", "build"]
