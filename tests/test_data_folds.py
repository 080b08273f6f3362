"""Nobody is tested by a network that has seen them, and the check for it can fail."""

import dataclasses
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedn_hf import FednError
from fedn_hf.data.folds import (
    Fold,
    LeakageError,
    cross_corpus,
    grouped_k_fold,
    leave_one_subject_out,
    with_corpus,
)

SUBJECTS = [f"s{number}" for number in (15, 16, *range(19, 28), *range(29, 41))]


def parts(fold):
    return set(fold.train), set(fold.validation), set(fold.test)


def assert_sound(folds, subjects):
    for fold in folds:
        train, validation, test = parts(fold)
        assert train | validation | test == set(subjects)
        assert len(train) + len(validation) + len(test) == len(set(subjects))
    assert Counter(name for fold in folds for name in fold.test) == Counter(set(subjects))


@pytest.mark.parametrize("num_validation", [0, 3])
def test_every_subject_is_left_out_once(num_validation):
    folds = leave_one_subject_out(SUBJECTS * 4, num_validation)
    assert_sound(folds, SUBJECTS)
    assert [fold.name for fold in folds] == sorted(SUBJECTS)
    asked = Counter(name for fold in folds for name in fold.validation)
    assert set(asked.values()) == ({num_validation} if num_validation else set())


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=5, max_size=30), st.integers(2, 5), st.integers(0, 2), st.randoms())
def test_groups_are_whole_balanced_and_always_the_same(sizes, k, num_validation, random):
    subjects = [f"p{number}" for number, size in enumerate(sizes) for _ in range(size)]
    try:
        folds = grouped_k_fold(subjects, k, num_validation)
    except ValueError as error:  # five subjects in five folds leave few to train
        assert "num_validation" in str(error)
        return
    assert_sound(folds, subjects)
    rows = [len(fold.rows(subjects, range(len(subjects)))["test"]) for fold in folds]
    assert max(rows) - min(rows) <= max(sizes)
    random.shuffle(subjects)
    assert grouped_k_fold(subjects, k, num_validation) == folds


def test_people_of_other_corpora_are_other_people():
    subjects = [*with_corpus("casme_2", ["s15", "s16", "s19"]), *with_corpus("casme_3", ["s15", "s2"])]
    folds = cross_corpus(subjects, num_validation=1)
    assert_sound(folds, subjects)
    assert [(fold.name, len(fold.test), len(fold.validation)) for fold in folds] == [
        ("casme_2", 3, 1),
        ("casme_3", 2, 1),
    ]
    with pytest.raises(ValueError, match="\"corpus/subject\", got 's15'"):
        cross_corpus(["s15"])


def test_rows_are_found_whatever_their_order():
    [fold, *_] = leave_one_subject_out("abcd", num_validation=1)
    assert fold.rows("dcba", "4321") == {"train": [0, 1], "validation": [2], "test": [3]}
    assert fold.rows("ab", "12") == {"train": [], "validation": [1], "test": [0]}


@pytest.mark.parametrize("changes", [{"train": ("a", "c")}, {"validation": ("A ",)}, {"test": ("b", "c")}])
def test_a_subject_in_two_parts_is_found(changes):
    fold = Fold("x", train=("c",), validation=("b",), test=("a",))
    with pytest.raises(LeakageError, match="fold x: subject") as caught:
        dataclasses.replace(fold, **changes)
    assert isinstance(caught.value, FednError)


def test_a_video_in_two_parts_is_found_each_time_rows_are_picked():
    [fold, *_] = leave_one_subject_out("abc")
    fold.rows("aabbc", "12345")
    with pytest.raises(LeakageError, match="video 2 is in train and in test"):
        fold.rows("aabbc", "12245")
    fold.rows("aabbc", "11335")  # within a part a video may have several rows


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: leave_one_subject_out(["a"]), "at least one to train"),
        (lambda: leave_one_subject_out("ab", num_validation=1), "num_validation=1"),
        (lambda: grouped_k_fold("ab", 3), "from 2 to the number of subjects, 2, got 3"),
        (lambda: cross_corpus(["one/a", "one/b"]), "at least one to train"),
        (lambda: Fold("x", (), (), ("a",)), "needs subjects in train"),
        (lambda: leave_one_subject_out("ab")[0].rows("abz", "123"), "subject 'z'"),
        (lambda: leave_one_subject_out("ab")[0].rows("ab", "1"), "got 2 and 1"),
    ],
)
def test_what_cannot_be_split_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
