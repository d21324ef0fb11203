"""The drawings: equal text for ever, every attribute visible, the whole bird in the picture."""

import io
import re
from collections.abc import Iterator
from dataclasses import fields, replace
from hashlib import sha256
from itertools import product
from xml.etree import ElementTree

import pytest
from PIL import Image

from demo import species
from demo.drawing import HABITATS, PALETTE, POSES, Scene, draw, rasterise, scene_of
from demo.drawing.geometry import number
from demo.randomness import Dice
from demo.species import Attributes

VOCABULARY = {
    "plan": species.PLANS,
    "bill": species.BILLS,
    "crest": species.CRESTS,
    "tail": species.TAILS,
    "upper": species.COLOURS,
    "belly": species.COLOURS,
    "head": species.HEADS,
    "accent": species.COLOURS,
    "breast": species.BREASTS,
    "wing": species.WINGS,
    "bar": species.BARS,
    "bill_colour": species.BILL_COLOURS,
}
# Every part is there, so every colour can be seen.
FULL = Attributes(
    plan="songbird",
    bill="cone",
    crest="spike",
    tail="long",
    upper="teal",
    belly="buff",
    head="cap",
    accent="crimson",
    breast="spotted",
    wing="two bars",
    bar="white",
    bill_colour="orange",
)
# A change here changes the demo's whole corpus: the shipped weights have then to be trained again.
GOLDEN = {
    "songbird": "b033a1cf5160de5711b986b2bf79fdecad1f9cf537fefee47f876932447deea3",
    "wader": "86f45e0b36f0a5479a8b75bfe48508b8a43e84ef5b3e2cb718e635d3f516448b",
    "duck": "31559ef2981c63585aa515c460819d8dfc67f051e667528767a76b385e1b3639",
    "raptor": "830c44894a50652cd1107886010fb0543d8ad217937ffb6a45bd659e7c1a58b4",
    "parrot": "9d1e9938e5c6ae76bf6c4f05480118b805e20d2d1920a7890c757e44fd11f8a7",
    "hummingbird": "7cba7a7f967ea93cc1dc20711ac5e1b4f64afebe3bbe795e51e7535177b6319d",
    "gamebird": "c10af70b9b9a8b09943031d7c20854616164f355259d1ae8dada9a404bc596e9",
    "swift": "9e5ee89942a058631381527e363af74efc3d9736810336f7e4db1767264bd66f",
}


def varied(count: int) -> Iterator[tuple[Attributes, Scene]]:
    for i in range(count):
        dice = Dice("varied", i)
        attributes = Attributes(**{name: dice.choice(values) for name, values in VOCABULARY.items()})
        yield attributes, scene_of(attributes, f"varied/{i}")


@pytest.mark.parametrize("plan", species.PLANS)
def test_a_drawing_keeps_its_golden_hash(plan: str) -> None:
    attributes = replace(FULL, plan=plan)
    svg = draw(attributes, scene_of(attributes, f"golden/{plan}"))
    assert sha256(svg.encode()).hexdigest() == GOLDEN[plan]


def test_the_words_are_the_ones_of_the_species() -> None:
    assert set(VOCABULARY) == {field.name for field in fields(Attributes)}
    assert set(POSES) == set(species.PLANS)
    assert set(PALETTE) == set(species.COLOURS)
    assert {*species.BARS, *species.BILL_COLOURS, *species.BELLIES} <= set(PALETTE)


@pytest.mark.parametrize("name", VOCABULARY)
def test_every_value_of_an_attribute_gives_another_picture(name: str) -> None:
    for pose in ("perch", "ground", "swim", "fly"):
        scene = replace(scene_of(FULL, "attributes"), pose=pose)
        values = VOCABULARY[name]
        pictures = {draw(replace(FULL, **{name: value}), scene) for value in values}
        assert len(pictures) == len(values)


@pytest.mark.parametrize("name", [field.name for field in fields(Scene)])
def test_every_property_of_a_scene_gives_another_picture(name: str) -> None:
    scene = Scene("perch", "lake", False, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, False, "key")
    other = Scene("fly", "dusk", True, 0.9, 3.0, 3.0, 5.0, 0.1, 0.9, True, "other key")
    assert draw(FULL, scene) != draw(FULL, replace(scene, **{name: getattr(other, name)}))


