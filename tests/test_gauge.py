"""What the benchmarks measure with: time inside networks, operations, layers."""

import threading
import time
from mmap import mmap

import pytest
import torch
from benchmarks.gauge import Inside, Layers, forget_peak, peak_mib, products
from torch import nn

FORWARD, BACKWARD = 0.06, 0.09


class _Slow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        time.sleep(FORWARD)
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        time.sleep(BACKWARD)
        return 2 * gradient


class Slow(nn.Module):
    def forward(self, x):
        return _Slow.apply(x)


def test_time_inside_networks_is_that_of_both_ways_and_of_no_other():
    network = nn.Sequential(Slow(), Slow())  # one call of modules within a module
    x = torch.ones(3, requires_grad=True)
    with Inside() as inside:
        time.sleep(0.1)
        found = network(_Slow.apply(x))
        assert 2 * FORWARD <= inside.seconds < 2 * FORWARD + 0.05
        found.sum().backward()  # also through what is outside
    both = 2 * (FORWARD + BACKWARD)
    assert both <= inside.seconds < both + 0.05
    assert x.grad.tolist() == [8, 8, 8]
    Slow()(x)
    assert inside.seconds < both + 0.05


def test_networks_that_run_at_once_count_once():
    def both_ways():
        Slow()(torch.ones(3, requires_grad=True)).sum().backward()

    whole = FORWARD + BACKWARD
    with Inside() as inside:
        late = threading.Timer(FORWARD / 2, both_ways)
        late.start()
        both_ways()
        late.join()
    assert whole + 0.01 < inside.seconds < 2 * whole - 0.05
    assert 2 * whole <= inside.of_threads < 2 * whole + 0.1


def test_time_inside_is_counted_without_gradients_and_when_a_network_fails():
    class Broken(nn.Module):
        def forward(self, x):
            time.sleep(FORWARD)
            raise ArithmeticError

    with Inside() as inside, torch.inference_mode():
        with pytest.raises(ArithmeticError):
            Broken()(1)
        nn.Identity()(torch.ones(1))
    assert FORWARD <= inside.seconds < FORWARD + 0.05


def network(x):
    images = nn.functional.conv2d(x, torch.ones(5, 3, 3, 3), padding=1).relu()
    return images.flatten(2) @ torch.ones(64, 7)


def test_operations_by_kind():
    found = products(lambda: network(torch.ones(2, 3, 8, 8)))
    assert found == {"convolution": 2 * 2 * 5 * 3 * 9 * 64, "matmul": 2 * 2 * 5 * 64 * 7}


@pytest.mark.parametrize("graph", [True, False])
def test_layers_are_the_products_by_shape_and_the_bytes_between_them(graph):
    x = torch.ones(2, 3, 8, 8)
    with torch.inference_mode(not graph), Layers() as layers:
        network(x)
        network(x)
        network(x[:1])
    assert [layers.calls.count(key) for key in layers.calls] == [2, 2, 2, 2, 1, 1]
    fills, relus = 3 * (5 * 3 * 9 + 64 * 7), 2 * (2 + 2 + 1) * 5 * 64
    assert layers.moved == 4 * (fills + relus)
    assert 0 < layers.seconds() < 1


def test_the_peak_is_that_since_it_was_forgotten():
    forget_peak()
    with mmap(-1, 2**28) as block:  # the allocator's would not always go back to the system
        block.write(bytes(2**28))
        during = peak_mib()
    forget_peak()
    assert peak_mib() < during - 200
