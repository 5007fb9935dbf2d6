from tcig.eval.judges import ColourJudge, StagedJudge
from tcig.eval.score import Sizes

SIZES = Sizes(32, 32)


class Counting(StagedJudge):
    """Reads colours, counts the images it is asked about, and fails after so many."""

    def __init__(self, identity="one", fails_after=None):
        self.identity, self.fails_after, self.asked = identity, fails_after, 0

    def look(self, images):
        if self.fails_after is not None and self.asked + len(images) > self.fails_after:
            raise RuntimeError("out of memory")
        self.asked += len(images)
        return ColourJudge().segment(images)
