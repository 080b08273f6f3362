"""The card of a converted corpus."""

from collections import Counter, defaultdict
from pathlib import Path
from string import Template

import yaml

from .corpus import Licence, natural_key
from .labels import SCHEMES

_WORDS = Path(__file__).with_name("card.md")
_TAGS = ["facial-expression-detection", "micro-expression", "macro-expression", "spotting", "affective-computing"]
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"))


def make_card(settings: dict, licence: Licence, rows: list[dict], log: dict[str, dict]) -> str:
    """
    README.md of a converted corpus.

    Args:
        settings: of the conversion: "corpus", "frames", "scheme", "encode", "size", "to".
        licence: of the corpus.
        rows: one per video, as `Clip.facts` gives them.
        log: as `Quirks.log` gives it.
    """
    title = f"{licence.corpus} ({settings['frames']} frames)"
    lossless = "lossless" if settings["encode"] != "h264" else "lossy, visually lossless"
    size = f", shorter side {settings['size']} pixels" if settings["size"] else ""
    page = f"Licence agreement: <{licence.page}>" if licence.page else ""
    forbidden = f"It may not be passed on: publish neither this folder nor a part of it. See {licence.page}."
    body = Template(_WORDS.read_text("utf-8")).substitute(
        title=title,
        corpus=licence.corpus,
        published="" if licence.may_be_published else forbidden,
        counts=_counts(rows),
        terms=licence.terms,
        licence_page=page,
        scheme=settings["scheme"],
        classes=", ".join(SCHEMES[settings["scheme"]]),
        frames=settings["frames"],
        encoding=f"{settings['encode']} ({lossless}){size}",
        subject_configs=_subject_configs(settings),
        subjects=_subjects(rows),
        quirks=_quirks(log),
        citation=f"## Citation\n\n```bibtex\n{licence.citation}\n```" if licence.citation else "",
    )
    header = yaml.safe_dump(_header(settings, licence, rows, title), sort_keys=False, allow_unicode=True)
    return f"---\n{header}---\n{body.rstrip()}\n"


def _header(settings: dict, licence: Licence, rows: list[dict], title: str) -> dict:
    subjects = _by_subject(rows)
    if settings["to"] == "parquet":
        whole = [{"split": "train", "path": "data/**/*.parquet"}]
        files = [{"split": _name(subject), "path": f"data/{_name(subject)}/*.parquet"} for subject in subjects]
        configs = [{"config_name": "by_subject", "data_files": files}]
    else:
        # A file with a row per video serves all subjects, so it is filtered where Parquet files are chosen.
        whole = [{"split": "train", "path": ["metadata.jsonl", "data/**"]}]
        configs = [
            {"config_name": _name(subject), "data_dir": ".", "filters": [["subject_id", "==", subject]]}
            for subject in subjects
        ]
    configs.insert(0, {"config_name": "default", "default": True, "data_files": whole})
    return {
        "license": "other",
        "license_name": "signed-agreement" if licence.page else "own",
        **({"license_link": licence.page} if licence.page else {}),
        "pretty_name": title,
        "task_categories": ["video-classification"],
        "tags": [*_TAGS, settings["corpus"].replace("_", "-")],
        "size_categories": [next((name for limit, name in _SIZES if len(rows) < limit), "100K<n<1M")],
        "configs": configs,
    }


def _name(subject_id: str) -> str:
    """Of a split, a configuration and a folder: letters, digits, underscores and dots."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in subject_id)


def _subject_configs(settings: dict) -> str:
    if settings["to"] == "parquet":
        return "The configuration `by_subject` has a split for every subject."
    return "The configuration named like a subject holds the videos of that subject alone."


def _by_subject(rows: list[dict]) -> dict[str, list[dict]]:
    subjects = defaultdict(list)
    for row in sorted(rows, key=lambda row: natural_key(row["subject_id"])):
        subjects[row["subject_id"]].append(row)
    return subjects


def _counts(rows: list[dict]) -> str:
    events = [event for row in rows for event in row["events"]]
    types = Counter(event["type"] for event in events)
    seconds = sum(row["num_frames"] / row["fps"] for row in rows)
    lines = [
        "| subjects | videos | hours | macro-expressions | micro-expressions |",
        "|---|---|---|---|---|",
        f"| {len(_by_subject(rows))} | {len(rows)} | {seconds / 3600:.2f} "
        f"| {types['macro-expression']} | {types['micro-expression']} |",
        "",
        "| emotion | by coders | by participants |",
        "|---|---|---|",
    ]
    named = [Counter(event[column] for event in events) for column in ("emotion", "self_report")]
    classes = [*sorted({name for counts in named for name in counts if name}), None]
    lines += [f"| {name or 'not named'} | {named[0][name]} | {named[1][name]} |" for name in classes]
    return "\n".join(lines)


def _subjects(rows: list[dict]) -> str:
    lines = ["| subject | videos | macro-expressions | micro-expressions |", "|---|---|---|---|"]
    for subject, videos in _by_subject(rows).items():
        types = Counter(event["type"] for row in videos for event in row["events"])
        lines.append(f"| {subject} | {len(videos)} | {types['macro-expression']} | {types['micro-expression']} |")
    return "\n".join(lines)


def _quirks(log: dict[str, dict]) -> str:
    lines = ["| rule | cases | what | done |", "|---|---|---|---|"]
    lines += [f"| {name} | {entry['count']} | {entry['quirk']} | {entry['done']} |" for name, entry in log.items()]
    return "\n".join(lines) if log else "None were met."


__all__ = ["make_card"]
