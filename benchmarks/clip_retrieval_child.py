"""The other side of encoding.py, run by an interpreter that has clip-retrieval: its `inference` on one tar.

    python clip_retrieval_child.py SHARD.tar WEIGHTS OUTPUT BATCH      prints its own statistics as JSON

clip-retrieval 2.45 with webdataset 0.2.48. What it imports and never calls here is stood in for: a web service to log
to, and other kinds of models. Its statistics are kept where its own reader of them would delete them.
"""

import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

for name in ("wandb", "clip", "sentence_transformers"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["sentence_transformers"].SentenceTransformer = object  # type: ignore[attr-defined]
# Not the package's own __init__, which loads its web server and index too.
package = types.ModuleType("clip_retrieval")
package.__path__ = importlib.util.find_spec("clip_retrieval").submodule_search_locations  # type: ignore[union-attr,assignment]
sys.modules["clip_retrieval"] = package


class KeepStatistics:
    """In the place of its reader, which sums the statistics of its workers for a screen and then deletes them."""

    def __init__(self, stats_folder: str, **_: Any) -> None:
        self._folder = Path(stats_folder)

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)

    def end(self) -> None:
        """Nothing to do: the workers have written theirs."""


def main(shard: str, weights: str, output: str, batch: str) -> None:
    from clip_retrieval.clip_inference import main as inference

    inference.LoggerReader = KeepStatistics
    inference.main(
        input_dataset=shard,
        output_folder=output,
        input_format="webdataset",
        batch_size=int(batch),
        num_prepro_workers=2,
        enable_metadata=False,
        clip_model=f"open_clip:ViT-B-32/{weights}",
        use_jit=False,
        enable_text=True,
        enable_image=True,
        wds_caption_key="txt",
        wds_image_key="jpg",
        output_partition_count=1,
    )
    told = [json.loads(path.read_text()) for path in Path(output, "stats").glob("*.json")]
    kept = ("sample_count", "read_duration", "inference_duration", "write_duration", "total_duration")
    sys.stdout.write("\n" + json.dumps({name: sum(one[name] for one in told) for name in kept}))


if __name__ == "__main__":
    main(*sys.argv[1:])
