"""The commands."""

from pathlib import Path
from typing import Annotated, Any

import typer

from bitproof import __version__
from bitproof.cli.completion import SITES, kind_of, one_of
from bitproof.cli.data import data_app
from bitproof.cli.help import Group, dress
from bitproof.cli.options import (
    DataDir,
    Device,
    Engine,
    Out,
    Resume,
    Seed,
    Sets,
    ShardOption,
    Threads,
    Workers,
    Yes,
)
from bitproof.cli.outcome import report_problems


class Commands(Group):
    """The commands; what goes wrong in them is printed here, before Typer makes something of it."""

    def invoke(self, ctx: Any) -> Any:
        """Carry out the command that was asked for."""
        with report_problems():
            return super().invoke(ctx)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that was asked for; load those that need torch only now."""
        name, command, rest = super().resolve_command(ctx, args)
        if name == "multipliers":
            from bitproof.cli.multipliers import group

            dress(group)
            command = typer.main.get_group(group)
        if name == "circuit":
            from bitproof.cli.circuit import group as circuits

            dress(circuits)
            command = typer.main.get_group(circuits)
        return name, command, rest


app = typer.Typer(
    cls=Commands,
    name="bitproof",
    help="Take a neural network from float training to hardware with broken bits.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data_app, name="data")
app.add_typer(
    typer.Typer(),  # loaded by `Commands`
    name="multipliers",
    help="Approximate multipliers: products, errors, cost.",
)
app.add_typer(
    typer.Typer(),  # likewise
    name="circuit",
    help="Multipliers as circuits of gates: cost, errors, faults, Verilog.",
)


def _show_version(wanted: bool) -> bool:
    if wanted:
        typer.echo(f"bitproof {__version__}")
        raise typer.Exit
    return wanted


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print it.")
    ] = False,
) -> None:
    """Take a neural network from float training to hardware with broken bits."""
    del version


@app.command()
def demo(  # noqa: PLR0917
    matrix: Annotated[
        bool, typer.Option("--matrix", help="Instead, every remedy under every threat.")
    ] = False,
    out: Out = None,
    sets: Sets = None,
    device: Device = "auto",
    resume: Resume = False,
    yes: Yes = False,
) -> None:
    """Run the main job on the built-in digits; needs no data and about a minute."""
    from bitproof.cli.running import run_demo

    if matrix:
        from bitproof.cli.matrix import run_matrix_demo

        run_matrix_demo(
            out or Path("runs/demo-matrix"),
            sets=sets or (),
            device=device,
            resume=resume,
            fresh=out is None,
            yes=yes,
        )
        return
    run_demo(
        out or Path("runs/demo"),
        sets=sets or (),
        device=device,
        resume=resume,
        fresh=out is None,
        yes=yes,
    )


@app.command()
def run(  # noqa: PLR0917
    recipe: Annotated[Path, typer.Argument(help="A recipe, in TOML.")],
    out: Out = None,
    sets: Sets = None,
    workers: Workers = None,
    engine: Engine = "auto",
    device: Device = "auto",
    data_dir: DataDir = None,
    resume: Resume = False,
    yes: Yes = False,
) -> None:
    """Carry out a recipe: train, harden, quantize, measure, report."""
    from bitproof.cli.running import executor_of, run_recipe

    run_recipe(
        recipe,
        out,
        sets=sets or (),
        executor=executor_of(engine, workers),
        device=device,
        data_dir=data_dir,
        resume=resume,
        yes=yes,
    )


@app.command()
def evaluate(  # noqa: PLR0917
    model: Annotated[
        str | None,
        typer.Option(
            autocompletion=kind_of("MODELS"),
            help="Architecture, timm:NAME, package.module:factory, or FILE.onnx.",
        ),
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Its weights: a file, or pretrained.")] = None,
    network: Annotated[
        str | None,
        typer.Option(
            help="Integer networks instead: runs/NAME/networks/VARIANT, runs/NAME, INT8.onnx."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            autocompletion=kind_of("DATA"),
            help="Data set, such as digits, or your own: folder:DIR, npz:FILE, parquet:DIR, "
            "package.module:function; of a network: that of its run.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            autocompletion=kind_of("TASKS"),
            help="How answers are judged; default: as outputs ask for.",
        ),
    ] = None,
    bits: Annotated[str | None, typer.Option(help="Widths, such as 4,6,8; default 8.")] = None,
    scheme: Annotated[
        str | None, typer.Option(help="accurate, the default, or rquant, as published.")
    ] = None,
    ber: Annotated[str | None, typer.Option(help="Bit error rates, such as 1e-3,1e-2.")] = None,
    site: Annotated[
        str | None,
        typer.Option(
            autocompletion=one_of(*SITES),
            help="What breaks: weight, bias, activation; default weight,bias.",
        ),
    ] = None,
    protect: Annotated[
        str | None, typer.Option(help="The same bit errors with protections too, such as secded.")
    ] = None,
    pgd: Annotated[
        str | None, typer.Option(help="Radii of PGD-20, input units, such as 1/255.")
    ] = None,
    chips: Annotated[int | None, typer.Option(help="Chips; default 50.", min=1)] = None,
    images: Annotated[
        int | None, typer.Option(help="Test images, the first ones; default 1000.", min=1)
    ] = None,
    sets: Sets = None,
    workers: Workers = None,
    engine: Engine = "auto",
    out: Out = None,
    json: Annotated[Path | None, typer.Option(help="Write all numbers there.")] = None,
    device: Device = "auto",
    data_dir: DataDir = None,
    resume: Resume = False,
    yes: Yes = False,
) -> None:
    """Tell the accuracy of a network: float and quantized, clean, with broken bits, attacked."""
    from bitproof.cli.evaluate import run_evaluation
    from bitproof.cli.running import executor_of

    options = {
        **{"model": model, "weights": weights, "network": network, "data": data, "task": task},
        **{"bits": bits, "scheme": scheme, "ber": ber, "site": site, "pgd": pgd},
        **{"protect": protect, "chips": chips, "images": images},
    }
    run_evaluation(
        options,
        sets or (),
        out=out,
        json_path=json,
        executor=executor_of(engine, workers),
        device=device,
        data_dir=data_dir,
        resume=resume,
        yes=yes,
    )


@app.command()
def matrix(  # noqa: PLR0917
    what: Annotated[
        list[str],
        typer.Argument(
            help="A recipe, in TOML; or integer networks: runs/NAME/networks/VARIANT, runs/NAME, "
            "INT8.onnx; differences are those from the first."
        ),
    ],
    threats: Annotated[
        str | None,
        typer.Option(
            autocompletion=one_of("default", "full"),
            help="default, or full: more of everything, and what extras bring; not with a recipe.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            autocompletion=kind_of("DATA"), help="Data set; default: that of the first one's run."
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            autocompletion=kind_of("TASKS"),
            help="How answers are judged; default: as outputs ask for.",
        ),
    ] = None,
    ber: Annotated[
        str | None, typer.Option(help="Bit error rates; default 1e-4,1e-3,1e-2.")
    ] = None,
    epsilon: Annotated[
        str | None, typer.Option(help="Largest radius of attacks, input units; default 2/255.")
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Test images under faults; default 500.", min=1)
    ] = None,
    chips: Annotated[int | None, typer.Option(help="Chips; default 10.", min=1)] = None,
    multiplier: Annotated[
        str | None,
        typer.Option(help="Approximate multiplier, as lists write it; default drum:width=5."),
    ] = None,
    choice: Annotated[
        Path | None,
        typer.Option(help="A finished search: what it chose is one more multiplier threat."),
    ] = None,
    seed: Seed = 0,
    sets: Sets = None,
    workers: Workers = None,
    engine: Engine = "auto",
    out: Out = None,
    json: Annotated[Path | None, typer.Option(help="Write all numbers there.")] = None,
    device: Device = "auto",
    data_dir: DataDir = None,
    resume: Resume = False,
    yes: Yes = False,
) -> None:
    """Judge networks under every threat at once: one table, one page, what to choose when."""
    from bitproof.cli.matrix import run_matrix
    from bitproof.cli.running import executor_of

    options = {
        **{"threats": threats, "data": data, "task": task, "ber": ber, "epsilon": epsilon},
        **{"images": images, "chips": chips, "multiplier": multiplier, "seed": seed or None},
        "choice": choice,
    }
    run_matrix(
        what,
        options,
        sets=sets or (),
        out=out,
        json_path=json,
        executor=executor_of(engine, workers),
        device=device,
        data_dir=data_dir,
        resume=resume,
        yes=yes,
    )


@app.command()
def inject(  # noqa: PLR0917
    recipe: Annotated[
        Path | None, typer.Argument(help="A recipe, in TOML; options change it, or do without.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            autocompletion=kind_of("MODELS"),
            help="Architecture, timm:NAME, package.module:factory, or FILE.onnx.",
        ),
    ] = None,
    weights: Annotated[str | None, typer.Option(help="Its weights: a file, or pretrained.")] = None,
    network: Annotated[
        str | None,
        typer.Option(help="An integer network instead: runs/NAME/networks/VARIANT, or INT8.onnx."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            autocompletion=kind_of("DATA"),
            help="Data set, or your own: folder:DIR, npz:FILE, parquet:DIR, "
            "package.module:function; default digits.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            autocompletion=kind_of("TASKS"),
            help="classification, binary, multi_label, regression, segmentation or sequence; "
            "default: as outputs and labels ask for.",
        ),
    ] = None,
    bits: Annotated[int | None, typer.Option(help="Width of all words.", min=2, max=8)] = None,
    site: Annotated[
        list[str] | None,
        typer.Option(
            autocompletion=one_of(*SITES),
            help="weight, bias, activation, output, input, operand, weight_operand, "
            "product, accumulator or systolic; several with commas.",
        ),
    ] = None,
    fault_list: Annotated[
        str | None, typer.Option("--list", help="Replay the faults of a CSV file.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Trials; else as many as --margin asks.")
    ] = None,
    margin: Annotated[float | None, typer.Option(help="Half an interval's width.")] = None,
    sets: Sets = None,
    workers: Workers = None,
    engine: Engine = "auto",
    shard: ShardOption = None,
    threads: Threads = None,
    out: Out = None,
    device: Device = "cpu",
    data_dir: DataDir = None,
    resume: Resume = False,
    yes: Yes = False,
) -> None:
    """Inject faults into a network, one after the other, and tell what they did."""
    from bitproof.cli.inject import recipe_of, run_injection
    from bitproof.cli.running import executor_of

    options = {
        **{"model": model, "weights": weights, "network": network, "data": data, "task": task},
        **{"bits": bits, "site": site, "list": fault_list, "trials": trials, "margin": margin},
    }
    run_injection(
        recipe_of(recipe, options, sets or ()),
        out=out,
        executor=executor_of(engine, workers),
        shard=shard,
        threads=threads,
        device=device,
        data_dir=data_dir,
        recipe_dir=None if recipe is None else recipe.parent,
        resume=resume,
        yes=yes,
    )


@app.command()
def explore(  # noqa: PLR0917
    recipe: Annotated[Path, typer.Argument(help="A recipe of a search, in TOML.")],
    out: Out = None,
    sets: Sets = None,
    workers: Workers = None,
    engine: Engine = "auto",
    shard: ShardOption = None,
    device: Device = "cpu",
    data_dir: DataDir = None,
    resume: Resume = False,
    yes: Yes = False,
) -> None:
    """Search which layer or filter may use which multiplier, and tell what that costs."""
    from bitproof.cli.explore import run_exploration
    from bitproof.cli.running import executor_of

    run_exploration(
        recipe,
        out,
        sets=sets or (),
        executor=executor_of(engine, workers),
        shard=shard,
        device=device,
        data_dir=data_dir,
        resume=resume,
        yes=yes,
    )


@app.command()
def flip(  # noqa: PLR0917
    place: Annotated[
        Path,
        typer.Argument(
            metavar="NETWORK|RUN", help="runs/NAME/networks/VARIANT, or runs/NAME for all of them."
        ),
    ],
    attack: Annotated[
        str,
        typer.Option(
            autocompletion=kind_of("WEIGHT_ATTACKS"),
            help="progressive_bit_search, targeted_bit_search or bit_ascent.",
        ),
    ] = "progressive_bit_search",
    flips: Annotated[int | None, typer.Option(help="Most bits that are flipped.")] = None,
    batches: Annotated[
        int | None, typer.Option(help="Batches of attack images, from the end; default 5.")
    ] = None,
    attack_images: Annotated[
        int | None, typer.Option(help="Images of a batch; default 128.")
    ] = None,
    images: Annotated[
        int | None, typer.Option(help="Images to classify, the first ones; default 1000.")
    ] = None,
    data: Annotated[
        str, typer.Option(autocompletion=kind_of("DATA"), help="Data set; default that of the run.")
    ] = "",
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a field of the attack."),
    ] = None,
    seed: Seed = 0,
    threads: Threads = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the flips as CSV, for inject --list.")
    ] = None,
    device: Device = "cpu",
    data_dir: DataDir = None,
) -> None:
    """Flip chosen bits of stored weights, and tell how many it takes to reach chance."""
    from bitproof.cli.flip import attack_of, run_attack

    run_attack(
        place,
        attack=attack_of(attack, flips, sets or ()),
        threat={"batches": batches, "attack_images": attack_images, "images": images},
        data=data,
        seed=seed,
        threads=threads,
        out=out,
        device=device,
        data_dir=data_dir,
    )


@app.command(name="analyze")
def analyze_networks(  # noqa: PLR0917
    place: Annotated[
        list[Path],
        typer.Argument(
            metavar="NETWORK|RUN...", help="runs/NAME/networks/VARIANT, or runs/NAME for all."
        ),
    ],
    trials: Annotated[
        int,
        typer.Option(help="Faults in each layer, for failure rates; 0: none.", min=0, max=10**6),
    ] = 0,
    images: Annotated[
        int, typer.Option(help="Images that meet each fault.", min=1, max=10**9)
    ] = 64,
    data: Annotated[
        str, typer.Option(autocompletion=kind_of("DATA"), help="Data set; default that of the run.")
    ] = "",
    seed: Seed = 0,
    threads: Threads = None,
    json: Annotated[Path | None, typer.Option(help="Write all numbers there.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Tell the scaling factors of networks side by side, and what faults in layers do."""
    from bitproof.cli.analyze import print_analysis

    print_analysis(
        place,
        data=data,
        trials=trials,
        images=images,
        seed=seed,
        threads=threads,
        json_path=json,
        data_dir=data_dir,
    )


