"""Network files without checksums, as before there were any, so that other checks are met."""

import json
from pathlib import Path

from safetensors.torch import load, save

from bitproof.quant import IntegerNetwork, network_files, save_network


def save_unsealed(network: IntegerNetwork, path: Path) -> None:
    """Write the two files of a network; `path` has no suffix."""
    save_network(network, path)
    layout_file, words_file = network_files(path)
    layout = json.loads(layout_file.read_text())
    del layout["sha256"], layout["words_sha256"]
    layout_file.write_text(json.dumps(layout))
    words_file.write_bytes(save(load(words_file.read_bytes())))
