"""Pictures of results, for papers and for a first look: every function draws and gives a matplotlib `Figure`.

Needs the extra `viz`; importing this needs nothing. Colours are told apart by people who are colour-blind, and every
difference is also one of place, shape or hatching, so that a black-and-white print says the same.
"""

from .filmstrip import draw_filmstrip
from .overview import draw_overview
from .scores import draw_calibration, draw_precision_recall, is_right
from .style import save
from .timeline import draw_timeline

__all__ = [
    "draw_calibration",
    "draw_filmstrip",
    "draw_overview",
    "draw_precision_recall",
    "draw_timeline",
    "is_right",
    "save",
]
