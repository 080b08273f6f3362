"""Who looks at which video: a folder for each session that goes when it does, and the processes that read videos.

Videos come from strangers, so detection, faces for filmstrips and copies for browsers are made in a `Sandbox`. Folders
have names that nobody can guess; a browser that knows one is that session's.
"""

import os
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from .. import exporters
from ..annotation import ExpressionAnnotation, ExpressionInterval
from ..files_fedn import replacing
from ..html_report import write_report
from ..media_fedn import FednError, MediaError
from ..results_fedn import FednDetections
from ..sandbox import Sandbox
from .review import Review

CROP_PX = 160
_STRIPS = 200  # kept for going back to them: 230 kB each
# With several faces a filmstrip has to follow all of them from the beginning of the video.
LATEST_STRIP_S = 300.0
_drawing = threading.Lock()  # matplotlib's settings are everybody's


@dataclass(frozen=True)
class AppLimits:
    """
    What a visitor may ask for.

    Args:
        upload_bytes: size of a file that is sent.
        video_s: seconds of a video that are looked at; what comes after is left out, and the page says so.
    """

    upload_bytes: int = 8 * 2**30
    video_s: float = 4 * 3600.0


class Stopped(FednError):
    """The user did not want to wait."""


@dataclass
class Session:
    """
    What one visitor looks at.

    folder: holds the video, what is made of it, and nothing else.
    name: of the video, as the visitor knows it.
    video: where it lies in the folder.
    source: where a video lies that was named when the app was started; `None` for one that was sent.
    copy: of the video, for a browser that cannot play it.
    chosen: key of the event that is being looked at.
    count: how often the visitor has chosen one.
    sent: files that came from the visitor.
    strips: faces of events that have been looked at, the last ones; `looking` is held while more are made.
    """

    folder: Path
    name: str = ""
    video: Path | None = None
    source: str | None = None
    copy: Path | None = None
    review: Review | None = None
    chosen: str | None = None
    count: int = 0
    is_stopped: bool = False
    sent: list[Path] = field(default_factory=list)
    strips: dict[ExpressionInterval, dict] = field(default_factory=dict)
    looking: threading.Lock = field(default_factory=threading.Lock)

    def take(self, path: str | Path, is_sent: bool) -> None:
        """
        Look at another video: a file that was sent, or one that was named when the app was started.

        Raises:
            `FednError`: it is not there.
        """
        path = Path(path)
        self.is_stopped = True  # what is being done with the video before is for nobody
        self.review = self.copy = self.chosen = None
        self.strips.clear()
        self.name, self.source = path.name, None if is_sent else str(path)
        for old in self.folder.iterdir():
            old.unlink()
        # The suffix tells browsers what it is; the name is not needed and may hold anything.
        self.video = (
            self.folder / f"video{path.suffix.lower() if re.fullmatch(r'[.][A-Za-z0-9]+', path.suffix) else ''}"
        )
        try:
            (os.link if is_sent else os.symlink)(path.resolve(strict=True), self.video)
        except OSError as error:
            self.video = None
            raise FednError(f"{self.name}: it is no longer there; choose it again") from error
        if is_sent:
            self.sent.append(path)

    def watched(self) -> Path:
        """
        The video.

        Raises:
            `FednError`: none has been chosen yet.
        """
        if self.video is None:
            raise FednError("choose a video first")
        return self.video

    def close(self) -> None:
        """Remove everything that the visitor has sent and that was made of it."""
        self.is_stopped = True
        shutil.rmtree(self.folder, ignore_errors=True)
        for path in self.sent:
            with suppress(OSError):
                path.unlink()

    def reviewed(self) -> Review:
        """
        The review of the video.

        Raises:
            `FednError`: nothing has been found yet, or the session has ended meanwhile.
        """
        if self.review is None:
            raise FednError("there is nothing to look at: choose a video, and let its expressions be found")
        return self.review


