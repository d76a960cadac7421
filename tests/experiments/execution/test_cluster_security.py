"""Who may speak to a scheduler: this run's own processes, or those that have the certificates of a cluster."""

import pickle
import socket
import ssl
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import dask.config
import pytest
from distributed.security import Security

from dynamics.errors import PlasticodeError
from experiments.execution import cluster
from experiments.points.jobs import Chunking
from experiments.spec.loading import make_spec
from experiments.storage.chunks import ChunkStore
from tests.forks import LONGEST, local_cluster


def connected(tmp_path, workers, scheduler) -> AbstractContextManager[Any]:
    store = ChunkStore(tmp_path, "a run")
    make = cluster.of_job, pickle.dumps
    return cluster.connected(make_spec({"rule": "oja"}), store, Chunking(1, 1, 1), workers, scheduler, *make)


def heard(host: str, port: int, who: Security | str | None, place: Path) -> bytes:
    """What a scheduler says first to who has these certificates, none, or speaks without TLS; OSError for nothing."""
    with socket.create_connection((host, port), timeout=20) as plain:
        if isinstance(who, str):
            plain.sendall(bytes(64))
            return plain.recv(1000) or _nothing()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if who is not None:
            (place / "pem").write_text(f"{who.tls_client_key}\n{who.tls_client_cert}")
            context.load_cert_chain(place / "pem")
        with context.wrap_socket(plain) as spoken:
            return spoken.recv(1000) or _nothing()


def _nothing() -> bytes:
    raise OSError("closed")


def test_the_scheduler_of_a_run_speaks_to_nobody_else(tmp_path):
    with connected(tmp_path, 1, None) as execute:
        client = execute.args[0]
        address = client.scheduler.address
        assert address.startswith("tls://127.0.0.1:")
        assert client.submit(sum, [1, 2]).result(timeout=LONGEST) == 3
        host, port = address.removeprefix("tls://").split(":")
        assert b"compression" in heard(host, int(port), client.security, tmp_path)
        for stranger in (Security.temporary(), None, "no TLS"):
            with pytest.raises(OSError):
                heard(host, int(port), stranger, tmp_path)
        known = client.scheduler_info()
        (worker,) = known["workers"].values()
        for served in (known, worker):
            pages = f"http://127.0.0.1:{served['services']['dashboard']}"
            for page in ("/health", "/metrics", "/info/main/workers.html", "/json/identity.json"):
                with pytest.raises(HTTPError, match="404"):
                    urlopen(pages + page, timeout=10)


def test_a_run_whose_workers_are_gone_for_good_ends(monkeypatch):
    monkeypatch.setattr(cluster, "ABSENT_SECONDS", 0.1)
    gone = SimpleNamespace(scheduler=SimpleNamespace(workers={}))
    with pytest.raises(PlasticodeError, match="none has come back: finished chunks are kept"):
        cluster._next(SimpleNamespace(has_ready=lambda: False), gone)


def test_certificates_of_a_cluster_come_from_the_configuration_of_dask(tmp_path, monkeypatch):
    security = Security.temporary()
    pem = tmp_path / "pem"
    pem.write_text(f"{security.tls_client_key}\n{security.tls_client_cert}")
    tls = dict.fromkeys((f"distributed.comm.tls.{key}" for key in ("ca-file", "client.key", "client.cert")), str(pem))
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 2)
    with local_cluster(n_workers=0, security=security) as there:
        with dask.config.set(tls), connected(tmp_path, None, there.scheduler_address) as found:
            assert found.args[0].scheduler.address == there.scheduler_address
        with pytest.raises(PlasticodeError, match="does not answer.*certificates"):
            with connected(tmp_path, None, there.scheduler_address):
                pass
