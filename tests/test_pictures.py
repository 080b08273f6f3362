"""Pictures say what the numbers say: the right things at the right places, legible, in files that others can read."""

import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text
from PIL import Image

from fedn_hf import FednError
from fedn_hf.annotation import ExpressionAnnotation, ExpressionInterval
from fedn_hf.face_fedn import FaceCropper
from fedn_hf.metrics import Expressions
from fedn_hf.pictures import (
    draw_calibration,
    draw_filmstrip,
    draw_overview,
    draw_precision_recall,
    draw_timeline,
    is_right,
    save,
)
from fedn_hf.pictures.scores import _wilson, precision_recall
from fedn_hf.pictures.style import clock, shortened
from fedn_hf.pictures.timeline import gaps, peaks, seen_span
from fedn_hf.tracks import event_crops
from fedn_hf.video_io_fedn import VideoReader
from tests.clips import make
from tests.results import CLIP, FPS, TYPES, annotation, coded_by_hand, event, recording, truth, with_faces


def drawn(figure, gid):
    """All artists whose name begins so."""
    return [
        artist for axes in figure.axes for artist in axes.get_children() if (artist.get_gid() or "").startswith(gid)
    ]


def panel(figure, name):
    return next(axes for axes in figure.axes if axes.get_label() == name)


def boxes(figure, gid):
    """(N, 4) left, right, top, bottom of bars, in seconds and rows, by time."""
    corners = [path.vertices for collection in drawn(figure, gid) for path in collection.get_paths()]
    found = [[c[:, 0].min(), c[:, 0].max(), c[:, 1].min(), c[:, 1].max()] for c in corners]
    return np.array(sorted(found)).reshape(-1, 4)


