"""Emotion labels: every word that the sheets use, and the class schemes that papers compare in, in one place.

Two people may have named an expression: the coder, from muscles and context (`emotion`), and the participant who made
it, afterwards (`self_report`). They often disagree, so both are kept, and both are folded into the same scheme:

| scheme        | classes | who uses it |
|---------------|---------|-------------|
| `objective_4` | positive, negative, surprise, others | coders of CAS(ME)^2 |
| `emotion_7`   | happiness, surprise, disgust, fear, anger, sadness, others | CAS(ME)^3; `FednConfig`'s own |
| `megc_3`      | negative, positive, surprise | the composite database of MEGC 2019, which leaves the others out |

The coarser classes are unions of the finer ones. A coarse word therefore has a finer class only where the union has
one member ("positive" is happiness); "negative" is five things at once, and its finer class is unknown.
"""

UNKNOWN = -100  # what losses of PyTorch ignore; in the rows of a dataset an unknown class is None

SCHEMES: dict[str, tuple[str, ...]] = {
    "objective_4": ("positive", "negative", "surprise", "others"),
    "emotion_7": ("happiness", "surprise", "disgust", "fear", "anger", "sadness", "others"),
    "megc_3": ("negative", "positive", "surprise"),
}

# As found in the sheets, lower-case -> the word itself.
SPELLINGS = {
    "happy": "happiness",
    "happyiness": "happiness",
    "sad": "sadness",
    "other": "others",
}

# Word -> (class of `objective_4`, class of `emotion_7`). Pain and helplessness are unpleasant, so negative, and none
# of the six emotions; confusion and sympathy have no agreed valence.
_CLASSES: dict[str, tuple[str, str | None]] = {
    "happiness": ("positive", "happiness"),
    "surprise": ("surprise", "surprise"),
    "disgust": ("negative", "disgust"),
    "fear": ("negative", "fear"),
    "anger": ("negative", "anger"),
    "sadness": ("negative", "sadness"),
    "others": ("others", "others"),
    "positive": ("positive", "happiness"),
    "negative": ("negative", None),
    "helpless": ("negative", "others"),
    "pain": ("negative", "others"),
    "contempt": ("negative", "others"),
    "confused": ("others", "others"),
    "sympathy": ("others", "others"),
}

# Objective classes of CAS(ME)^3 and SAMM, which are groups of action units (Davison et al., 2018), by the emotion that
# the group is named after there.
OBJECTIVE_CLASSES = {
    "I": "happiness",
    "II": "surprise",
    "III": "anger",
    "IV": "disgust",
    "V": "sadness",
    "VI": "fear",
    "VII": "others",
}

TYPES = ("macro-expression", "micro-expression")


def spell(word: str) -> str:
    """
    The word that a sheet means: lower-case, without blanks, in its usual spelling.

    Example:
        >>> spell(" Happyiness")
        'happiness'
    """
    word = word.strip().lower()
    return SPELLINGS.get(word, word)


def fold(word: str | None, scheme: str) -> str | None:
    """
    The class of a word in a scheme, or None where it has none: no word, "others" among the three classes of MEGC,
    "negative" among the seven.

    Args:
        word: as a sheet spells it.
        scheme: one of `SCHEMES`.

    Raises:
        KeyError: a word or scheme that is not listed here.

    Example:
        >>> fold("helpless", "objective_4"), fold("happyiness", "emotion_7"), fold("negative", "emotion_7")
        ('negative', 'happiness', None)
    """
    classes = SCHEMES[scheme]
    if word is None:
        return None
    coarse, fine = _CLASSES[spell(word)]
    found = fine if scheme == "emotion_7" else coarse
    return found if found in classes else None


def is_known(word: str) -> bool:
    """Whether `fold` knows a word, in any of its spellings."""
    return spell(word) in _CLASSES


def class_id(name: str | None, scheme: str) -> int:
    """
    Index of a class, or `UNKNOWN` for None: the labels that a loss takes.

    Example:
        >>> class_id("surprise", "objective_4"), class_id(None, "objective_4")
        (2, -100)
    """
    return UNKNOWN if name is None else SCHEMES[scheme].index(name)


__all__ = ["OBJECTIVE_CLASSES", "SCHEMES", "SPELLINGS", "TYPES", "UNKNOWN", "class_id", "fold", "is_known", "spell"]
