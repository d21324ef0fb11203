"""What the machines of a Ray cluster offer to workers: how many each takes, and how many others leave room for now."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ray

# Ray tells what is free of each machine nowhere else; its own libraries read it here too.
from ray._private.state import available_resources_per_node

Resources = Mapping[str, float]


@dataclass(frozen=True)
class Machine:
    """A machine of the cluster.

    Attributes:
        node: Ray's name for it.
        places: workers it takes while nobody else uses it: one for each GPU, or one for all cores.
        cpus: cores of one worker then.
        free: what others leave of it.
    """

    node: str
    places: int
    cpus: int
    free: Resources

    def room(self, taken: Mapping[str, float], *, on_gpu: bool) -> int:
        """Cores for one more worker; 0 where there is none.

        Args:
            taken: by workers that Ray does not count yet.
            on_gpu: whether a worker needs a GPU.
        """
        left = {name: self.free.get(name, 0.0) - taken.get(name, 0.0) for name in ("CPU", "GPU")}
        return 0 if on_gpu and left["GPU"] < 1 else max(0, min(self.cpus, int(left["CPU"])))


def machines(*, on_gpu: bool) -> list[Machine]:
    """Those that are alive and could take a worker, by name."""
    free: Mapping[str, Resources] = available_resources_per_node()
    found = []
    for node in sorted(ray.nodes(), key=lambda one: str(one["NodeID"])):
        total: Mapping[str, Any] = node["Resources"]
        cores = int(total.get("CPU", 0))
        places = int(total.get("GPU", 0)) if on_gpu else 1
        if node["Alive"] and places and cores:
            found.append(Machine(node["NodeID"], places, max(1, cores // places), free.get(node["NodeID"], {})))
    return found


class Patience:
    """Says once that a build waits for others to leave it a machine, and knows when it has waited long enough."""

    def __init__(self, say: Callable[[str], object], tell_s: float, give_up_s: float) -> None:
        self._say, self._tell_s, self._give_up_s = say, tell_s, give_up_s
        self._since: float | None = None
        self._told = False

    def ends(self, now: float, *, working: bool, wanted: str) -> bool:
        """Whether nobody has been at work for too long.

        Args:
            now: of the monotonic clock, in seconds.
            working: whether a worker runs.
            wanted: what a worker needs, for people.
        """
        if working:
            self._since, self._told = None, False
            return False
        self._since = now if self._since is None else self._since
        if not self._told and now - self._since >= self._tell_s:
            self._told = True
            self._say(f"waiting for {wanted}: other work has all of the Ray cluster (`ray status`)")
        return now - self._since >= self._give_up_s
