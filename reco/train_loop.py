"""The part of `reco train` that trains by gradient: its options, where it keeps its work, and what it says.

Loads no torch before it is used, so that `reco --help` answers at once.
"""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from models.run_settings import read_settings
from reco.console import Bar, Bars, console, say, stop
from reco.counted import counted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from memory import SearchableMemory
    from models.fusion import Design, Fusion
    from models.training import EpochReport, SearchSettings, Surroundings, TrainConfig, TrainingPairs
    from models.training.pair_choice import PairChoice
    from reco.train_entities import EntitiesFound

AUTO = "auto"
WORK = "work"  # beside the checkpoint: candidates and the state of a run


@dataclass(frozen=True)
class LoopOptions:
    """What the command line says of training by gradient; None leaves it to the recipe.

    Attributes:
        keys, validate: patterns of the pairs to train and to validate on.
        learning_rate: a number or `auto`.
        settings: `name=value` of the recipe or of the search for candidates.
        exclude_same: `source` or `folder`.
        restart: forget a run that was broken off.
    """

    k: int = 10
    seed: int | None = None
    device: str = AUTO
    keys: tuple[str, ...] = ("*",)
    validate: tuple[str, ...] = ()
    recipe: str | None = None
    settings: tuple[str, ...] = ()
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: str | None = None
    patience: int | None = None
    amp: bool = False
    exclude_same: str | None = None
    restart: bool = False

    @property
    def draws(self) -> int:
        """The seed of all that is drawn, by its own option or by `settings`."""
        return int(read_settings(self.settings).get("seed", self.seed or 0))

    @property
    def given(self) -> list[str]:
        """The options that only training by gradient knows and that were given; --validate takes pairs, too."""
        own = [one for one in self.settings if one.partition("=")[0].strip() != "seed"]  # by which all draws go
        flags = {
            "--recipe": self.recipe,
            "--set": own,
            "--epochs": self.epochs,
            "--batch-size": self.batch_size,
            "--learning-rate": self.learning_rate,
            "--patience": self.patience,
            "--amp": self.amp,
            "--exclude-same-source": self.exclude_same,
            "--restart": self.restart,
        }
        return [flag for flag, value in flags.items() if value not in (None, [], False)]

    def changes(self) -> dict[str, Any]:
        """What differs from the recipe and the search, by options and by `settings`; None is the recipe's own.

        Raises:
            ValueError: a setting is unknown or of another type, or given by its own option too.
        """
        told = read_settings(self.settings)
        own = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.rate(),
            "patience": self.patience,
            "seed": self.seed,
            "amp": self.amp or None,
        }
        for name in told:
            if own.get(name) is not None:
                raise ValueError(f"{name} is given twice: by its own option and by --set")
        return own | told | {"seed": self.draws}

    def rate(self) -> float | None:
        """The learning rate as a number; None where it is left to the recipe or to be chosen.

        Raises:
            ValueError: it is neither.
        """
        if self.learning_rate is None or self.learning_rate == AUTO:
            return None
        try:
            return float(self.learning_rate)
        except ValueError:
            raise ValueError(f"--learning-rate is a number or {AUTO}, not {self.learning_rate!r}") from None


