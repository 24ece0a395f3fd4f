"""The tokenizer of tiny bases, and the marks that CLIP's put around a text."""

import json
import tempfile
from pathlib import Path

from transformers import CLIPTokenizer

BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def byte_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer with a token for each byte, and another for it at the end of a word: 514 tokens."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [chr(256 + i) for i in range(256 - len(printable))]
    characters = [*map(chr, printable), *others]
    tokens = [*characters, *(f"{character}</w>" for character in characters), BEGIN, END]
    with tempfile.TemporaryDirectory() as folder:
        vocabulary = {token: number for number, token in enumerate(tokens)}
        Path(folder, "vocab.json").write_text(json.dumps(vocabulary))
        Path(folder, "merges.txt").write_text("#version: 0.2\n")
        settings = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": END}
        Path(folder, "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **settings})
        )
        return CLIPTokenizer.from_pretrained(folder)