@app.command()
def faults(
    directory: Annotated[Path, typer.Argument(help="A campaign directory.")],
    out: Annotated[
        Path | None, typer.Option(help="The CSV file to write; default faults.csv, outcomes.csv.")
    ] = None,
    outcomes: Annotated[
        bool, typer.Option("--outcomes", help="Each fault with what it did, instead.")
    ] = False,
    top: Annotated[
        int, typer.Option(help="With --outcomes: so many of the worst are printed.", min=0)
    ] = 20,
) -> None:
    """Write the faults of a campaign as CSV, to be edited and replayed with inject --list."""
    from bitproof.cli.inject import export_faults, export_outcomes

    if outcomes:
        export_outcomes(directory, out or Path("outcomes.csv"), top)
    else:
        export_faults(directory, out or Path("faults.csv"))


@app.command()
def export(  # noqa: PLR0917
    place: Annotated[
        Path,
        typer.Argument(
            metavar="NETWORK|RUN", help="runs/NAME/networks/VARIANT, or runs/NAME if it has one."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="The ONNX file to write.")],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="qdq: for int8 kernels; integer: by the standard alone, slower; portable: real "
            "scales for other runtimes, equal but for ties.",
        ),
    ] = "qdq",
    weights: Annotated[
        str, typer.Option(help="uint8, right on every CPU, or int8: faster with VNNI and on ARM.")
    ] = "uint8",
    verify: Annotated[
        int,
        typer.Option(
            help="Compare logits with ONNX Runtime's on so many images.", min=0, max=10**7
        ),
    ] = 0,
    data: Annotated[
        str,
        typer.Option(
            autocompletion=kind_of("DATA"), help="Data set; default that of the run, else noise."
        ),
    ] = "",
    data_dir: DataDir = None,
) -> None:
    """Write a network as ONNX, with the same logits to the bit."""
    from bitproof.cli.export import run_export

    run_export(
        place,
        out,
        form=form,
        weights=weights,
        verify=verify,
        data=data,
        data_dir=data_dir,
    )