class Loop:
    """Training by gradient on one memory; wrong options end the command with one sentence and code 2.

    Attributes:
        world: the processes that train together, one unless started by `torchrun`.
    """

    def __init__(self, memory: "SearchableMemory", output: Path, options: LoopOptions) -> None:
        from models.devices import choose_device
        from models.training.dataset.split import choose_by_key
        from models.training.gradients.distributed import join_world, local_rank

        self._memory, self._work, self._options = memory, output / WORK, options
        self._left: list[Path] = []  # by the run, of no use once its checkpoint is written
        self._group: NDArray[np.int64] | None = None  # of all rows, what belongs together, if said
        self._device = str(choose_device(options.device))
        if self._device == "cuda":
            self._device = f"cuda:{local_rank()}"
        try:
            self._settings("copy")  # whatever the design will be
            self._chosen, self._held_out = choose_by_key(memory, list(options.keys), list(options.validate))
        except ValueError as error:
            stop(str(error), code=2)
        self.world = join_world(self._device)
        console.quiet |= not self.world.is_first

    def chosen(self) -> "NDArray[np.int64]":
        """Ids of the pairs to train on, with those that only the loop would hold out at random."""
        return self._chosen

    def choose(self) -> "PairChoice":
        """Which of the designs for single pairs serves them, by what is held out; it is told."""
        from models.training.pair_choice import MOST_PAIRS, choose_for_pairs

        _, search = self._settings("copy")
        try:
            self._split()  # what cannot be trained need not be tried
            pairs = self._candidates(self._sample(MOST_PAIRS), search)
            with Bars() as bars:
                choice = choose_for_pairs(pairs, self._options.k, self._options.draws, bars.update)
        except ValueError as error:
            stop(str(error), code=2)
        say(choice.reason)
        return choice

    def train(
        self, design: str, entities: "EntitiesFound | None" = None, rate: float | None = None
    ) -> "tuple[Fusion, dict[str, Any]]":
        """Train on all chosen pairs; the epoch that does best on the validation pairs is kept.

        Args:
            entities: the pairs of these alone, those of one being right for each other, as in the choice between
                designs. Without: all, and those with an equal caption or image are.
            rate: instead of the recipe's; what the command line says goes first.
        """
        from models.training import Surroundings

        config, search = self._settings(design)
        if rate is not None and not self._says_rate:
            config = replace(config, learning_rate=rate)
        try:
            self._group = None if entities is None else entities.group
            self._parts = self._split(None if entities is None else entities.ids)
            training, validation = (self._candidates(ids, search) for ids in self._parts)
            around = Surroundings(self._device, self.world)
            if self._options.learning_rate == AUTO:
                config = replace(config, learning_rate=self._rate(training, validation, config, search, around))
            return self._run(training, validation, config, replace(around, state=self._path(config, search)))
        except ValueError as error:
            stop(str(error), code=2)

    def _sample(self, most: int) -> "NDArray[np.int64]":
        """Ids of at most so many of the chosen pairs, at random: more would be searched for nothing."""
        import numpy as np

        if len(self._chosen) <= most:
            return self._chosen
        return np.sort(np.random.default_rng(self._options.draws).choice(self._chosen, most, replace=False))

    def _split(self, ids: "NDArray[np.int64] | None" = None) -> "tuple[NDArray[np.int64], NDArray[np.int64]]":
        """Ids to train and to validate on, of all that are chosen or of some."""
        from models.training.dataset.groups import number_alike
        from models.training.dataset.split import hold_out

        ids = self._chosen if ids is None else ids
        if self._held_out is not None:
            return ids, self._held_out
        return hold_out(ids, number_alike(self._memory, ids, self._group), self._options.draws)

    @property
    def _says_rate(self) -> bool:
        """Whether the command line says the learning rate."""
        options = self._options
        return options.learning_rate is not None or any(one.startswith("learning_rate") for one in options.settings)

    def forget(self) -> None:
        """Remove what the run left, now that its checkpoint is written; the candidates stay for the next run."""
        for path in self._left:
            path.unlink(missing_ok=True)

    def _settings(self, design: str) -> "tuple[TrainConfig, SearchSettings]":
        """The recipe and the search as the options want them."""
        from models.training import SearchSettings, TrainConfig
        from models.training.recipes import recipe

        options = self._options
        of_training = {one.name for one in fields(TrainConfig)}
        changes, search = dict[str, Any](), dict[str, Any]()
        for name, value in options.changes().items():
            (changes if name in of_training else search)[name] = value
        config = recipe(cast("Design", design), self._memory.embed_dim, k=options.k, name=options.recipe, **changes)
        most = search.setdefault("num_candidates", max(SearchSettings.num_candidates, options.k))
        if most < options.k:
            raise ValueError(f"num_candidates is {most}, but --k {options.k} neighbours are drawn of them")
        same: Any = options.exclude_same or "nothing"
        return config, SearchSettings(exclude_same=same, **search)

    def _candidates(self, ids: "NDArray[np.int64]", search: "SearchSettings") -> "TrainingPairs":
        """Pairs with their candidates, which the first process searches for all."""
        from models.training import TrainingPairs

        if not self.world.is_first:
            self.world.wait()
        bar = Bar(f"searching the neighbours of {counted(len(ids), 'pair')}")
        try:
            pairs = TrainingPairs.from_memory(
                self._memory,
                ids,
                group=self._group,
                settings=search,
                work=self._work,
                device=self._device,
                report=bar.update,
            )
        finally:
            bar.close()
        if self.world.is_first:
            self.world.wait()
        if 2 * pairs.num_alone > len(pairs):
            say(
                f"{pairs.num_alone:,} of {counted(len(pairs), 'pair')} have nothing to retrieve: leave fewer out "
                "(--exclude-same-source, near_duplicate), or train on a larger memory",
                style="yellow",
            )
        return pairs

    def _name(self, config: "TrainConfig", search: "SearchSettings") -> str:
        """What this run shares with no other."""
        from models.training.gradients.resume import run_name

        told = json.dumps(asdict(search), sort_keys=True).encode()
        grouped = () if self._group is None else (self._group,)
        return run_name(config, self._memory.digest, told, *(one.tobytes() for one in (*self._parts, *grouped)))

    def _path(self, config: "TrainConfig", search: "SearchSettings") -> Path:
        """Where the state of this run lies."""
        state = self._work / f"{self._name(config, search)}.safetensors"
        self._left.append(state)
        if self._options.restart and self.world.is_first:
            state.unlink(missing_ok=True)
        self.world.wait()
        return state

    def _rate(
        self,
        training: "TrainingPairs",
        validation: "TrainingPairs",
        config: "TrainConfig",
        search: "SearchSettings",
        around: "Surroundings",
    ) -> float:
        """The rate that validates best in short runs; chosen once, so that a broken-off run goes on with it."""
        from memory.format.durable import write_bytes
        from models.training.gradients.rates import choose_learning_rate

        note = self._work / f"{self._name(config, search)}.rate.json"
        self._left.append(note)
        remembered = note.is_file() and not self._options.restart
        if remembered:
            rate = float(json.loads(note.read_text(encoding="utf-8")))
        else:
            console.print("learning rate, by short runs:", style="dim")
            rate = choose_learning_rate(training, validation, config, around, _say_rate)
        self.world.wait()
        if self.world.is_first:
            write_bytes(note, json.dumps(rate).encode(), replace=True)
        chosen = ", as chosen by the run that was broken off (--restart chooses anew)" if remembered else ""
        console.print(f"learning rate {rate:g}{chosen}")
        return rate

    def _run(
        self,
        training: "TrainingPairs",
        validation: "TrainingPairs",
        config: "TrainConfig",
        around: "Surroundings",
    ) -> "tuple[Fusion, dict[str, Any]]":
        from models.training import train

        console.print(f"{counted(len(training), 'pair')} to train on, {len(validation):,} to validate", style="dim")
        if around.state is not None and around.state.is_file():
            console.print("taking up the run that was broken off (--restart begins anew)")
        bar, losses, curve = Bar("training"), list[float](), list[list[float]]()

        def progress(done: int, total: int) -> None:
            bar.update(done, total, f"validation loss {losses[-1]:.3f}" if losses else "")

        def report(epoch: "EpochReport") -> None:
            losses.append(epoch.validation)
            curve.append([epoch.loss, epoch.validation])

        try:
            fusion = train(training, config, validation, report, replace(around, progress=progress))
        finally:
            bar.close()
        self.world.wait()  # all have read the state: the first may remove it
        best = losses.index(min(losses)) + 1
        console.print(f"validation loss {min(losses):.3f}, of epoch {best} of {len(losses)}")
        trained = {
            "pairs": len(training),
            "validation_pairs": len(validation),
            "validation_loss": min(losses),
            "epochs": len(losses),
            "best_epoch": best,
            "losses": curve,  # of each epoch: in training, and validation
            "learning_rate": config.learning_rate,
            "seed": config.seed,
        }
        return fusion, trained


def _say_rate(rate: float, loss: float) -> None:
    console.print(f"  {rate:g}: validation loss {loss:.3f}")
