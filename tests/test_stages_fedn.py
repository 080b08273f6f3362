"""Stages run side by side, in order, and end when nobody wants their items any more."""

import gc
import threading

import pytest
import torch

from fedn_hf.stages_fedn import ahead, one_thread


def test_ahead_keeps_the_order_and_hands_errors_over():
    def three_and_a_fault():
        yield from range(3)
        raise RuntimeError("broken")

    got = []
    with pytest.raises(RuntimeError, match="broken"):
        for item in ahead(three_and_a_fault()):
            got.append(item)
    assert got == [0, 1, 2]


def test_ahead_is_at_most_one_item_ahead():
    made = []

    def items():
        for i in range(10):
            made.append(i)
            yield i

    for item in ahead(items()):
        assert len(made) <= item + 3
    assert made == list(range(10))


def test_ahead_works_on_one_thread_and_leaves_the_number_of_others_alone():
    torch.set_num_threads(2)
    assert list(ahead(torch.get_num_threads() for _ in range(3))) == [1, 1, 1]
    assert torch.get_num_threads() == 2


def chain(closed: list[int]):
    """Three stages on top of each other; each notes when it is closed."""

    def stage(number, items):
        try:
            yield from items
        finally:
            closed.append(number)

    return ahead(stage(2, ahead(stage(1, ahead(stage(0, iter(range(100))))))))


def test_closing_ends_every_stage_before_it_returns():
    closed, before = [], threading.active_count()
    stream = chain(closed)
    assert [next(stream), next(stream)] == [0, 1]
    stream.close()
    assert sorted(closed) == [0, 1, 2]
    assert threading.active_count() == before


def test_forgotten_streams_are_collected():
    """In a reference cycle, as an exception's traceback makes one, Python ends the parts of a stream in any order."""
    closed, before = [], threading.active_count()
    for _ in range(20):
        holder = {"stream": chain(closed)}
        holder["self"] = holder
        next(holder["stream"])
        del holder
    collector = threading.Thread(target=gc.collect, daemon=True)
    collector.start()
    collector.join(30)
    assert not collector.is_alive()
    assert len(closed) == 60
    assert threading.active_count() == before


def test_one_thread_is_for_a_while():
    torch.set_num_threads(2)
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
