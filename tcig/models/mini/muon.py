"""Muon (Jordan et al. 2024) for convolutions and matrices, in float32 or bfloat16.

torch.optim.Muon takes matrices alone and orthogonalises in bfloat16 only, which is 10 to 25 times
slower on a processor without bfloat16 arithmetic.
"""

import math

import torch
from torch import Tensor, nn

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic iteration, from Jordan's reference implementation; five steps."""
MOMENTUM = 0.95
NARROW = 16
"""Channels under which a layer is left to AdamW; ours."""


def orthogonalise(matrix: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """A matrix (A, B) of about the same singular vectors whose singular values are near 1.

    Computed and returned in `dtype`; the iteration tolerates bfloat16 (Jordan's reference uses it).
    """
    a, b, c = NEWTON_SCHULZ
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / (x.norm() + 1e-7)).to(dtype)
    for _ in range(5):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    return x.T if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised per tensor; a convolution is a matrix (out, in * k * k).

    The step is scaled by 0.2 sqrt(max(A, B)), which gives it AdamW's usual root mean square
    (Liu et al. 2025, "Muon is scalable for LLM training", equation 4).
    """

    def __init__(
        self, parameters: list[Tensor], lr: float, weight_decay: float, dtype: torch.dtype
    ):
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self) -> None:
        """One step from the gradients; a tensor without a gradient stays."""
        for group in self.param_groups:
            for p in filter(lambda p: p.grad is not None, group["params"]):
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                momentum = state["momentum"].mul_(MOMENTUM).add_(p.grad)
                update = orthogonalise((p.grad + MOMENTUM * momentum).flatten(1), self.dtype)
                scale = group["lr"] * 0.2 * math.sqrt(max(update.shape))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.view_as(p), alpha=-scale)


def optimisers(
    model: nn.Module, rate: float, weight_decay: float, bf16: bool = False
) -> list[torch.optim.Optimizer]:
    """Muon for the weights of convolutions and linear layers, AdamW for everything else.

    Layers that read or write pixels, latents or single numbers (an input or output side under
    `NARROW`) go to AdamW, as do embeddings, biases and normalisations. With `bf16` Muon
    orthogonalises in bfloat16.
    """
    inner = {
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
        and module.weight.requires_grad
        and min(module.weight.shape[:2]) >= NARROW
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trained if id(p) in inner]
    others = [p for p in trained if id(p) not in inner]
    return [
        Muon(matrices, rate, weight_decay, torch.bfloat16 if bf16 else torch.float32),
        torch.optim.AdamW(others, rate, (0.9, 0.99), weight_decay=weight_decay),
    ]
