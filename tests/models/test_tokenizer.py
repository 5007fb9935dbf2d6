import pytest
from open_clip.tokenizer import SimpleTokenizer
from transformers import CLIPTokenizer

from tcig.data.emoji.scenes import portrait, scene
from tcig.models.mini.tokenizer import (
    CONTEXT,
    merges,
    vocabulary_size,
    words,
    write_open_clip,
    write_transformers,
)


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    write_transformers(folder)
    own = SimpleTokenizer(str(write_open_clip(folder)), context_length=CONTEXT)
    return own, CLIPTokenizer.from_pretrained(folder)


CAPTIONS = [
    *(caption for index in range(300) for caption in scene("training", index).captions),
    *(caption for index in range(40) for caption in portrait("training", index).captions),
]


def test_open_clip_and_transformers_give_the_same_ids(tokenizers):
    own, theirs = tokenizers
    assert own.vocab_size == len(theirs) == vocabulary_size()
    for text in [*CAPTIONS, "", "A Zebra & 3 übergroße cats!", "dogs' tails", "a  photo\tof x"]:
        ids = [own.sot_token_id, *own.encode(text), own.eot_token_id]
        assert theirs(text)["input_ids"] == ids


def test_start_and_end_are_the_last_ids_as_clip_needs(tokenizers):
    """CLIP's text tower reads its output where the id is largest."""
    own, theirs = tokenizers
    assert (own.sot_token_id, own.eot_token_id) == (vocabulary_size() - 2, vocabulary_size() - 1)
    assert theirs.pad_token_id == theirs.eos_token_id == own.eot_token_id


def test_the_words_of_the_captions_are_encoded_as_by_clip_itself(tokenizers):
    own, _ = tokenizers
    full = SimpleTokenizer()
    spoken = {word for caption in CAPTIONS for word in caption.replace(",", " ,").split()}
    assert spoken <= words()
    for word in words():
        pieces = [[t.decoder[i] for i in t.encode(word)] for t in (own, full)]
        assert pieces[0] == pieces[1]
        assert len(pieces[0]) == 1 or word == "couches"


def test_captions_fit_the_context(tokenizers):
    own, _ = tokenizers
    assert max(len(own.encode(caption)) + 2 for caption in CAPTIONS) < CONTEXT


def test_merges_stand_in_clips_order():
    full = SimpleTokenizer()
    ranks = [full.bpe_ranks[tuple(pair.split())] for pair in merges()]
    assert ranks == sorted(ranks)


def test_the_files_are_the_same_each_time(tmp_path):
    first, second = tmp_path / "a", tmp_path / "b"
    for folder in (first, second):
        folder.mkdir()
        write_open_clip(folder)
        write_transformers(folder)
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()
