"""The miniature segmenters' architectures: DeepLabV3s that guide, a U-Net that judges.

All map images (B, 3, H, W) in [0, 1] to logits per pixel at the same size, H and W multiples of
16, trained at 128x128. Guides and judge differ in architecture, seed and the scenes seen.
"""

from collections import OrderedDict

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock
from torchvision.models.segmentation.deeplabv3 import ASPP, DeepLabV3

from tcig.data.voc import BY_LABEL, INDICES, NUM_LABELS
from tcig.models.mini import WEIGHTS


def _residual(inputs: int, outputs: int, stride: int = 1) -> BasicBlock:
    shortcut = nn.Sequential(
        nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
    )
    return BasicBlock(inputs, outputs, stride, shortcut)


class _Backbone(nn.Sequential):
    """A small ResNet of output stride 4; returns the dictionary that torchvision's heads read."""

    def __init__(self):
        super().__init__(
            nn.Conv2d(3, 32, 5, 2, 2, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            _residual(32, 48, 2),
            _residual(48, 64),
            _residual(64, 96),
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return OrderedDict(out=super().forward(images * 2 - 1))


class Guide(DeepLabV3):
    """torchvision's DeepLabV3 with its ASPP (rates 2, 4, 8) over a backbone of output stride 4."""

    def __init__(self, num_labels: int = NUM_LABELS):
        head = nn.Sequential(
            ASPP(96, [2, 4, 8], 64),
            nn.Conv2d(64, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, num_labels, 1),
        )
        super().__init__(_Backbone(), head)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> logits (B, num_labels, H, W)."""
        return super().forward(images)["out"]


def _double(inputs: int, outputs: int) -> nn.Sequential:
    layers = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


class Judge(nn.Module):
    """A U-Net (Ronneberger et al. 2015) over 2x2 pixel blocks: three halvings, 32 to 128 channels.

    The input's 2x2 blocks become channels and the logits' channels become 2x2 blocks again, which
    keeps full resolution in and out at a quarter of the activations.
    """

    WIDTHS = (32, 64, 96, 128)

    def __init__(self):
        super().__init__()
        widths = self.WIDTHS
        self.down = nn.ModuleList(map(_double, (12, *widths[:-1]), widths))
        pairs = zip(widths[:0:-1], widths[-2::-1], strict=True)
        self.up = nn.ModuleList(_double(deep + skip, skip) for deep, skip in pairs)
        self.head = nn.Conv2d(widths[0], 4 * NUM_LABELS, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] -> logits (B, 21, H, W)."""
        x, skips = F.pixel_unshuffle(images * 2 - 1, 2), []
        for stage in self.down:
            x = stage(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for stage, skip in zip(self.up, skips[-2::-1], strict=True):
            x = stage(torch.cat([F.interpolate(x, scale_factor=2), skip], 1))
        return F.pixel_shuffle(self.head(x), 2)


def _indices(*labels: str) -> tuple[int, ...]:
    return (0, *(BY_LABEL[label].index for label in labels))


LABELS_OF = {
    "guide": INDICES,
    "guide-animals": _indices("bird", "cat", "cow", "dog", "horse", "sheep"),
    "guide-objects": _indices(
        *("airplane", "bicycle", "boat", "bus", "car", "motorcycle", "train"),
        *("bottle", "chair", "dining table", "potted plant", "couch", "tv"),
    ),
    "judge": INDICES,
}
"""Miniature segmenter -> the label of each of its logits; what it does not know is background."""


def build_segmenter(name: str) -> nn.Module:
    """The untrained segmenter `name` of `LABELS_OF`."""
    return Judge() if name == "judge" else Guide(len(LABELS_OF[name]))


def load_segmenter(name: str) -> nn.Module:
    """The trained segmenter `name`, float32, in evaluation mode, without gradients."""
    model = build_segmenter(name)
    model.load_state_dict(load_file(WEIGHTS / f"{name}.safetensors"))
    return model.eval().requires_grad_(False)
