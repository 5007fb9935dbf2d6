import json

import pytest
from coco_folder import box, runs, thing

from tcig.data.build import build_layouts
from tcig.data.coco import read_captions, read_instances
from tcig.data.files import sha256
from tcig.data.filters import Filter

SHORT, LONG = "04", "0`Td7"  # compressed RLE of 4 and of 250000 pixels


def test_instances_are_the_voc_classes_in_the_files_order(two_cats):
    two_cats.add(2, thing("banana", (0, 0, 50, 50)), thing("book", (0, 0, 50, 50)))
    two_cats.add(3, thing("dog", (0, 0, 9, 9)), thing("person", (0, 0, 1, 1)))
    two_cats.annotations.reverse()
    read = read_instances(two_cats.write(), 2017)
    assert set(read.images) == {1, 2, 3}
    assert {n: [a["id"] for a in objects] for n, objects in read.objects.items()} == {
        1: [11, 10],
        3: [31, 30],
    }
    assert read.source.path.name == "instances_val2017.json"
    assert read.source.sha256 == sha256(two_cats.instances_file)


def test_captions_stand_in_the_order_of_their_ids_whatever_the_files_order(two_cats):
    two_cats.captions[:] = [
        {"id": 30, "image_id": 1, "caption": "last"},
        {"id": 4, "image_id": 1, "caption": " the \n first "},
        {"id": 12, "image_id": 1, "caption": "second"},
    ]
    folder = two_cats.write()
    assert read_captions(folder, 2017).texts == {1: ["the first", "second", "last"]}
    for number, caption in enumerate(("the first", "second", "last")):
        _, (layout,) = build_layouts(folder, Filter(caption=number))
        assert layout.caption == caption


def test_year_2014_reads_its_own_files(coco, refused):
    coco.year = 2014
    coco.add(7, thing("cat", (0, 0, 50, 50)), thing("dog", (50, 0, 50, 50)))
    folder = coco.write()
    header, (layout,) = build_layouts(folder, Filter(year=2014))
    assert layout.image == "val2014/COCO_val2014_000000000007.jpg"
    assert [s.file for s in header.sources] == ["instances_val2014.json", "captions_val2014.json"]
    assert [s.sha256 for s in header.sources] == [
        sha256(coco.instances_file),
        sha256(coco.captions_file),
    ]
    with refused("instances_val2017.json", "--download"):
        build_layouts(folder, Filter(year=2017))


def changed(**parts):
    return lambda text: json.dumps(json.loads(text) | parts)


