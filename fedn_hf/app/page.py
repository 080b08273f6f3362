"""The page of the review app: what stands where, and what happens when somebody touches it.

What must answer at once (player, timeline, table) is a small piece of HTML and JavaScript of our own, `review.html`
and `review.js`; forms, sliders and uploads are Gradio's. The page asks for nothing from anywhere but this server, and
a policy forbids it to.
"""

import base64
import html
import io
import os
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import quote

import numpy as np

from ..annotation import ExpressionInterval
from ..cli.inputs import VIDEO_SUFFIXES
from ..exporters import FORMATS
from ..html_report import _card, warnings_of
from ..media_fedn import FednError, install
from ..pictures.style import clock
from ..tracks import PARTS
from .review import LOWEST_SCORE, Review
from .sessions import Desk, Session, Stopped, written

try:
    # Before Gradio is imported, and before any of it could send anything.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import gradio as gr
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.types import ASGIApp, Message, Receive, Scope, Send
except ImportError as error:
    raise FednError(f"the review app needs gradio: {install('app')}") from error

_Values = tuple[Any, ...]  # of components, one for each that a step of the page may change
_HERE = Path(__file__).parent
_POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; "
    "style-src 'self' 'unsafe-inline'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "worker-src 'self' blob:; connect-src 'self' blob: data:; object-src 'none'; base-uri 'self'; form-action 'self'"
)
_NOW = "() => Math.round(1000 * document.querySelector('#stage video').currentTime) / 1000"
_SAVE_FILE = """(url) => {
  const link = document.createElement('a');
  link.href = url; link.download = decodeURIComponent(url.split('/').pop());
  document.body.appendChild(link); link.click(); link.remove();
}"""


