"""COCO's files: what is read from them, and every way in which they can be unusable."""

import json

import pytest
from coco_folder import box, runs, thing

from tcig.data.coco import read_captions, read_instances
from tcig.data.files import sha256
from tcig.data.filters import Filter
from tcig.data.manifest import build_layouts

SHORT, LONG = "04", "0`Td7"  # compressed RLE of 4 and of 250000 pixels


def test_instances_are_the_voc_classes_in_the_files_order(two_cats):
    two_cats.add(2, thing("banana", (0, 0, 50, 50)), thing("book", (0, 0, 50, 50)))
    two_cats.add(3, thing("dog", (0, 0, 9, 9)), thing("person", (0, 0, 1, 1)))
    two_cats.annotations.reverse()
    own = {"couch": "sofa", "tv": "tvmonitor"}  # VOC's words, in any case
    for record in two_cats.categories:
        record["name"] = own.get(record["name"], record["name"]).upper()
    read = read_instances(two_cats.write(), 2017)
    assert set(read.images) == {1, 2, 3}
    assert {n: [a["id"] for a in objects] for n, objects in read.objects.items()} == {
        1: [11, 10],
        3: [31, 30],
    }
    assert read.path.name == "instances_val2017.json"
    assert read.sha256 == sha256(two_cats.instances_file)


def test_captions_have_the_order_of_their_ids(two_cats, refused):
    two_cats.captions[:] = [
        {"id": 30, "image_id": 1, "caption": "last"},
        {"id": 4, "image_id": 1, "caption": " the \n first "},
        {"id": 12, "image_id": 1, "caption": "second"},
    ]
    folder = two_cats.write()
    assert read_captions(folder, 2017).texts == {1: ["the first", "second", "last"]}
    _, (layout,) = build_layouts(folder, Filter(caption=1))
    assert layout.caption == "second"
    two_cats.add(2, thing("cat", (0, 0, 50, 50)), captions=())  # dropped: needs no caption
    build_layouts(two_cats.write(), Filter())
    with refused("captions_val2017.json", "image 1 ", "3 captions"):
        build_layouts(folder, Filter(caption=3))
    two_cats.captions.clear()
    with refused(two_cats.captions_file, "image 1 ", "0 captions"):
        build_layouts(two_cats.write(), Filter())
    two_cats.captions_file.unlink()
    with refused(two_cats.captions_file, "--caption None"):
        build_layouts(folder, Filter())
    header, (layout,) = build_layouts(folder, Filter(caption=None))
    assert layout.caption == ""
    assert [source.file for source in header.sources] == ["instances_val2017.json"]


def test_year_2014_reads_its_own_files(coco, refused):
    coco.year = 2014
    coco.add(7, thing("cat", (0, 0, 50, 50)), thing("dog", (50, 0, 50, 50)))
    folder = coco.write()
    header, (layout,) = build_layouts(folder, Filter(year=2014))
    assert layout.image == "val2014/COCO_val2014_000000000007.jpg"
    assert {s.file: s.sha256 for s in header.sources} == {
        path.name: sha256(path) for path in (coco.instances_file, coco.captions_file)
    }
    with refused("instances_val2017.json", "--year 2014", "--download"):
        build_layouts(folder, Filter(year=2017))


def changed(**parts):
    return lambda text: json.dumps(json.loads(text) | parts)


SPOILT_FILES = {
    "a page": (lambda text: "<html>503</html>", ["is not JSON"]),
    "a list": (lambda text: "[]", ["list"]),
    "cut in the first list": (lambda text: text[: text.index("[") + 1], ["is not JSON"]),
    "cut at the end": (lambda text: text[:-1] + "\n", ["is not JSON"]),
    "no annotations": (lambda text: text.replace('"annotations"', '"notes"'), ["`annotations`"]),
    "no images": (lambda text: text.replace('"images"', '"pictures"'), ["`images`"]),
    "annotations by id": (changed(annotations={}), ["`annotations`"]),
    "images are null": (changed(images=None), ["`images`"]),
    "an annotation is a number": (changed(annotations=[7]), ["`annotations`", "no. 0"]),
    "absent": (None, ["cannot be read", "--download"]),
}


@pytest.mark.parametrize("name", ["instances_file", "captions_file"])
@pytest.mark.parametrize(("spoil", "words"), SPOILT_FILES.values(), ids=SPOILT_FILES)
def test_unusable_files_are_refused_by_name(two_cats, refused, name, spoil, words):
    folder, path = two_cats.write(), getattr(two_cats, name)
    if spoil is None:
        path.unlink()
    else:
        content = spoil(path.read_text())
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with refused(path, *words):
        build_layouts(folder, Filter())


MISSING = object()
NAN = float("nan")
ZIGZAG = [coordinate for n in range(2000) for coordinate in (10_000 * (n % 2), n)]


