"""The world: who is in it, that nothing leaks between its groups, and that the shipped CLIP is what it says."""

import hashlib
from collections import Counter

import open_clip
import pytest
import regex

from demo.captions import PROMPTS, caption, caption_kind
from demo.clip import DIRECTORY, tiny_clip_directory
from demo.corpus import collections
from demo.drawing import scene_of
from demo.merges import WORDS, learn_merges
from demo.pretraining.material import captions as pretraining_captions
from demo.randomness import Dice
from demo.species import EPITHETS, NOUNS, NUM_FAMILIAR_GENERA, field_guide, nameless_bird, species_of
from models.encoder import Encoder


def test_the_guide_has_its_groups_and_no_two_names_or_looks() -> None:
    guide = field_guide()
    assert Counter(one.group for one in guide) == {
        "known": 100,
        "training": 420,
        "validation": 60,
        "unseen": 100,
        "unseen_genera": 40,
    }
    assert len({one.name for one in guide}) == len({one.slug for one in guide}) == 720
    for genus in range(len(NOUNS)):
        looks = [one.attributes.visible for one in guide if one.genus == genus]
        closest = min(
            sum(a != b for a, b in zip(one, other, strict=True)) for one in looks for other in looks if one is not other
        )
        assert closest >= 2  # one mark alone can be hidden by a pose


def test_nameless_birds_look_like_no_species() -> None:
    taken = {one.attributes.visible for one in field_guide()}
    birds = [nameless_bird("test", number) for number in range(500)]
    assert not taken & {bird.visible for bird in birds}
    assert nameless_bird("test", 7) == nameless_bird("test", 7)


def test_pretraining_names_known_species_only_and_every_word_of_the_familiar_names() -> None:
    texts = [text for number in range(0, 36_000, 7) for text in pretraining_captions(number)]
    known = {one.name for one in species_of("known")}
    words = {word for text in texts for word in WORDS.findall(text)}
    others = [one.name for one in field_guide() if one.group != "known"]
    joined = "\n".join(texts)
    assert not [name for name in others if name not in known and regex.search(rf"\b{regex.escape(name)}\b", joined)]
    assert all(noun in words for noun in NOUNS[:NUM_FAMILIAR_GENERA])
    assert not [noun for noun in NOUNS[NUM_FAMILIAR_GENERA:] if noun in words]
    assert all(epithet.removesuffix("'s") in words for epithet in EPITHETS)


def test_no_picture_occurs_twice_and_a_quiz_has_no_captions() -> None:
    parts = list(collections())
    keys = [shot.key for part in parts for shot in part.shots]
    assert len(keys) == len(set(keys)) == 15_200
    assert [part.folder for part in parts if not part.captions] == [
        "quiz/known",
        "quiz/validation",
        "quiz/unseen",
        "quiz/unseen_genera",
    ]


@pytest.mark.parametrize("kind", ["name", "both", "description", "coarse"])
def test_captions_say_what_their_kind_says(kind: str) -> None:
    for species in field_guide()[::45]:
        scene = scene_of(species.attributes, f"t/{species.id}")
        text = caption(kind, species.name, species.attributes, scene, f"t/{species.id}")  # type: ignore[arg-type]
        assert (species.name in text) == (kind in ("name", "both"))
        assert not regex.search(r"\ba [aeiou]", text)
        assert text == caption(kind, species.name, species.attributes, scene, f"t/{species.id}")  # type: ignore[arg-type]


def test_caption_kinds_come_in_their_shares() -> None:
    dice = Dice("shares")
    drawn = Counter(caption_kind(dice, name=0.5, both=0.2, description=0.2) for _ in range(4000))
    for kind, share in (("name", 0.5), ("both", 0.2), ("description", 0.2), ("coarse", 0.1)):
        assert abs(drawn[kind] / 4000 - share) < 0.03


def test_merges_are_those_of_the_captions() -> None:
    """Hand-checked: `aa` is the most frequent pair, ties go to the pair that sorts first."""
    assert learn_merges(["aab aab aac"], 10) == [("a", "a"), ("aa", "b</w>"), ("aa", "c</w>")]


def test_the_shipped_clip_is_small_whole_and_loads_like_any_directory() -> None:
    directory = tiny_clip_directory()
    assert (directory / "open_clip_model.safetensors").stat().st_size <= 4_200_000
    assert (directory / "MODEL_CARD.md").is_file()
    encoder = Encoder.open(str(directory), device="cpu", dtype="float32")
    assert encoder.embed_dim == 128
    direct, _, _ = open_clip.create_model_and_transforms(f"local-dir:{directory}")
    assert sum(p.numel() for p in direct.parameters()) < 2_100_000
    tokens = encoder.tokenize([prompt.replace("{}", one.name) for prompt in PROMPTS for one in field_guide()])
    assert not any(tokens.truncated)


def test_a_changed_file_of_the_clip_is_noticed(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (DIRECTORY / "SHA256SUMS").read_text().splitlines()
    assert {line.split()[1] for line in lines} == {
        "bpe.txt.gz",
        "open_clip_config.json",
        "open_clip_model.safetensors",
    }
    for line in lines:
        expected, name = line.split()
        assert hashlib.sha256((DIRECTORY / name).read_bytes()).hexdigest() == expected
    real = hashlib.sha256
    monkeypatch.setattr(hashlib, "sha256", lambda data: real(data + b"changed"))
    with pytest.raises(RuntimeError, match="not the file that was shipped"):
        tiny_clip_directory()
