"""The notebook "Thimble 9: Long-Haul Fimbulwinter Hunt" as a function, all in RAM: the oracle of bit-exactness.

Written from the notebook alone; imports nothing of this project, and nothing here may be changed to agree with it.
"""

import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import nn
from torch.utils.data import DataLoader, Dataset


class TextDataset(Dataset):
    def __init__(self, corpus_path, tokenizer, seq_len):
        with open(corpus_path, encoding="utf-8") as f:  # noqa: PTH123 - as the notebook
            text = f.read()
        encoding = tokenizer.encode(text)
        self.tokens = encoding.ids
        self.seq_len = seq_len
        self.n_sequences = len(self.tokens) // seq_len

    def __len__(self):
        return self.n_sequences

    def __getitem__(self, idx):
        start = idx * self.seq_len
        chunk = self.tokens[start : start + self.seq_len]
        return torch.tensor(chunk, dtype=torch.long)


class TinyLM(nn.Module):
    def __init__(self, vocab_size, hidden_dim, num_layers, num_heads, seq_len):
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
        self.transformer = nn.TransformerEncoder(encoder_layer, num_layers=num_layers)
        self.ln_f = nn.LayerNorm(hidden_dim)
        nn.init.normal_(self.embedding.weight, mean=0.0, std=0.02)
        nn.init.normal_(self.pos_embedding.weight, mean=0.0, std=0.02)

    def forward(self, input_ids):
        _, seq_len = input_ids.shape
        tok_emb = self.embedding(input_ids)
        pos_ids = torch.arange(seq_len, device=input_ids.device).unsqueeze(0)
        pos_emb = self.pos_embedding(pos_ids)
        hidden = tok_emb + pos_emb
        causal_mask = nn.Transformer.generate_square_subsequent_mask(seq_len, device=input_ids.device)
        hidden = self.transformer(hidden, mask=causal_mask, is_causal=True)
        hidden = self.ln_f(hidden)
        return hidden @ self.embedding.weight.T


def run_notebook(data: Path, constants: SimpleNamespace) -> SimpleNamespace:
    """Everything the notebook has in RAM when it ends, and the dead rows of Adam's moments and of the gradients."""
    c = constants
    device = "cpu"

    torch.manual_seed(c.RANDOM_SEED)
    random.seed(c.RANDOM_SEED)
    np.random.seed(c.RANDOM_SEED)

    tokenizer = Tokenizer.from_file(str(data / "tokenizer.json"))
    masks = load_file(data / "live_dead_tokens.safetensors")
    dead_mask = masks["dead_mask"].bool()
    dead_indices = masks["dead_indices"].long()
    n_dead = dead_mask.sum().item()
    dataset = TextDataset(data / "corpus.txt", tokenizer, c.SEQ_LEN)

    model = TinyLM(c.VOCAB_SIZE, c.HIDDEN_DIM, c.NUM_LAYERS, c.NUM_HEADS, c.SEQ_LEN)
    model = model.to(device).to(torch.bfloat16)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=c.LEARNING_RATE,
        betas=(c.BETA1, c.BETA2),
        eps=c.EPSILON,
        weight_decay=c.WEIGHT_DECAY,
    )

    W_history = torch.zeros(c.TOTAL_STEPS + 1, n_dead, c.HIDDEN_DIM, dtype=torch.bfloat16)
    loss_history = torch.zeros(c.TOTAL_STEPS + 1, dtype=torch.float32)
    m_history = torch.zeros_like(W_history)
    v_history = torch.zeros_like(W_history)
    g_history = torch.zeros_like(W_history)

    def capture_state(model, step, dead_mask, loss_val=0.0):
        W = model.embedding.weight.detach().cpu()[dead_mask]
        W_history[step] = W.to(torch.bfloat16)
        loss_history[step] = loss_val

    dataloader = DataLoader(dataset, batch_size=c.BATCH_SIZE, shuffle=True, drop_last=True)
    loss_fn = nn.CrossEntropyLoss()
    capture_state(model, step=0, dead_mask=dead_mask, loss_val=0.0)

    model.train()
    step = 0
    epoch = 0
    while step < c.TOTAL_STEPS:
        epoch += 1
        for batch in dataloader:
            if step >= c.TOTAL_STEPS:
                break
            input_ids = batch.to(device)
            with torch.autocast(device_type=device if device != "mps" else "cpu", dtype=torch.bfloat16):
                logits = model(input_ids)
                shift_logits = logits[:, :-1, :].contiguous()
                shift_labels = input_ids[:, 1:].contiguous()
                loss = loss_fn(shift_logits.view(-1, c.VOCAB_SIZE), shift_labels.view(-1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            capture_state(model, step=step, dead_mask=dead_mask, loss_val=loss.item())
            moments = optimizer.state[model.embedding.weight]
            m_history[step] = moments["exp_avg"][dead_mask]
            v_history[step] = moments["exp_avg_sq"][dead_mask]
            g_history[step] = model.embedding.weight.grad[dead_mask]

    return SimpleNamespace(
        W=W_history,
        loss=loss_history,
        m=m_history,
        v=v_history,
        g=g_history,
        dead_mask=dead_mask,
        dead_indices=dead_indices,
        weights=model.state_dict(),
        optimizer=optimizer.state_dict(),
        epoch=epoch,
        rng_state=torch.get_rng_state(),
        python_rng_state=random.getstate(),
        numpy_rng_state=np.random.get_state(),
    )


def save_notebook_file(reference: SimpleNamespace, path: Path) -> None:
    """The notebook's own last cell."""
    data_to_save = {
        "W": reference.W.view(torch.uint16),
        "loss": reference.loss,
        "dead_mask": reference.dead_mask,
        "dead_indices": reference.dead_indices,
    }
    save_file(data_to_save, str(path))
