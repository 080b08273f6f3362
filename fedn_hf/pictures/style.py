"""What all pictures share: colours and hatches, how time is written on an axis, and how a file is made of a figure."""

import functools
import math
import re
import unicodedata
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..annotation import ExpressionInterval
from ..files_fedn import replacing
from ..media_fedn import FednError, install

SUFFIXES = (".png", ".svg")
INK, FAINT, GAP = "#1a1a1a", "#767676", "#e4e4e4"
# Colour-blind safe (Okabe & Ito, 2008). Types also differ in place, and in hatching where a bar is wide enough.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\", "++++", "oooo")
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 3)), (0, (8, 2)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")

# Scripts that matplotlib's own font lacks; of these the installed ones are used.
_MORE_FONTS = ("Noto Sans CJK SC", "Noto Sans CJK JP", "Source Han Sans SC", "Microsoft YaHei", "PingFang SC")
_TICKS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)


def need_matplotlib() -> None:
    """
    Raises:
        `FednError`: it is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise FednError(f"pictures are drawn with matplotlib: {install('viz')}") from error


def rules() -> Any:
    """A context in which everything drawn, and every file made, looks as the house wants it."""
    need_matplotlib()
    import matplotlib

    return matplotlib.rc_context(
        {
            "font.family": list(_fonts()),
            "font.size": 9,
            "text.color": INK,
            "text.parse_math": False,  # a dollar in a file's name is a dollar
            "axes.edgecolor": FAINT,
            "axes.labelcolor": INK,
            "axes.linewidth": 0.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 10,
            "axes.titlelocation": "left",
            "hatch.linewidth": 0.6,
            "legend.frameon": False,
            "legend.fontsize": 8.5,
            "svg.fonttype": "none",  # text stays text: small, to be searched, and edited for a paper
            "svg.hashsalt": "fedn_hf",  # the same picture gives the same bytes
            "xtick.color": FAINT,
            "xtick.labelcolor": INK,
            "ytick.color": FAINT,
            "ytick.labelcolor": INK,
        }
    )


def new_figure(width_in: float, height_in: float):
    """An empty figure that no window and no global state knows of, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained", facecolor="white")


def save(figure, path: str | Path, description: str | None = None) -> None:
    """
    Write a figure as the file that its suffix names, whole or not at all.

    Args:
        figure: of a `draw_` function.
        path: of a .png or .svg.
        description: kept in the file, where programs show what a picture is of.

    Raises:
        `FednError`: a suffix other than .png and .svg.

    Example:
        >>> from fedn_hf.pictures import draw_calibration
        >>> figure = draw_calibration([0.9, 0.8, 0.3], [True, True, False])
        >>> save(figure, "calibration.svg")
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise FednError(f"{path}: pictures are {' or '.join(SUFFIXES)}, got {path.suffix or 'no suffix'}")
    with replacing(path) as unfinished:
        write_figure(figure, unfinished, kind[1:], description)


def write_figure(figure, file: Any, kind: str, description: str | None = None) -> None:
    """Write a figure into a file or an open one; `kind` is "png" or "svg", `description` as in `save`."""
    # Without a date the same picture gives the same bytes.
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    if description is not None:
        metadata["Description"] = plain(description)
    with rules():
        figure.savefig(file, format=kind, dpi=150, metadata=metadata)


def plain(text: Any) -> str:
    """Text that any file can hold: control characters and undecodable bytes of names become visible marks."""
    return "".join("\ufffd" if unicodedata.category(sign) in ("Cc", "Cs") else sign for sign in str(text))


def shortened(text: Any, most: int) -> str:
    """The same, without its middle where it is longer than that: names of files tell by both ends."""
    text = plain(text)
    half = (most - 1) // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half:]}"


def clock(seconds: float, decimals: int = 0) -> str:
    """m:ss, or h:mm:ss from an hour on."""
    whole = round(seconds * 10**decimals)
    whole, parts = divmod(whole, 10**decimals)
    tail = f".{parts:0{decimals}}" if decimals else ""
    if whole >= 3600:
        return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}{tail}"
    return f"{whole // 60}:{whole % 60:02}{tail}"


def time_axis(axis, start_s: float, end_s: float, most_ticks: int = 12) -> None:
    """Limits, and ticks at round times, of an axis in seconds."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    length_s = end_s - start_s
    fitting = [step for step in _TICKS_S if length_s / step <= most_ticks]
    step_s = fitting[0] if fitting else _TICKS_S[-1] * math.ceil(length_s / most_ticks / _TICKS_S[-1])
    axis.set_xlim(start_s, end_s)
    axis.xaxis.set_major_locator(MultipleLocator(step_s))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: clock(value, 1 if step_s < 1 else 0)))


def type_of(event: ExpressionInterval) -> str:
    """Its type in words; coders may not say."""
    return event.type or "no type"


def named(*parts: object) -> str:
    """An id for an artist, which stands in SVG files."""
    return re.sub(r"[^\w.]+", "-", "-".join(map(str, parts)))


def type_order(types: Iterable[str]) -> list[str]:
    """Each type once, macro-expressions first and micro-expressions second, whatever else there is after them."""
    types = set(types)
    usual = ["macro-expression", "micro-expression"]
    return [name for name in usual if name in types] + sorted(types - set(usual))


def type_style(types: Iterable[str], name: str) -> dict[str, Any]:
    """Colour, hatch and marker of a type; those of macro- and micro-expressions are the same in every picture."""
    usual = ["macro-expression", "micro-expression"]
    place = usual.index(name) if name in usual else 2 + [t for t in type_order(types) if t not in usual].index(name)
    return {"color": cycled(COLOURS, place), "hatch": cycled(HATCHES, place), "marker": cycled(MARKERS, place)}


def cycled(values: Sequence, place: int) -> Any:
    """The value at a place, from the start again after the last one."""
    return values[place % len(values)]


@functools.cache
def _fonts() -> tuple[str, ...]:
    from matplotlib import font_manager

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # building the cache of fonts for the first time is said loudly
        known = {font.name for font in font_manager.fontManager.ttflist}
    return ("DejaVu Sans", *(name for name in _MORE_FONTS if name in known))


def font_file(text: str) -> str:
    """The file of the first of the fonts that has all signs of a text, or else of the first, for Pillow."""
    return _font_file(frozenset(text))


@functools.lru_cache(4096)
def _font_file(signs: frozenset[str]) -> str:
    from matplotlib import font_manager

    files = [font_manager.findfont(name) for name in _fonts()]
    having = (file for file in files if all(font_manager.get_font(file).get_char_index(ord(sign)) for sign in signs))
    return next(having, files[0])


__all__ = [
    "COLOURS",
    "FAINT",
    "GAP",
    "HATCHES",
    "INK",
    "LINES",
    "MARKERS",
    "SUFFIXES",
    "clock",
    "cycled",
    "font_file",
    "named",
    "need_matplotlib",
    "new_figure",
    "plain",
    "rules",
    "save",
    "shortened",
    "time_axis",
    "type_of",
    "type_order",
    "type_style",
    "write_figure",
]
