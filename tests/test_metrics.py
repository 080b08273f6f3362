"""What holds for every table, each switch by a case of its own, and the numbers against slow textbook code."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn_hf.annotation import ExpressionAnnotation, ExpressionInterval
from fedn_hf.media_fedn import FednError
from fedn_hf.metrics import (
    PRESETS,
    STRICT,
    Expressions,
    Protocol,
    Videos,
    agreement,
    average_precision,
    cohen_kappa,
    concatenate,
    confusion_scores,
    detection,
    icc,
    recognition,
    spotting,
    strs,
)

PROTOCOLS = [dataclasses.replace(preset, length_filter=(), score_threshold=None) for preset in PRESETS.values()]
MATCHINGS = ("one_to_one", "event_order", "time_order", "event_best", "event_best_once", "any_hit")


def table(*rows, **columns) -> Expressions:
    return Expressions.from_rows(rows, **columns)


def but(**switches) -> Protocol:
    return dataclasses.replace(STRICT, **switches)


@st.composite
def tables(draw, max_rows: int = 8):
    """Rows of a few videos in which much overlaps, with distinct scores."""
    count = draw(st.integers(0, max_rows))
    onsets = draw(st.lists(st.integers(1, 25), min_size=count, max_size=count))
    lengths = draw(st.lists(st.integers(0, 20), min_size=count, max_size=count))
    videos = draw(st.lists(st.sampled_from("abc"), min_size=count, max_size=count))
    types = draw(st.lists(st.sampled_from(("macro", "micro")), min_size=count, max_size=count))
    scores = draw(st.lists(st.integers(0, 10**6), min_size=count, max_size=count, unique=True))
    values = zip(videos, onsets, lengths, types, scores, strict=True)
    return [(video, onset, onset + length, kind, score / 10**6) for video, onset, length, kind, score in values]


def events_of(rows) -> Expressions:
    return table(*(row[:4] for row in rows), fps=30)


def predictions_of(rows) -> Expressions:
    return table(*rows, fps=30)


def naive_one_to_one(found, marked, threshold: float) -> int:
    """Strict matching as one would write it down."""
    free, count = set(range(len(marked))), 0
    for video, onset, offset, kind, _ in sorted(found, key=lambda row: -row[4]):
        overlap = {}
        for place in free:
            other = marked[place]
            if other[0] == video and other[3] == kind:
                frames, others = set(range(onset, offset + 1)), set(range(other[1], other[2] + 1))
                overlap[place] = len(frames & others) / len(frames | others)
        best = max(overlap, key=lambda place: (overlap[place], -place), default=None)
        if best is not None and overlap[best] >= threshold:
            free.remove(best)
            count += 1
    return count


class TestProperties:
    @given(tables(), tables(), st.sampled_from((0.1, 0.3, 0.5, 0.7)))
    @settings(max_examples=150, deadline=None)
    def test_strict_is_what_one_would_write_down(self, found, marked, threshold):
        result = spotting(predictions_of(found), events_of(marked), but(iou_threshold=threshold))
        assert result.overall.true_positives == naive_one_to_one(found, marked, threshold)
        assert (result.overall.predictions, result.overall.events) == (len(found), len(marked))

    @given(tables(), tables())
    @settings(max_examples=60, deadline=None)
    def test_matching_is_one_to_one(self, found, marked):
        for rule in ("one_to_one", "event_order", "time_order", "event_best_once"):
            pairs = spotting(predictions_of(found), events_of(marked), but(matching=rule, iou_threshold=0.2)).pairs
            assert len({pair[0] for pair in pairs}) == len({pair[1] for pair in pairs}) == len(pairs)

    @given(tables(), tables(), st.sampled_from(PROTOCOLS))
    @settings(max_examples=100, deadline=None)
    def test_a_false_prediction_never_raises_f1(self, found, marked, protocol):
        score = spotting(predictions_of(found), events_of(marked), protocol).f1
        for false in (("a", 500, 530, "macro", 0.55), ("new", 5, 30, "micro", 1.5)):
            assert spotting(predictions_of([*found, false]), events_of(marked), protocol).f1 <= score

    @given(tables(), tables(), st.sampled_from(PROTOCOLS), st.randoms(use_true_random=False))
    @settings(max_examples=100, deadline=None)
    def test_the_order_of_videos_changes_nothing(self, found, marked, protocol, random):
        order = list("abc")
        random.shuffle(order)
        shuffled = [sorted(rows, key=lambda row: order.index(row[0])) for rows in (found, marked)]
        results = [
            (spotting(predictions_of(a), events_of(b), protocol), detection(predictions_of(a), events_of(b), protocol))
            for a, b in ((found, marked), shuffled)
        ]
        assert results[0][0].to_dict() == results[1][0].to_dict()
        assert results[0][1].to_dict() == results[1][1].to_dict()

    def test_sums_of_errors_do_not_depend_on_the_order_of_videos(self):
        errors = {"a": 0, "b": 4, "c": 1, "d": 1, "e": 0}  # 40.0 or 40.00000000000001 ms, as they are added up
        orders = ("abcde", "cabde", "dceba", "bacde", "edcba")
        results = []
        for order in orders:
            marked = table(*((video, 0, 20, "macro") for video in order), fps=30)
            found = table(*((video, 0, 20 - errors[video], "macro", 0.5) for video in order), fps=30)
            results.append(spotting(found, marked).to_dict())
        assert all(result == results[0] for result in results)

    @given(tables(), tables(), st.sampled_from(("corpus", "subject", "video")), st.permutations("abcxyz"))
    @settings(max_examples=100, deadline=None)
    def test_the_names_of_videos_change_nothing(self, found, marked, pooling, names):
        renamed = [[(names["abc".index(row[0])], *row[1:]) for row in rows] for rows in (found, marked)]
        for score in (spotting, agreement):
            before, after = (
                score(predictions_of(a), events_of(b), but(pooling=pooling)).to_dict()
                for a, b in ((found, marked), renamed)
            )
            for result in (before, after):
                result.get("events", result).pop("per_subject")
            assert before == after

    def test_sums_over_videos_do_not_depend_on_their_names(self):
        counts = [(1, 3), (2, 7), (1, 5), (0, 1), (1, 6), (3, 11)]  # found and wrong in each video
        values = set()
        for turn in range(len(counts)):
            rows = [(f"v{(place + turn) % 6}", *count) for place, count in enumerate(counts)]
            marked = table(*((name, 50 * i, 50 * i + 9, "macro") for name, right, _ in rows for i in range(right + 1)))
            found = table(*((n, 50 * i, 50 * i + 9 + 40 * (i > r), "macro") for n, r, w in rows for i in range(r + w)))
            result = agreement(found, marked, but(pooling="video"))
            values.add((result.events.f1, result.icc["overall"]))
        assert len(values) == 1

    @given(tables(), tables(), st.sampled_from(PROTOCOLS), st.integers(0, 5000))
    @settings(max_examples=100, deadline=None)
    def test_shifting_everything_in_time_changes_nothing(self, found, marked, protocol, frames):
        sides = predictions_of(found), events_of(marked)
        moved = [side.shifted(frames) for side in sides]
        assert spotting(*sides, protocol).to_dict() == spotting(*moved, protocol).to_dict()

    @given(tables(), tables(), st.sampled_from((0.2, 0.5)), st.sampled_from(MATCHINGS))
    @settings(max_examples=100, deadline=None)
    def test_no_rule_finds_more_events_than_any_hit(self, found, marked, threshold, rule):
        loose, other = (
            spotting(predictions_of(found), events_of(marked), but(matching=name, iou_threshold=threshold)).overall
            for name in ("any_hit", rule)
        )
        assert other.true_positives <= loose.true_positives

    @given(tables(), tables())
    @settings(max_examples=50, deadline=None)
    def test_a_stricter_iou_finds_no_more_events(self, found, marked):
        sweep = spotting(predictions_of(found), events_of(marked), but(matching="any_hit")).iou_sweep
        counts = [counts.true_positives for counts in sweep.values()]
        assert counts == sorted(counts, reverse=True)

    @given(tables(), tables())
    @settings(max_examples=50, deadline=None)
    def test_pooling_by_hand(self, found, marked):
        result = spotting(predictions_of(found), events_of(marked), but(pooling="video"))
        counts = [row["overall"] for row in result.per_subject.values()]
        mean = np.mean([c.f1 for c in counts if c.predictions + c.events] or [0.0])
        assert result.f1 == pytest.approx(mean)


class TestSwitches:
    """Each switch where it decides, with all others strict."""

    def test_comparison(self):
        found, marked = table(("v", 0, 4, "macro", 1.0)), table(("v", 0, 9, "macro"))
        assert [spotting(found, marked, but(comparison=sign)).f1 for sign in (">=", ">")] == [1.0, 0.0]

    @pytest.mark.parametrize(
        ("convention", "found", "iou"),
        [
            ("inclusive", (5, 14), 5 / 15),
            ("inclusive", (9, 18), 1 / 19),
            ("half_open", (5, 14), 4 / 14),
            ("half_open", (9, 18), None),
            ("touching", (5, 14), 5 / 15),
            ("touching", (9, 18), 1 / 19),
            ("touching", (100, 101), 1 / 11),
            ("touching", (5, 5), None),
            ("inclusive", (5, 5), 1 / 10),
            ("half_open", (5, 5), None),
        ],
    )
    def test_frame_convention(self, convention, found, iou):
        rules = but(frame_convention=convention, iou_threshold=0.0)
        pairs = spotting(table(("v", *found, "macro", 1.0)), table(("v", 0, 9, "macro")), rules).pairs
        assert [pair[2] for pair in pairs] == ([] if iou is None else [pytest.approx(iou)])

    @pytest.mark.parametrize(
        ("rule", "true_positives"),
        [
            # Two predictions, two events that overlap; the surer prediction covers both events better.
            ("one_to_one", 2),
            ("event_order", 2),
            ("time_order", 1),
            ("event_best", 2),
            ("event_best_once", 1),
            ("any_hit", 2),
        ],
    )
    def test_matching(self, rule, true_positives):
        marked = table(("v", 0, 19, "macro"), ("v", 4, 23, "macro"))
        found = table(("v", 1, 20, "macro", 0.9), ("v", 0, 15, "macro", 0.3), ("v", 70, 80, "macro", 0.5))
        assert spotting(found, marked, but(matching=rule)).overall.true_positives == true_positives

    def test_score_order_decides_who_takes_an_event(self):
        marked = table(("v", 0, 9, "macro"))
        found = table(("v", 0, 9, "macro", 0.1), ("v", 0, 7, "macro", 0.9))
        pairs = {rule: spotting(found, marked, but(matching=rule)).pairs[0][0] for rule in MATCHINGS}
        assert pairs == {**dict.fromkeys(MATCHINGS, 0), "one_to_one": 1, "any_hit": 1}

    def test_class_rule(self):
        marked = table(("v", 0, 15, "micro"), ("v", 40, 49, "macro"), fps=30)
        found = table(("v", 0, 15, "macro", 0.9), ("v", 40, 49, "macro", 0.8), fps=30)
        counts = {rule: spotting(found, marked, but(class_rule=rule)).per_type for rule in ("type", "duration")}
        assert {kind: c.true_positives for kind, c in counts["type"].items()} == {"macro": 1, "micro": 0}
        assert {kind: c.true_positives for kind, c in counts["duration"].items()} == {"macro": 1, "micro": 1}
        assert spotting(found, marked, but(class_rule="agnostic")).overall.true_positives == 2
        assert set(spotting(found, marked, but(class_rule="duration", micro_max_s=0.6)).per_type) == {"micro"}

    def test_videos_scored(self):
        marked = table(("v1", 0, 9, "macro"), ("v2", 0, 9, "micro"))
        found = table(*((video, 50, 60, "macro", 0.5) for video in ("v1", "v2", "v3")))
        videos = Videos(["v1", "v2", "v3"], num_frames=[1800] * 3, fps=30)
        results = {
            rule: spotting(found, marked, but(videos_scored=rule), videos)
            for rule in ("all", "with_events", "with_events_of_type")
        }
        assert [result.overall.predictions for result in results.values()] == [3, 2, 1]
        assert results["all"].false_alarms_per_minute == 1.0 and results["with_events"].false_alarms_per_minute == 1.0

    @pytest.mark.parametrize("missing", [0, -1, None, float("nan"), ""])
    def test_missing_offset(self, missing):
        row = {"video": "v", "onset": 10, "apex": 20, "offset": missing, "type": "macro"}
        marked = table(row)
        found = table(("v", 10, 20, "macro", 0.9))
        rules = {"apex": {}, "apex_plus": {"missing_offset_frames": 50}, "unmatchable": {}, "drop": {}}
        counts = {
            rule: spotting(found, marked, but(missing_offset=rule, **more)).overall for rule, more in rules.items()
        }
        assert {rule: (c.true_positives, c.events) for rule, c in counts.items()} == {
            "apex": (1, 1),
            "apex_plus": (0, 1),
            "unmatchable": (0, 1),
            "drop": (0, 0),
        }
        assert spotting(found, table({**row, "apex": None})).overall.true_positives == 0

    def test_lengths_threshold_and_top_k(self):
        found = table(
            *(("v", 100 * i, 100 * i + length - 1, "micro", i / 10) for i, length in enumerate((6, 7, 16, 17)))
        )
        marked = table(("v", 0, 9, "micro"))
        count = lambda **switches: spotting(found, marked, but(**switches)).overall.predictions  # noqa: E731
        assert count(length_filter=(("micro", 7, 16),)) == 2 and count(length_filter=(("macro", 90, None),)) == 4
        assert count(score_threshold=0.2) == 2 and count(score_threshold=0.2, score_comparison=">") == 1
        assert count(top_k=3) == 3 and count(top_k=1, length_filter=(("micro", 7, 16),)) == 1
        kept = spotting(found, table(("v", 300, 316, "micro")), but(top_k=1)).overall
        assert kept.true_positives == 1, "the surest is kept, not the first"
        unscored = dataclasses.replace(found, score=None)
        assert spotting(unscored, table(("v", 0, 5, "micro")), but(top_k=1)).overall.true_positives == 1

    def test_fractional_frames(self):
        marked, found = table(("v", 0, 9, "macro")), table(("v", 0.9, 5.0, "macro", 1.0))
        ious = [spotting(found, marked, but(fractional_frames=how)).pairs for how in ("truncate", "keep")]
        assert ious[0][0][2] == 0.6 and ious[1][0][2] == pytest.approx(0.51)

    def test_pooling(self):
        rows = [{"subject": s, "video": v, "onset": 0, "offset": 9, "type": "macro"} for s, v in ("ax", "ay", "bz")]
        found = table(*rows[1:], {**rows[2], "onset": 50, "offset": 60})
        f1 = {rule: spotting(found, table(*rows), but(pooling=rule)).f1 for rule in ("corpus", "subject", "video")}
        assert f1 == {
            "corpus": pytest.approx(4 / 6),
            "subject": pytest.approx((2 / 3 + 2 / 3) / 2),
            "video": pytest.approx((0 + 1 + 2 / 3) / 3),
        }

    def test_printing_shows_every_switch(self):
        for preset in PRESETS.values():
            assert all(name in str(preset) for name in preset.switches()) and preset.source in str(preset)
            assert Protocol(**json.loads(json.dumps(preset.to_dict()))) == preset
        assert but(top_k=3).title == "strict, but top_k = 3" and STRICT.title == "strict"

    @pytest.mark.parametrize(
        "switches",
        [
            {"matching": "best"},
            {"comparison": "="},
            {"iou_threshold": 1.5},
            {"top_k": 0},
            {"missing_offset_frames": 20},
            {"length_filter": [("micro", 16, 7)]},
        ],
    )
    def test_what_a_switch_does_not_have_is_refused(self, switches):
        with pytest.raises(FednError, match=next(iter(switches))):
            Protocol(**switches)


class TestTables:
    def test_nothing_found_nothing_marked(self):
        some, none = table(("v", 0, 9, "macro", 0.5)), table()
        for found, marked in ((some, none), (none, some), (none, none)):
            for protocol in PRESETS:
                result = spotting(found, marked, protocol)
                assert (result.f1, result.precision, result.recall) == (0.0, 0.0, 0.0)
                json.dumps([result.to_dict(), detection(found, marked, protocol).to_dict()], allow_nan=False)
                assert recognition(found, marked, protocol).accuracy == 0.0 and strs(found, marked).strs == 0.0

    @pytest.mark.parametrize(
        ("rows", "message"),
        [
            ([("v", 0, 9, "macro", float("nan"))], "a score must be a number"),
            ([("v", 0, 9, "macro", 0.5), ("v", 0, 9, "macro", None)], "row 1 .* a score must be a number"),
            ([("v", float("nan"), 9)], "an onset must be a frame number"),
            ([("v", "soon", 9)], "a number was expected, got 'soon'"),
            ([("v", 0)], "a tuple holds"),
            ([{"video": "v", "onset": 0, "offset": 9, "colour": 1}], "no column colour"),
            ([{"onset": 0, "offset": 9}], "needs video; row 0 has onset, offset"),
            ([{"video": "v", "onset": i, "offset": 9, "id": "e1"} for i in range(2)], "'e1' occurs more than once"),
        ],
    )
    def test_what_no_metric_could_use_is_refused(self, rows, message):
        with pytest.raises(FednError, match=message):
            table(*rows)

    def test_backwards(self):
        right, wrong = table(("v", 5, 9, "macro", 0.5)), table(("v", 9, 5, "macro", 0.5))
        with pytest.raises(FednError, match="offset lies before the onset"):
            spotting(right, wrong)
        assert spotting(wrong, right).overall == spotting(table(("w", 0, 1, "macro", 0.5)), right).overall
        with pytest.raises(FednError, match="needs an offset"):
            spotting(table(("v", 5, None, "macro")), right)

    def test_types_are_needed_where_the_rules_compare_them(self):
        found, marked = table(("v", 0, 9, None, 0.5)), table(("v", 0, 9, "micro"))
        with pytest.raises(FednError, match=r"prediction 0 .* has no type: use `with_types_by_duration"):
            spotting(found, marked)
        with pytest.raises(FednError, match="frame rate"):
            spotting(found, marked, but(class_rule="duration"))
        assert spotting(table(("v", 0, 9, None, 0.5), fps=30).with_types_by_duration(), marked).f1 == 1.0

    def test_videos_outside_the_list_and_of_several_subjects(self):
        with pytest.raises(FednError, match="a prediction is in 'w'"):
            spotting(table(("w", 0, 9, "macro")), table(("v", 0, 9, "macro")), videos=Videos(["v"]))
        rows = [{"subject": s, "video": "1", "onset": 0, "offset": 9, "type": "macro"} for s in "ab"]
        assert spotting(table(*rows), table(*rows)).overall.true_positives == 2
        with pytest.raises(FednError, match="of several subjects"):
            spotting(table(("1", 0, 9, "macro")), table(*rows))
        with pytest.raises(FednError, match="more than once"):
            Videos(["v", "v"])

    def test_names_of_types(self):
        names = ["macro-expression", "Micro - 1/2", 1, "2", "MaE", "neutral", ""]
        assert table(*(("v", 0, 9, name) for name in names)).type.tolist() == [
            *("macro", "micro", "macro", "micro", "macro", "neutral", None)
        ]

    def test_files(self, tmp_path):
        interval = ExpressionInterval("joy", 0.9, "macro-expression", 1.0, 1.2, 2.0, 30, 36, 59, face_id=0)
        annotation = ExpressionAnnotation({"path": "some/clip.mp4", "fps": 30.0, "num_frames": 90}, [interval])
        for name in ("clip.csv", "clip.json"):
            annotation.write(tmp_path / name)
            read = Expressions.read(tmp_path / name)
            assert (read.video[0], read.onset[0], read.apex[0], read.offset[0]) == ("clip", 30, 36, 59)
            assert (read.type[0], read.label[0], read.score[0]) == ("macro", "joy", 0.9)
        assert len(Expressions.read(tmp_path)) == 1  # both say the same of one video, as `fedn detect -o` writes them
        assert Videos.from_annotations([annotation]).num_frames.tolist() == [90]
        (tmp_path / "clip.json").rename(tmp_path / "other.json")
        assert len(Expressions.read(tmp_path)) == 2
        (tmp_path / "odd.csv").write_text("who,film,from,to\nann,1,3,8\n")
        read = Expressions.from_csv(
            tmp_path / "odd.csv", {"video": "{who}-{film}", "onset": "from", "offset": lambda row: int(row["to"]) + 1}
        )
        assert (read.video[0], read.onset[0], read.offset[0]) == ("ann-1", 3, 9)
        with pytest.raises(FednError, match=r"odd.csv: .*'til'.* its columns are who, film"):
            Expressions.from_csv(tmp_path / "odd.csv", {"onset": "til"})
        with pytest.raises(FednError, match="not an annotation"):
            (tmp_path / "bad.json").write_text("[]")
            Expressions.read(tmp_path / "bad.json")
        with pytest.raises(FednError, match="not a CSV file"):
            Expressions.read(tmp_path / "nothing.csv")

    def test_two_annotations_of_one_video(self):
        with pytest.raises(FednError, match="two annotations"):
            Expressions.from_annotations([ExpressionAnnotation({"path": "a.mp4"}, [])] * 2)

    def test_concatenate(self):
        assert len(concatenate([table(), table(("v", 0, 1)), table(("w", 0, 1, "macro", 0.3))])) == 2


def slow_average_precision(found, marked, iou: float, envelope: bool) -> float:
    """One class: go through predictions by falling score, keep every point of the curve, add up rectangles."""
    taken, points = set(), []
    ranked = sorted(found, key=lambda row: -row[4])
    right = 0
    for rank, (video, onset, offset, _, _) in enumerate(ranked, start=1):
        best, place = 0.0, None
        for number, (other, start, end, _) in enumerate(marked):
            if other == video and number not in taken:
                shared = max(0, min(offset, end) - max(onset, start) + 1)
                overlap = shared / (offset - onset + 1 + end - start + 1 - shared)
                if overlap >= iou and overlap > best:
                    best, place = overlap, number
        if place is not None:
            taken.add(place)
            right += 1
        points.append((right / len(marked), right / rank))
    area = last = 0.0
    for index, (recall, precision) in enumerate(points):
        height = max(p for _, p in points[index:]) if envelope else precision
        area += (recall - last) * height
        last = recall
    return area


class TestDetection:
    @given(tables(14), tables(10), st.sampled_from(("envelope", "step")))
    @settings(max_examples=120, deadline=None)
    def test_textbook(self, found, marked, how):
        result = detection(predictions_of(found), events_of(marked), but(ap_interpolation=how))
        for kind in {row[3] for row in marked}:
            one = [[row for row in rows if row[3] == kind] for rows in (found, [row[:4] for row in marked])]
            for iou, value in result.types.per_class[kind].items():
                assert value == pytest.approx(slow_average_precision(*one, iou, how == "envelope"))

    @given(tables(14), tables(10), st.lists(st.integers(0, 3), min_size=3, max_size=3))
    @settings(max_examples=60, deadline=None)
    def test_a_subject_drawn_twice_counts_as_two_with_equal_scores(self, found, marked, weights):
        def drawn(rows):
            return [(f"{row[0]}{n}", *row[1:]) for row in rows for n in range(weights["abc".index(row[0])])]

        videos = Videos(list("abc"))
        result = detection(predictions_of(found), events_of(marked), videos=videos)
        again = detection(predictions_of(drawn(found)), events_of(drawn(marked)))
        expected = {f"{name} types": value for name, value in again.types.summary().items()}
        values = result.resample(np.array(weights, dtype=float))
        assert {name: values[name] for name in expected} == pytest.approx(expected)

    @pytest.mark.parametrize("seed", range(20))
    def test_one_class_no_overlap_is_average_precision_of_a_ranking(self, seed):
        rng = np.random.default_rng(seed)
        right, score = rng.random(40) < 0.4, rng.integers(0, 15, 40) / 15
        found = table(*(("v", 100 * i, 100 * i + 20, "macro", s) for i, s in enumerate(score)))
        marked = table(*(("v", 100 * i, 100 * i + 20, "macro") for i in np.flatnonzero(right)))
        # scikit-learn's definition: sum of (R_n - R_(n-1)) P_n over the distinct scores as thresholds.
        expected, recall = 0.0, 0.0
        for threshold in sorted(set(score), reverse=True):
            kept = score >= threshold
            expected += (right[kept].sum() / right.sum() - recall) * right[kept].mean()
            recall = right[kept].sum() / right.sum()
        result = detection(found, marked, but(ap_interpolation="step"))
        assert result.types.mean(0.5) == pytest.approx(expected)
        assert average_precision(score, right, right.sum(), "step") == pytest.approx(expected)

    def test_emotions_and_means(self):
        rows = [
            ("v", 0, 9, "macro", 0.9, "joy"),
            ("v", 50, 59, "micro", 0.8, "fear"),
            ("w", 0, 9, "macro", 0.7, "awe"),
        ]
        found = table(rows[0], ("v", 50, 56, "micro", 0.8, "fear"), ("w", 0, 9, "macro", 0.7, "joy"))
        result = detection(found, table(*rows))
        assert {name: row[0.5] for name, row in result.emotions.per_class.items()} == {"awe": 0, "fear": 1, "joy": 1}
        assert result.emotions.summary()["mAP@0.5"] == pytest.approx(2 / 3)
        # IoU 0.7 of the second: right at 0.3, ..., 0.7, wrong above.
        assert result.emotions.summary()["mAP@0.3:0.7"] == pytest.approx(2 / 3)
        assert result.emotions.mean(0.75) == pytest.approx(1 / 3)

    def test_unknown_emotions(self):
        marked = table(("v", 0, 9, "macro", None, "joy"), ("v", 50, 59, "macro", None, None))
        found = table(("v", 50, 59, "macro", 0.9, "joy"), ("v", 0, 9, "macro", 0.8, "joy"))
        values = {rule: detection(found, marked, but(unknown_label=rule)) for rule in ("ignore", "drop")}
        assert {rule: result.emotions.mean(0.5) for rule, result in values.items()} == {"ignore": 1.0, "drop": 0.5}
        assert values["ignore"].unknown_emotion == 1 and values["ignore"].types.mean(0.5) == 1.0

    def test_scores_are_needed(self):
        with pytest.raises(FednError, match="needs scores"):
            detection(table(("v", 0, 9, "macro")), table(("v", 0, 9, "macro")))


class TestRecognition:
    def test_by_hand(self):
        marked, said = list("aaaabbbc"), list("aaabbbac")
        scores = confusion_scores(marked, said)
        assert scores["accuracy"] == 6 / 8
        assert scores["uar"] == scores["macro_recall"] == pytest.approx((3 / 4 + 2 / 3 + 1) / 3)
        assert scores["macro_precision"] == pytest.approx((3 / 4 + 2 / 3 + 1) / 3)
        assert scores["uf1"] == pytest.approx((6 / 8 + 4 / 6 + 1) / 3)
        assert confusion_scores(["a"], ["a"], ["a", "b"])["uar"] == 0.5
        with pytest.raises(FednError, match="'c' is not among"):
            confusion_scores(["c"], ["a"], ["a", "b"])

    def test_only_what_was_found_counts(self):
        marked = table(
            *(("v", 50 * i, 50 * i + 9, "macro", None, name) for i, name in enumerate(["joy", "fear", None]))
        )
        found = table(*(("v", 50 * i, 50 * i + 9, "macro", 0.5, "joy") for i in (0, 2, 8)))
        result = recognition(found, marked)
        assert result.confusion.sum() == 1 and result.accuracy == 1.0 and result.without_emotion == 1
        with pytest.raises(FednError, match="has no emotion"):
            recognition(table(("v", 0, 9, "macro", 0.5)), marked)


class TestAgreement:
    def test_kappa_and_icc_by_hand(self):
        assert cohen_kappa(np.array(list("aabb")), np.array(list("abbb"))) == pytest.approx(0.5)
        assert cohen_kappa(np.zeros(5), np.zeros(5)) is None
        # Shrout & Fleiss 1979, table 2: ICC(2,1) = 0.29.
        ratings = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
        assert round(icc(np.array(ratings)), 2) == 0.29
        assert icc(np.ones((1, 2))) is None and icc(np.ones((4, 2))) is None

    def test_bins(self):
        first, second = table(("v", 0, 9, "macro")), table(("v", 5, 14, "macro"))
        videos = Videos(["v"], num_frames=[20])
        fine, coarse = (agreement(first, second, videos=videos, bin_frames=n).kappa["overall"] for n in (1, 10))
        assert fine == pytest.approx((10 / 20 - 0.5) / 0.5) and coarse == 0.0
        assert not agreement(first, second).lengths_known

    def test_missing_offsets_on_both_sides(self):
        coding = table({"video": "v", "onset": 3, "apex": 9, "offset": 0, "type": "macro"})
        assert agreement(coding, coding).events.f1 == 1.0
