"""Finding runs below a folder, and their images."""

from pathlib import Path

from PIL import Image

from tcig.data.errors import InputError
from tcig.data.files import sha256
from tcig.data.layout import Layout
from tcig.data.pictures import open_picture
from tcig.data.runs import read_run


def find_runs(folder: Path, manifest: Path) -> dict[str, Path]:
    """The folder of each row's run on `manifest`.

    Raises:
        InputError: a record is damaged, or two runs are of one row.
    """
    name, found = sha256(manifest), {}
    for record in sorted(folder.glob("*/run.json")):
        spec = read_run(record.parent).spec
        if spec.manifest != name:
            continue
        if spec.row in found:
            raise InputError(
                f"{found[spec.row]} and {record.parent} are both runs of {spec.row}: move one of "
                "them out of the folder."
            )
        found[spec.row] = record.parent
    return found


def image_of(run: Path, layout: Layout, sample: int = 0) -> Image.Image | None:
    """A sample's image, None where the run lacks it."""
    path = run / f"{layout.id}-{sample}.png"
    return open_picture(path).convert("RGB") if path.exists() else None
