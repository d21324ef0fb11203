"""CLIP's byte pairs: the same ids as open_clip's, in time that does not grow with the square of a word's length.

open_clip looks at all of a word for each of its merges: half a second for one of 2,000 letters, seconds where each
letter is four bytes, and text comes from strangers. Safe to call from several threads, without a lock.
"""

from heapq import heapify, heappop, heappush
from typing import Any, Final

MAX_CACHED_WORDS = 50_000  # open_clip keeps every word it ever saw; real captions need far fewer than this
LONGEST_CACHED: Final = 32  # bytes of a word: longer ones are rare, and would make the bound on words one on nothing
_END = "</w>"


class BytePairs:
    """Texts to ids, with the vocabulary, cleaning and pattern of an open_clip `SimpleTokenizer`."""

    def __init__(self, tokenizer: Any) -> None:
        self._ranks: dict[tuple[str, str], int] = tokenizer.bpe_ranks
        self._ids: dict[str, int] = tokenizer.encoder
        self._letters: dict[int, str] = tokenizer.byte_encoder
        self._pieces = tokenizer.pat.findall
        self._clean = tokenizer.clean_fn
        self._special = {tokenizer.decoder[token]: [token] for token in tokenizer.all_special_ids}
        self._known: dict[str, list[int]] = {}

    def __call__(self, text: str) -> list[int]:
        """The ids of all of a text, as `SimpleTokenizer.encode`."""
        ids: list[int] = []
        for piece in self._pieces(self._clean(text)):
            ids += self._word("".join(self._letters[byte] for byte in piece.encode()))
        return ids

    def _word(self, word: str) -> list[int]:
        known = self._special.get(word) or self._known.get(word)
        if known is None:
            known = [self._ids[part] for part in self._merged(word)]
            if len(self._known) >= MAX_CACHED_WORDS:
                self._known.clear()
            if len(word) <= LONGEST_CACHED:
                self._known[word] = known
        return known

    def _merged(self, word: str) -> list[str]:
        """Merge the pair that was learned first wherever it stands, from left to right, and so on.

        Pairs wait by rank and place. Each part knows its neighbours; one that was merged into its left neighbour is "".
        """
        parts = [*word[:-1], word[-1] + _END]
        right, left = list(range(1, len(parts) + 1)), list(range(-1, len(parts) - 1))
        parts.append("")  # behind the last: no pair begins or ends here

        def rank(at: int) -> int | None:
            return self._ranks.get((parts[at], parts[right[at]]))

        waiting = [(known, at) for at in range(len(parts) - 2) if (known := rank(at)) is not None]
        heapify(waiting)
        while waiting:
            lowest, changed = waiting[0][0], []
            while waiting and waiting[0][0] == lowest:  # pairs that this pass makes have to wait for its end
                _, at = heappop(waiting)
                if parts[at] and rank(at) == lowest:
                    gone = right[at]
                    parts[at] += parts[gone]
                    parts[gone] = ""
                    right[at] = right[gone]
                    if right[at] < len(left):
                        left[right[at]] = at
                    changed += [left[at], at]
            for at in changed:
                if at >= 0 and parts[at] and (known := rank(at)) is not None:
                    heappush(waiting, (known, at))
        return [part for part in parts if part]
