"""The species of the field guide: attributes, invented names, and what each group is for.

A genus fixes body plan, bill, crest, tail and a small palette; its species differ in the rest. Every choice comes
from seeded `Dice`, so the world is the same on every machine. Imports nothing but `demo.randomness`.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from functools import lru_cache
from typing import Literal

from demo.randomness import Dice

WORLD_SEED = 7

PLANS = ("songbird", "wader", "duck", "raptor", "parrot", "hummingbird", "gamebird", "swift")
BILLS = ("cone", "needle", "hook", "curved", "spatula")
CRESTS = ("none", "spike", "fan", "plume", "tuft")
TAILS = ("short", "long", "forked", "fan", "streamer")
HEADS = ("plain", "cap", "stripe", "mask", "hood", "collar")
BREASTS = ("plain", "spotted", "streaked", "barred", "bib")
WINGS = ("plain", "one bar", "two bars", "patch")
BARS = ("white", "golden", "black")
BILL_COLOURS = ("black", "orange", "golden", "grey", "crimson")
COLOURS = (
    *("crimson", "orange", "golden", "olive", "emerald", "teal", "azure"),
    *("violet", "chestnut", "black", "grey", "white", "rose", "buff"),
)
BELLIES = ("white", "buff", "golden", "grey", "rose", "orange", "black")

NOUNS = (
    *("tirrik", "velo", "quorl", "marrow", "sabbin", "drusk", "ollet", "pippet", "corvane", "thessil"),
    *("wimbrel", "jacko", "fennow", "gravik", "luma", "hessar", "borrin", "skerry", "tamble", "nissic"),
    *("orlave", "zephin", "kestro", "ulwing"),
)
EPITHETS = (
    *("halden's", "miravel", "ashford's", "tolmen", "brannock's", "selvane", "corrie's", "dunmere"),
    *("elgar's", "fallow", "garrick's", "hollin", "isen", "jarrow", "keld", "lorne's", "mabry's"),
    *("norvane", "osric's", "penrith", "quill's", "rowan's", "sorrel's", "thane's", "umber's"),
    *("varley's", "wexford", "yarrow's", "zorn's", "pellam", "amsel", "birk's", "cadmar", "delphin"),
    *("emrys", "farrow's", "gildas", "harrow", "ithel's", "kennard"),
)
HEAD_WORDS = {"cap": "capped", "stripe": "browed", "mask": "masked", "hood": "hooded", "collar": "collared"}

Group = Literal["known", "training", "validation", "unseen", "unseen_genera"]
GROUPS: tuple[Group, ...] = ("known", "training", "validation", "unseen", "unseen_genera")

# Species of one genus, in order. Only "known" is named in CLIP's pre-training; "training" and "validation" are new
# to CLIP and teach, and tune, the fusion transformer; "unseen" is new to both. See DEMO.md of the design notes.
GENUS_PLAN: tuple[tuple[Group, int], ...] = (
    ("known", 5),
    ("training", 21),
    ("validation", 3),
    ("unseen", 5),
)
NUM_FAMILIAR_GENERA = 20  # the last four genera are wholly unknown to pre-training, their nouns included
UNSEEN_GENUS_SPECIES = 10


@dataclass(frozen=True)
class Attributes:
    """What a bird looks like: everything that a drawing shows and a description may say."""

    plan: str
    bill: str
    crest: str
    tail: str
    upper: str
    belly: str
    head: str
    accent: str
    breast: str
    wing: str
    bar: str
    bill_colour: str

    @property
    def visible(self) -> tuple[str, ...]:
        """The attributes as a drawing shows them: colours of absent parts are blanked."""
        accented = (self.head, self.crest, self.breast) != ("plain", "none", "plain")
        return astuple(
            replace(
                self,
                bar="" if self.wing == "plain" else self.bar,
                accent=self.accent if accented else "",
            )
        )

    @property
    def drawable(self) -> bool:
        """Whether all marks stand out from what they are drawn on."""
        return self.accent not in (self.upper, self.belly) and self.upper not in (self.belly, self.bar)


@dataclass(frozen=True)
class Species:
    """One species: an id (its place in the guide), an invented name and its looks."""

    id: int
    name: str
    genus: int
    group: Group
    attributes: Attributes

    @property
    def slug(self) -> str:
        """The name as a file name: `halden's tirrik` becomes `haldens-tirrik`."""
        return self.name.replace("'", "").replace(" ", "-")


@dataclass(frozen=True)
class Genus:
    """What the species of one genus share."""

    plan: str
    bill: str
    crest: str
    tail: str
    uppers: tuple[str, ...]
    bellies: tuple[str, ...]


@lru_cache(maxsize=1)
def field_guide() -> tuple[Species, ...]:
    """All 720 species, in order of genus."""
    known_epithets = _endless_epithets()
    species: list[Species] = []
    for number, genus in enumerate(_genera()):
        groups = _groups_of_genus(number)
        looks = _distinct_looks(genus, number, len(groups))
        names = _names(number, groups, looks, known_epithets)
        species += [Species(len(species) + i, names[i], number, groups[i], looks[i]) for i in range(len(groups))]
    return tuple(species)


def species_of(*groups: Group) -> tuple[Species, ...]:
    """The species of the given groups, in guide order."""
    return tuple(species for species in field_guide() if species.group in groups)


def nameless_bird(*key: str | int) -> Attributes:
    """A random bird that looks like no species of the guide: pre-training material and distractors."""
    taken = _guide_looks()
    dice = Dice("nameless", WORLD_SEED, *key)
    while True:
        shape = (dice.choice(PLANS), dice.choice(BILLS), dice.choice(CRESTS), dice.choice(TAILS))
        attributes = _individual(Genus(*shape, COLOURS, COLOURS), dice)
        if attributes.drawable and attributes.visible not in taken:
            return attributes


@lru_cache(maxsize=1)
def _guide_looks() -> frozenset[tuple[str, ...]]:
    return frozenset(species.attributes.visible for species in field_guide())


def _genera() -> list[Genus]:
    dice = Dice("genera", WORLD_SEED)
    genera: list[Genus] = []
    shapes: set[tuple[str, ...]] = set()
    for number in range(len(NOUNS)):
        plan = PLANS[number % len(PLANS)]
        shape = (plan, dice.choice(BILLS), dice.choice(CRESTS), dice.choice(TAILS))
        while shape in shapes:
            shape = (plan, dice.choice(BILLS), dice.choice(CRESTS), dice.choice(TAILS))
        shapes.add(shape)
        genera.append(Genus(*shape, tuple(dice.sample(COLOURS, 3)), tuple(dice.sample(BELLIES, 2))))
    return genera


def _groups_of_genus(number: int) -> list[Group]:
    if number >= NUM_FAMILIAR_GENERA:
        return ["unseen_genera"] * UNSEEN_GENUS_SPECIES
    return [group for group, count in GENUS_PLAN for _ in range(count)]


def _distinct_looks(genus: Genus, number: int, count: int) -> list[Attributes]:
    """`count` looks of one genus; any two differ in at least two visible attributes."""
    dice = Dice("looks", WORLD_SEED, number)
    looks: list[Attributes] = []
    while len(looks) < count:
        attributes = _individual(genus, dice)
        apart = all(_difference(attributes, other) >= 2 for other in looks)
        if attributes.drawable and apart:
            looks.append(attributes)
    return looks


def _individual(genus: Genus, dice: Dice) -> Attributes:
    """One bird of the genus: what the genus fixes, and a draw of everything else."""
    return Attributes(
        plan=genus.plan,
        bill=genus.bill,
        crest=genus.crest,
        tail=genus.tail,
        upper=dice.choice(genus.uppers),
        belly=dice.choice(genus.bellies),
        head=dice.choice(HEADS),
        accent=dice.choice(COLOURS),
        breast=dice.choice(BREASTS),
        wing=dice.choice(WINGS),
        bar=dice.choice(BARS),
        bill_colour=dice.choice(BILL_COLOURS),
    )


def _difference(one: Attributes, other: Attributes) -> int:
    return sum(a != b for a, b in zip(one.visible, other.visible, strict=True))


def _names(number: int, groups: list[Group], looks: list[Attributes], known_epithets: Iterator[str]) -> list[str]:
    """Names of one genus: about a third say how the bird looks, the others are opaque.

    Known species draw their opaque epithets from one cycle through all of them, so that each epithet occurs in
    pre-training, in other combinations than the unseen species' (a word CLIP never read tells it nothing).
    """
    dice = Dice("names", WORLD_SEED, number)
    spare = dice.sample(EPITHETS, len(EPITHETS))
    names: list[str] = []
    for group, attributes in zip(groups, looks, strict=True):
        telling = f"{attributes.accent}-{HEAD_WORDS.get(attributes.head)}"
        if dice.chance(0.35) and attributes.head != "plain" and f"{telling} {NOUNS[number]}" not in names:
            epithet = telling
        elif group == "known":
            epithet = next(known_epithets)
            spare.remove(epithet)
        else:
            epithet = spare.pop()
        names.append(f"{epithet} {NOUNS[number]}")
    assert Counter(names).most_common(1)[0][1] == 1
    return names


def _endless_epithets() -> Iterator[str]:
    while True:
        yield from EPITHETS
