"""Who trains and who is tested: splits by subject, and the check that nothing of a test subject trains.

A fold holds subjects, not row numbers, so it stays true when rows are filtered, sorted or come from another copy of
the corpus; `Fold.rows` finds them and checks for leaks every time. Nothing here is random: the same subjects always
give the same folds, on every machine.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..media_fedn import FednError

PARTS = ("train", "validation", "test")


class LeakageError(FednError):
    """A subject or a video that is in two parts of a fold: what is measured on it would be worth nothing.

    Example:

    ```python
    >>> from fedn_hf.data.folds import Fold, LeakageError

    >>> try:
    ...     Fold("s1", train=("s1", "s2"), validation=(), test=("s1",))
    ... except LeakageError as error:
    ...     print(error)
    fold s1: subject s1 is in train and in test
    ```
    """


@dataclass(frozen=True)
class Fold:
    """
    Subjects to train on, to choose epochs and thresholds on, and to test on.

    Args:
        name: Of the fold, such as the test subject.
        train, validation, test: Subjects. Only `validation` may be empty.

    Raises:
        `LeakageError`: a subject in two parts, however its name is spelt (`"S15"` is `"s15"`).
        `ValueError`: nobody to train on, or nobody to test.

    Example:

    ```python
    >>> from fedn_hf.data.folds import Fold

    >>> fold = Fold("s2", train=("s1",), validation=(), test=("s2",))
    >>> fold.rows(subjects=["s1", "s2", "s2"], videos=["a", "b", "c"])
    {'train': [0], 'validation': [], 'test': [1, 2]}
    ```
    """

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]

    def __post_init__(self):
        self._check("subject", {part: getattr(self, part) for part in PARTS})
        for part in ("train", "test"):
            if not getattr(self, part):
                raise ValueError(f"fold {self.name} needs subjects in {part}, got none")

    def rows(self, subjects: Sequence[str], videos: Sequence[str]) -> dict[str, list[int]]:
        """
        Which rows of a corpus belong to which part.

        Args:
            subjects, videos: `subject_id` and `video_id` of every row; videos of different corpora need different
                names.

        Raises:
            `LeakageError`: a video in two parts.
            `ValueError`: a row whose subject is in no part, or columns of different length.
        """
        if len(subjects) != len(videos):
            raise ValueError(f"every row has a subject and a video, got {len(subjects)} and {len(videos)}")
        part_of = {subject: part for part in PARTS for subject in getattr(self, part)}
        rows: dict[str, list[int]] = {part: [] for part in PARTS}
        names: dict[str, list[str]] = {part: [] for part in PARTS}
        for row, (subject, video) in enumerate(zip(subjects, videos, strict=True)):
            if str(subject) not in part_of:
                raise ValueError(f"fold {self.name} does not say what to do with subject {subject!r} (row {row})")
            rows[part_of[str(subject)]].append(row)
            names[part_of[str(subject)]].append(str(video))
        self._check("video", names)
        return rows

    def _check(self, what: str, names: Mapping[str, Iterable[str]]) -> None:
        seen: dict[str, str] = {}
        for part in PARTS:
            for name in names[part]:
                other = seen.setdefault(str(name).strip().casefold(), part)
                if other != part:
                    raise LeakageError(f"fold {self.name}: {what} {name} is in {other} and in {part}")


def leave_one_subject_out(subjects: Iterable[str], num_validation: int = 0) -> list[Fold]:
    """
    One fold per subject, who is tested (LOSO), in order of their names.

    Args:
        subjects: `subject_id` of every row, or each subject once.
        num_validation: How many of the others do not train but choose epochs and thresholds: the next ones in order,
            round the end, so every subject is asked equally often.

    Raises:
        `ValueError`: too few subjects.

    Example:

    ```python
    >>> from fedn_hf.data.folds import leave_one_subject_out

    >>> [(fold.test, fold.validation, fold.train) for fold in leave_one_subject_out("abc", num_validation=1)]
    [(('a',), ('b',), ('c',)), (('b',), ('c',), ('a',)), (('c',), ('a',), ('b',))]
    ```
    """
    return _folds([(name, [name]) for name in _sorted_names(subjects)], _sorted_names(subjects), num_validation)


def grouped_k_fold(subjects: Iterable[str], k: int, num_validation: int = 0) -> list[Fold]:
    """
    `k` folds of whole subjects with about the same number of rows in each test part: the largest subjects are dealt
    out first, each to the fold that has the fewest rows.

    Args:
        subjects: `subject_id` of every row; for folds with equal numbers of events, of every event.
        k: Number of folds, from 2 to the number of subjects.
        num_validation: As in `leave_one_subject_out`.

    Raises:
        `ValueError`: `k` out of range, or too few subjects.

    Example:

    ```python
    >>> from fedn_hf.data.folds import grouped_k_fold

    >>> [fold.test for fold in grouped_k_fold(["a", "a", "a", "b", "c", "c"], k=2)]
    [('a',), ('b', 'c')]
    ```
    """
    sizes: dict[str, int] = defaultdict(int)
    for subject in subjects:
        sizes[str(subject)] += 1
    if not 2 <= k <= len(sizes):
        raise ValueError(f"k must be from 2 to the number of subjects, {len(sizes)}, got {k}")
    groups: list[list[str]] = [[] for _ in range(k)]
    for subject in sorted(sizes, key=lambda name: (-sizes[name], name)):
        min(groups, key=lambda group: (sum(sizes[name] for name in group), len(group))).append(subject)
    tests = [(f"{number + 1} of {k}", sorted(group)) for number, group in enumerate(groups)]
    return _folds(tests, sorted(sizes), num_validation)


def cross_corpus(subjects: Iterable[str], num_validation: int = 0) -> list[Fold]:
    """
    One fold per corpus, which is tested; all others train.

    Args:
        subjects: Of every row, written `"corpus/subject"` (see `with_corpus`): different corpora number different
            people alike.
        num_validation: As in `leave_one_subject_out`.

    Raises:
        `ValueError`: subjects without a corpus, or a single corpus.

    Example:

    ```python
    >>> from fedn_hf.data.folds import cross_corpus, with_corpus

    >>> subjects = with_corpus("casme_2", ["s15", "s16"]) + with_corpus("samm_lv", ["006"])
    >>> [(fold.name, fold.test) for fold in cross_corpus(subjects)]
    [('casme_2', ('casme_2/s15', 'casme_2/s16')), ('samm_lv', ('samm_lv/006',))]
    ```
    """
    names = _sorted_names(subjects)
    corpora: dict[str, list[str]] = defaultdict(list)
    for name in names:
        corpus, slash, _ = name.partition("/")
        if not slash:
            raise ValueError(f'subjects must be written "corpus/subject", got {name!r}; see with_corpus')
        corpora[corpus].append(name)
    return _folds(sorted(corpora.items()), names, num_validation)


def with_corpus(corpus: str, names: Iterable[str]) -> list[str]:
    """
    Names of subjects or videos that stay apart from those of other corpora.

    Example:

    ```python
    >>> from fedn_hf.data.folds import with_corpus

    >>> with_corpus("samm_lv", ["006_1"])
    ['samm_lv/006_1']
    ```
    """
    return [f"{corpus}/{name}" for name in names]


def _sorted_names(subjects: Iterable[str]) -> list[str]:
    return sorted({str(subject) for subject in subjects})


def _folds(tests: list[tuple[str, list[str]]], subjects: list[str], num_validation: int) -> list[Fold]:
    """Folds with these test parts; for validation the subjects that follow the last test subject, round the end."""
    folds = []
    for name, test in tests:
        after = subjects.index(test[-1]) + 1
        others = [subject for subject in subjects[after:] + subjects[:after] if subject not in test]
        if not 0 <= num_validation < len(others):
            raise ValueError(
                f"fold {name} has {len(others)} subjects beside those it tests, and needs at least one to train: "
                f"num_validation={num_validation} is not possible"
            )
        validation, train = others[:num_validation], sorted(others[num_validation:])
        folds.append(Fold(name, tuple(train), tuple(validation), tuple(test)))
    return folds


__all__ = ["PARTS", "Fold", "LeakageError", "cross_corpus", "grouped_k_fold", "leave_one_subject_out", "with_corpus"]
