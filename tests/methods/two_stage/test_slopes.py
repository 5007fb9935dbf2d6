"""Losses side by side: what they give is what autograd gives of their sum."""

import threading

import pytest
import torch

from tcig.methods.two_stage.slopes import Term, side_by_side
from tcig.models.devices import PLAIN, Compute

BESIDE = Compute(on="cpu", beside=True)


def square(images, iteration):
    return (images - iteration).square().sum((1, 2, 3))


def wave(images, iteration):
    return images.sin().mean((1, 2, 3)) * iteration


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("losses", [{"a": square}, {"a": square, "b": wave}])
def test_they_are_the_losses_and_the_gradient_of_their_sum(losses, count, threads):
    threads(count)
    images = torch.rand(2, 3, 8, 8).requires_grad_()
    terms = {name: Term(loss) for name, loss in losses.items()}
    with side_by_side(terms, BESIDE) as slopes:
        for iteration in (1, 2):
            found, gradient = slopes(images * 2, iteration)
            expected = {name: loss(images * 2, iteration) for name, loss in losses.items()}
            assert list(found) == list(losses)
            assert all(found[name].equal(loss.detach()) for name, loss in expected.items())
            assert not any(loss.requires_grad for loss in found.values())
            (whole,) = torch.autograd.grad(sum(expected.values()).sum(), images)
            assert (2 * gradient).allclose(whole, rtol=1e-6)
    assert torch.get_num_threads() == count


@pytest.mark.parametrize(("count", "beside"), [(1, False), (2, True), (4, True)])
def test_each_has_a_thread_and_its_share_of_torchs_where_there_are_enough(count, beside, threads):
    threads(count)
    met = threading.Barrier(2 if beside else 1)
    seen = []

    def loss(images, iteration):
        met.wait(20)  # for the other, which runs at the same time
        seen.append((threading.current_thread(), torch.get_num_threads()))
        return images.sum((1, 2, 3))

    with side_by_side({"a": Term(loss), "b": Term(loss)}, BESIDE) as slopes:
        slopes(torch.ones(1, 3, 2, 2), 0)
    own = {thread for thread, _ in seen}
    assert len(own) == 2 if beside else own == {threading.main_thread()}
    assert {share for _, share in seen} == {count // 2 if beside else count}
    assert torch.get_num_threads() == count
    after = []
    thread = threading.Thread(target=lambda: after.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert after == [count], "threads that come later have as many as before"


@pytest.mark.parametrize("count", [1, 2])
def test_what_one_raises_is_raised_and_the_threads_are_given_back(count, threads):
    threads(count)

    def failing(images, iteration):
        raise RuntimeError("out of memory")

    with (
        pytest.raises(RuntimeError, match="out of memory"),
        side_by_side({"a": Term(square), "b": Term(failing)}, BESIDE) as slopes,
    ):
        slopes(torch.ones(1, 3, 2, 2), 0)
    assert torch.get_num_threads() == count


@pytest.mark.parametrize("compute", [PLAIN, Compute(on="cuda", beside=True)], ids=str)
def test_elsewhere_they_are_found_one_after_another(threads, compute):
    threads(2)
    seen = []

    def loss(images, iteration):
        seen.append(threading.current_thread())
        return images.sum((1, 2, 3))

    with side_by_side({"a": Term(loss), "b": Term(loss)}, compute) as slopes:
        slopes(torch.ones(1, 3, 2, 2), 0)
    assert seen == [threading.main_thread()] * 2


@pytest.mark.parametrize("count", [1, 2])
def test_a_term_counts_every_so_often_and_one_alone_has_all_threads(count, threads):
    threads(count)
    had = []

    def often(images, iteration):
        had.append(torch.get_num_threads())
        return images.sum((1, 2, 3))

    terms = {"often": Term(often), "seldom": Term(square, 3)}
    with side_by_side(terms, BESIDE) as slopes:
        found = [slopes(torch.ones(1, 3, 2, 2), iteration) for iteration in range(7)]
    assert [set(losses) == set(terms) for losses, _ in found] == [n % 3 == 0 for n in range(7)]
    assert [n for n, each in enumerate(had) if each == count] == (
        list(range(7)) if count == 1 else [1, 2, 4, 5]
    )
    assert found[1][1].eq(1).all()
    assert found[3][1].eq(1 + 2 * (1 - 3)).all()
