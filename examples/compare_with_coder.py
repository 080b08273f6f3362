"""Hold what the network found against what a person coded, and list where they differ.

    fedn detect interview.mp4 -o results
    python examples/compare_with_coder.py interview.eaf results/interview.json --mapping codes.yaml

The coding may come from ELAN, Praat, BORIS or a table, by name of tiers and codes that `codes.yaml` explains (`fedn
export --help` shows how; none is needed for files that this package wrote). To try it:
`fedn export examples/media/synthetic.csv -o synthetic.eaf` makes an ELAN file of the bundled clip's truth.

First the agreement: F1 of events (the same type, and an overlap of at least half), Cohen's kappa of frames, counts.
Then every event that only one of the two has, to look at in the video; it is not always the person who is right.
The same in one line, without the list: `fedn agreement`.
"""

import argparse

from fedn_hf import FednError
from fedn_hf.exporters.mapping import CodeMapping
from fedn_hf.metrics import Expressions, agreement, read_codings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("coding", help="of a person: .eaf, .TextGrid, .csv, ...")
    parser.add_argument("found", help="what `fedn detect -o` wrote: .json, .csv, ...")
    parser.add_argument("--mapping", help="what the coder's tiers and codes mean, YAML")
    parser.add_argument("--protocol", default="strict", help="the rules; `fedn evaluate --help` names others")
    arguments = parser.parse_args()

    # 1. Read both as tables of frames. What one file does not say, such as the frame rate, the other one does.
    mapping = CodeMapping.read(arguments.mapping) if arguments.mapping else None
    codings = read_codings([arguments.found, arguments.coding], mapping=mapping)
    for note in codings.notes:
        print(note)
    found, coded = codings.tables
    if None in coded.type:
        print("events without a type are micro-expressions up to 0.5 s, else macro-expressions")
        coded = coded.with_types_by_duration()

    # 2. How far they agree. A is the network, B the person.
    result = agreement(found, coded, arguments.protocol, codings.videos)
    print(result, end="\n\n")

    # 3. Where they agree, do they call it by the same name?
    pairs = [(found.label[row], coded.label[event]) for row, event, _ in result.events.pairs]
    print(f"{len(pairs)} events found by both, of which {sum(a == b for a, b in pairs)} with the same label")

    # 4. Where to look. Rows that are in no pair are those that the other does not have.
    tell("only the network", found, {row for row, _, _ in result.events.pairs})
    tell("only the coder", coded, {event for _, event, _ in result.events.pairs})


def tell(who: str, table: Expressions, paired: set[int]) -> None:
    for row in sorted(set(range(len(table))) - paired, key=lambda row: (table.video[row], table.onset[row])):
        onset_s, offset_s = table.onset[row] / table.fps[row], (table.offset[row] + 1) / table.fps[row]
        print(f"{who}: {table.video[row]}  {onset_s:.2f} - {offset_s:.2f} s  {table.type[row]}  {table.label[row]}")


if __name__ == "__main__":
    try:
        main()
    except FednError as error:
        raise SystemExit(f"error: {error}") from None
