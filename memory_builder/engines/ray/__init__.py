"""Units on the machines of a Ray cluster (extra `ray`): a worker on each machine, or one for each GPU.

    connection   a Ray of this machine's own, or a cluster that runs already
    engine       the engine: units go out, finished ones come in
    crew         the workers: who is asked for which unit, who is gone
    recruiting   who is employed, and when it is in vain; member: one of them
    machines     what of the cluster others leave, and how long to wait for it
    worker       what runs on a machine: opens the encoder, maps units, saves them

Ray starts processes, carries calls and says who died. Which units there are, what is in them, where they are kept and
when a version comes of them is ours, so that whatever Ray loses is done again and nothing is done twice.
"""

from memory_builder.engines.ray.connection import connected
from memory_builder.engines.ray.engine import RayEngine
from memory_builder.engines.ray.worker import EncoderSource

__all__ = ["EncoderSource", "RayEngine", "connected"]
