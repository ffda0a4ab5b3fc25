"""The reference trainer: Thimble 9's training loop, bit for bit, recorded step by step with `trajectory_store`."""
