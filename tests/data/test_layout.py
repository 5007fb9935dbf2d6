import hashlib
import json
import random
from itertools import count

import numpy as np
import pandas as pd
import pytest
from coco_folder import CocoFolder, thing
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tcig.data import layout as layout_module
from tcig.data.filters import Filter
from tcig.data.layout import export_layouts, hash_order, seed_of
from tcig.data.manifest import build_layouts, read_manifest, write_manifest
from tcig.data.masks import encode, load_label_map, resize_nearest

CAT, DOG, COW = (
    thing("cat", (50, 0, 50, 50)),
    thing("dog", (100, 0, 50, 50)),
    thing("cow", (75, 50, 50, 50)),
)
PERSON, SMALL = thing("person", (60, 20, 10, 10)), thing("bird", (70, 20, 10, 10))


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """A header and eight layouts of two to four objects, some beside dropped ones."""
    coco = CocoFolder(tmp_path_factory.mktemp("coco"))
    for number in range(1, 9):
        things = [CAT, DOG, COW][: 2 + number % 2] + [PERSON, SMALL][: number % 3]
        coco.add(number, *things, width=200, captions=[f'a "photo", no. {number} é'])
    return build_layouts(coco.write(), Filter())


def test_hash_order_is_of_the_id_alone(manifest):
    first = manifest[1][0]
    layouts = [first.model_copy(update={"id": str(number)}) for number in range(60)]
    ordered = hash_order(layouts)
    ids = [layout.id for layout in ordered]
    assert ids == sorted(ids, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    subset = random.Random(0).sample(layouts, 20)
    assert hash_order(subset) == [layout for layout in ordered if layout in subset]


def test_manifest_round_trip(manifest, tmp_path):
    header, layouts = manifest
    path, other = tmp_path / "new" / "layouts.jsonl", tmp_path / "other.jsonl"
    write_manifest(path, header, layouts)
    write_manifest(other, header, layouts[::-1])
    content = path.read_bytes()
    assert content == other.read_bytes()
    assert read_manifest(path) == (header, hash_order(layouts))
    assert any(layout.dropped for layout in layouts)
    frame = pd.read_json(path, lines=True, dtype={"id": str})
    assert frame["kind"].tolist() == ["header"] + ["layout"] * 8
    rows = frame[frame["kind"] == "layout"]
    assert rows["caption"].tolist() == [layout.caption for layout in hash_order(layouts)]
    # a byte order mark, other ends of lines, and empty lines
    for same in (b"\xef\xbb\xbf" + content, content.replace(b"\n", b"\r\n"), content + b"\n \n"):
        path.write_bytes(same)
        assert read_manifest(path) == (header, hash_order(layouts))


@settings(max_examples=25, deadline=None, database=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
@example("a\u2028b\u2029c\x85d\re\x0bf")
def test_any_caption_survives_the_manifest(manifest, tmp_path_factory, caption):
    path = tmp_path_factory.mktemp("m") / "m.jsonl"
    header, layouts = manifest
    layouts = [layout.model_copy(update={"caption": caption}) for layout in hash_order(layouts)]
    write_manifest(path, header, layouts)
    assert read_manifest(path)[1] == layouts


MASKS = {
    "empty mask": encode(np.zeros((100, 100), bool)),
    "mask too short": encode(np.ones((5, 5), bool)) | {"size": [100, 100]},
    "mask too long": encode(np.ones((500, 500), bool)) | {"size": [100, 100]},
    "mask of another size": encode(np.ones((99, 99), bool)),
    "mask without counts": {"size": [100, 100]},
    "mask of null": {"size": [100, 100], "counts": None},
}


def _header(**fields):
    return lambda records: records[0].update(fields)


def _fields(**fields):
    return lambda records: records[3].update(fields)


def _region_fields(**fields):
    return lambda records: records[3]["regions"][1].update(fields)


def _filter(**fields):
    return lambda records: records[0]["filter"].update(fields)


IMAGES = ("../secret.png", "/etc/passwd", "val2017/../../x.png", "a//b.png", "..", "val2017/")
IDS = ("a/b", "a-1", "", "é", "1\n")
SIZES = ((10**9, 10**9), (20_001, 1), (0, 0), (-5, -5))
SPOILT = {
    "other version": (_header(schema_version=2), "line 1: schema_version"),
    "extra field": (_fields(colour="red"), "line 4: colour"),
    "extra field of a region": (_region_fields(x=1), "line 4: regions.1.x"),
    "extra field of the filter": (_filter(x=1), "line 1: filter.x"),
    "unknown reading": (_filter(reading="all"), "line 1: filter.reading"),
    "impossible filter": (_filter(min_area=2), "line 1: min_area"),
    "no filter": (lambda r: r[0].pop("filter"), "line 1: filter"),
    "no caption": (lambda r: r[3].pop("caption"), "line 4: caption"),
    "unknown label": (_region_fields(label="fox"), "got 'fox'"),
    "unknown reason": (_fields(dropped=[{"reason": "x"}]), "line 4: dropped.0."),
    "no regions": (_fields(regions=[]), "line 4: a layout needs a region"),
    "layout twice": (lambda r: r.insert(3, r[1]), "line 4: duplicate"),
    "no header": (lambda r: r.pop(0), "line 1: kind"),
    "two headers": (lambda r: r.insert(1, r[0]), "line 2: kind"),
    "a list": (lambda r: r.__setitem__(3, []), "line 4: "),
    **{name: (_region_fields(mask=mask), "line 4: region ") for name, mask in MASKS.items()},
    **{f"image {x}": (_fields(image=x), "line 4: image") for x in (*IMAGES, "~/x", "é.png")},
    **{f"id {x!r}": (_fields(id=x), "line 4: id") for x in IDS},
    **{f"size {x}": (_fields(size=x), "line 4: size") for x in SIZES},
}


@pytest.mark.parametrize(("spoil", "words"), SPOILT.values(), ids=SPOILT)
def test_bad_manifests_are_refused_by_file_and_line(manifest, tmp_path, refused, spoil, words):
    path = tmp_path / "m.jsonl"
    write_manifest(path, *manifest)
    records = [json.loads(text) for text in path.read_text().splitlines()]
    spoil(records)
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    with refused(path, words):
        read_manifest(path)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda text: text[: text[:-1].rindex(b"\n") + 1], "7 layouts, its header counts 8"),
        (lambda text: text[:-40], "line 9 is not JSON"),
        (lambda text: text[: text.index(b"\n")], "no layouts"),
        (lambda text: b"\x89PNG", "line 1 is not JSON"),
    ],
    ids=["a line lost", "half a line lost", "the header alone", "an image"],
)
def test_truncated_manifests_are_refused(manifest, tmp_path, refused, spoil, words):
    path = tmp_path / "m.jsonl"
    with refused(path, "cannot be read"):
        read_manifest(path)
    write_manifest(path, *manifest)
    path.write_bytes(spoil(path.read_bytes()))
    with refused(path, words):
        read_manifest(path)


