"""JSON and TOML from outside: encodings, and what Python's own parsers stumble over."""

import json

import pytest

from tcig.data.parsing import parse_json, read_json, read_toml

DEEP = ["[" * 200_000, '{"a":' * 200_000, "9" * 5_000, "[" + "1" * 9_999 + "]"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_encodings_of_editors_are_read(tmp_path, encoding):
    path = tmp_path / "file"
    path.write_bytes('{"é": [1]}\r\n'.encode(encoding))
    assert read_json(path) == {"é": [1]}
    path.write_bytes('name = "é"\r\n'.encode(encoding))
    assert read_toml(path) == {"name": "é"}


@pytest.mark.parametrize("text", [*DEEP, "", "{", "\x00", "[1,]", "{'a': 1}"])
def test_what_is_not_json_is_refused(refused, text):
    with refused("the file", "not JSON", "make it again"):
        parse_json(text.encode(), "the file", "make it again")


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 200_000, "a = " + "9" * 5_000, "a", "a = 1\na = 2"]
)
def test_what_is_not_toml_is_refused(tmp_path, refused, text):
    path = tmp_path / "p.toml"
    path.write_text(text)
    with refused(path, "not TOML"):
        read_toml(path)
    path.write_bytes(b'a = "\xff\xfe"')
    with refused(path, "not TOML"):
        read_toml(path)


def test_what_is_read_is_what_python_reads():
    content = json.dumps([{"a": 1.5, "b": None, "c": "\ud83d\ude00"}, True])
    assert parse_json(content.encode(), "x") == json.loads(content)