class Desk:
    """
    All sessions, and what reads their videos.

    Args:
        model, revision, device, threads: as of `load_pipeline`.
        videos: files that may be chosen in the page.
        is_sandboxed: whether videos are read in a process of its own.
        limits: what a visitor may ask for.

    Raises:
        `FednError`: as `load_pipeline`.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        revision: str | None = None,
        device: str | None = None,
        threads: int | None = None,
        videos: list[str] | None = None,
        is_sandboxed: bool = True,
        limits: AppLimits | None = None,
    ):
        wish: dict[str, Any] = {"revision": revision, "device": device, "threads": threads}
        self._open: Callable[[], Sandbox | _Unboxed] = partial(Sandbox if is_sandboxed else _Unboxed, model, **wish)
        self.limits = limits or AppLimits()
        self.videos = videos or []
        self.sessions: dict[str, Session] = {}
        self._busy = threading.Lock()
        self._spare = threading.Lock()
        self.detector = self._open()
        self.viewer: Sandbox | _Unboxed | None = None
        self.folder = Path(tempfile.mkdtemp(prefix="fedn_app_"))  # only its owner may look into it
        for name in ("sent", "sessions"):
            (self.folder / name).mkdir()

    def close(self) -> None:
        """End all sessions and processes, and remove all files."""
        for visitor in list(self.sessions):
            self.leave(visitor)
        for reader in (self.detector, self.viewer):
            if reader is not None:
                reader.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def of(self, visitor: str) -> Session:
        """The session of a visitor, who may be new."""
        if visitor not in self.sessions:
            folder = self.folder / "sessions" / secrets.token_urlsafe(32)
            folder.mkdir()
            self.sessions[visitor] = Session(folder)
        return self.sessions[visitor]

    def leave(self, visitor: str) -> None:
        """A visitor has closed the page."""
        if session := self.sessions.pop(visitor, None):
            session.close()

    def find(self, session: Session, faces: str, hook: Callable) -> None:
        """
        Find the expressions in a session's video.

        Raises:
            `FednError`: the video cannot be read, or `Stopped`.
        """
        video = session.watched()
        session.is_stopped = False
        try:
            with self._busy:
                raw = self.detector(video, faces=faces, end_s=self.limits.video_s, hook=_stoppable(session, hook))
        except MediaError as error:
            raise FednError(f"{session.name}: {error.reason}") from error
        path = session.source or session.name  # where the file lies here is of no use to anybody
        is_cut = float(raw.time_s[-1]) > self.limits.video_s - 1
        facts = {"source": path, "end_s": self.limits.video_s if is_cut else None}
        raw = replace(raw, video={**raw.video, "path": path}, provenance={**raw.provenance, **facts})
        session.review = Review.of(raw)
        session.chosen = next(iter(session.review.events), None)

    def strip(self, session: Session, event: ExpressionInterval) -> dict:
        """
        The face at onset, apex and offset of an event, as `event_crops` gives it.

        Raises:
            `FednError`: the video cannot be read, or too much of it would have to be.
        """
        known = session.reviewed().base
        if known.provenance.get("faces") == "all" and event.offset_s > LATEST_STRIP_S:
            raise FednError(f"with several faces there are pictures of the first {LATEST_STRIP_S / 60:g} minutes only")
        with session.looking:
            if event not in session.strips:
                if len(session.strips) >= _STRIPS:
                    session.strips.clear()
                known = replace(known, intervals=[event], coverage=[], curves=[])
                session.strips[event] = self._crops(session, known)
            return session.strips[event]

    def _crops(self, session: Session, known: ExpressionAnnotation) -> dict:
        # While somebody else's video is being looked at, another process does this.
        is_free = self._busy.acquire(blocking=False)
        try:
            if is_free:
                return self.detector.crops(session.watched(), known, CROP_PX)[0]
            with self._spare:
                self.viewer = self.viewer or self._open()
            return self.viewer.crops(session.watched(), known, CROP_PX)[0]
        except MediaError as error:
            raise FednError(f"no pictures of it: {error.reason}") from error
        finally:
            if is_free:
                self._busy.release()

    def copy(self, session: Session, hook: Callable) -> None:
        """
        Make a copy that every browser plays.

        Raises:
            `FednError`: the video cannot be read, or `Stopped`.
        """
        session.is_stopped = False
        target = session.folder / "copy.mp4"
        reader = self._open()
        try:
            reader.copy(session.watched(), target, hook=_stoppable(session, hook))
        except MediaError as error:
            raise FednError(f"{session.name}: {error.reason}") from error
        finally:
            reader.close()
        session.copy = target


def _stoppable(session: Session, hook: Callable) -> Callable:
    def told(
        step: str, artifact: object, file: str | None = None, total: int | None = None, completed: int | None = None
    ) -> None:
        if session.is_stopped:
            raise Stopped("stopped")
        if completed is not None:
            hook(completed, total)

    return told


def written(session: Session, format: str) -> Path:
    """
    A file of the review in a format of `fedn_hf.exporters`, or of "truth", the corrected ground truth. What comes with
    a file for its provenance is packed together with it.

    Raises:
        `FednError`: something that the format cannot hold.
    """
    review = session.reviewed()
    stem = re.sub(r"[^\w.-]+", "_", Path(session.name).stem) or "video"
    if format == "truth":
        path = session.folder / f"{stem}.truth.csv"
        exporters.write_many([review.truth()], path, "csv", with_provenance=False)
        return path
    with tempfile.TemporaryDirectory(dir=session.folder) as made:
        path = Path(made) / f"{stem}{exporters.format_of('', format).suffix}"
        with _drawing:
            if format == "html":  # without faces: they would be read here, and from whatever has the video's name
                write_report([review.annotation()], path, videos=[None])
            else:
                exporters.write(review.annotation(), path, format)
        files = sorted(Path(made).iterdir())
        if len(files) == 1:
            return files[0].replace(session.folder / path.name)
        packed = session.folder / f"{path.name}.zip"
        with replacing(packed) as unfinished, ZipFile(unfinished, "w") as archive:
            for file in files:
                archive.write(file, file.name)
        return packed


class _Unboxed:
    """What a `Sandbox` does, in this process: for systems that have none, and for files that are trusted."""

    def __init__(self, model: str | None, *, revision: str | None, device: str | None, threads: int | None):
        from ..sandbox import load_quietly

        self._detect = load_quietly(model, revision=revision, device=device, threads=threads)

    def __call__(self, path: Path, **reading: Any) -> FednDetections:
        return self._detect(str(path), return_raw=True, **reading)

    def crops(self, path: Path, annotation: ExpressionAnnotation, image_size: int) -> list[dict]:
        from ..tracks import event_crops

        return event_crops(annotation, path, image_size=image_size)

    def copy(self, path: Path, target: Path, *, hook: Callable) -> None:
        from ..overlay import copy_playable

        with replacing(target) as unfinished, open(unfinished, "wb") as file:
            copy_playable(path, file, hook=hook)

    def close(self) -> None:
        pass


__all__ = ["CROP_PX", "AppLimits", "Desk", "Session", "Stopped", "written"]
