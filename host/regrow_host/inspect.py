"""`regrow inspect`: what a pack holds, every byte counted."""

import argparse
from pathlib import Path
from typing import Any

from regrow import skeleton
from regrow.pack import ROLE_WEIGHTS, ROLES, USE_EXECUTOR, USE_LITERT, Pack, Part, open_pack
from regrow.weights import Weights

from regrow_host import console, decode, keys, sources, tflite

USES = {USE_LITERT: "pi", USE_EXECUTOR: "board", USE_LITERT | USE_EXECUTOR: "both"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pack", type=Path, metavar="PACK.rgp")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    result = inspect(args.pack)
    if args.json:
        console.show_json(result)
    else:
        _show(result)
    return 0


def inspect(path: Path) -> dict[str, Any]:
    """What `--json` prints: the bytes of `head` and `parts` add up to the file's. Raises PackError."""
    trusted = keys.trusted_keys()
    with open_pack(path) as pack:
        names = _tensor_names(pack)
        parts = [_part(pack, part, names) for part in pack.manifest.parts]
        head = len(pack.head.data)
        size = head + sum(part["bytes"] for part in parts)
        source = sources.recall(pack.head.id)
        decoded = _decoded_bytes(pack)
        return {
            "name": pack.manifest.name,
            "version": pack.manifest.version,
            "target": USES[pack.manifest.targets],
            "id": pack.head.id.hex(),
            "signer": pack.head.signer.hex(),
            "trusted": pack.head.signer in trusted,
            "arena": pack.manifest.arena,
            "bytes": size,
            "head": head,
            "weights": sum(part["weights"] or 0 for part in parts),
            "weights_bytes": sum(part["bytes"] for part in parts if part["role"] == "weights"),
            "source_bytes": len(source) if source else decoded,
            "source_kind": "source" if source else "decoded",
            "ratio": (len(source) if source else decoded) / size,
            "parts": parts,
        }


def _part(pack: Pack, part: Part, names: dict[int, str]) -> dict[str, Any]:
    result: dict[str, Any] = {
        "role": ROLES[part.role],
        "use": USES[part.use],
        "number": part.number if part.role == ROLE_WEIGHTS else None,
        "name": names.get(part.number, "") if part.role == ROLE_WEIGHTS else "",
        "codec": None,
        "weights": None,
        "bytes": part.size,
        "bits": None,
        "sha256": part.sha256.hex(),
    }
    reader = pack.reader(part)
    if part.role == ROLE_WEIGHTS:
        weights = Weights(reader)
        result |= {
            "codec": weights.codec_name,
            "dtype": ("int8", "float32", "float16")[weights.dtype],
            "weights": weights.count,
            "bits": 8 * part.size / weights.count,
        }
    return result


def _tensor_names(pack: Pack) -> dict[int, str]:
    """Names of the weight tensors, which only LiteRT's skeleton keeps."""
    if not pack.manifest.targets & USE_LITERT:
        return {}
    model = tflite.read(decode.decode(pack))
    return {each.number: each.name for each in tflite.weight_tensors(model)}


def _decoded_bytes(pack: Pack) -> int:
    """Bytes of the `.tflite` that the pack grows into."""
    return skeleton.size(pack) if pack.manifest.targets & USE_LITERT else len(decode.decode(pack))


def _show(result: dict[str, Any]) -> None:
    trust = "trusted" if result["trusted"] else "NOT trusted"
    console.show(
        f"{result['name']} version {result['version']}, for {result['target']}, {result['bytes']:,} bytes"
    )
    console.show(f"pack {result['id']}")
    console.show(f"signed by {result['signer']} ({trust})")
    rows = [["head", "", "", "", "", "", result["head"], ""]]
    for part in result["parts"]:
        cells = [part["role"], part["use"], part["number"], part["name"], part["codec"], part["weights"]]
        bits = "" if part["bits"] is None else f"{part['bits']:.2f}"
        rows.append([*("" if cell is None else cell for cell in cells), part["bytes"], bits])
    console.show_table("parts", ("role", "use", "#", "name", "codec", "weights", "bytes", "bits"), rows)
    kind = "source" if result["source_kind"] == "source" else ".tflite that it grows into"
    console.show(
        f"{result['weights_bytes']:,} bytes of weights; 1/{result['ratio']:.1f} of the {kind}, "
        f"{result['source_bytes']:,} bytes"
    )
