"""Texts to tokens: microseconds a text, checked, beside open_clip's tokenizer alone.

    python -m benchmarks.tokenising

One thread, one text at a time as the service has them, and 256 at a time as the builder has them; alternating. The
texts are the demo's captions and captions of common words, all of printable ASCII; then the same with one letter more
that is not. Takes half a minute; writes benchmarks/results/tokenising.json.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import open_clip

from benchmarks.serving_bed import Bed, write_result
from demo.pretraining.material import captions
from models.texts.checking import check_text, is_plain
from models.texts.tokenizer import Tokenizer

BATCH = 256


def ways() -> dict[str, tuple[Callable[[str], str], Callable[[Sequence[str]], object]]]:
    """Check and tokenizer of each."""
    theirs = open_clip.SimpleTokenizer()
    ours, others = (Tokenizer(open_clip.SimpleTokenizer(), 77) for _ in range(2))
    return {
        "open_clip_unchecked": (str, theirs),
        "ascii": (check_text, ours),
        "not_ascii": (lambda text: check_text(f"{text} é"), others),
    }


def microseconds(
    check: Callable[[str], str], tokenize: Callable[[Sequence[str]], object], texts: Sequence[str], batch: int
) -> float:
    """Of one text, its part of a batch."""
    started = time.perf_counter()
    for start in range(0, len(texts), batch):
        tokenize([check(text) for text in texts[start : start + batch]])
    return 1e6 * (time.perf_counter() - started) / len(texts)


def main() -> None:
    """Run and write the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    texts = [*Bed(Path(), drawn=True).texts, *(text for number in range(500) for text in captions(number))]
    assert all(map(is_plain, texts))
    chosen = ways()
    found: dict[str, list[float]] = {}
    for turn in range(options.rounds + 1):  # the first fills the caches
        for batch in (1, BATCH):
            for name, (check, tokenize) in chosen.items():
                spent = microseconds(check, tokenize, texts, batch)
                if turn:
                    found.setdefault(f"{name}, {batch} at a time", []).append(spent)
    medians = {name: round(statistics.median(values), 1) for name, values in found.items()}
    write_result("tokenising", {"texts": len(texts), "microseconds_a_text": medians})


if __name__ == "__main__":
    main()
