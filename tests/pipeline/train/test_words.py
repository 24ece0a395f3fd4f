"""Words and the small text encoder: one token for each word, and what belongs to which noun is learned."""

import json

import numpy as np

from posedance.datasets.puppets.render import make_character
from posedance.datasets.puppets.words import NOUNS, WORDS, describe, describe_look, look_of, random_look
from posedance.pipeline.train.loop_config import LoopConfig
from posedance.pipeline.train.words import TOKENS, WordsConfig, WordsTask, train_words, word_tokenizer


def test_each_word_is_one_token_and_others_are_spelt():
    tokenizer = word_tokenizer()
    assert [tokenizer.tokenize(word) for word in WORDS] == [[f"{word}</w>"] for word in WORDS]
    assert tokenizer.tokenize("RED coat") == ["red</w>", "c", "o", "a", "t</w>"]


def test_every_description_fits():
    tokenizer = word_tokenizer()
    for seed in range(20):
        assert len(tokenizer(describe(make_character(seed))).input_ids) <= TOKENS
    assert set(look_of(make_character(3)).colours) == set(NOUNS)


def test_a_look_is_told_by_its_words():
    first, second = (random_look(np.random.default_rng(seed)) for seed in (0, 1))
    assert describe_look(first) != describe_look(second)
    assert all(first.colours[noun] in describe_look(first) for noun in NOUNS)


def test_a_short_training_learns_and_is_kept(tmp_path):
    config = WordsConfig(
        output=tmp_path,
        width=32,
        layers=1,
        batch=16,
        loop=LoopConfig(steps=30, learning_rate=5e-3, warmup=1, ema=0.5, validate_every=30),
    )
    looks = [random_look(np.random.default_rng([7, i])) for i in range(32)]
    before = float(WordsTask(config).errors(looks)[0].detach())
    folder = train_words(config)
    assert (folder / "text_encoder" / "model.safetensors").is_file()
    assert (folder / "tokenizer").is_dir()
    log = (tmp_path / "log.jsonl").read_text()
    assert json.loads(log.splitlines()[-1])["validation_loss"] < 0.8 * before
