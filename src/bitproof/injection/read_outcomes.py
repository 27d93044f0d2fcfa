"""What each fault did, read from a campaign directory, finished or not."""

import hashlib
import re
from pathlib import Path

import numpy as np

from bitproof.core.errors import DataError
from bitproof.core.files import read_bytes
from bitproof.core.spec import canonical_json
from bitproof.injection.campaign import golden_tally
from bitproof.injection.directory import CampaignDirectory
from bitproof.injection.outcomes import fault_outcomes
from bitproof.injection.sealed import (
    decode,
    digest_columns,
    read_columns,
    read_facts,
    read_fault_table,
)
from bitproof.injection.spec import Injection
from bitproof.quant.store import load_network

PART = re.compile(r"part-\d+\.parquet")


def read_outcomes(folder: Path) -> dict[str, np.ndarray]:
    """Return what each fault of the campaign in a directory did; see `fault_outcomes`.

    Raises:
        DataError: it holds no campaign, or no finished part of one, or a file is damaged.
    """
    directory = CampaignDirectory(folder)
    injection = Injection.model_validate(directory.read_plan()["injection"])
    columns, network = read_trials(folder), load_network(directory.network)
    return fault_outcomes(
        read_fault_table(directory.faults),
        columns,
        network,
        injection,
        golden=golden_tally(folder, network, injection).acc,
    )


def read_trials(folder: Path) -> dict[str, np.ndarray]:
    """Return the counts of all trials that are done, in the order of trials; files stay in place.

    Raises:
        DataError: it holds no campaign, or no finished part of one, or a part is damaged.
    """
    directory = CampaignDirectory(folder)
    content = directory.read_plan()
    wanted = hashlib.sha256(canonical_json(content["fingerprint"]).encode()).hexdigest()
    paths = sorted(directory.parts.glob("part-*.parquet"))
    parts = [_read(path, wanted) for path in paths if PART.fullmatch(path.name)]
    if not parts:
        raise DataError(f"{folder}: wanted a campaign with finished trials, it has none")
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(joined["trial"], kind="stable")
    return {name: column[order] for name, column in joined.items()}


def _read(path: Path, fingerprint: str) -> dict[str, np.ndarray]:
    """Return the columns of one part, checked."""
    try:
        file = decode(read_bytes(path))
        columns, facts = read_columns(file), read_facts(file)
    except OSError as error:
        raise DataError(f"{path}: cannot read ({error.strerror or error})") from None
    except DataError as error:
        raise DataError(f"{path}: damaged ({error}); go on with --resume") from None
    if facts.get("fingerprint") != fingerprint or facts.get("sha256") != digest_columns(columns):
        raise DataError(f"{path}: damaged, or of another campaign; go on with --resume")
    return columns
