"""A judge that reads colours and counts."""

from tcig.eval.images import Sizes
from tcig.eval.judges import ColourJudge, Judge

SIZES = Sizes(32, 32)


class Counting(Judge):
    """Counts the images that it is asked about, and fails after so many."""

    kind = "built-in"

    def __init__(self, identity="one", fails_after=None):
        self.identity, self.fails_after, self.asked = identity, fails_after, 0

    def segment(self, images):
        if self.fails_after is not None and self.asked + len(images) > self.fails_after:
            raise RuntimeError("out of memory")
        self.asked += len(images)
        return ColourJudge().segment(images)