@app.command()
def reproduce(  # noqa: PLR0917
    table: Annotated[
        str | None, typer.Argument(help="A published table, such as resq-matrix; all, if left out.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="full: as published, the default; small: for two CPU cores.")
    ] = None,
    cell: Annotated[
        list[str] | None, typer.Option(help="Only cells of such names, with * and ?.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop after that time; the same command goes on.", min=0.0)
    ] = None,
    show_list: Annotated[
        bool, typer.Option("--list", help="Tell what can be reproduced, and stop.")
    ] = False,
    status: Annotated[
        bool, typer.Option("--status", help="Tell what is done, ours against theirs, and stop.")
    ] = False,
    page: Annotated[
        Path | None, typer.Option("--document", help="Write the page of all results, and stop.")
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Tell whether jobs behave as when they were measured.")
    ] = False,
    against: Annotated[
        str | None, typer.Option(help="The same, compared with this git revision.")
    ] = None,
    stamp: Annotated[
        bool, typer.Option("--stamp", help="The same; today's behaviour counts from now on.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="The same; write digests there.")] = None,
    device: Device = "auto",
    data_dir: DataDir = None,
    results: Annotated[Path, typer.Option(help="Folder of finished cells.")] = Path("results"),
    work: Annotated[Path, typer.Option(help="Folder of runs under way.")] = Path("runs/reproduce"),
) -> None:
    """Do the next missing cells of the published tables, and tell how far they are."""
    from bitproof.cli import reproducing
    from bitproof.reproduce import Place

    if show_list:
        reproducing.print_listing(table, size)
    if status:
        reproducing.print_status(table, size, results=results, work_dir=work)
    if page:
        reproducing.write_document(page, results)
    place = Place(results, work, device, data_dir)
    check = check or stamp or against is not None or json is not None
    if check:
        reproducing.print_check(
            table, size, against=against, stamp=stamp, place=place, json_path=json
        )
    if not (show_list or status or page or check):
        reproducing.reproduce_cells(table, size, cells=cell or (), minutes=minutes, place=place)


@app.command()
def report(
    directory: Annotated[Path, typer.Argument(help="A run or campaign directory.")],
    interactive: Annotated[
        bool, typer.Option("--interactive", help="Draw live charts; still one offline file.")
    ] = False,
) -> None:
    """Write report.html anew from a run, campaign or search, and print the result table."""
    from bitproof.cli.explore import print_exploration
    from bitproof.cli.inject import is_campaign, print_campaign
    from bitproof.cli.running import print_results
    from bitproof.report import write_campaign_report, write_campaign_tables, write_report
    from bitproof.report.exploration_page import is_exploration, write_exploration_report

    if is_exploration(directory):
        print_exploration(directory, write_exploration_report(directory, interactive=interactive))
    elif is_campaign(directory):
        write_campaign_tables(directory)
        print_campaign(directory, write_campaign_report(directory, interactive=interactive))
    else:
        print_results(directory, write_report(directory, interactive=interactive))


@app.command("import")
def import_network(  # noqa: PLR0917
    file: Annotated[
        Path, typer.Argument(help="A quantized ONNX model (QDQ or QLinear operators).")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write the network there, such as nets/a; else only tell.")
    ] = None,
    mean: Annotated[str, typer.Option(help="Mean that the model wants subtracted, R,G,B.")] = "",
    std: Annotated[str, typer.Option(help="Deviation that it wants to divide by, R,G,B.")] = "",
    ends: Annotated[
        str, typer.Option("--range", help="What the model takes for 0 and 1, such as 0,255.")
    ] = "",
    shape: Annotated[
        str, typer.Option(help="Sizes of an image where the file leaves them free, as 3,32,32.")
    ] = "",
    data: Annotated[
        str,
        typer.Option(
            autocompletion=kind_of("DATA"), help="Measure it on the test images of a data set."
        ),
    ] = "",
    data_dir: DataDir = None,
) -> None:
    """Read a quantized ONNX model as an integer network, its scales as they are."""
    from bitproof.cli.import_onnx import run_import

    run_import(
        file,
        out=out,
        mean=mean,
        std=std,
        ends=ends,
        shape=shape,
        data=data,
        data_dir=data_dir,
    )


@app.command(name="compare")
def compare_places(
    places: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B ...",
            help="Runs, networks of runs, campaigns or searches; one run alone: its networks.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for the table as CSV and one figure.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write all numbers there.")] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Kinds of the figure: svg, png, pdf, with commas.")
    ] = "svg",
) -> None:
    """Set results side by side, with differences from the first: paired where units are shared."""
    from bitproof.cli.compare import print_comparison

    print_comparison(
        places,
        out=out,
        json_path=json,
        formats=[part.strip() for part in formats.split(",")],
    )


