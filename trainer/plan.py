"""What is about to be trained, on what: the notebook's lines, printed before step 0."""

from .batches import Batches
from .config import Config
from .data import TrainingData
from .state import TrainingState


def plan_lines(
    config: Config, data: TrainingData, state: TrainingState, batches: Batches, *, optimizer: str
) -> list[str]:
    """Say what is about to be trained, as the notebook does.

    Parameters
    ----------
    config : Config
        The configuration.
    data : TrainingData
        What is trained on.
    state : TrainingState
        The state at step 0.
    batches : Batches
        The data as sequences.
    optimizer : str
        Which of torch's loops runs.

    Returns
    -------
    list of str
        A line a fact.
    """
    lines = [
        f"Using device: {state.device}",
        f"Random seed set to {config.random_seed}",
        f"Loaded tokenizer with vocab size {config.vocab_size}",
        f"Dead tokens: {data.masks.dead_count}",
        f"Live tokens: {config.vocab_size - data.masks.dead_count}",
        f"Dataset: {batches.sequence_count} sequences of length {config.seq_len}",
        f"Total tokens: {batches.sequence_count * config.seq_len:,}",
        f"Model parameters: {sum(p.numel() for p in state.model.parameters()):,}",
        f"Embedding shape: {state.model.embedding.weight.shape}",
        f"Optimizer: {optimizer}",
        f"  lr={config.learning_rate}, weight_decay={config.weight_decay}",
        f"  betas=({config.beta1}, {config.beta2}), eps={config.epsilon}",
    ]
    if data.misplaced_count:
        lines.append(f"Note: {data.misplaced_count} of the dead tokens do occur in the corpus")
    return lines