class Page:
    """
    The page over a [`Desk`].

    Example:
        >>> page = Page(Desk())  # doctest: +SKIP
        >>> page.open(7860)  # doctest: +SKIP
        'http://127.0.0.1:7860/'
    """

    def __init__(self, desk: Desk):
        self.desk = desk
        os.environ["GRADIO_TEMP_DIR"] = str(desk.folder / "sent")  # components ask for it when they are made
        with gr.Blocks(title="fedn: review", analytics_enabled=False) as self.blocks:
            self._head()
            self._source()
            with gr.Column(visible=False) as self.review, gr.Row():
                with gr.Column(scale=5, min_width=320):
                    # What is drawn comes as its value; the template itself never changes, so the player plays on.
                    self.stage = gr.HTML(
                        value=None, html_template=_text("review.html"), css_template="", js_on_load=_text("review.js"),
                        apply_default_css=False, elem_id="stage",
                    )  # fmt: skip
                with gr.Column(scale=3, min_width=300, elem_id="panel"):
                    self._panel()
            self.shown = [
                self.stage, self.status, self.review, self.undo, self.redo, self.strip,
                self.kind, self.label, self.onset, self.apex, self.offset, self.face, self.key,
            ]  # fmt: skip
            self._wire()

    # --- what stands where ---

    def _head(self) -> None:
        gr.HTML(
            "<h1>Facial expressions: look and correct</h1>"
            "<p>When does each begin, peak and end? Is it a macro- or a micro-expression? What do coders call it?</p>",
            elem_id="top", padding=False,
        )  # fmt: skip
        items = "".join(f"<li>{html.escape(item)}</li>" for item in _card("Prohibited uses"))
        first, second, *rest = _card("Labels")[0].split(". ")
        gr.HTML(
            f"<p><strong>{html.escape(first)}.</strong> {html.escape(second)}.</p>"
            "<p><strong>Do not use this to judge people</strong>, and use it for people who have agreed to it alone. "
            "No expression found is no proof that there was none.</p>"
            f"<details><summary>More on labels and scores, and what this must not be used for</summary>"
            f"<p>{html.escape('. '.join(rest))} Scores rank expressions; they do not say how strong one is.</p>"
            f"<ul>{items}</ul></details>",
            elem_id="notice", padding=False,
        )  # fmt: skip

    def _source(self) -> None:
        limits = self.desk.limits
        most = f"up to {_size(limits.upload_bytes)}; the first {limits.video_s / 60:g} minutes are looked at"
        with gr.Accordion("Video", open=True) as self.source:
            with gr.Tabs():
                with gr.Tab("File"):
                    self.file = gr.File(
                        label=f"A video file, {most}", file_types=sorted(VIDEO_SUFFIXES), height=130, elem_id="file"
                    )
                with gr.Tab("Camera"):
                    self.camera = gr.Video(
                        sources=["webcam"], label="Your camera", height=300, elem_id="camera",
                        webcam_options=gr.WebcamOptions(mirror=False), buttons=[],
                    )  # fmt: skip
                    # As it came: Gradio would have an ffmpeg, which few have, take away sound that there is none of,
                    # and outside of the sandbox.
                    self.camera.preprocess = lambda sent: sent.path if sent else None
                with gr.Tab("On this computer", visible=bool(self.desk.videos)):
                    names = [(PurePath(path).name, path) for path in self.desk.videos]
                    self.listed = gr.Dropdown(names, value=None, label="Videos", elem_id="listed")
            with gr.Row(elem_id="begin"):
                self.faces = gr.Radio(
                    [("the largest face", "largest"), ("all faces", "all")], value="largest", label="Follow"
                )
                self.find = gr.Button("Find expressions", variant="primary", interactive=False, elem_id="find")
                self.stop = gr.Button("Stop", visible=False, elem_id="stop")
        self.status = gr.HTML(_said("Choose a video. It stays on this computer."), elem_id="status")

    def _panel(self) -> None:
        self.strip = gr.HTML(_strip(None), elem_id="strip", apply_default_css=False)
        with gr.Group():
            with gr.Row():
                self.kind = gr.Dropdown([], label="Type", elem_id="kind", min_width=120)
                self.label = gr.Dropdown([], label="Label", allow_custom_value=True, elem_id="label", min_width=120)
                self.face = gr.Number(label="Face", precision=0, minimum=0, elem_id="face", min_width=70)
            with gr.Row():
                self.onset, self.apex, self.offset = (
                    gr.Number(label=f"{part.capitalize()}, s", precision=3, elem_id=part, min_width=90)
                    for part in PARTS
                )
            with gr.Row():
                self.now = [gr.Button(f"{part} = now", size="sm", elem_classes="now", min_width=90) for part in PARTS]
        with gr.Row(elem_id="steps"):
            small: dict[str, Any] = {"size": "md", "min_width": 40}
            self.save = gr.Button("Save", variant="primary", elem_id="save", **small)
            self.add = gr.Button("New", elem_id="add", **small)
            self.delete = gr.Button("Delete", elem_id="delete", **small)
            self.undo = gr.Button("Undo", interactive=False, elem_id="undo", **small)
            self.redo = gr.Button("Redo", interactive=False, elem_id="redo", **small)
        with gr.Accordion("Thresholds", open=True):
            self.lowest = [
                gr.Slider(LOWEST_SCORE, 1, 0.5, step=0.01, label=f"{kind}: score from", elem_id=f"lowest-{kind}")
                for kind in ("macro", "micro")
            ]
            self.shortest = gr.Slider(0, 2, 0, step=0.05, label="Shortest expression, s", elem_id="shortest")
        with gr.Accordion("Take it along", open=True):
            with gr.Row(elem_id="take"):
                self.format = gr.Dropdown(
                    [(f"{name} ({form.suffix})", name) for name, form in FORMATS.items()], value="eaf",
                    label="Format", elem_id="format", min_width=140,
                )  # fmt: skip
                self.download = gr.Button("Download", elem_id="download", min_width=110)
            self.truth = gr.Button("Download as ground truth for fedn evaluate (.csv)", size="md", elem_id="truth")
            self.link = gr.Textbox(elem_id="link", container=False)
        # Whose values stand in the form: what is saved must not depend on which answer came first.
        self.key = gr.Textbox(elem_id="key", container=False)

    def _wire(self) -> None:
        quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
        slow: dict[str, Any] = {"show_progress_on": [self.status], "api_visibility": "private"}
        latest = {**quick, "trigger_mode": "always_last"}
        ready = [self.status, self.find, self.review]
        self.file.upload(self._take_sent, [self.file], ready, **quick)
        self.camera.stop_recording(self._take_sent, [self.camera], ready, **quick)
        self.listed.input(self._take_listed, [self.listed], ready, **quick)
        busy = [self.find, self.stop]
        found = self.find.click(_switched(False), None, busy, **quick)
        sliders = [*self.lowest, self.shortest]
        found = found.then(
            self._find, [self.faces], [*self.shown, *sliders, self.source], concurrency_limit=1,
            concurrency_id="network", **slow,
        )  # fmt: skip
        found = found.then(_switched(True), None, busy, **quick)
        found.then(self._picture, None, [self.strip], **latest)
        self.stop.click(self._stop, None, None, **quick)
        self.stage.unplayable(self._copy, None, [self.stage, self.status], concurrency_limit=1, **slow)
        # One after the other, and every one: with "always_last" the page repeats an older choice.
        in_order = {**quick, "concurrency_limit": 1, "trigger_mode": "multiple"}
        picked = self.stage.pick(self._pick, None, self.shown[6:], **in_order)
        picked.then(self._picture, None, [self.strip], **latest)
        gr.on([one.change for one in sliders], self._threshold, sliders, self.shown, **latest)
        form = [self.key, self.kind, self.label, self.onset, self.apex, self.offset, self.face]
        edits = [
            self.save.click(self._save, form, self.shown, **quick),
            self.delete.click(self._delete, [self.key], self.shown, **quick),
            self.add.click(self._add, [self.onset], self.shown, js=_NOW, **quick),
            self.undo.click(self._undo, None, self.shown, **quick),
            self.redo.click(self._redo, None, self.shown, **quick),
        ]
        for edit in edits:
            edit.then(self._picture, None, [self.strip], **latest)
        for button, field in zip(self.now, (self.onset, self.apex, self.offset), strict=True):
            button.click(None, None, [field], js=_NOW, **quick)
        for button, source in ((self.download, self.format), (self.truth, gr.State("truth"))):
            made = button.click(self._download, [source], [self.link], **quick)
            made.success(None, [self.link], None, js=_SAVE_FILE, **quick)
        self.blocks.unload(self._leave)

    # --- what happens ---

    def _session(self, request: gr.Request) -> Session:
        return self.desk.of(request.session_hash or "")  # whoever asks without a page has none

    def _take_sent(self, path: str | None, request: gr.Request) -> _Values:
        return self._take(path, request, is_sent=True)

    def _take_listed(self, path: str, request: gr.Request) -> _Values:
        # The page may be asked for anything; only what was named when the app was started is opened.
        return self._take(path if path in self.desk.videos else None, request, is_sent=False)

    def _take(self, path: str | None, request: gr.Request, is_sent: bool) -> _Values:
        hidden = gr.Column(visible=False)
        if path is None:
            return _said("Choose a video."), gr.Button(interactive=False), hidden
        session = self._session(request)
        try:
            session.take(path, is_sent)
        except FednError as error:
            return _said(str(error), bad=True), gr.Button(interactive=False), hidden
        return _said(f"{session.name} is here. Now let its expressions be found."), gr.Button(interactive=True), hidden

    def _find(self, faces: str, request: gr.Request, progress: gr.Progress = gr.Progress()) -> _Values:  # noqa: B008
        session = self._session(request)
        nothing = (gr.skip(),) * (len(self.shown) + 4)

        def told(done: int, total: int | None) -> None:
            progress((done, total) if total else (done, None), desc="Looking at frames", unit="frames")

        progress((0, None), desc="Waiting for the network", unit="frames")
        try:
            self.desk.find(session, faces, told)
        except Stopped:
            return gr.skip(), _said("Stopped."), *nothing[2:]
        except (FednError, ValueError) as error:
            return gr.skip(), _said(str(error), bad=True), *nothing[2:]
        review = session.reviewed()
        lowest = [gr.Slider(value=review.lowest_of(kind), label=f"{kind}: score from") for kind in review.raw.types]
        return *self._show(session), *lowest, gr.Slider(value=0), gr.Accordion(open=False)

    def _stop(self, request: gr.Request) -> None:
        self._session(request).is_stopped = True

    def _copy(self, request: gr.Request, progress: gr.Progress = gr.Progress()) -> _Values:  # noqa: B008
        session = self._session(request)
        try:
            self.desk.copy(session, lambda done, total: progress((done, total), desc="Making a copy", unit="frames"))
        except FednError as error:
            return gr.skip(), _said(str(error), bad=True)
        return self._scene(session), gr.skip()

    def _pick(self, request: gr.Request, event: gr.EventData) -> _Values:
        session = self._session(request)
        # Several may be on their way at once, and the first to be sent need not be the first to come.
        if session.review is not None and event.key in session.review.events and event.count > session.count:
            session.chosen, session.count = event.key, event.count
        return self._form(session)

    def _picture(self, request: gr.Request) -> Any:
        session = self._session(request)
        event = session.review.events.get(session.chosen) if session.review and session.chosen else None
        if event is None:
            return _strip(None)
        key = session.chosen or ""
        try:
            shown = _strip(event, key, self.desk.strip(session, event))
        except FednError as error:
            shown = _strip(event, key, words=str(error))
        return shown if session.chosen == key else gr.skip()  # somebody has gone on meanwhile

    def _threshold(self, first: float, second: float, shortest_s: float, request: gr.Request) -> _Values:
        if self._session(request).review is None:  # sliders that are being set up
            return (gr.skip(),) * len(self.shown)
        return self._change(
            request,
            lambda review: review.with_thresholds(
                dict(zip(review.raw.types, (first, second), strict=True)), shortest_s
            ),
        )

    def _save(
        self, key: str, kind: str | None, label: str | None, onset_s: float | None, apex_s: float | None,
        offset_s: float | None, face_id: int | None, request: gr.Request,
    ) -> _Values:  # fmt: skip
        form = {"type": kind, "label": label or None, "onset_s": onset_s, "apex_s": apex_s, "offset_s": offset_s}
        form |= {"face_id": int(face_id or 0)}
        return self._change(request, lambda review: review.correct(key, **_meant(review.events.get(key), form)))

    def _delete(self, key: str, request: gr.Request) -> _Values:
        return self._change(request, lambda review: review.delete(key))

    def _add(self, now_s: float, request: gr.Request) -> _Values:
        session = self._session(request)

        def added(review: Review) -> Review:
            onset_s = min(now_s, review.duration_s - 0.5)
            session.chosen, new = review.add(type=review.raw.types[0], onset_s=onset_s, offset_s=onset_s + 0.5)
            return new

        return self._change(request, added)

    def _undo(self, request: gr.Request) -> _Values:
        return self._change(request, Review.undo)

    def _redo(self, request: gr.Request) -> _Values:
        return self._change(request, Review.redo)

    def _change(self, request: gr.Request, step: Callable[[Review], Review]) -> _Values:
        """Take a step of the review, and show what there is then; or say why it cannot be taken."""
        session = self._session(request)
        try:
            session.review = step(session.reviewed())
        except FednError as error:
            raise gr.Error(html.escape(_sentence(str(error))), print_exception=False) from error
        if session.chosen not in session.review.events:
            session.chosen = None
        return self._show(session)

    def _download(self, format: str, request: gr.Request) -> str:
        try:
            path = written(self._session(request), format)
        except FednError as error:
            raise gr.Error(html.escape(_sentence(str(error))), print_exception=False) from error
        return _address(path)

    def _leave(self, request: gr.Request) -> None:
        self.desk.leave(request.session_hash or "")

    # --- what is shown ---

    def _show(self, session: Session) -> _Values:
        """Values of `self.shown`."""
        review = session.reviewed()
        undo, redo = (gr.Button(interactive=bool(steps)) for steps in (review.past, review.future))
        # The filmstrip takes longer, and follows.
        strip = gr.skip() if session.chosen in review.events else _strip(None)
        return (
            self._scene(session),
            _summary(session),
            gr.Column(visible=True),
            undo,
            redo,
            strip,
            *self._form(session),
        )

    def _form(self, session: Session) -> _Values:
        """Values of the fields that stand for the chosen event, and its key."""
        event = session.review.events.get(session.chosen) if session.review and session.chosen else None
        if session.review is None or event is None:
            return gr.Dropdown(value=None), gr.Dropdown(value=None), None, None, None, None, ""
        base = session.review.base
        return (
            gr.Dropdown([(kind.removesuffix("-expression"), kind) for kind in base.types], value=event.type),
            gr.Dropdown(list(dict.fromkeys([*base.labels, *filter(None, [event.label])])), value=event.label),
            event.onset_s, event.apex_s, event.offset_s, event.face_id, session.chosen,
        )  # fmt: skip

    def _scene(self, session: Session) -> dict[str, Any]:
        """What `review.js` draws."""
        review = session.reviewed()
        base = review.base
        names = ("type", "label", "score", "onset_s", "apex_s", "offset_s", "face_id")
        seen: dict[int, list] = {face: [] for face in review.curves()}
        for row in base.coverage:
            seen.setdefault(row["face_id"], []).append((round(row["start_s"], 3), round(row["end_s"], 3)))
        for event in review.events.values():
            seen.setdefault(event.face_id, [])
        curves = review.curves()
        return {
            "video": _address(session.copy or session.watched()),
            "is_copy": session.copy is not None,
            "is_changed": any(review.counts().values()),
            "duration_s": review.duration_s,
            "fps": review.fps,
            "types": base.types,
            "chosen": session.chosen,
            "faces": [
                {"face_id": face, "seen": seen[face], "curve": curves.get(face, [])} for face in sorted(seen)
            ],
            "events": [
                {"key": key, "by": review.origin(key), **{name: getattr(event, name) for name in names}}
                for key, event in review.events.items()
            ],
        }  # fmt: skip

    # --- serving ---

    def open(self, port: int | None = None, *, host: str = "127.0.0.1", in_browser: bool = False) -> str:
        """
        Serve the page, in threads of its own, until `close`.

        Args:
            port: by default a free one from 7860 on.
            host: other machines can reach the page only where this is "0.0.0.0", as in a container.

        Returns:
            The address.

        Raises:
            `FednError`: the port is taken, or the page cannot be reached.
        """
        middleware = [Middleware(_Policy)]
        if host == "127.0.0.1":  # a name that somebody else's page has made to mean this computer is refused
            middleware.append(Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"]))
        try:
            _, address, _ = self.blocks.queue(max_size=32).launch(
                server_name=host, server_port=port, share=False, inbrowser=in_browser, quiet=True, show_error=False,
                prevent_thread_lock=True, footer_links=[], run_history=False, enable_monitoring=False, pwa=False,
                ssr_mode=False, mcp_server=False, max_file_size=self.desk.limits.upload_bytes,
                allowed_paths=[str(self.desk.folder / "sessions")], app_kwargs={"middleware": middleware},
                theme=gr.themes.Default(
                    primary_hue="blue", neutral_hue="slate", font=["system-ui", "sans-serif"],
                    font_mono=["ui-monospace", "monospace"],
                ),
                css=_text("review.css"),
            )  # fmt: skip
        except OSError as error:
            raise FednError(f"port {port or '7860 and those after it'} cannot be had; name another one") from error
        except ValueError as error:  # Gradio looks whether its page can be reached
            raise FednError(
                "the page cannot be reached: this computer is too busy now, or a proxy stands between, which "
                "NO_PROXY=127.0.0.1 keeps out"
            ) from error
        return address

    def close(self) -> None:
        """Stop serving, and remove all files of all sessions."""
        self.blocks.close(verbose=False)
        self.desk.close()


class _Policy:
    """Tells browsers to fetch nothing from anywhere else, and to tell nobody where they come from."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []), (b"content-security-policy", _POLICY.encode()),
                    (b"referrer-policy", b"no-referrer"), (b"x-content-type-options", b"nosniff"),
                ]  # fmt: skip
            await send(message)

        await self.app(scope, receive, told)


def _switched(is_idle: bool) -> Callable[[], _Values]:
    """What "Find" and "Stop" are while nothing, or something, is being done."""
    return lambda: (gr.Button(interactive=is_idle), gr.Button(visible=not is_idle))


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _address(path: Path) -> str:
    return f"gradio_api/file={quote(str(path))}"


def _size(count: int) -> str:
    return f"{count / 2**30:g} GB" if count >= 2**30 else f"{count / 2**20:g} MB"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _said(text: str, bad: bool = False) -> str:
    """A line that screen readers read out when it changes."""
    kind, role = ("said bad", "alert") if bad else ("said", "status")
    return f'<div class="{kind}" role="{role}">{html.escape(text)}</div>'


def _meant(event: ExpressionInterval | None, form: dict[str, Any]) -> dict[str, Any]:
    """What a person has changed in the form, which shows thousandths of what is known."""

    def is_same(name: str) -> bool:
        before, now = getattr(event, name, None), form[name]
        return name.endswith("_s") and None not in (before, now) and abs(before - now) <= 6e-4

    return {name: value for name, value in form.items() if not is_same(name)}


def _summary(session: Session) -> str:
    """What was found, what was changed, and what should worry."""
    review = session.reviewed()
    known = review.annotation()
    changed = [f"{count} {name}" for name, count in review.counts().items() if count]
    said = f"{session.name}: {len(known)} expression{'s' * (len(known) != 1)}"
    said += f", of which by hand: {', '.join(changed)}." if changed else "."
    if (end_s := review.base.provenance["end_s"]) is not None:
        said += f" Only the first {clock(end_s)} of {clock(review.duration_s)} were looked at."
    worries = "".join(f"<div>{html.escape(one)}</div>" for one in warnings_of(known))
    return _said(said) + (f'<div class="said">{worries}</div>' if worries else "")


def _strip(event: ExpressionInterval | None, key: str = "", tiles: dict | None = None, words: str = "") -> str:
    """The face at onset, apex and offset; each leads there. `review.js` lets it fade while another event is chosen."""
    if event is None:
        return '<div class="strip"><p>Choose an expression on the timeline or in the table.</p></div>'
    cells = []
    for part in PARTS:
        time_s = getattr(event, f"{part}_s")
        picture = tiles.get(part) if tiles else None
        seen = f'<img src="{_jpeg(picture)}" alt="">' if picture is not None else '<span class="gone">not seen</span>'
        if time_s is None:
            cells.append(f'<button type="button" disabled><span class="gone">no {part}</span>{part}</button>')
            continue
        shown_s = max(event.onset_s, time_s - 0.03) if part == "offset" else time_s
        cells.append(
            f'<button type="button" data-seek="{shown_s:.4f}" aria-label="Go to the {part} at {clock(time_s, 2)}">'
            f"{seen}{part} {clock(time_s, 2)}</button>"
        )
    about = ", ".join(
        [(event.type or "no type").removesuffix("-expression"), event.label or "no label", f"{event.duration_s:.2f} s"]
        + (["by hand"] if event.score is None else [f"score {event.score:.2f}"])
    )
    more = f"<p>{html.escape(words)}</p>" if words else ""
    head = f'<p class="head">{html.escape(_sentence(about))}</p>'
    return f'<div class="strip" data-of="{html.escape(key)}">{head}{"".join(cells)}{more}</div>'


def _jpeg(picture: np.ndarray) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "jpeg", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


__all__ = ["Page"]
