"""What holds for every test."""

from hypothesis import settings

# No test may fail because the machine is busy: how long things take is measured in benchmarks/.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