def test_a_square_photograph_has_no_size_in_its_line(manifest, tmp_path):
    _, layouts = manifest
    assert {layout.size for layout in layouts} == {(200, 100)}
    assert '"size":[200,100]' in layouts[0].model_dump_json()
    square = layouts[0].model_copy(update={"size": None})
    assert "size" not in json.loads(square.model_dump_json())


def test_a_killed_export_goes_on_and_a_finished_one_is_kept(
    manifest, tmp_path, refused, monkeypatch
):
    _, layouts = manifest
    out, calls, save = tmp_path / "e", count(1), layout_module.encode_label_map

    def dies(labels):
        if next(calls) == 4:
            raise KeyboardInterrupt
        return save(labels)

    with monkeypatch.context() as patched:
        patched.setattr(layout_module, "encode_label_map", dies)
        with pytest.raises(KeyboardInterrupt):
            export_layouts(layouts, out, 16, 1)
    with refused(out, "not empty"):
        export_layouts(layouts[:2], out, 16, 1)
    export_layouts(layouts, out, 16, 1)
    export_layouts(layouts, tmp_path / "whole", 16, 1)
    whole = tmp_path / "whole"
    assert {p.relative_to(out) for p in out.rglob("*")} == {
        p.relative_to(whole) for p in whole.rglob("*")
    }
    with refused(out, "not empty"):
        export_layouts(layouts, out, 16, 1)


@pytest.mark.parametrize(("size", "samples"), [(128, 2), (37, 1)])
def test_export(manifest, tmp_path, size, samples):
    _, layouts = manifest
    out = tmp_path / "a" / "export"
    export_layouts(layouts, out, size, samples)
    records = json.loads((out / "layouts.json").read_text())
    files = {"layouts.json"}
    for record, layout in zip(records, layouts, strict=True):
        name = layout.id
        masks = [f"masks/{name}-{i}.png" for i in range(len(layout.regions))]
        assert record == {
            "id": name,
            "prompt": layout.caption,
            "size": size,
            "classes": f"classes/{name}.png",
            "regions": [
                {"label": region.label, "prompt": f"a {region.label}", "mask": mask}
                for region, mask in zip(layout.regions, masks, strict=True)
            ],
            "outputs": [
                {"sample": n, "seed": seed_of(name, n), "image": f"{name}-{n}.png"}
                for n in range(samples)
            ],
        }
        for region, mask in zip(layout.regions, masks, strict=True):
            with Image.open(out / mask) as image:
                assert image.mode == "L"
                assert np.array_equal(image, resize_nearest(region.pixels, size) * np.uint8(255))
        labels = load_label_map(out / record["classes"])
        assert np.array_equal(labels, layout.class_map(size))
        files |= {record["classes"], *masks}
    assert {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()} == files
