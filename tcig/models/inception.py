"""InceptionV3 of the TensorFlow graph of 2015-12-05, on whose features FID and KID were published.

The network and its resizing like TensorFlow 1's are torch-fidelity's.
"""

import io
from pathlib import Path

import torch
from torch_fidelity.feature_extractor_inceptionv3 import (
    URL_INCEPTION_V3,
    FeatureExtractorInceptionV3,
)

from tcig.models.devices import PLAIN, Compute
from tcig.models.loading import fill, read_state
from tcig.models.weights import identity_of, locate

FILE = URL_INCEPTION_V3.rpartition("/")[2]
"""Name of the weights."""


class Inception(FeatureExtractorInceptionV3):
    """(B, 3, H, W) uint8 -> a tuple of (B, 2048) float32, the pooled features; random weights.

    torch-fidelity's constructor unpickles a file: here it is one of no tensors.
    """

    def __init__(self):
        nothing = io.BytesIO()
        torch.save({}, nothing)
        nothing.seek(0)
        super().__init__("inception", ["2048"], feature_extractor_weights_path=nothing)

    def load_state_dict(self, state_dict, **options):
        """As any module's, but that of no tensors."""
        return super().load_state_dict(state_dict, **options) if state_dict else None


def load_inception(source: str | Path, compute: Compute = PLAIN) -> tuple[Inception, str]:
    """The network of `weights-inception-2015-12-05-6726825d.pth`, and the weights' identity.

    Args:
        source: see `tcig.models.weights.locate`.
        compute: names the device.

    Raises:
        InputError: the file cannot be had or read, or does not fit the network.
    """
    file = locate(source) / FILE
    network, state = Inception(), read_state(file)
    for name, counter in network.state_dict().items():
        if name.endswith("num_batches_tracked") and isinstance(state, dict):
            state.setdefault(name, counter)  # torch-fidelity's conversion leaves them out
    fill(network, state, file)
    return network.to(compute.device), identity_of(source)