def texts(figure):
    """(text, box in pixels, whether it is slanted) of everything written that can be seen."""
    FigureCanvasAgg(figure).draw()
    # Ticks beyond the limits of an axis exist, and are not drawn.
    axes = [axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    off = {id(text) for axes in figure.axes if not axes.axison for axis in (axes.xaxis, axes.yaxis)
           for text in axis.findobj(Text)}  # fmt: skip
    ticks, shown = (
        {id(label) for axis in axes for tick in get(axis) for label in (tick.label1, tick.label2)}
        for get in (lambda axis: axis.get_major_ticks(), lambda axis: axis._update_ticks())
    )
    return [
        (text.get_text(), text.get_window_extent(), text.get_rotation() % 90 != 0)
        for text in figure.findobj(Text)
        if text.get_visible()
        and text.get_text().strip()
        and (id(text) in shown or id(text) not in ticks)
        and id(text) not in off
    ]


def assert_legible(figure):
    """No text lies on another or runs out of the picture."""
    found = texts(figure)
    assert found
    width, height = figure.canvas.get_width_height()
    for words, box, _ in found:
        assert box.x0 > -2 and box.y0 > -2 and box.x1 < width + 2 and box.y1 < height + 2, words
    for i, (words, box, slanted) in enumerate(found):
        for other_words, other, other_slanted in found[i + 1 :]:
            if slanted and other_slanted:  # side by side, and their boxes overlap
                continue
            shared_x = min(box.x1, other.x1) - max(box.x0, other.x0)
            shared_y = min(box.y1, other.y1) - max(box.y0, other.y0)
            assert shared_x < 1 or shared_y < 1, f"{words!r} lies on {other_words!r}"


# --- timelines ---------------------------------------------------------------------------------------------------


def test_every_event_is_a_bar_at_its_time_in_the_row_of_its_label():
    known = truth()
    figure = draw_timeline(known)
    rows = {text.get_text(): place for place, text in enumerate(panel(figure, "events").get_yticklabels())}
    assert list(rows) == ["anger", "others", "surprise"]
    for kind in TYPES:
        found = boxes(figure, f"events-{kind}")
        mine = [e for e in known if e.type == kind]
        np.testing.assert_allclose(found[:, :2], [(e.onset_s, e.offset_s) for e in mine])
        assert [round(middle) for middle in found[:, 2:].mean(1)] == [rows[e.label] for e in mine]


def test_types_are_told_apart_by_place_as_well():
    figure = draw_timeline(truth())
    macro, micro = (boxes(figure, f"events-{kind}")[:, 2:] for kind in TYPES)
    assert (macro % 1).max() - 1 < 0.5  # rows go down: in its row a macro-expression ends above
    for row in (0, 1):
        assert macro[np.rint(macro.mean(1)) == row].max() < micro[np.rint(micro.mean(1)) == row].min()


def test_what_coders_marked_is_a_frame_around_its_own_time():
    marked = [event(95, 100, 110, "anger", TYPES[1]), event(600, 610, 640, "fear", TYPES[0])]
    figure = draw_timeline(truth(), marked)
    [hit] = boxes(figure, f"truth-{TYPES[1]}")
    [miss] = boxes(figure, f"truth-{TYPES[0]}")
    np.testing.assert_allclose(hit[:2], (95 / FPS, 111 / FPS))
    np.testing.assert_allclose(miss[:2], (600 / FPS, 641 / FPS))
    fill = boxes(figure, f"events-{TYPES[1]}")[0]
    assert hit[2] < fill[2] and fill[3] < hit[3]
    assert "fear" in [text.get_text() for text in panel(figure, "events").get_yticklabels()]
    [frames] = drawn(figure, f"truth-{TYPES[0]}")
    assert len(frames.get_facecolor()) == 0 or frames.get_facecolor()[:, 3].max() == 0


def test_gaps_and_coverage_fill_the_time_between_them():
    known = annotation([event(30, 40, 60)], 20.0, gap_s=(8.0, 11.5))
    figure = draw_timeline(known)
    [shade, *others] = drawn(figure, "gaps")
    assert len(others) == 1  # behind events and curves
    vertices = shade.get_paths()[0].vertices
    assert (vertices[:, 0].min(), vertices[:, 0].max()) == (8.0, 11.5)
    [seen] = drawn(figure, "coverage")
    ends = [(path.vertices[:, 0].min(), path.vertices[:, 0].max()) for path in seen.get_paths()]
    assert ends == [(0.0, 8.0), (11.5, 20.0)]
    assert [text.get_text() for text in panel(figure, "coverage").get_yticklabels()] == ["face seen 82 %"]


def test_a_face_that_was_never_seen_is_one_gap_and_a_coder_has_none():
    blind = replace(annotation([], 9.0), coverage=[], curves=[])
    assert gaps(blind, 0.0, 9.0) == [(0.0, 9.0)]
    assert gaps(coded_by_hand(), 0.0, 20.0) == []


def test_the_curve_stops_where_the_face_is_not_seen():
    figure = draw_timeline(annotation([event(30, 40, 60)], 20.0, gap_s=(8.0, 11.5)))
    [line] = drawn(figure, "score")
    time_s, score = line.get_data()
    assert np.isnan(score[(time_s > 8.01) & (time_s < 11.49)]).all()
    assert np.nanmax(score) == 0.9


@settings(deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=9000))
def test_peaks_lose_no_peak(values):
    time_s, highest = peaks(np.arange(len(values)) / 30, values)
    assert len(time_s) == len(highest) <= 3200
    known = [value for value in values if value is not None]
    assert np.isnan(highest).all() if not known else np.nanmax(highest) == max(known)


def test_seen_span_is_what_was_read():
    part = replace(annotation([event(30, 40, 60)], 60.0), coverage=[], curves=[])
    part = replace(part, provenance={**part.provenance, "start_s": 0.5, "end_s": 30.0})
    assert seen_span(part) == (0.5, 30.0)
    assert seen_span(ExpressionAnnotation({"path": "a.mp4"}, [])) == (0.0, 1e-3)


