"""Started by tests as a process of its own: `step` is one of several that share a batch, `run` a run to be killed.

python training_child.py step OUTPUT DESIGN...         under torchrun's environment; the first writes OUTPUT/DESIGN
python training_child.py run STATE OUTPUT SECONDS      says `epoch N` after each; sleeps SECONDS a step
"""

import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F
from safetensors.torch import save_file

from models.fusion import Fusion
from models.training import EpochReport, Surroundings, TrainConfig, TrainingPairs, train
from models.training.dataset.entity_pairs import EntityPairs
from models.training.gradients.batches import Batches, batch_loss
from models.training.gradients.distributed import World, join_world
from models.training.recipes import recipe


def random_pairs() -> TrainingPairs:
    """61 pairs of 12 entities."""
    dice = torch.Generator().manual_seed(5)
    image, text = (F.normalize(torch.randn(61, 64, generator=dice), dim=-1) for _ in range(2))
    return TrainingPairs.from_entities(EntityPairs(image, text, torch.arange(61) % 12), num_candidates=20)


def config(design: str) -> TrainConfig:
    """Every draw there is, on batches that do not come out even."""
    draws = {"memory_share": 0.5, "name_noise": 1.0, "miss": 0.3}
    return recipe(design, 64, k=5, epochs=6, batch_size=17, **draws)  # type: ignore[arg-type]


def step(design: str, world: World) -> dict[str, torch.Tensor]:
    """Loss and gradients of one batch of 61 pairs."""
    torch.manual_seed(0)
    fusion = Fusion(config(design).fusion)
    dice = torch.Generator().manual_seed(1)
    sides = Batches(random_pairs(), config(design), world).draw(torch.randperm(61, generator=dice), dice)
    loss = batch_loss(fusion, sides, "cpu", world)
    loss.backward()
    world.add_up_gradients(fusion.parameters())
    gradients = {name: one.grad for name, one in fusion.named_parameters() if one.grad is not None}
    return {"loss": world.add_up(loss.detach().clone()), **gradients}


def say(one: EpochReport) -> None:
    """One line, at once."""
    sys.stdout.write(f"epoch {one.epoch}\n")
    sys.stdout.flush()


def run(state: Path, seconds: float) -> dict[str, torch.Tensor]:
    """A whole run, taken up where it was left."""
    around = Surroundings(state=state, progress=lambda *_: time.sleep(seconds))
    fusion = train(random_pairs(), config("copy"), random_pairs(), say, around)
    return fusion.state_dict()


if __name__ == "__main__":
    torch.set_num_threads(1)
    if sys.argv[1] == "step":
        world = join_world("cpu")
        for design in sys.argv[3:]:
            found = step(design, world)
            if world.is_first:
                save_file(found, Path(sys.argv[2]) / design)
        dist.destroy_process_group()
    else:
        save_file(run(Path(sys.argv[2]), float(sys.argv[4])), sys.argv[3])
