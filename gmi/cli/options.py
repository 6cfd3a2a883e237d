"""The options of every command. What its work imports may take a while, and --help needs none of it."""

import argparse
from pathlib import Path

from gmi.cli.commands import COMMANDS, POLICY, Parser

QUESTIONS = {
    "people": ("DIR", "the images that the model was trained on, one folder for each person"),
    "held_out": ("DIR", "other images of the same people, that the model never saw, laid out in the same way"),
    "public": ("DIR", "public images, at any depth"),
    "model": ("FILE", "the model's state_dict, as .safetensors or as a .pt of tensors alone"),
    "factory": ("MODULE:CALLABLE", "what makes the torch module: torchvision.models:resnet18, or my_module:network"),
}
"""What `gmi init` asks for."""
_FINISHED = "the folder of a finished run, such as runs/quickstart"


def flags_of(name: str) -> argparse.ArgumentParser:
    """The options of a command."""
    prog = f"gmi {name}"
    made = {
        "train-target": _training_targets,
        "train-prior": _training_priors,
        "convert-stylegan": _converting,
        "serve": _serving,
        "report": _reporting,
        "dossier": _joining,
        "verify": _verifying,
        "unseal": _unsealing,
        "purge": _purging,
        "assets": _fetching,
        "init": _beginning,
    }
    return _auditing(name, prog) if COMMANDS[name].folder else made[name](prog)


def configuring(description: str, prog: str | None = None) -> argparse.ArgumentParser:
    """CONFIG and whatever the command adds; dotted overrides are left to `configured`."""
    command = COMMANDS.get((prog or "").removeprefix("gmi "))
    examples = "" if command is None else f": {command.overrides}"
    parser = Parser(
        prog=prog,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Every key of the configuration can be overridden{examples}.",
        allow_abbrev=False,
    )
    about = "a YAML file, or the name of a shipped configuration, such as quickstart"
    parser.add_argument("config", metavar="CONFIG", help=about)
    parser.add_argument("--help-config", action="store_true", help="list every key of CONFIG with its type and value")
    return parser


