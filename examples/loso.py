"""Leave each subject of a corpus out once, and score what is found in them: the field's protocol, from Python.

    python examples/loso.py mdmo12.npz SHEETS run --recipe examples/recipes/mdmo_features.yaml
    python examples/loso.py mdmo12.npz SHEETS run --recipe ... --part 1/2     # the other half at once: --part 2/2

The first argument is what `dataset_scripts.features` reads, the second the folder with the corpus's label sheets. In
`run`: the raw detections of every fold, and report.json. `fedn loso` does the same; here is where to put your own.
"""

import argparse
from pathlib import Path

from fedn_hf import FednError, ProgressHook
from fedn_hf.training import Recipe, corpus_rows, run_folds, score_folds
from fedn_hf.training.detections import read_detections
from fedn_hf.training.report import missing_folds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("features", type=Path)
    parser.add_argument("sheets", type=Path)
    parser.add_argument("run", type=Path, help="a folder: new, or of the same run that was stopped")
    parser.add_argument("--corpus", default="casme_2", help="casme_2, casme_3, samm_lv or folder_csv")
    parser.add_argument("--fps", type=float, help="of the features of folder_csv")
    parser.add_argument("--recipe", type=Path, help="YAML; the paper's network if it is not given")
    parser.add_argument("--part", default="1/1", help="i/n: every n-th fold from the i-th on")
    arguments = parser.parse_args()

    # 1. The corpus: a row for each video, with its subject, its features and what coders marked in it.
    recipe = Recipe() if arguments.recipe is None else Recipe.read(arguments.recipe)
    options = {} if arguments.fps is None else {"fps": arguments.fps}
    rows, labels = corpus_rows(arguments.corpus, arguments.features, arguments.sheets, recipe.scheme, **options)
    print(f"{len(rows)} videos of {len({row['subject_id'] for row in rows})} subjects, {', '.join(labels)}")

    # 2. A network for each subject, trained on all others. Folds that are done are left alone, so this goes on where
    #    it was stopped. No fold sees what is marked in the videos of its test subject.
    number, _, count = arguments.part.partition("/")
    with ProgressHook() as hook:
        files = run_folds(rows, labels, recipe, arguments.run, part=(int(number), int(count)), hook=hook)
    for file in files:
        print(f"{file.parent.name}: {len(read_detections(file))} raw detections in {file}")
    if missing := missing_folds(arguments.run, rows):
        print(f"{len(missing)} folds are still to be done, by the other parts")
        return

    # 3. The score. For every subject epoch and threshold are chosen on all others; ORACLE says what is to be had by
    #    choosing on the test subjects, as many papers do. The network does not run again for other rules.
    print(score_folds(arguments.run, rows))


if __name__ == "__main__":
    try:
        main()
    except FednError as error:
        raise SystemExit(f"error: {error}") from None
