"""Who may speak to a scheduler: this run's own processes, or those that have the certificates of a cluster."""

from contextlib import AbstractContextManager
from typing import Any

import dask.config
import pytest
from distributed import Client, LocalCluster
from distributed.security import Security

from dynamics.errors import PlasticodeError
from experiments.execution import cluster
from experiments.points.jobs import Chunking
from experiments.spec.loading import make_spec
from experiments.storage.chunks import ChunkStore


def connected(tmp_path, workers, scheduler) -> AbstractContextManager[Any]:
    store = ChunkStore(tmp_path, "a run")
    return cluster.connected(make_spec({"rule": "oja"}), store, Chunking(1, 1, 1), {}, workers, scheduler)


def test_the_scheduler_of_a_run_speaks_to_nobody_else(tmp_path):
    with connected(tmp_path, 1, None) as execute:
        (client, _) = execute.args
        address = client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        assert client.submit(sum, [1, 2]).result() == 3
        for stranger in (None, Security.temporary()):
            with pytest.raises((OSError, ValueError, TypeError)):
                Client(address, timeout=1, security=stranger)
        with pytest.raises(OSError):
            Client(address.replace("tls", "tcp"), timeout=1)


def test_certificates_of_a_cluster_come_from_the_configuration_of_dask(tmp_path, monkeypatch):
    security = Security.temporary()
    pem = tmp_path / "pem"
    pem.write_text(f"{security.tls_client_key}\n{security.tls_client_cert}")
    tls = dict.fromkeys((f"distributed.comm.tls.{key}" for key in ("ca-file", "client.key", "client.cert")), str(pem))
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 2)
    untyped: Any = LocalCluster  # whose annotations are those of its asynchronous use
    with untyped(n_workers=0, security=security, dashboard_address=None) as there:
        with dask.config.set(tls), connected(tmp_path, None, there.scheduler_address) as found:
            assert found.args[0].scheduler.address == there.scheduler_address
        with pytest.raises(PlasticodeError, match="does not answer.*certificates"):
            with connected(tmp_path, None, there.scheduler_address):
                pass