def defended(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser, with an option for the defence of the target, which `configured` heeds."""
    about = "of the target, in place of target.defence: its type, or YAML such as '{type: dp-sgd, epsilon: 8}'; 'null'"
    parser.add_argument("--defence", help=f"{about} means none", metavar="YAML")
    return parser


def _auditing(name: str, prog: str) -> argparse.ArgumentParser:
    command = COMMANDS[name]
    flags = configuring(f"{command.about[0].upper()}{command.about[1:]}.", prog)
    flags.add_argument("--out", type=Path, help=f"run folder; {command.folder} unless given")
    flags.add_argument("--dry-run", action="store_true", help="print configuration, queries and time; spend nothing")
    flags.add_argument("--policy", type=Path, metavar="FILE", help=POLICY)
    return defended(flags) if command.hardens else flags


def _training_targets(prog: str) -> argparse.ArgumentParser:
    about = """Trains the target of an audit on the training images of its split, and writes its weights where the audit
reads them. Weights that are there already and fit are kept.

gmi train-target quickstart
gmi train-target orl_cnn --defence "{type: bottleneck, beta: 0.01}" --target.weights runs/hardened/model.safetensors"""
    return defended(configuring(about, prog))


def _training_priors(prog: str) -> argparse.ArgumentParser:
    about = """Trains a generative prior on a folder of public images. Goes on where it stopped; one process or many.

gmi train-prior priors/flow64
accelerate launch -m gmi train-prior priors/flow64"""
    flags = configuring(about, prog)
    flags.add_argument("--out", type=Path, help="folder of the training; runs/NAME unless given")
    return flags


def _converting(prog: str) -> argparse.ArgumentParser:
    flags = Parser(
        prog=prog,
        description="Makes a prior folder of a published StyleGAN2 or StyleGAN3: a .pkl of their authors' layout, or a "
        ".pt of rosinality's. Nothing in the file is run.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    flags.add_argument("file", type=Path, metavar="FILE", help="the published file")
    flags.add_argument("out", type=Path, metavar="OUT", help="the prior's folder, which must not be there yet")
    flags.add_argument("--licence", type=Path, required=True, metavar="TEXT", help="a file with the model's licence")
    return flags


def _serving(prog: str) -> argparse.ArgumentParser:
    about = """Serves a target over the Open Inference Protocol, version 2, as an API would show it. Ctrl+C stops it.

gmi serve serve_orl --port 8080"""
    flags = configuring(about, prog)
    flags.add_argument("--host", default="127.0.0.1", help="address to listen on; others than this machine need keys")
    flags.add_argument("--port", type=int, default=8080, help="port to listen on; 0: any that is free")
    flags.add_argument("--certificate", help="PEM file, for https")
    flags.add_argument("--private-key", help="PEM file, for https")
    return flags


def _joining(prog: str) -> argparse.ArgumentParser:
    flags = Parser(prog=prog, description="Joins finished runs of one system into one page: an annex of a DPIA.")
    flags.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folders of finished runs, of any kind")
    flags.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where to write index.html")
    flags.add_argument("--system", metavar="NAME", help="the system, where runs have no authorisation that names it")
    flags.add_argument("--to", choices=("html", "pdf"), default="html", help="pdf: print the page, too")
    return flags


def _reporting(prog: str) -> argparse.ArgumentParser:
    flags = Parser(prog=prog, description="Writes page, summary.md, card.md and figures.csv of a finished run anew.")
    flags.add_argument("run", type=Path, metavar="RUN", help=_FINISHED)
    flags.add_argument("--to", choices=("html", "pdf"), default="html", help="pdf: print the page, too")
    flags.add_argument("--policy", type=Path, metavar="FILE", help=POLICY)
    return flags


def _verifying(prog: str) -> argparse.ArgumentParser:
    flags = Parser(prog=prog, description="Computes the figures of a finished run again, and checks its inputs.")
    flags.add_argument("run", type=Path, metavar="RUN", help=_FINISHED)
    flags.add_argument("--signed-by", type=Path, metavar="KEY", help="the public key of who signed the report")
    return flags


def _purging(prog: str) -> argparse.ArgumentParser:
    flags = Parser(prog=prog, description="Deletes images, templates, answers and names of files from a run.")
    flags.add_argument("run", type=Path, metavar="RUN", help="the folder of a run, such as runs/quickstart")
    return flags


def _unsealing(prog: str) -> argparse.ArgumentParser:
    flags = Parser(prog=prog, description="Writes a run with its evidence in the clear, to a private folder.")
    flags.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run whose evidence is sealed")
    flags.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="a new folder; delete it after use")
    return flags


def _fetching(prog: str) -> argparse.ArgumentParser:
    about = (
        "Fetches gmi's data and weights into $GMI_CACHE or ~/.cache/gmi: all of them, of which --list tells, or some."
    )
    flags = Parser(prog=prog, description=about)
    flags.add_argument("names", nargs="*", metavar="NAME", help="which assets (default: all)")
    flags.add_argument("--list", action="store_true", help="only say what there is, under which licences and terms")
    return flags


def _beginning(prog: str) -> argparse.ArgumentParser:
    about = (
        "Writes a commented configuration for a model and photographs of your own, and checks that it loads. What is "
        "not given here is asked for on a terminal, and may be completed in the file."
    )
    flags = Parser(prog=prog, description=about)
    flags.add_argument("folder", nargs="?", default="", metavar="FOLDER", help="where to write; the working folder")
    for name, (value, asked) in QUESTIONS.items():
        flags.add_argument(f"--{name.replace('_', '-')}", metavar=value, help=asked)
    objects = "objects: the classes are no people, but digits, scans, plants (default: faces)"
    flags.add_argument("--subject", choices=("faces", "objects"), default="faces", help=objects)
    flags.add_argument("--out", default="audit.yaml", metavar="NAME", help="name of the file (default: audit.yaml)")
    return flags
