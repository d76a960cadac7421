#!/usr/bin/env bash
# dask.distributed 2026.8.0 (from PyPI; seen 2026-11-29): a cluster of this machine without a dashboard still serves pages.
#
# `LocalCluster(dashboard_address=None, security=Security.temporary())` reads as "no dashboard, and only those with this
# cluster's certificate may speak to it". The scheduler and every worker still open an HTTP port each, without TLS, which
# answers anybody who can reach this machine's loopback: addresses of scheduler and workers, tables of workers and tasks,
# metrics. The scheduler's is port 8787, so that the second sweep of one machine warns that it is taken, and does not start
# at all where warnings are errors. What helps: empty lists for the settings distributed.scheduler.http.routes and
# distributed.worker.http.routes, and `scheduler_kwargs={"dashboard_address": "127.0.0.1:0"}` for any free port.
#
# Exits with another status than 0 if any of this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q --disable-pip-version-check dask==2026.8.0 distributed==2026.8.0 cryptography==50.0.0
cat > "$scratch/pages.py" <<'PY'
import contextlib
import warnings
from urllib.error import HTTPError
from urllib.request import urlopen

import dask.config
from distributed import Client, LocalCluster, Security

QUIET = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
NO_PAGES = {"distributed.scheduler.http.routes": [], "distributed.worker.http.routes": []}
PAGES = ("json/identity.json", "info/main/workers.html", "metrics", "health")


def answers(port: int, page: str) -> int:
    """What plain HTTP, without a certificate, is answered."""
    try:
        with urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10) as found:
            return found.status
    except HTTPError as error:
        return error.code


@contextlib.contextmanager
def ports(**settings):
    """The HTTP ports of the scheduler and of a worker of a cluster that has certificates and no dashboard."""
    with LocalCluster(**QUIET, security=Security.temporary(), **settings) as cluster, Client(cluster) as client:
        assert cluster.scheduler_address.startswith("tls://") and cluster.scheduler.http_server is not None
        known = client.scheduler_info()
        (worker,) = known["workers"].values()
        yield known["services"]["dashboard"], worker["services"]["dashboard"]


if __name__ == "__main__":
    with ports() as (scheduler, worker):
        told = {page: answers(scheduler, page) for page in PAGES}
        print(f"no dashboard: the scheduler's port {scheduler} answers {told}, a worker's {answers(worker, 'metrics')}")
        assert scheduler == 8787 and set(told.values()) == {200} and answers(worker, "metrics") == 200
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            with LocalCluster(**QUIET):
                pass
        said = " ".join(str(warning.message).splitlines()[0] for warning in warned)
        print("a second cluster warns:", said)
        assert "Port 8787 is already in use" in said
    with dask.config.set(NO_PAGES), ports(scheduler_kwargs={"dashboard_address": "127.0.0.1:0"}) as both:
        told = {page: answers(port, page) for page in PAGES for port in both}
        print("without routes:", told)
        assert set(told.values()) == {404} and 8787 not in both
PY
"$scratch/venv/bin/python" "$scratch/pages.py"