def test_two_hours_with_five_thousand_events(tmp_path):
    known = recording()
    figure = draw_timeline(known)
    assert sum(len(boxes(figure, f"events-{kind}")) for kind in TYPES) == 5000
    density = sum(
        np.array(patch.get_data().values).sum() for kind in TYPES for patch in drawn(figure, f"density-{kind}")
    )
    assert density == pytest.approx(5000, abs=25)  # counts in a minute each
    save(figure, tmp_path / "long.svg")
    save(figure, tmp_path / "long.png")
    assert (tmp_path / "long.svg").stat().st_size < 400_000 > (tmp_path / "long.png").stat().st_size
    with Image.open(tmp_path / "long.png") as picture:
        assert picture.width == 1650 and picture.height < 1100
    # A micro-expression is a tenth of a pixel wide, and is seen all the same.
    alone = replace(known, intervals=[e for e in known if e.type == TYPES[1]][:1], coverage=[], curves=[])
    save(draw_timeline(alone), tmp_path / "one.png")
    with Image.open(tmp_path / "one.png") as picture:
        top = np.asarray(picture.convert("RGB"))[: picture.height // 3].astype(int)
        assert (np.abs(top - (213, 94, 0)).sum(-1) < 120).sum() > 5


STRANGE = ["<&>\"'", "$\\frac{1}{2}$", "苦笑", "nul\x00and\x1bmore", "a\ud800b", "x" * 300, "tab\tand\nline"]


def strange() -> ExpressionAnnotation:
    events = [event(30 * i, 30 * i + 5, 30 * i + 20, label, TYPES[i % 2]) for i, label in enumerate(STRANGE)]
    return annotation(events, 12.0, path="/data/" + "ü$^{2} & <b>" * 12 + "\udcff.mp4")


@pytest.mark.parametrize(
    "known",
    [
        annotation([event(30, 40, 60), event(35, 37, 45, "fear", TYPES[1])], 3.0),
        truth(),
        recording(300, 3600.0),
        recording(),
        with_faces(recording(60, 300.0), 9),
        coded_by_hand(),
        annotation([], 10.0),
        ExpressionAnnotation({"path": "a.mp4"}, []),
        strange(),
    ],
    ids=["seconds", "truth", "hour", "hours", "faces", "coder", "nobody", "nothing", "strange"],
)
def test_timelines_are_legible_at_any_length(known):
    assert_legible(draw_timeline(known))


def test_events_of_more_faces_than_fit_are_counted():
    figure = draw_timeline(with_faces(recording(60, 300.0), 9))
    assert "3 more faces" in figure.axes[-1].get_xlabel()
    assert sum(len(boxes(figure, f"events-{kind}")) for kind in TYPES) < 60


def test_svg_is_well_formed_holds_text_and_is_the_same_every_time(tmp_path):
    for name in ("one.svg", "two.svg"):
        save(draw_timeline(strange()), tmp_path / name, description="made <here> & now\x00")
    first = (tmp_path / "one.svg").read_bytes()
    assert first == (tmp_path / "two.svg").read_bytes()
    tree = etree.fromstring(first, etree.XMLParser(resolve_entities=False))
    words = "".join(tree.itertext())
    for piece in ("<&>\"'", "$\\frac{1}{2}$", "苦笑", "made <here> & now"):
        assert piece in words
    outside = [value for e in tree.iter() for name, value in e.attrib.items() if name.endswith("href")]
    assert all(value.startswith(("#", "data:")) for value in outside)


def test_a_picture_is_whole_or_not_there(tmp_path):
    figure = draw_timeline(truth())
    with pytest.raises(FednError, match=r"\.png or \.svg, got \.jpg"):
        save(figure, tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError):
        save(figure, tmp_path / "nowhere" / "a.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_annotations_write_themselves_as_pictures(tmp_path, suffix):
    truth().write(tmp_path / f"a{suffix}")
    if suffix == ".png":
        with Image.open(tmp_path / "a.png") as picture:
            assert '"revision": "abc123"' in picture.text["Description"]
    else:
        assert "abc123" in "".join(etree.parse(tmp_path / "a.svg").getroot().itertext())
    with pytest.raises(FednError, match="cannot be read back"):
        ExpressionAnnotation.read(tmp_path / f"a{suffix}")


# --- other pictures ----------------------------------------------------------------------------------------------


def test_overview_has_a_row_for_each_video_and_rates_over_the_time_a_face_was_seen(tmp_path):
    known = [replace(recording(20 + i, 300.0, i), video={"path": f"p{i}.mp4", "duration_s": 300.0}) for i in range(12)]
    figure = draw_overview([*known, coded_by_hand()])
    assert_legible(figure)
    names = [text.get_text() for text in panel(figure, "events").get_yticklabels()]
    assert names == [*(f"p{i}" for i in range(12)), "coded by hand"]
    for kind in TYPES:
        [rates] = drawn(figure, f"rates-{kind}")
        expected = [sum(e.type == kind for e in one) / (0.97 * 5) for one in known]
        np.testing.assert_allclose(rates.get_xdata()[:12], expected, rtol=1e-6)
    onsets = sorted(e.onset_s for one in [*known, coded_by_hand()] for e in one if e.type == TYPES[0])
    np.testing.assert_allclose(boxes(figure, f"events-{TYPES[0]}")[:, 0], onsets)
    save(figure, tmp_path / "all.svg")
    etree.parse(tmp_path / "all.svg")


def test_overview_of_hundreds_stays_a_picture(tmp_path):
    save(draw_overview([recording(30, 60.0, i) for i in range(100)]), tmp_path / "many.png")
    with Image.open(tmp_path / "many.png") as picture:
        assert picture.height < 3000


def test_curves_of_precision_and_recall_are_those_of_the_scores():
    score, right = np.array([0.9, 0.8, 0.8, 0.3]), np.array([True, False, True, True])
    recall, precision = precision_recall(score, right, events=4)
    np.testing.assert_allclose(recall, [0.25, 0.5, 0.75])
    np.testing.assert_allclose(precision, [1.0, 2 / 3, 0.75])
    marked = Expressions.from_rows([("v1", 10, 29, "macro"), ("v1", 50, 58, "micro"), ("v2", 5, 60, "macro")])
    found = Expressions.from_rows(
        [("v1", 12, 30, "macro", 0.9), ("v1", 51, 58, "micro", 0.5), ("v1", 80, 90, "macro", 0.7)]
    )
    figure = draw_precision_recall(found, marked)
    lines = {line.get_label().split(":")[0]: line.get_xydata() for line in drawn(figure, "curve")}
    np.testing.assert_allclose(lines["all"], [(1 / 3, 1.0), (1 / 3, 0.5), (2 / 3, 2 / 3)])
    np.testing.assert_allclose(lines["micro"], [(1.0, 1.0)])
    assert_legible(figure)
    with pytest.raises(FednError, match="got none"):
        draw_precision_recall(found, Expressions.from_rows([]))


def test_calibration_bins_intervals_and_error():
    score = np.repeat([0.2, 0.8], 10)
    right = np.array([True, *[False] * 9, *[True] * 5, *[False] * 5])
    figure = draw_calibration(score, right, bins=2)
    assert "expected error 0.200, 20 predictions" in figure.axes[0].get_title(loc="left")
    points = next(line for line in figure.axes[0].lines if line.get_marker() == "o").get_xydata()
    np.testing.assert_allclose(points, [(0.2, 0.1), (0.8, 0.5)])
    # Brown, Cai & DasGupta, Interval estimation for a binomial proportion, 2001, give these for n = 10.
    low, high = _wilson(np.array([0.0, 0.5]), np.array([10, 10]))
    np.testing.assert_allclose([*low, *high], [0.0, 0.2366, 0.2775, 0.7634], atol=1e-4)
    assert_legible(figure)
    for wrong in (([], []), ([0.5, 2.0], [True, False]), ([0.5], [True, False])):
        with pytest.raises(FednError, match="scores from 0 to 1"):
            draw_calibration(*wrong)


def test_is_right_is_the_strict_protocol():
    marked = Expressions.from_rows([("v1", 10, 29, "macro")])
    found = Expressions.from_rows(
        [("v1", 12, 30, "macro", 0.6), ("v1", 10, 29, "macro", 0.9), ("v1", 10, 29, "micro", 0.9)]
    )
    assert is_right(found, marked).tolist() == [False, True, False]


# --- filmstrips --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dawn(astronaut, tmp_path_factory):
    """A woman and her mirror image beside each other, one grey level brighter in every one of 70 frames."""
    path = tmp_path_factory.mktemp("films") / "dawn.mkv"
    face = (astronaut[:256, 90:346].float() * 0.4).to(torch.uint8)
    both = torch.cat([face, face.flip(1) // 2], dim=1).numpy()
    return make(
        path, [i / FPS for i in range(70)], "ffv1", (512, 256), "bgr0", Fraction(1, 30),
        picture=lambda number, *size: both + np.uint8(number),
    )  # fmt: skip


@pytest.mark.parametrize("faces", ["largest", "all"])
def test_crops_are_of_the_frames_and_faces_that_events_name(dawn, faces):
    known = annotation([event(10, 25, 40), event(45, 46, 68, face_id=1)], 70 / FPS, str(dawn))
    known = replace(known, provenance={**known.provenance, "faces": faces})
    expected = {}
    for batch in FaceCropper(64, margin=0.2, faces=faces)(VideoReader(dawn)):
        for i in np.flatnonzero(batch.mask):
            expected[int(batch.face_id[i]), int(batch.native_frame[i])] = batch.crops[i].float().mean().item()
    for one, found in zip(known, event_crops(known, dawn, image_size=64), strict=True):
        for part in ("onset", "apex", "offset"):
            face = one.face_id if faces == "all" else 0
            assert found[part].shape == (64, 64, 3)
            assert found[part].mean() == pytest.approx(expected[face, getattr(one, f"{part}_frame")], abs=0.3)


def test_crops_of_times_without_frames_are_those_a_player_shows(dawn):
    known = annotation([], 70 / FPS, str(dawn))
    marked = ExpressionInterval("joy", None, None, 20 / FPS, 35 / FPS, 51 / FPS)
    known = replace(known, intervals=[marked, event(20, 35, 50)])
    first, second = event_crops(known, dawn, image_size=64)
    assert all((first[part] == second[part]).all() for part in ("onset", "apex", "offset"))


def test_filmstrip_has_three_pictures_for_each_event():
    figure = draw_filmstrip(truth())
    assert sum(len(axes.images) for axes in figure.axes) == 15
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "macro, surprise, score 0.90, 0.60 s" in words and "apex 0:23.07" in words
    assert_legible(figure)


def test_filmstrip_says_what_is_not_marked_or_not_seen(tmp_path):
    known = truth()
    known = replace(known, intervals=[ExpressionInterval("anger", None, None, 3.3, None, 3.6)])
    figure = draw_filmstrip(known)
    assert sum(len(axes.images) for axes in figure.axes) == 2
    words = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert "no apex" in words and "micro" not in " ".join(words)
    with pytest.raises(FednError, match="has none"):
        draw_filmstrip(annotation([], 24.0, str(CLIP)))
    with pytest.raises(FednError, match="not where the annotation says"):
        draw_filmstrip(annotation([event(3, 4, 9)], 24.0, str(tmp_path / "gone.mp4")))
    with pytest.raises(FednError, match=r"lasts 24\.00 s, and the annotation is of a video of 99\.00 s"):
        draw_filmstrip(annotation([event(3, 4, 9)], 99.0, str(CLIP)))


# --- the house ---------------------------------------------------------------------------------------------------


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # as where it is not installed
    for draw in (draw_timeline, draw_filmstrip, lambda known: draw_overview([known])):
        with pytest.raises(FednError, match=r"pip install 'fedn_hf\[viz\]'"):
            draw(truth())
    assert truth()._repr_png_() is None


def test_times_and_names_are_written_as_people_read_them():
    assert [clock(s) for s in (0, 59.6, 3599, 3600, 36061)] == ["0:00", "1:00", "59:59", "1:00:00", "10:01:01"]
    assert clock(3.049, 2) == "0:03.05" and clock(59.999, 2) == "1:00.00"
    assert shortened("abcdefghij", 5) == "ab…ij" and len(shortened("x" * 99, 20)) <= 20
