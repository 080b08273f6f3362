"""How sure a number is, and who chose the epoch and the threshold it comes from."""

import numpy as np
import pytest

from fedn_hf.media_fedn import FednError
from fedn_hf.metrics import (
    Choice,
    bootstrap,
    detection,
    paired_difference,
    recognition,
    select,
    spotting,
    strs,
)
from tests.test_metrics import table


class TestUncertainty:
    def rows(self, subjects: int, found: int):
        rows = [
            {"subject": str(i), "video": str(i), "onset": 0, "offset": 9, "type": "macro"} for i in range(subjects)
        ]
        return table(*rows[:found]), table(*rows)

    def test_interval_is_that_of_a_binomial(self):
        found, marked = self.rows(100, 60)
        interval = bootstrap(spotting(found, marked), resamples=4000)["f1 overall"]
        draws = np.random.default_rng(1).binomial(100, 0.6, 20000) / 100
        assert np.allclose(interval[1:], np.percentile(2 * draws / (1 + draws), [2.5, 97.5]), atol=0.015)
        assert interval == bootstrap(spotting(found, marked), resamples=4000)["f1 overall"]

    def test_paired_difference(self):
        found, marked = self.rows(30, 20)
        better, worse = spotting(found, marked), spotting(found[:10], marked)
        interval = paired_difference(better, worse)["f1 overall"]
        assert interval.value == better.f1 - worse.f1 and interval.low > 0
        with pytest.raises(FednError, match="under one protocol"):
            paired_difference(better, spotting(found, marked, "auwgcn"))
        with pytest.raises(FednError, match="in one result only"):
            paired_difference(better, spotting(found, marked[:25]))

    def test_detection_and_recognition_too(self):
        rows = [(f"v{i}", 0, 9, "macro", 0.1 * i, "ab"[i % 2]) for i in range(6)]
        found, marked = table(*rows[:5]), table(*rows)
        assert bootstrap(detection(found, marked), resamples=50)["mAP@0.5 emotions"].value == pytest.approx(5 / 6)
        assert bootstrap(recognition(found, marked), resamples=50)["uar"].value == 1.0
        score = strs(found, marked)
        interval = bootstrap(score, resamples=50)["strs"]
        assert interval.value == score.strs and interval.low < score.strs
        with pytest.raises(FednError, match="at least two"):
            bootstrap(spotting(found[:1], marked[:1]))


class TestSelection:
    @staticmethod
    def raw():
        """Epoch 1 is right for subjects 0 and 1, epoch 2 for subject 2; low scores are wrong."""
        row = {"onset": 0, "offset": 9, "type": "macro"}
        marked = [{**row, "subject": s, "video": s} for s in "012"]
        found = [{**r, "epoch": 2 if r["subject"] == "2" else 1, "score": 0.9} for r in marked]
        wrong = [{**r, "onset": 50, "offset": 70, "epoch": epoch, "score": 0.2} for r in marked for epoch in (1, 2)]
        return table(*found, *wrong), table(*marked)

    def test_who_chose(self):
        report = select(*self.raw(), score_thresholds=[0.1, 0.5])
        chosen = {way: list(report.get(way).choices.values()) for way in ("nested", "pooled_oracle", "subject_oracle")}
        first, second = Choice(1, 0.5, None), Choice(2, 0.5, None)
        assert chosen["pooled_oracle"] == [first] * 3
        assert chosen["subject_oracle"] == [first, first, second]
        # Subject 2 is scored in the epoch that is best for the others, in which nothing of it was found.
        assert chosen["nested"][2] == first
        assert [round(report.get(way).result.f1, 4) for way in chosen] == [0.8, 0.8, 1.0]
        assert report.get("fixed").choices["0"] == Choice(2, None, None)

    def test_the_earliest_of_equals_is_chosen_however_floats_round(self):
        marked = table(("v", 0, 9, "macro"), ("v", 50, 59, "macro"), ("w", 0, 9, "macro"))
        rows = [  # 1 of 4 right and 2 of 10 right: F1 is 1/3 both times, and 2PR / (P + R) is not
            {"video": "v", "onset": 50 * i, "offset": 50 * i + (9 if right else 30), "type": "macro", "epoch": epoch}
            for epoch, hits, count in ((1, 1, 4), (2, 2, 10))
            for i, right in enumerate([True] * hits + [False] * (count - hits))
        ]
        report = select(table(*rows), marked)
        assert report.get("subject_oracle").choices["v"].epoch == 1 == report.get("nested").choices["w"].epoch

    def test_more_than_one_epoch_cannot_be_scored_as_one(self):
        raw, marked = self.raw()
        with pytest.raises(FednError, match="of 2 epochs"):
            spotting(raw, marked)
        with pytest.raises(FednError, match="at least two"):
            select(raw[raw.video == "0"], marked[:1])
        with pytest.raises(FednError, match="nothing to choose from"):
            select(raw, marked, top_ks=[])
