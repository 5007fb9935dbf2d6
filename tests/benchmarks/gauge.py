"""Where a run's time goes: inside networks, on which products, and against what the machine can."""

import math
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map
from torch.utils.flop_counter import FlopCounterMode, flop_registry

ROUNDS = 5


class Inside:
    """Seconds of a block in which a network runs, forward or backward, in whatever thread.

    Forward: within the outermost call of any module. Backward: from the gradient of its output to
    that of its input, where it passes one on. `of_threads` adds up those of each thread.
    """

    def __init__(self):
        self.seconds = self.of_threads = self._since = 0.0
        self._running = 0
        self._lock, self._own = threading.Lock(), threading.local()

    def __enter__(self) -> "Inside":
        self._hooks = (
            hooks.register_module_forward_pre_hook(lambda *_: self._start()),
            hooks.register_module_forward_hook(self._done, always_call=True),
        )
        return self

    def __exit__(self, *_) -> None:
        for hook in self._hooks:
            hook.remove()

    def _start(self, *_) -> None:
        depth = getattr(self._own, "depth", 0)
        self._own.depth = depth + 1
        if not depth:
            self._own.since = time.perf_counter()
            with self._lock:
                if not self._running:
                    self._since = self._own.since
                self._running += 1

    def _stop(self, *_) -> None:
        self._own.depth -= 1
        if not self._own.depth:
            with self._lock:
                now = time.perf_counter()
                self.of_threads += now - self._own.since
                self._running -= 1
                if not self._running:
                    self.seconds += now - self._since

    def _done(self, module: nn.Module, given: tuple, found: Any) -> None:
        if self._own.depth == 1:
            inputs = [x for x in given if isinstance(x, Tensor) and x.requires_grad]
            outputs = [x for x in tree_flatten(found)[0] if isinstance(x, Tensor)]
            if inputs and outputs and outputs[0].requires_grad:
                outputs[0].register_hook(self._start)
                inputs[0].register_hook(self._stop)
        self._stop()


def forget_peak() -> None:
    """Sets what `peak_mib` tells to what is resident now (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> int:
    """The most MiB that were resident; getrusage would begin with what the parent process had."""
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 2**10


def median_seconds(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Of some calls, after one that is not counted."""
    taken = []
    for _ in range(1 + rounds):
        started = time.perf_counter()
        work()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken[1:])


def products(work: Callable[[], object]) -> dict[str, int]:
    """Floating-point operations of a call, by `convolution` and `matmul`."""
    with FlopCounterMode(display=False) as counter:
        work()
    found = {"convolution": 0, "matmul": 0}
    for operator, count in counter.get_flop_counts()["Global"].items():
        found["convolution" if "convolution" in str(operator) else "matmul"] += count
    return found


SIDES = {
    "convolution": ((96, 16, 32), (128, 8, 64), (160, 4, 64), (128, 32, 16)),
    "matmul": (2048,),
    "bytes": (2**22, 2**26),
}
"""Channels, side and batch of 3x3 convolutions as the miniatures have them; the side of square
matrices; bytes of tensors as they have them, and beyond any cache."""


def rates(dtype: torch.dtype) -> dict[str, float]:
    """This machine's fastest convolution and matrix product, FLOP/s, and copying, bytes/s."""
    found = {"convolution": 0.0, "matmul": 0.0, "bytes": 0.0}
    with torch.inference_mode():
        for channels, side, batch in SIDES["convolution"]:
            layer = nn.Conv2d(channels, channels, 3, padding=1, dtype=dtype)
            images = torch.randn(batch, channels, side, side, dtype=dtype)
            work = 2 * 9 * channels**2 * side**2 * batch
            rate = work / median_seconds(lambda run=layer, on=images: run(on))
            found["convolution"] = max(found["convolution"], rate)
        for side in SIDES["matmul"]:
            a, b = torch.randn(2, side, side, dtype=dtype)
            found["matmul"] = 2 * side**3 / median_seconds(lambda x=a, y=b: x @ y)
        for size in SIDES["bytes"]:
            a, b = torch.zeros(2, size, dtype=torch.uint8)
            rate = 2 * size / median_seconds(lambda x=a, y=b: x.copy_(y), 50)
            found["bytes"] = max(found["bytes"], rate)
    return found


def least_seconds(work: dict[str, int], able: dict[str, float]) -> float:
    """What so many operations take at the machine's rates."""
    return sum(count / able[kind] for kind, count in work.items())


class Layers(TorchDispatchMode):
    """The convolutions and matrix products of a block, in their order, by their operands' shapes.

    `moved` counts the bytes that its other operations read and write.
    """

    def __init__(self):
        super().__init__()
        self.calls: list[tuple] = []
        self.moved = 0
        self._given: dict[tuple, tuple] = {}

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if operator._overloadpacket in flop_registry:
            leaves, shape = tree_flatten((args, kwargs))
            key = (operator, str(shape), *map(_described, leaves))
            self.calls.append(key)
            self._given.setdefault(key, tree_map(_like, (args, kwargs)))
            return operator(*args, **kwargs)
        with self:  # without autograd what is a product comes composed
            parts = operator.decompose(*args, **kwargs)
        if parts is not NotImplemented:
            return parts
        found = operator(*args, **kwargs)
        aliases = [each.alias_info for each in operator._schema.returns]
        moves = all(each is None or each.is_write for each in aliases)  # of a view nothing does
        if moves and operator is not torch.ops.aten._unsafe_view.default:
            tensors = [x for x in tree_flatten((args, found))[0] if isinstance(x, Tensor)]
            self.moved += sum(x.nbytes for x in tensors)
        return found

    def seconds(self) -> float:
        """Of all of them in their order, on operands of their shapes, with nothing between them.

        One that is repeated alone finds its operands in the cache, as no network's layer does;
        here layers of equal shapes share theirs, which still favours the products.
        """
        with torch.inference_mode():
            given = {key: tree_map(_drawn, each) for key, each in self._given.items()}

            def work() -> None:
                for key in self.calls:
                    args, kwargs = given[key]
                    key[0](*args, **kwargs)

            return median_seconds(work)


class _Like(tuple):
    """Shape, strides and type of a tensor."""


def _like(leaf: Any) -> Any:
    return _Like((leaf.shape, leaf.stride(), leaf.dtype)) if isinstance(leaf, Tensor) else leaf


def _described(leaf: Any) -> Any:
    return tuple(_like(leaf)) if isinstance(leaf, Tensor) else repr(leaf)


def _drawn(leaf: Any) -> Any:
    if not isinstance(leaf, _Like):
        return leaf
    shape, strides, dtype = leaf
    extent = 1 + sum((n - 1) * step for n, step in zip(shape, strides, strict=True) if n)
    flat = torch.randn(max(extent, math.prod(shape)), dtype=torch.float32).to(dtype)
    return flat.as_strided(shape, strides)