def compressed(counts, size=(100, 100)):
    return {"size": size and list(size), "counts": counts}


ANNOTATIONS = [  # fields of annotation 11, and what is said
    *(({field: MISSING}, field) for field in ("image_id", "category_id", "segmentation", "area")),
    *(({field: v}, "") for field in ("id", "image_id", "category_id") for v in ([1], "x")),
    ({"image_id": 404}, "unknown image_id 404"),
    ({"category_id": 404}, "unknown category_id 404"),
    ({"id": 10}, "duplicate id 10 in `annotations`"),
    *(({"area": area}, f"area, got {area!r}") for area in (-1, None, "12", NAN)),
    ({"area": 10**400}, "annotation 11: expected pixels"),
    *(({"iscrowd": flag}, "annotation 11: expected 0 or 1") for flag in ("0", 2, None)),
]
SEGMENTATIONS = [  # of annotation 11, and what is said
    ([], "no polygon"),
    (None, "neither"),
    ([[1, 1, 9, 9]], "4 coordinates; expected x and y of at least 3 points"),
    ([*box(0, 0, 9, 9), [1, 1, 9, 9]], "4 coordinates"),
    ([[1, 1, 9, 9, 1, 9, 5]], "7 coordinates"),
    *(([[0, 0, x, 9, 9, 9]], "coordinates") for x in (NAN, float("inf"), 1e9, None, "a")),
    (runs(10_000, size=(50, 200)), "[50, 200], not [100, 100]"),
    (compressed(SHORT, (50, 200)), "[50, 200], not [100, 100]"),
    ({"counts": SHORT}, "neither"),
    (compressed(SHORT, None), "None, not [100, 100]"),
    (runs(9_999), "runs are 9999 pixels, its size 10000"),
    (runs(1, 10_000), "runs are 10001 pixels, its size 10000"),
    (runs(-1, 10_001), "runs"),
    (runs("a"), "runs"),
    *((compressed(counts), "") for counts in (LONG, SHORT, "", None, "é", "o" * 99)),
]
IMAGES = [  # fields of image 1, and what is said
    *(({field: MISSING}, field) for field in ("width", "height", "file_name", "id")),
    ({"id": -1}, "`images`"),
    *(
        ({"width": side}, "expected integers from 1 to 20,000")
        for side in (0, -100, 20_001, 10**9, 1.5, "9", None, True)
    ),
    *(
        ({"file_name": name}, f"image 1 has the file_name {name!r}")
        for name in ("../../etc/passwd", "a/b.jpg", 7, ".jpg", "a b.jpg", "")
    ),
]
CAPTIONS = [  # fields of caption 11, and what is said
    ({"caption": MISSING}, "caption"),
    *(({"caption": text}, "annotation 11") for text in (7, None, " \n", "half \ud83d")),
    ({"image_id": 404}, "annotation 11: unknown image_id 404"),
    ({"id": 10}, "duplicate id 10"),
]


@pytest.mark.parametrize(
    ("part", "fields", "words"),
    [
        *(("annotations", *case) for case in ANNOTATIONS),
        *(("annotations", {"segmentation": shape}, words) for shape, words in SEGMENTATIONS),
        *(("images", *case) for case in IMAGES),
        *(("captions", *case) for case in CAPTIONS),
    ],
)
def test_records_that_cannot_be_used_are_refused(two_cats, refused, part, fields, words):
    two_cats.captions.append({"id": 11, "image_id": 1, "caption": "two cats"})
    record = getattr(two_cats, part)[-1]
    record |= fields
    for field in [field for field, value in record.items() if value is MISSING]:
        del record[field]
    folder = two_cats.write()
    with refused(two_cats.captions_file if part == "captions" else two_cats.instances_file, words):
        build_layouts(folder, Filter())


def test_an_outline_that_would_fill_the_memory_is_refused(two_cats, refused):
    two_cats.images[0] |= {"width": 10_000, "height": 10_000}
    two_cats.annotations[1]["segmentation"] = [ZIGZAG]
    with refused("annotation 11: unusable mask, its outline"):
        read_instances(two_cats.write(), 2017)


@pytest.mark.parametrize(
    ("number", "name"), [(17, "dog"), (0, "BUS"), (99, " Sofa "), (201, "tvmonitor"), (17, 5)]
)
def test_a_class_under_another_id_is_refused(two_cats, refused, number, name):
    """Annotations of it would be left out in silence."""
    two_cats.categories[:] = [c for c in two_cats.categories if c["id"] != number]
    two_cats.categories.append({"id": number, "name": name})
    two_cats.write()
    with refused(two_cats.instances_file, f"category {number} has the name {name!r}", "17 cat"):
        read_instances(two_cats.root, 2017)
