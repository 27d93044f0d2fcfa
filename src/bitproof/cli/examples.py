"""Examples for the help of each command; the tests parse all of them."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": ("bitproof demo", "bitproof inject -h"),
    "demo": ("bitproof demo", "bitproof demo --out runs/mine --set evaluation.seed=1"),
    "run": (
        "bitproof run recipes/resq-resnet20-cifar10-quick.toml --data-dir DIR",
        "bitproof run RECIPE.toml --workers 2 --resume",
    ),
    "evaluate": (
        "bitproof evaluate --model resnet20 --weights pretrained --data cifar10 --ber 1e-3",
        "bitproof evaluate --model m:make --weights w.pt --data folder:DIR --bits 4,6,8",
    ),
    "matrix": (
        "bitproof matrix recipes/matrix-resnet20-cifar10.toml --workers 2",
        "bitproof matrix runs/demo --threats full --epsilon 0.1",
        "bitproof matrix runs/a/networks/s1 mine.onnx --data cifar10",
    ),
    "inject": (
        "bitproof inject --model resnet20 --weights pretrained --data cifar10 --margin 0.01",
        "bitproof inject --network runs/demo/networks/s1 --data digits --site weight,bias",
        "bitproof inject RECIPE.toml --shard 1/8 --out DIR",
    ),
    "explore": ("bitproof explore recipes/hawx-resnet20-spatial.toml --workers 2",),
    "flip": ("bitproof flip runs/demo --flips 40 --out flips.csv",),
    "analyze": ("bitproof analyze runs/demo --trials 200",),
    "faults": ("bitproof faults DIR --out faults.csv",),
    "reproduce": (
        "bitproof reproduce --status",
        "bitproof reproduce resq-matrix --size small --minutes 30",
    ),
    "compare": (
        "bitproof compare runs/demo",
        "bitproof compare runs/plain runs/secded --out comparison",
    ),
    "report": ("bitproof report runs/demo",),
    "verify": ("bitproof verify runs/demo",),
    "energy": ("bitproof energy runs/demo --max-drop 1.0",),
    "figures": ("bitproof figures runs/demo --out figures",),
    "check": (
        "bitproof check my_package.models:make --input 3,32,32",
        "bitproof check m:make --weights w.pt --data cifar10 --bits 4",
    ),
    "describe": ("bitproof describe random_flips", "bitproof describe hardening"),
    "models": ("bitproof models", "bitproof models resnet20 --check"),
    "export": ("bitproof export runs/demo/networks/s1 s1.onnx",),
    "import": ("bitproof import model.onnx --out nets/model --data digits",),
    "data list": ("bitproof data list",),
    "data fetch": ("bitproof data fetch cifar10", "bitproof data fetch resnet20-cifar10"),
    "data verify": ("bitproof data verify cifar10",),
    "multipliers list": ("bitproof multipliers list",),
    "multipliers show": ("bitproof multipliers show drum:width=4",),
    "circuit list": ("bitproof circuit list",),
    "circuit report": ("bitproof circuit report adam --width 8 --t 5 --lib sky130",),
}
"""By command, without `bitproof`."""