@app.command()
def verify(
    directory: Annotated[Path, typer.Argument(help="The directory of a run, campaign or search.")],
) -> None:
    """Tell whether every file of a directory is as it was written, by its manifest."""
    from bitproof.cli.verify import print_verification

    print_verification(directory)


@app.command()
def energy(  # noqa: PLR0917
    directory: Annotated[Path, typer.Argument(help="A run directory, finished or not.")],
    max_drop: Annotated[
        float, typer.Option(help="Largest loss of mean accuracy, in percentage points.")
    ] = 1.0,
    against: Annotated[
        str | None, typer.Option(help="Count losses from this network's clean accuracy.")
    ] = None,
    threat: Annotated[
        str | None, typer.Option(help="One threat of the run; all with bit error rates, else.")
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="CSV of your memory: voltage,ber,energy; else published.")
    ] = None,
    weight_traffic: Annotated[
        bool, typer.Option("--weight-traffic", help="Energy by bits: if weight traffic dominates.")
    ] = False,
    decoder: Annotated[
        float, typer.Option(help="Energy of decoding SECDED, in accesses without errors.")
    ] = 0.0,
    json: Annotated[Path | None, typer.Option(help="Write all numbers there.")] = None,
) -> None:
    """Tell how low the voltage of the memory may go for each network, and what that saves."""
    from bitproof.cli.energy import print_energy

    print_energy(
        directory,
        max_drop=max_drop,
        against=against,
        threat=threat,
        table=table,
        weight_traffic=weight_traffic,
        decoder=decoder,
        json_path=json,
    )


