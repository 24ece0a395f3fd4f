"""Train a small text encoder on what drawn dancers are described by: `run.py train words`.

Unmodified transformers' CLIPTextModel, and CLIP's tokenizer with a token for each of our words. It learns to
say at each noun which colour, pattern or cut belongs to it, and at the end of the text all of them.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from ...datasets.puppets.words import COLOURS, NOUNS, WORDS, Look, describe_look, random_look
from ...stages.image.tokens import BEGIN, END
from ..config_base import Config
from .log import Log
from .loop import run_loop, training_folder
from .loop_config import LoopConfig

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789,.-'!?"
TOKENS = 32
"""Length of a text in tokens."""


class WordsConfig(Config):
    """Everything that decides a text encoder's training."""

    output: Path = Path("out/words")
    """Folder for checkpoints, logs and the result."""
    width: Annotated[int, Field(ge=8)] = 128
    """Channels: the UNet's cross-attention dimension."""
    layers: Annotated[int, Field(ge=1)] = 2
    """Transformer layers."""
    heads: Annotated[int, Field(ge=1)] = 4
    """Attention heads of each."""
    batch: Annotated[int, Field(ge=1)] = 64
    """Texts in a batch."""
    loop: LoopConfig = LoopConfig()


def word_tokenizer(words: tuple[str, ...] = WORDS) -> CLIPTokenizer:
    """CLIP's tokenizer with a token for each of `words`; others are spelt.

    Its merges are those of byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909), learned on the words
    until each of them is one token.
    """
    spelt = {word: [*word[:-1], f"{word[-1]}</w>"] for word in words}
    merges: list[tuple[str, str]] = []
    while pairs := Counter(pair for parts in spelt.values() for pair in pairwise(parts)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelt = {word: merged(parts, best) for word, parts in spelt.items()}
    tokens = [*CHARACTERS, *(f"{one}</w>" for one in CHARACTERS), *dict.fromkeys(map("".join, merges))]
    vocabulary = {token: number for number, token in enumerate([*dict.fromkeys(tokens), BEGIN, END])}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.json").write_text(json.dumps(vocabulary))
        lines = "\n".join(" ".join(pair) for pair in merges)
        Path(folder, "merges.txt").write_text(f"#version: 0.2\n{lines}\n")
        settings = {"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": END}
        Path(folder, "tokenizer_config.json").write_text(
            json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, **settings})
        )
        return CLIPTokenizer.from_pretrained(folder)


def merged(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """`parts` with each neighbouring pair joined, from the left."""
    found: list[str] = []
    for part in parts:
        if found and (found[-1], part) == pair:
            found[-1] += part
        else:
            found.append(part)
    return found


class WordsTask:
    """Which colour, pattern and cut a text gives to what."""

    def __init__(self, config: WordsConfig) -> None:
        self.config = config
        torch.manual_seed(config.loop.seed)
        self.tokenizer = word_tokenizer()
        begin, end = cast(list[int], self.tokenizer.convert_tokens_to_ids([BEGIN, END]))
        self.encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(self.tokenizer),
                hidden_size=config.width,
                intermediate_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                max_position_embeddings=TOKENS,
                bos_token_id=begin,
                eos_token_id=end,
                pad_token_id=end,
            )
        )
        self.names = list(COLOURS)
        self.colour = nn.Linear(config.width, len(self.names))
        self.shade = nn.Linear(config.width, 3)
        self.noun = nn.Linear(config.width, len(NOUNS))
        self.all = nn.Linear(config.width, len(NOUNS) * len(self.names))
        self.modules = {
            "text_encoder": self.encoder,
            "colour": self.colour,
            "shade": self.shade,
            "noun": self.noun,
            "all": self.all,
        }

    def to(self, device: torch.device) -> None:
        for module in self.modules.values():
            nn.Module.to(module, device)

    def trainable(self) -> list[tuple[str, nn.Parameter]]:
        return [(f"{m}.{n}", p) for m, module in self.modules.items() for n, p in module.named_parameters()]

    def batches(self, start: int, stop: int, micros: range) -> Iterator[list[Look]]:
        for step in range(start, stop):
            for micro in micros:
                rng = np.random.default_rng([self.config.loop.seed, step, micro, 15])
                yield [random_look(rng) for _ in range(self.config.batch)]

    def loss(self, step: int, micro: int, batch: list[Look]) -> tuple[Tensor, dict[str, float]]:
        loss, right = self.errors(batch)
        return loss, {"right": right}

    def errors(self, looks: list[Look]) -> tuple[Tensor, float]:
        """The loss of some looks, and the share of colours told right, at the nouns and at the end."""
        ids = self.tokenizer(
            [describe_look(look) for look in looks],
            padding="max_length",
            max_length=TOKENS,
            truncation=True,
            return_tensors="pt",
        ).input_ids.to(self.encoder.device)
        hidden = self.encoder(ids).last_hidden_state.float()
        table = torch.tensor(list(COLOURS.values()), dtype=torch.float32, device=hidden.device) / 127.5 - 1
        ends = hidden[torch.arange(len(ids)), ids.argmax(1)]  # the last token's number is the largest
        every = self.all(ends).unflatten(1, (len(NOUNS), len(self.names)))
        losses, right = [], []
        for place, noun in enumerate(NOUNS):
            wanted = torch.tensor([self.names.index(look.colours[noun]) for look in looks]).to(hidden.device)
            words = [look.cut if noun == "bottom" else noun for look in looks]
            tokens = torch.tensor(self.tokenizer.convert_tokens_to_ids([f"{word}</w>" for word in words]))
            at = hidden[torch.arange(len(ids)), (ids == tokens.to(ids.device)[:, None]).int().argmax(1)]
            losses += [
                F.cross_entropy(self.colour(at), wanted),
                F.mse_loss(self.shade(at), table[wanted]),
                F.cross_entropy(self.noun(at), torch.full_like(wanted, place)),
                F.cross_entropy(every[:, place], wanted),
            ]
            for said in (self.colour(at), every[:, place]):
                right.append(float((said.argmax(1) == wanted).float().mean()))
        return torch.stack(losses).mean(), float(np.mean(right))

    @torch.no_grad()
    def validate(self, step: int, log: Log) -> dict[str, float]:
        rng = np.random.default_rng([self.config.loop.seed, 16])
        loss, right = self.errors([random_look(rng) for _ in range(256)])
        return {"validation_loss": float(loss), "validation_right": right}


def train_words(config: WordsConfig) -> Path:
    """Train a text encoder; returns the folder OUTPUT/words, with `text_encoder` and `tokenizer`."""
    folder = config.output / "words"
    with training_folder(config.output) as main:
        task = WordsTask(config)
        identity = config.model_dump(mode="json", exclude={"output"})
        averaged = run_loop(task, config.loop, config.output, identity, task.validate)
        if main:
            averaged.swap()
            task.encoder.save_pretrained(folder / "text_encoder")
            task.tokenizer.save_pretrained(folder / "tokenizer")
        return folder
