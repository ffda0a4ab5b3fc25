"""Which sequences each step sees: the notebook's shuffled DataLoader, with a place to go on from.

Law: torch's global CPU generator is drawn from exactly as the notebook's loader does, once for the loader's base seed
and once for the shuffle's, as an epoch begins. So a place inside an epoch is the generator's state as that epoch began
and the number of batches since; the generator's state after a step alone does not tell the epoch's order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, Sampler


@dataclass
class Place:
    """Where in the data a training stands."""

    epoch: int = 0  # epochs begun
    consumed: int = 0  # batches of this epoch that made an update
    epoch_rng: Tensor | None = None  # torch's CPU generator as this epoch began; None before the first

    @property
    def is_inside_epoch(self) -> bool:
        """Whether an epoch has begun, so that going on means going on with it."""
        return self.epoch_rng is not None


class _Sequences(Dataset[Tensor]):
    """A text's tokens cut into sequences of equal length; what is left over at the end is not used."""

    def __init__(self, tokens: Tensor, seq_len: int) -> None:
        self._tokens = tokens
        self._seq_len = seq_len

    def __len__(self) -> int:
        return len(self._tokens) // self._seq_len

    def __getitem__(self, index: int) -> Tensor:
        start = index * self._seq_len
        return self._tokens[start : start + self._seq_len]


class _Shuffle(Sampler[list[int]]):
    """An epoch's batches of indices, without the first `skip`; lazy, so that the seed is drawn at the first batch."""

    def __init__(self, sequences: _Sequences, batch_size: int) -> None:
        self._batches = BatchSampler(RandomSampler(sequences), batch_size, drop_last=True)
        self.skip = 0

    def __iter__(self) -> Iterator[list[int]]:
        yield from islice(self._batches, self.skip, None)


class Batches:
    """Batches of int64 token ids, (batch_size, seq_len), epoch after epoch."""

    def __init__(self, tokens: Tensor, *, seq_len: int, batch_size: int) -> None:
        sequences = _Sequences(tokens, seq_len)
        self.sequence_count = len(sequences)
        self.batches_per_epoch = len(sequences) // batch_size
        self._shuffle = _Shuffle(sequences, batch_size)
        self._loader: DataLoader[Tensor] = DataLoader(sequences, batch_sampler=self._shuffle)

    def begin_epoch(self, place: Place) -> Iterator[Tensor]:
        """A new epoch's batches; moves `place` to its beginning. Draws from torch's global CPU generator."""
        place.epoch += 1
        place.consumed = 0
        place.epoch_rng = torch.get_rng_state()
        self._shuffle.skip = 0
        return iter(self._loader)

    def finish_epoch(self, place: Place) -> Iterator[Tensor]:
        """The batches of the epoch `place` is inside that were not consumed yet, perhaps none.

        The epoch is begun again from its generator state, the consumed batches are skipped as indices, and the state
        that was set when this was called is put back before the first batch is handed out.
        """
        assert place.epoch_rng is not None
        after_step = torch.get_rng_state()
        torch.set_rng_state(place.epoch_rng)
        self._shuffle.skip = place.consumed
        rest = iter(self._loader)
        first = next(rest, None)  # draws the shuffle's seed
        torch.set_rng_state(after_step)
        if first is not None:
            yield first
            yield from rest