@app.command()
def figures(
    directory: Annotated[Path, typer.Argument(help="A run or campaign directory.")],
    out: Annotated[Path | None, typer.Option(help="Folder; else figures in that one.")] = None,
    formats: Annotated[
        str, typer.Option("--format", help="Kinds of files, with commas.")
    ] = "svg,png,pdf",
) -> None:
    """Write every figure of a run or a campaign for papers, with a CSV of its numbers beside it."""
    from bitproof.report.drawing import draw_figures

    for path in draw_figures(directory, out, [part.strip() for part in formats.split(",")]):
        typer.echo(path)


@app.command()
def describe(
    kind: Annotated[
        str | None,
        typer.Argument(autocompletion=kind_of(), help="One component; all, if left out."),
    ] = None,
) -> None:
    """Tell every component with its parameters, units and source."""
    from bitproof.cli.describe import describe_all, describe_kind

    typer.echo(describe_kind(kind) if kind else describe_all())


@app.command()
def check(  # noqa: PLR0917
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="package.module:factory, or an architecture.")
    ],
    weights: Annotated[str | None, typer.Option(help="Its weights: a file, or pretrained.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Data to compare accuracies on; none: random inputs.")
    ] = None,
    bits: Annotated[int, typer.Option(help="Width of all words.", min=2, max=8)] = 8,
    shape: Annotated[
        str | None, typer.Option("--input", help="Shape of one input, such as 3,32,32.")
    ] = None,
    classes: Annotated[
        int, typer.Option(help="For factories that ask for it, without data.", min=1, max=10**6)
    ] = 10,
    sets: Sets = None,
    json: Annotated[Path | None, typer.Option(help="Write all numbers there.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Tell whether a network is supported, what becomes of it, and what can be done with it."""
    from bitproof.cli.check import print_check

    print_check(
        model,
        weights=weights,
        data=data,
        bits=bits,
        shape=shape,
        classes=classes,
        sets=sets or (),
        json_path=json,
        data_dir=data_dir,
    )


@app.command()
def models(
    kind: Annotated[
        list[str] | None, typer.Argument(help="With --check: which; all, if left out.")
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare with published sizes, and int8 with float accuracy."),
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """List the architectures, or check them."""
    from bitproof.cli.models import check_models, list_models

    if check:
        check_models(kind or [], data_dir)
    else:
        typer.echo(list_models())


dress(app)
