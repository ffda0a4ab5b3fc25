"""The tiny language model and nothing else.

Law: the order in which parameters are made and initialised is the notebook's, because it is the order in which they
draw from torch's global generator. Axes: B sequences, S positions, D hidden width, V vocabulary.
"""

import torch
from torch import Tensor, nn


class TinyLM(nn.Module):
    """A causal transformer whose output layer is its token embedding."""

    def __init__(self, vocab_size: int, hidden_dim: int, num_layers: int, num_heads: int, seq_len: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, hidden_dim)
        self.pos_embedding = nn.Embedding(seq_len, hidden_dim)
        encoder_layer = nn.TransformerEncoderLayer(
            d_model=hidden_dim,
            nhead=num_heads,
            dim_feedforward=hidden_dim * 4,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        # norm_first rules nested tensors out anyway; leaving them on, as the notebook does, only adds a warning.
        self.transformer = nn.TransformerEncoder(encoder_layer, num_layers=num_layers, enable_nested_tensor=False)
        self.ln_f = nn.LayerNorm(hidden_dim)
        nn.init.normal_(self.embedding.weight, mean=0.0, std=0.02)
        nn.init.normal_(self.pos_embedding.weight, mean=0.0, std=0.02)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits of the next token, (B, S) int64 → (B, S, V)."""
        _, seq_len = input_ids.shape
        positions_1S = torch.arange(seq_len, device=input_ids.device).unsqueeze(0)
        hidden_BSD = self.embedding(input_ids) + self.pos_embedding(positions_1S)
        causal_mask_SS = nn.Transformer.generate_square_subsequent_mask(seq_len, device=input_ids.device)
        hidden_BSD = self.transformer(hidden_BSD, mask=causal_mask_SS, is_causal=True)
        hidden_BSD = self.ln_f(hidden_BSD)
        logits_BSV: Tensor = hidden_BSD @ self.embedding.weight.T
        return logits_BSV
