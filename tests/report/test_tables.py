"""Results as flat tables."""

from bitproof.report.tables import flat


def test_every_rate_of_totals_has_its_ends() -> None:
    totals = {"group": 0, "rates": {"sdc1": [0.1, 0.2, 0.3]}}
    for name in ("acc", "acc_carried", "stopped"):
        totals[name] = [0.4, 0.5, 0.6]
    (row,) = flat({"totals": [totals]})["totals"]
    for name, value in (("sdc1", 0.2), ("acc", 0.5), ("acc_carried", 0.5), ("stopped", 0.5)):
        assert row[f"{name}_low"] < row[name] == value < row[f"{name}_high"]
