"""The commands of `trajectory-store`, one module each; `trajectory_store.cli` says how they are added."""