SPOILT_FILES = {
    "a page": (lambda text: "<html>503</html>", ["is not JSON"]),
    "empty": (lambda text: "", ["is not JSON"]),
    "a list": (lambda text: "[]", ["list"]),
    "cut in the first list": (lambda text: text[: text.index("[") + 1], ["is truncated"]),
    "cut in the middle": (lambda text: text[: len(text) // 2], ["is truncated"]),
    "cut at the end": (lambda text: text[:-1] + "\n", ["is truncated"]),
    "cut after accents": (lambda text: '{"info": "ééé", ', ["is truncated"]),
    "cut in an accent": (lambda text: '{"info": "é'.encode()[:-1], ["is truncated"]),
    "cut in a word": (lambda text: '{"info": tru', ["is truncated"]),
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


def without(field):
    return lambda record: record.pop(field)


def having(**fields):
    return lambda record: record.update(fields)


def shaped(segmentation):
    return having(segmentation=segmentation)


def compressed(counts, size=(100, 100)):
    return shaped({"size": size and list(size), "counts": counts})


SPOILT_ANNOTATIONS = {
    "unknown image": (having(image_id=404), ["404", "unknown image_id"]),
    "unknown category": (having(category_id=404), ["404", "unknown category_id"]),
    "no image_id": (without("image_id"), ["image_id"]),
    "no category_id": (without("category_id"), ["category_id"]),
    "no segmentation": (without("segmentation"), ["segmentation"]),
    "no area": (without("area"), ["area"]),
    "negative area": (having(area=-1), ["-1"]),
    "null area": (having(area=None), ["None"]),
    "area as text": (having(area="12"), ["'12'"]),
    "area not a number": (having(area=float("nan")), ["nan"]),
    "id twice": (having(id=10), ["duplicate id 10", "`annotations`"]),
    "no polygons": (shaped([]), ["no polygon"]),
    "null mask": (shaped(None), ["neither"]),
    "2 points": (shaped([[1, 1, 9, 9]]), ["4 coordinates", "3 points"]),
    "2 points after 4": (shaped([*box(0, 0, 9, 9), [1, 1, 9, 9]]), ["4 coordinates", "3 points"]),
    "odd polygon": (shaped([[1, 1, 9, 9, 1, 9, 5]]), ["7 coordinates"]),
    "polygon of text": (shaped([["a"] * 6]), []),
    "runs of another size": (shaped(runs(10_000, size=(50, 200))), ["[50, 200]", "[100, 100]"]),
    "RLE of another size": (compressed(SHORT, (50, 200)), ["[50, 200]", "[100, 100]"]),
    "RLE without size": (shaped({"counts": SHORT}), ["neither"]),
    "RLE of null size": (compressed(SHORT, None), []),
    "too few runs": (shaped(runs(9_999)), ["9999", "10000"]),
    "too many runs": (shaped(runs(1, 10_000)), ["10001", "10000"]),
    "negative run": (shaped(runs(-1, 10_001)), []),
    "runs of text": (shaped(runs("a")), []),
    "RLE too long": (compressed(LONG), []),
    "RLE too short": (compressed(SHORT), []),
    "RLE empty": (compressed(""), []),
    "RLE null": (compressed(None), []),
}


@pytest.mark.parametrize(("spoil", "words"), SPOILT_ANNOTATIONS.values(), ids=SPOILT_ANNOTATIONS)
def test_bad_annotations_are_refused_by_file_and_id(two_cats, refused, spoil, words):
    spoil(two_cats.annotations[1])
    folder = two_cats.write()
    with refused(two_cats.instances_file, two_cats.annotations[1]["id"], *words):
        build_layouts(folder, Filter())


def image(**fields):
    return lambda coco: coco.images[0].update(fields)


def image_without(field):
    return lambda coco: coco.images[0].pop(field)


def annotation(**fields):
    return lambda coco: coco.annotations[1].update(fields)


def category(number, name):
    def change(coco):
        coco.categories[:] = [c for c in coco.categories if c["id"] != number]
        coco.categories.append({"id": number, "name": name})

    return change


ZIGZAG = [coordinate for n in range(2000) for coordinate in (10_000 * (n % 2), n)]
SIZE = "expected integers from 1 to 20,000"
SPOILT_CONTENT = [
    *((annotation(segmentation=[[0, 0, x, 9, 9, 9]]), 11) for x in (float("nan"), 1e9, None)),
    *((annotation(**{f: v}), "") for f in ("id", "image_id", "category_id") for v in ([1], "x")),
    *((annotation(iscrowd=flag), "annotation 11: expected 0 or 1") for flag in ("0", 2, None)),
    (annotation(area=10**400), "annotation 11: expected pixels"),
    *((image(width=side), SIZE) for side in (0, -100, 20_001, 10**9, 1.5, "9", None, True)),
    (image(id=-1), "`images`"),
    *((image_without(field), field) for field in ("width", "height", "file_name", "id")),
    *(
        (image(file_name=name), f"image 1 has the file_name {name!r}")
        for name in ("../../etc/passwd", "a/b.jpg", 7, ".jpg", "a b.jpg", "")
    ),
    (lambda coco: coco.add(1), "duplicate id 1 in `images`"),
    # annotations of a class under another id would be left out in silence
    *(
        (category(number, name), f"category {number} ")
        for number, name in [
            (17, "dog"),
            (0, "bus"),
            (0, "BUS"),
            (99, " Sofa "),
            (201, "tvmonitor"),
            (17, 5),
            (0, None),
        ]
    ),
    (
        lambda coco: [
            image(width=10_000, height=10_000)(coco),
            annotation(segmentation=[ZIGZAG])(coco),
        ],
        "annotation 11: unusable mask, its outline",
    ),
]


@pytest.mark.parametrize(("spoil", "words"), SPOILT_CONTENT)
def test_content_that_cannot_be_used_is_refused(two_cats, refused, spoil, words):
    spoil(two_cats)
    two_cats.write()
    with refused(two_cats.instances_file, words):
        read_instances(two_cats.root, 2017)


@pytest.mark.parametrize("text", ["[" * 200_000, "9" * 5_000])
def test_json_beyond_all_measure_is_refused(two_cats, refused, text):
    two_cats.write()
    two_cats.instances_file.write_text(text)
    with refused(two_cats.instances_file, "not JSON"):
        read_instances(two_cats.root, 2017)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (having(caption=7), ["annotation 11", "7"]),
        (having(caption=None), ["annotation 11", "None"]),
        (having(caption=" \n"), ["annotation 11"]),
        (having(caption="half \ud83d"), ["annotation 11"]),
        (without("caption"), ["11", "caption"]),
        (having(image_id=404), ["annotation 11", "404"]),
        (having(id=10), ["duplicate id 10"]),
    ],
)
def test_bad_captions_are_refused_by_file_and_id(two_cats, refused, spoil, words):
    two_cats.captions.append({"id": 11, "image_id": 1, "caption": "two cats"})
    spoil(two_cats.captions[1])
    with refused(two_cats.captions_file, *words):
        read_captions(two_cats.write(), 2017)


def test_a_missing_caption_matters_for_kept_images_alone(two_cats, refused):
    two_cats.add(2, thing("cat", (0, 0, 50, 50)), captions=())
    build_layouts(two_cats.write(), Filter())
    with refused("captions_val2017.json", "image 1 ", "1 caption"):
        build_layouts(two_cats.root, Filter(caption=1))
    two_cats.captions.clear()
    with refused(two_cats.captions_file, "image 1 ", "no caption"):
        build_layouts(two_cats.write(), Filter())


def test_names_of_categories_have_no_case_and_may_be_vocs_own(two_cats):
    own = {"couch": "sofa", "tv": "tvmonitor"}
    for record in two_cats.categories:
        record["name"] = own.get(record["name"], record["name"]).upper()
    assert read_instances(two_cats.write(), 2017).objects


def test_the_other_years_annotations_are_pointed_out(two_cats, refused):
    two_cats.year = 2014
    two_cats.write()
    with refused("instances_val2017.json", "--year 2014"):
        read_instances(two_cats.root, 2017)


def test_without_captions_a_manifest_is_for_the_photographs(two_cats, refused):
    two_cats.write()
    two_cats.captions_file.unlink()
    with refused(two_cats.captions_file, "--caption None"):
        build_layouts(two_cats.root, Filter())
    header, (layout,) = build_layouts(two_cats.root, Filter(caption=None))
    assert layout.caption == ""
    assert [source.file for source in header.sources] == ["instances_val2017.json"]
