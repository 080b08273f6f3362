"""One frame of an overlay video: boxes and names on the picture, time and events in a band below it.

Macro-expressions run above micro-expressions in the band, so nothing hangs on colour. Pillow draws; nothing is drawn
over the picture but boxes and names.
"""

import functools

import numpy as np

from .annotation import ExpressionAnnotation, ExpressionInterval
from .media_fedn import FednError, install
from .pictures.style import clock, font_file, need_matplotlib, plain, shortened, type_of, type_order
from .pictures.timeline import gaps, seen_span

WINDOW_S = 10.0  # seconds in the running part of the band, the present in the middle
# On dark ground the lighter relatives of the pictures' blue and red (Okabe & Ito, 2008).
_COLOURS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (204, 121, 167))
_GROUND, _STRIP, _GAP, _INK, _FAINT = (24, 24, 24), (46, 46, 46), (84, 84, 84), (245, 245, 245), (150, 150, 150)
_CELLS = 4  # colours on each side that are left of a hidden face
_AROUND = (0.35, 0.5, 0.35, 0.3)  # left, top, right, bottom: hidden beside the landmarks' box, as a part of it


def hide_face(rgb: np.ndarray, box: np.ndarray) -> None:
    """
    Replace a face and what is around it by 4 x 4 colours that run into each other, in place.

    A blur by a filter can be undone in part; means of a quarter of a head hold no features. The same cells move with
    the face, so that many frames say no more than one.

    Args:
        rgb: uint8 (H, W, 3).
        box (4,): left, top, right, bottom of the landmarks in pixels; may lie partly outside.

    Example:
        >>> picture = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
        >>> hide_face(picture, np.array([30.0, 30.0, 70.0, 70.0]))
        >>> bool(picture[40:60, 40:60].std() < 20), bool(picture[:8].std() > 60)
        (True, True)
    """
    from PIL import Image

    height, width = rgb.shape[:2]
    size = np.tile(box[2:] - box[:2], 2)
    wide = box + np.array([-1, -1, 1, 1]) * np.array(_AROUND) * size
    left, top = np.clip(np.floor(wide[:2]), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(wide[2:]), 0, (width, height)).astype(int)
    if right <= left or bottom <= top:
        return
    region = Image.fromarray(np.ascontiguousarray(rgb[top:bottom, left:right]))
    cells = region.resize((_CELLS, _CELLS), Image.Resampling.BOX)
    rgb[top:bottom, left:right] = np.asarray(cells.resize(region.size, Image.Resampling.BILINEAR))


