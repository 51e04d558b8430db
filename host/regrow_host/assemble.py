"""A plan becomes a pack: graph, skeleton, weights, and the probes that its own networks answer."""

from pathlib import Path

import regrow
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from regrow.pack import (
    ROLE_GRAPH,
    ROLE_PROBE,
    ROLE_SKELETON,
    ROLE_WEIGHTS,
    USE_EXECUTOR,
    USE_LITERT,
    Head,
)

from regrow_host import lower, probefile, skeletonfile, tflite
from regrow_host.files import temporary_folder
from regrow_host.job import Job, Plan
from regrow_host.packing import NewPart, build_pack

BACKENDS = {USE_LITERT: "litert", USE_EXECUTOR: "numpy"}


def write(
    job: Job, plan: Plan, path: Path, name: str, version: int, *, key: Ed25519PrivateKey
) -> tuple[Head, list[NewPart]]:
    """Write the signed pack at once or not at all. Raises RegrowError."""
    parts: list[NewPart] = []
    arena, uses = 0, 0
    for network in job.networks:
        model = network.with_options(plan.chosen)
        uses |= network.use
        if network.use & USE_EXECUTOR:
            lowered = lower.lower(tflite.read(model))
            arena = lowered.graph.arena
            parts.append(NewPart(ROLE_GRAPH, USE_EXECUTOR, 0, lower.graph_bytes(lowered)))
        if network.use & USE_LITERT:
            parts.append(NewPart(ROLE_SKELETON, USE_LITERT, 0, skeletonfile.write(model)))
    for number, option in sorted(plan.chosen.items()):
        parts += [NewPart(ROLE_WEIGHTS, use, number, part) for use, part in option.parts(uses)]
    with temporary_folder() as folder:
        bare = folder / "bare.rgp"
        build_pack(bare, name, version, parts, arena=arena, key=key)
        for use in (use for use in BACKENDS if use & uses):
            with regrow.load(bare, BACKENDS[use]) as network_of_pack:
                probe = probefile.write(network_of_pack, job.calibration, job.seed)
            parts.append(NewPart(ROLE_PROBE, use, 0, probe))
    return build_pack(path, name, version, parts, arena=arena, key=key), parts