def test_scenes_are_named_by_their_key_and_meet_every_habitat() -> None:
    assert scene_of(FULL, "a") == scene_of(FULL, "a") != scene_of(FULL, "b")
    scenes = [scene for _, scene in varied(300)]
    assert {scene.habitat for scene in scenes} == set(HABITATS)
    assert {scene.pose for scene in scenes} == {"perch", "ground", "swim", "fly"}
    assert {(scene.flip, scene.leaf) for scene in scenes} == set(product((False, True), repeat=2))


def test_drawings_are_well_formed_and_refer_only_to_what_they_define() -> None:
    for attributes, scene in varied(60):
        svg = draw(attributes, scene, size_px=96)
        root = ElementTree.fromstring(svg)
        assert (root.get("width"), root.get("viewBox")) == ("96", "0 0 100 100")
        names = [element.get("id") for element in root.iter() if element.get("id")]
        assert len(names) == len(set(names))
        assert set(re.findall(r"url\(#(\w+)\)", svg)) <= set(names)
        assert not re.search(r"-0\.00|nan|inf|\d\.\d{3}|\de[+-]", svg)


def test_numbers_have_two_decimals_and_no_negative_zero() -> None:
    assert [number(value) for value in (1, -0.004, 2.346, -1.5)] == ["1.00", "0.00", "2.35", "-1.50"]


def tallest_and_widest() -> Iterator[tuple[Attributes, Scene]]:
    """The birds most likely to leave the picture, at the largest scale and in the corners of it."""
    for plan, crest, (tail, bill) in product(
        species.PLANS, ("fan", "plume"), (("streamer", "needle"), ("fan", "curved"))
    ):
        attributes = replace(FULL, plan=plan, crest=crest, tail=tail, bill=bill)
        for pose, corner in product(set(POSES[plan]), (-1, 1)):
            scene = scene_of(attributes, "corner")
            yield (
                attributes,
                replace(scene, pose=pose, scale=1.16, dx=7 * corner, dy=5 * corner, rotation=9 * corner),
            )


def test_the_whole_bird_is_in_the_picture() -> None:
    for attributes, scene in tallest_and_widest():
        root = ElementTree.fromstring(draw(attributes, scene))
        for element in list(root):
            if not element.tag.endswith("defs") and element.get("id") != "bird":
                root.remove(element)
        root.set("viewBox", "-50 -50 200 200")
        png = rasterise(ElementTree.tostring(root, encoding="unicode"), 200)
        left, top, right, bottom = Image.open(io.BytesIO(png)).getchannel("A").getbbox()
        assert 50 <= left < right <= 150, (attributes, scene)
        assert 50 <= top < bottom <= 150, (attributes, scene)


@pytest.mark.parametrize("size_px", [1, 64, 257])
def test_the_raster_is_an_opaque_picture_of_the_asked_size(size_px: int) -> None:
    image = Image.open(io.BytesIO(rasterise(draw(FULL, scene_of(FULL, "raster")), size_px)))
    assert (image.format, image.size) == ("PNG", (size_px, size_px))
    assert image.convert("RGBA").getchannel("A").getextrema() == (255, 255)


def test_the_light_of_the_scene_is_seen() -> None:
    def mean(warmth: float, light: float) -> tuple[float, ...]:
        scene = replace(scene_of(FULL, "light"), warmth=warmth, light=light)
        image = Image.open(io.BytesIO(rasterise(draw(FULL, scene), 32))).convert("RGB")
        return tuple(image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0)))

    dark, bright, warm, cold = mean(0, 0.84), mean(0, 1.0), mean(0.12, 0.84), mean(-0.12, 0.84)
    assert all(low < high for low, high in zip(dark, bright, strict=True))
    assert warm[0] > dark[0] > cold[0]
    assert warm[2] < dark[2] < cold[2]


def test_what_cannot_be_drawn_is_refused() -> None:
    scene = scene_of(FULL, "refused")
    with pytest.raises(ValueError, match="size_px=0"):
        draw(FULL, scene, size_px=0)
    with pytest.raises(ValueError, match="size_px=0"):
        rasterise(draw(FULL, scene), 0)
    with pytest.raises(ValueError):
        rasterise("no picture", 64)
