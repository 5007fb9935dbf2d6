"""CLIP's byte-pair encoding cut down to the words of the embedded data's captions.

The captions' words are encoded as by CLIP itself; any other text in bytes and shorter merges.
"""

import gzip
import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from open_clip.tokenizer import SimpleTokenizer, bytes_to_unicode

from tcig.data.emoji.scenes import BACKGROUNDS, NUMBERS, PLURALS
from tcig.data.files import write_whole
from tcig.data.voc import CLASSES

CONTEXT = 40
"""Tokens of a prompt, start and end included; the longest caption of the data has fewer."""
START, END = "<|startoftext|>", "<|endoftext|>"


def words() -> set[str]:
    """Every word that a caption of the embedded data may have."""
    labels = [c.label for c in CLASSES]
    plurals = [PLURALS.get(label, f"{label}s") for label in labels]
    phrases = [phrase for phrase, *_ in BACKGROUNDS]
    texts = [*labels, *plurals, *phrases, *NUMBERS, "a photo of an and many nothing ,"]
    return set(" ".join(texts).split())


def merges() -> list[str]:
    """The merges that CLIP's encoding of `words` applies, in CLIP's order."""
    full = SimpleTokenizer()
    ranks = full.bpe_ranks
    needed = set()
    for word in words():
        symbols = [*word[:-1], f"{word[-1]}</w>"]
        while len(symbols) > 1:
            pairs = list(pairwise(symbols))
            best = min(pairs, key=lambda pair: ranks.get(pair, len(ranks)))
            if best not in ranks:
                break
            needed.add(best)
            place = pairs.index(best)
            symbols[place : place + 2] = ["".join(best)]
    return [" ".join(pair) for pair in sorted(needed, key=ranks.get)]


def write_open_clip(folder: Path) -> Path:
    """`merges.txt.gz` for open_clip's `SimpleTokenizer`; returns its path.

    No newline at the end: it would add an empty merge and shift the ids of start and end.
    """
    text = "\n".join(["#version: 0.2", *merges()])
    path = folder / "merges.txt.gz"
    write_whole(path, gzip.compress(text.encode(), mtime=0))
    return path


def all_merges() -> list[str]:
    """All merges of CLIP, in their order."""
    ranks = SimpleTokenizer().bpe_ranks
    return [" ".join(pair) for pair in sorted(ranks, key=ranks.get)]


def write_transformers(folder: Path, pairs: Sequence[str], context: int) -> None:
    """The files of transformers' `CLIPTokenizer`, with open_clip's ids.

    Args:
        folder: to write to.
        pairs: the merges, in CLIP's order.
        context: tokens of a prompt.
    """
    folder.mkdir(parents=True, exist_ok=True)
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(f"{x}</w>" for x in letters), *(pair.replace(" ", "") for pair in pairs)]
    vocabulary = {token: number for number, token in enumerate([*tokens, START, END])}
    settings = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": context,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }
    write_whole(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    write_whole(folder / "merges.txt", "\n".join(["#version: 0.2", *pairs]) + "\n")
    write_whole(folder / "tokenizer_config.json", json.dumps(settings, indent=2) + "\n")
