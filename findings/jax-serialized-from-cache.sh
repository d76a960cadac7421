#!/usr/bin/env bash
# jax 0.10.2 (with jaxlib 0.10.2, from PyPI; seen 2026-11-30): a compiled program that came out of the persistent cache cannot be
# serialised on CPU.
#
# `jax.experimental.serialize_executable` writes what `.lower().compile()` returns, so that another process can run it without
# tracing: a way to send a simulation to workers, or to keep it beside its results. Whether the bytes are complete depends on
# where `compile` has found the program. Compiled in this process, it is read again and gives the same result. Found in the
# persistent compilation cache, it runs where it is and is written without an error, but the bytes lack the machine's code: reading or
# running them raises "Function ... not found" elsewhere, later. So what has passed every test with an empty cache
# fails from the second start on. What helps: to write only what was compiled with the cache off, or in the process that
# missed it.
#
# Exits with another status than 0 if any of this changes.
set -euo pipefail
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/venv"
"$scratch/venv/bin/pip" install -q --disable-pip-version-check jax==0.10.2 jaxlib==0.10.2
cat > "$scratch/shown.py" <<'PY'
import sys

import jax
import jax.numpy as jnp
from jax.experimental import serialize_executable

jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def learned(w, x):
    """Some updates of a Hebbian weight matrix."""
    return jax.lax.fori_loop(0, 10, lambda _, w: w + 0.01 * jnp.outer(jnp.tanh(w @ x), x), w)


w, x = jnp.eye(8), jnp.ones(8)
for where, complete in (("compiled now", True), ("found in the cache", False)):
    jax.clear_caches()
    program = jax.jit(learned).lower(w, x).compile()
    expected, written = program(w, x), serialize_executable.serialize(program)
    try:
        again = serialize_executable.deserialize_and_load(*written)(w, x)
    except jax.errors.JaxRuntimeError as error:
        same, said = False, str(error)
    else:
        same, said = bool((again == expected).all()), "the same result"
    print(f"{where}, written as {len(written[0])} bytes, read and run again: {said}")
    assert same == complete, "this has changed"
assert "not found" in said, "this has changed"
PY
JAX_PLATFORMS=cpu "$scratch/venv/bin/python" "$scratch/shown.py" "$scratch/cache"
