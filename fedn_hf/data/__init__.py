"""From annotated videos to batches that FEDN trains on: sequences, windows, augmentation, folds, and a feature cache.

Data flows down: a row of a corpus and the frames of its video become a `FednSequence` in the network's time
(`sequences`), frame features are computed once and kept (`cache`), windows are cut from sequences (`windows`), changed
(`augmentation`) and stacked (`collator`); `folds` says which subjects train and which are tested.
"""