class Painter:
    """
    Draws the frames of one overlay video.

    Args:
        annotation: whose events are shown.
        width, height: of the video's frames in pixels.

    Attributes:
        size: width and height of the new frames, both even.

    Raises:
        `FednError`: matplotlib or Pillow is not installed.
    """

    def __init__(self, annotation: ExpressionAnnotation, width: int, height: int):
        need_matplotlib()  # its fonts are used
        try:
            import PIL  # noqa: F401
        except ImportError as error:
            raise FednError(f"overlays are drawn with Pillow: {install('viz')}") from error
        self.annotation, self.width, self.height = annotation, width, height
        self.unit = int(np.clip(min(width, height) / 26, 11, 44))  # height of text in pixels
        self.types = type_order(map(type_of, annotation)) or ["macro-expression"]
        self.span = seen_span(annotation)
        self.several = len({event.face_id for event in annotation}) > 1
        self._onsets, self._offsets = (
            np.array([getattr(event, name) for event in annotation], float) for name in ("onset_s", "offset_s")
        )
        lane = max(3, round(0.55 * self.unit))
        pad = self.unit // 2
        self._lane, self._pad = lane, pad
        self._text_y = pad
        self._strip_y = self._text_y + round(1.5 * self.unit)
        self._strip_height = max(round(2.2 * self.unit), 2 * lane)
        self._whole_y = self._strip_y + self._strip_height + pad
        band = self._whole_y + lane * len(self.types) + 2 + pad
        self.size = (width + width % 2, height + band + (height + band) % 2)
        self._curves = [_Curve(curve) for curve in annotation.curves if "score" in curve][:1]
        self._band = self._whole()

    def draw(self, rgb: np.ndarray, time_s: float, boxes: dict[int, np.ndarray]) -> np.ndarray:
        """
        A new frame.

        Args:
            rgb: uint8 (H, W, 3) of the video.
            time_s: its time.
            boxes: face_id -> (4,) left, top, right, bottom.

        Returns:
            uint8 (size[1], size[0], 3).
        """
        from PIL import Image, ImageDraw

        now = self._current(time_s)
        picture = Image.fromarray(np.ascontiguousarray(rgb))
        self._draw_faces(ImageDraw.Draw(picture), now, boxes, time_s)
        frame = np.full((self.size[1], self.size[0], 3), _GROUND, np.uint8)
        frame[: self.height, : self.width] = np.asarray(picture)
        frame[self.height :] = np.asarray(self._draw_band(now, time_s))
        return frame

    def _current(self, time_s: float) -> list[ExpressionInterval]:
        there = np.flatnonzero((self._onsets <= time_s) & (time_s < self._offsets))
        return [self.annotation.intervals[i] for i in there]

    def _colour(self, event: ExpressionInterval) -> tuple[int, int, int]:
        return _COLOURS[self.types.index(type_of(event)) % len(_COLOURS)]

    # --- on the picture -------------------------------------------------------------------------------------------

    def _draw_faces(self, pen, now: list[ExpressionInterval], boxes: dict[int, np.ndarray], time_s: float) -> None:
        line = max(2, self.unit // 6)
        for face, box in boxes.items():
            # Without numbers to go by, as in a coder's annotation of one face, the face is the one that is followed.
            mine = [event for event in now if event.face_id == face or not self.several]
            left, top, right, bottom = np.round(box).astype(int).tolist()
            pen.rectangle((left - line, top - line, right + line, bottom + line), outline=(0, 0, 0), width=line)
            colour = self._colour(mine[0]) if mine else _INK
            pen.rectangle((left, top, right, bottom), outline=colour, width=line if mine else max(1, line // 2))
            names = [_sentence(event) for event in mine] or ([f"face {face}"] if self.several else [])
            colours = [self._colour(event) for event in mine] or [_FAINT]
            self._draw_plates(pen, list(zip(names, colours, strict=False)), left, top, bottom)
        unseen = [event for event in now if (event.face_id not in boxes if self.several else not boxes)]
        plates = [(f"{_sentence(event)}, face not seen", self._colour(event)) for event in unseen]
        self._draw_plates(pen, plates, 0, 0, 0)

    def _draw_plates(self, pen, plates: list[tuple[str, tuple]], left: int, top: int, bottom: int) -> None:
        """Names above a box, or below where there is no room, within the picture."""
        height = round(1.5 * self.unit)
        y = top - height * len(plates) - 2
        if y < 0:
            y = min(bottom + 2, self.height - height * len(plates))
        for text, colour in plates:
            font = _font(text, self.unit)
            width = pen.textlength(text, font) + self.unit
            x = float(np.clip(left, 0, max(0, self.width - width)))
            pen.rectangle((x, y, x + width, y + height), fill=_GROUND)
            pen.rectangle((x, y, x + max(3, self.unit // 4), y + height), fill=colour)
            pen.text((x + self.unit / 2, y + height / 2), text, fill=_INK, font=font, anchor="lm")
            y += height

    # --- below it -------------------------------------------------------------------------------------------------

    def _whole(self):
        """The band with all that does not move: the whole video from left to right."""
        from PIL import Image, ImageDraw

        band = Image.new("RGB", (self.size[0], self.size[1] - self.height), _GROUND)
        pen = ImageDraw.Draw(band)
        top, bottom = self._whole_y, self._whole_y + self._lane * len(self.types)
        pen.rectangle((self._pad, top, self.size[0] - self._pad, bottom), fill=_STRIP)
        for start_s, end_s in gaps(self.annotation, *self.span):
            pen.rectangle((self._whole_x(start_s), top, self._whole_x(end_s), bottom), fill=_GAP)
        for event in self.annotation:
            y = top + self._lane * self.types.index(type_of(event))
            x = self._whole_x(event.onset_s)
            pen.rectangle(
                (x, y + 1, max(x + 1, self._whole_x(event.offset_s)), y + self._lane - 1), self._colour(event)
            )
        return band

    def _whole_x(self, time_s: float) -> float:
        share = (time_s - self.span[0]) / (self.span[1] - self.span[0])
        return self._pad + float(np.clip(share, 0, 1)) * (self.size[0] - 2 * self._pad)

    def _draw_band(self, now: list[ExpressionInterval], time_s: float):
        from PIL import ImageDraw

        band = self._band.copy()
        pen = ImageDraw.Draw(band)
        self._draw_strip(pen, time_s)
        x = self._whole_x(time_s)
        end = self._whole_y + self._lane * len(self.types)
        pen.rectangle((x - 1, self._whole_y - 2, x + 1, end + 2), fill=_INK)
        words = f"{clock(time_s, 1)} / {clock(self.span[1], 1)}"
        y = self._text_y + self.unit * 0.6
        pen.text((self._pad, y), words, fill=_INK, font=_font(words, self.unit), anchor="lm")
        room = self.size[0] - 3 * self._pad - pen.textlength(words, _font(words, self.unit))
        said = "; ".join(_sentence(event) for event in now)
        font = _font(said, self.unit)
        while said and pen.textlength(said, font) > room:
            said = shortened(said, len(said) - 2) if len(said) > 6 else ""
        pen.text((self.size[0] - self._pad, y), said, fill=_INK, font=font, anchor="rm")
        return band

    def _draw_strip(self, pen, time_s: float) -> None:
        """Some seconds before and after the present: events by type, the score as a line, gaps."""
        first_s, scale = time_s - WINDOW_S / 2, (self.size[0] - 2 * self._pad) / WINDOW_S
        top, bottom = self._strip_y, self._strip_y + self._strip_height
        left, right = self._pad, self.size[0] - self._pad

        def x_of(at_s: float) -> float:
            return float(np.clip(self._pad + (at_s - first_s) * scale, left, right))

        pen.rectangle((x_of(self.span[0]), top, x_of(self.span[1]), bottom), fill=_STRIP)
        for start_s, end_s in gaps(self.annotation, *self.span):
            if end_s > first_s and start_s < first_s + WINDOW_S:
                pen.rectangle((x_of(start_s), top, x_of(end_s), bottom), fill=_GAP)
        lane = self._strip_height / len(self.types)
        named = []
        for i in np.flatnonzero((self._offsets > first_s) & (self._onsets < first_s + WINDOW_S)):
            event = self.annotation.intervals[i]
            y = top + lane * self.types.index(type_of(event))
            left_x = x_of(event.onset_s)  # a pixel is left between one and the next
            box = (left_x, y + 2, max(x_of(event.offset_s) - 2, left_x + 1), y + lane - 2)
            pen.rectangle(box, fill=self._colour(event))
            named.append((event, box))
        for curve in self._curves:
            for points in curve.runs(first_s, first_s + WINDOW_S):
                line = [(x_of(at_s), bottom - 2 - value * (self._strip_height - 4)) for at_s, value in points]
                pen.line(line, fill=_INK, width=1)
        for event, box in named:
            self._name_bar(pen, event, box)
        pen.rectangle((x_of(time_s) - 1, top - 3, x_of(time_s) + 1, bottom + 3), fill=_INK)

    def _name_bar(self, pen, event: ExpressionInterval, box: tuple[float, float, float, float]) -> None:
        """Its label, where it fits."""
        left, top, right, bottom = box
        name = plain(event.label or "")
        font = _font(name, max(9, min(self.unit, round(bottom - top))))
        if name and pen.textlength(name, font) + 4 <= right - left:
            pen.text((left + 3, (top + bottom) / 2), name, fill=_GROUND, font=font, anchor="lm")


class _Curve:
    """The score over time of one face."""

    def __init__(self, curve: dict):
        self.time_s = np.asarray(curve["time_s"], float)
        self.values = np.array([np.nan if value is None else value for value in curve["score"]], float)

    def runs(self, start_s: float, end_s: float) -> list[list[tuple[float, float]]]:
        """Points in a stretch, in pieces without gaps."""
        first, last = np.searchsorted(self.time_s, (start_s, end_s))
        time_s, values = self.time_s[first:last], self.values[first:last]
        pieces = np.split(np.arange(len(values)), np.flatnonzero(np.diff(np.isnan(values))) + 1)
        return [
            [(float(time_s[i]), float(values[i])) for i in piece]
            for piece in pieces
            if len(piece) > 1 and not np.isnan(values[piece[0]])
        ]


def _sentence(event: ExpressionInterval) -> str:
    words = [event.label or "no label", type_of(event).removesuffix("-expression")]
    return shortened(", ".join([*words, *([] if event.score is None else [f"{event.score:.2f}"])]), 60)


@functools.lru_cache(512)
def _loaded(file: str, size: int):
    from PIL import ImageFont

    return ImageFont.truetype(file, size)


def _font(text: str, size: int):
    return _loaded(font_file(text), size)


__all__ = ["WINDOW_S", "Painter", "hide_face"]
