"""Are the events of synthetic scripts those of the corpora? A hundred scripts beside the published statistics.

    python examples/benchmarks/synthetic_statistics.py -o synthetic_statistics.json

Writes JSON, prints Markdown. Nothing is rendered.
"""

import argparse
import json
from pathlib import Path

from fedn_hf.synthetic.behaviour import MACRO, MICRO, write_script
from fedn_hf.synthetic.statistics import SHOWN, STATISTICS, Statistics, draw, summarise

# The corpora's own frame rates.
FPS = {"casme_2": 30.0, "casme_3": 30.0, "samm_lv": 200.0}


def published(corpus: Statistics) -> dict[str, float]:
    """The corpus' numbers under the names that `summarise` gives them."""
    numbers: dict[str, float] = {}
    for kind in (MACRO, MICRO):
        numbers[f"{kind} events_per_minute"] = corpus.of(kind).per_minute
        numbers |= {f"{kind} duration_s {level}": float(draw(corpus.of(kind).duration_s, level)) for level in SHOWN}
    return numbers | {
        "overlapping_events": corpus.overlapping_events,
        "overlaps_per_event": corpus.overlaps_per_event,
        "gap_s 0.5": float(draw(corpus.gap_s, 0.5)),
    }


def compare(videos: int, seconds: float, seed: int) -> dict[str, dict]:
    """Corpus -> number -> its value in the corpus and in the scripts."""
    table = {}
    for name, corpus in STATISTICS.items():
        scripts = (write_script((seed, video), seconds, FPS[name], corpus) for video in range(videos))
        found = summarise([script.events() for script in scripts])
        table[name] = {
            number: {"corpus": value, "scripts": found[number], "ratio": found[number] / value if value else None}
            for number, value in published(corpus).items()
        }
    return table


def markdown(table: dict[str, dict]) -> str:
    """Numbers as rows; for each corpus its own value, the scripts' and how far they are apart."""
    lines = [
        "| |" + "".join(f" {name} | scripts | off by |" for name in table),
        "|---" * (1 + 3 * len(table)) + "|",
    ]
    for number in next(iter(table.values())):
        values = [row[number] for row in table.values()]
        cells = "".join(
            f" {value['corpus']:.3f} | {value['scripts']:.3f} | {100 * value['ratio'] - 100:+.1f} % |"
            for value in values
        )
        lines.append(f"| {number} |{cells}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of a video")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path("outputs/synthetic_statistics.json"))
    arguments = parser.parse_args()
    settings = {name: getattr(arguments, name) for name in ("videos", "seconds", "seed")}
    table = compare(**settings)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps({"settings": {**settings, "fps": FPS}, "results": table}, indent=1) + "\n")
    print(markdown(table))


if __name__ == "__main__":
    main()
