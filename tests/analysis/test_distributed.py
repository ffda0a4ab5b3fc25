"""The analyses and the dataset on a cluster of two worker processes: the same bits as here."""

import numpy as np
import pytest

from tests.harness import recordings
from trajectory_store import analysis

distributed = pytest.importorskip("distributed")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # the cluster's own sockets
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address="127.0.0.1:0",
            local_directory=str(tmp_path_factory.mktemp("workers")),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(params=["zarr", "memmap"])
def run(request, tmp_path):
    with recordings.record(tmp_path / "run", recordings.adversarial(), backend=request.param) as run:
        yield run


def arrays_of(result):
    if isinstance(result, analysis.Displacement):
        return [result.steps, result.l1, result.l2, result.linf]
    return [result] if isinstance(result, np.ndarray) else list(vars(result).values())


def test_every_analysis_gives_the_same_bits(client, run):
    """One process and two worker processes, one pass each."""
    analyses = [
        analysis.FreezeOnset(),
        analysis.DisplacementNorms(),
        analysis.StillRuns(),
        analysis.PhaseOfMoves(analysis.Regimes()),
        analysis.SystemActivity(),
        analysis.RadialMotion(),
        analysis.BulkCorrelation(),
        analysis.VelocityCosine(),
        analysis.CloudOf(),
        analysis.DistinctRows(),
    ]
    here = analysis.scan(run, analyses, threads=1)
    there = analysis.scan(run, analyses, executor=client.get_executor())

    assert len(client.scheduler_info()["workers"]) == 2
    for one, other in zip(here, there, strict=True):
        for a, b in zip(arrays_of(one), arrays_of(other), strict=True):
            assert a.tobytes() == b.tobytes() if isinstance(a, np.ndarray) else a == b


def test_a_dataset_is_computed_by_the_workers(client, run):
    """Each chunk is read by the worker that computes it."""
    bits = recordings.adversarial()
    dataset = run.to_xarray(chunks={"token": 64})

    assert np.array_equal(client.compute(dataset.W.data).result(), bits)
    changed = (dataset.W.diff("step") != 0).sum(("token", "dim"))
    assert client.compute(changed.data).result().tolist() == (bits[1:] != bits[:-1]).sum(axis=(1, 2)).tolist()
