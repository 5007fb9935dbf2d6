"""Parts of a whole: what they are given, and who may write beside whom."""

from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcig.data.errors import InputError
from tcig.data.files import sole_writer
from tcig.data.shards import Shard


@given(st.lists(st.integers()), st.integers(1, 9))
def test_parts_make_the_whole_once_and_alike(items, count):
    parts = [Shard(number, count).of(items) for number in range(1, count + 1)]
    assert sorted(chain(*parts)) == sorted(items)
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= 1


def test_a_part_by_its_text():
    assert Shard.parse("2/8") == (2, 8)
    assert Shard.parse("1/1") == (1, 1)
    assert Shard(2, 8).suffix == ".2-of-8"


@pytest.mark.parametrize("text", ["", "2", "0/8", "9/8", "2/0", "-1/8", "a/b", "1/2/3", "1.0/2"])
def test_no_part_is_refused_with_the_right_form(text):
    with pytest.raises(InputError, match=r"give I/N, as 2/8"):
        Shard.parse(text)


def refused(folder, shard=None):
    """How another process is told that it may not write there, None if it may."""
    try:
        with sole_writer(folder, shard):
            return None
    except InputError as error:
        return str(error)


def test_parts_of_one_whole_write_at_once_each_of_them_once(tmp_path):
    with sole_writer(tmp_path, Shard(1, 3)):
        assert refused(tmp_path, Shard(2, 3)) is None
        assert "part 1/3, is being written by another" in refused(tmp_path, Shard(1, 3))
        assert "is being written by another" in refused(tmp_path)
        assert "as 1-of-3 is being written by another" in refused(tmp_path, Shard(1, 2))
    assert refused(tmp_path, Shard(1, 2)) is None
    with sole_writer(tmp_path):
        assert "is being written by another" in refused(tmp_path, Shard(1, 3))
    assert refused(tmp_path) is None


def test_a_disk_without_locks_is_named(tmp_path, monkeypatch):
    def flock(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    said = r"\.lock cannot be locked \(No locks available\)"
    with pytest.raises(InputError, match=said), sole_writer(tmp_path):
        pass
