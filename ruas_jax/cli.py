"""The command line `ruas`: each command is a dataclass of its options and one `run`."""

import contextlib
import dataclasses
import functools
import io
import itertools
import operator
import os
import sys
from typing import Annotated, Literal

import tyro

from ruas_jax.config import Config, load_config
from ruas_jax.errors import UserError
from ruas_jax.files import check_writable, write_json
from ruas_jax.retinex.network import Variant
from ruas_jax.runner.options import RunOptions
from ruas_jax.runtime.compile_cache import enable_compilation_cache
from ruas_jax.runtime.preemption import EXIT_CODE, Preempted
from ruas_jax.sweep import PopulationOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Experiment(RunOptions, Config):
  config: str = "lol"
  """Where the options below start from: a name in configs/, or a Python file with a get_config()."""
  workdir: str
  """Folder of the results; anything that etils.epath understands. A run that stopped there goes on by itself."""
  distributed: str | None = None
  """Take part as one of several hosts: `auto`, or ADDRESS:PORT,HOSTS,NUMBER where nothing tells it by itself."""

  def experiment(self) -> Config:
    return self._only(Config)

  def how(self) -> RunOptions:
    """Joins the other hosts, if there are, before the first computation."""
    from ruas_jax.runtime.distributed import join

    if self.distributed and join(self.distributed):
      sys.stdout = open(os.devnull, "w")  # the first one speaks for all  # noqa: SIM115
    return self._only(RunOptions)

  def _only(self, kind):
    return kind(**{field.name: getattr(self, field.name) for field in dataclasses.fields(kind)})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search(_Experiment):
  """Search both architectures on low-light images alone (Algorithm 1 of the paper)."""

  population: PopulationOptions = PopulationOptions()

  def run(self) -> None:
    from ruas_jax.runner.search import search

    if not self.population.is_one:
      self._run_population()
      return

    result = search(self.experiment(), workdir=self.workdir, run=self.how())
    print(f"{result.genotype}\nsee {self.workdir}: genotype.json, alpha.png, genotype.png, losses.png")

  def _run_population(self) -> None:
    from ruas_jax.runner.population import member_name, search_population
    from ruas_jax.runtime.mesh import one_cpu_device_per_core

    one_cpu_device_per_core()
    found = search_population(self.experiment(), self.population, workdir=self.workdir, run=self.how())
    for position, failure in enumerate(found.failures):
      if failure:
        print(f"ruas: {member_name(position)}: {failure}", file=sys.stderr)
    searches = f"{len(found.members)} searches found {len(found.summary['genotypes'])} genotypes"
    print(f"{searches}\nsee {self.workdir}: population.png, population.json, {member_name(0)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(_Experiment):
  """Train the network of a genotype on low-light images alone."""

  genotype: str
  """A genotype.json, or `published` for the paper's."""

  def run(self) -> None:
    from ruas_jax.runner.train import train
    from ruas_jax.search_space.genotype import Genotype

    train(self.experiment(), Genotype.load(self.genotype), workdir=self.workdir, run=self.how())
    print(f"see {self.workdir}: checkpoint, losses.png")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Model:
  checkpoint: str | None = None
  """Work directory of `ruas train` or `ruas import`; none: bundled weights."""
  pretrained: Literal["general", "lol"] | None = None
  """Bundled weights: general (the default), for photographs of all kinds, or lol, for those of the LOL data set."""
  variant: Variant | None = None
  """Result to take: i after illumination, i+n after noise removal; none: the model's own."""

  def model(self):
    from ruas_jax.inference.model import load
    from ruas_jax.inference.pretrained import load_pretrained

    if self.checkpoint and self.pretrained:
      raise UserError("give --checkpoint or --pretrained, not both")
    model = load(self.checkpoint) if self.checkpoint else load_pretrained(self.pretrained or "general")
    return model.with_variant(self.variant)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Enhance(_Model):
  """Brighten photographs: files, or folders of files."""

  inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT...")]
  """Image files and folders."""
  out: str = "bright"
  """Folder of the results; each has its input's name, size, depth and metadata."""
  strength: float = 1.0
  """0 leaves a photograph as it is, 1 is the model's result, between them a blend."""
  dtype: Literal["float32", "bfloat16"] = "float32"
  """What is computed in; bfloat16 is for devices that are faster in it, and off by half a percent on average."""
  overwrite: bool = False
  """Replace results that are already there."""

  def run(self) -> None:
    from ruas_jax.inference.enhance import enhance_files
    from ruas_jax.inference.image_files import collect_inputs
    from ruas_jax.runtime.metric_log import progress

    files = len(collect_inputs(self.inputs))
    model = self.model()
    with progress(files, "enhance") as bar:
      written, failures = enhance_files(
        model,
        self.inputs,
        self.out,
        strength=self.strength,
        dtype=self.dtype,
        overwrite=self.overwrite,
        on_file=bar.update,
      )
    print(f"{len(written)} enhanced in {self.out}")
    if failures:
      raise UserError("\n".join(failures))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate(_Model):
  """PSNR and SSIM on pairs by the strict protocol, with the model's size and cost."""

  low: str
  """Folder of low-light images."""
  high: str
  """Folder of their references, under the same names."""
  json: str
  """File of the result."""

  def run(self) -> None:
    from ruas_jax.data.sources import PairFolders
    from ruas_jax.evaluation.evaluate import evaluate
    from ruas_jax.runtime.metric_log import progress

    model = self.model()
    pairs = PairFolders(self.low, self.high)
    check_writable(self.json)  # before the work, not after it
    failures = []
    with progress(len(pairs), "evaluate") as bar:
      report = evaluate(model, pairs, bar.update, failures.append)
    write_json(self.json, report)
    mean = report["mean"]
    print(
      f"{_decibels(mean['psnr'])} dB, SSIM {mean['ssim']:.4f} over {len(report['images'])} images; "
      f"variant {report['variant']}, {report['parameters']} parameters, "
      f"{report['macs'] / 1e9:.3f} G multiply-accumulates at 600x400; see {self.json}"
    )
    if failures:
      raise UserError("\n".join(failures))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Import:
  """Turn your own copy of the authors' released weights (.npz or .pt) into a checkpoint."""

  released: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RELEASED")]
  """The file; it is read without PyTorch, and nothing but tensors is accepted in it."""
  out: str
  """Work directory of the checkpoint."""
  variant: Variant = "i+n"
  """The released lol is used as i+n, upe and dark as i."""
  genotype: str = "published"
  """The architecture of the weights: a genotype.json, or `published`."""
  overwrite: bool = False
  """Replace a checkpoint that is already there."""

  def run(self) -> None:
    from ruas_jax.inference.model import Model, has_checkpoint, save_model
    from ruas_jax.inference.released import convert_released
    from ruas_jax.inference.state_dict import read_state_dict
    from ruas_jax.retinex.network import RELEASED
    from ruas_jax.search_space.genotype import Genotype

    genotype = Genotype.load(self.genotype)
    if has_checkpoint(self.out) and not self.overwrite:
      raise UserError(f"{self.out} holds a checkpoint already; --overwrite replaces it")
    weights = convert_released(read_state_dict(self.released), genotype)
    model = Model(weights, genotype, RELEASED).with_variant(self.variant)
    save_model(self.out, model)
    print(f"checkpoint in {self.out}: {model.parameters()} parameters, variant {self.variant}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demo:
  """See everything work in three minutes: search, train, enhance and evaluate on a small built-in set."""

  out: str = "demo"
  """Folder of the results; it is replaced."""

  def run(self) -> None:
    from ruas_jax.runner.demo import demo

    print("look at", *demo(self.out), sep="\n  ")


@dataclasses.dataclass(frozen=True)
class _StudyImages:
  train: str | None = None
  """Low-light images in place of the search's own, half of them for validation: a folder, `builtin`, or
  `tfds:lol/official:train` and the like."""
  tfds_dir: str | None = None
  """Where TFDS data sets live."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Hypergrad:
  """Study every hypergradient estimator where a search stopped: errors, time and memory."""

  state: str | None = None
  """Work directory of a finished search; none: a short one is made first."""
  data: _StudyImages = _StudyImages()
  module: Literal["illumination", "denoising"] = "illumination"
  """Whose bilevel problem."""
  crop: int = 96
  """Side of the square crops in pixels."""
  smoothing: float = 0.01
  """Width of the rounded kinks of the smoothed losses, which stand beside the losses as they are."""
  seed: int = 0
  """Of the crops, of the estimators that draw at random, and of the short search."""
  out: str | None = None
  """Folder of the report, the tables and the plots; none: `hypergrad`, or no folder with --quick."""
  json: str | None = None
  """One more file for the report."""
  quick: bool = False
  """Only what the bars need."""

  def run(self) -> None:
    from ruas_jax.runner.hypergrad import hypergrad

    out = self.out if self.out or self.quick else "hypergrad"
    options = {name: getattr(self, name) for name in ("state", "module", "crop", "smoothing", "seed", "json", "quick")}
    hypergrad(out=out, train=self.data.train, tfds_dir=self.data.tfds_dir, **options)
    places = [self.json] * bool(self.json) + [f"{out}: hypergrad.json, hypergrad.csv, epsilon.png, horizon.png"] * bool(
      out
    )
    if places:
      print("see", "; ".join(places))


def _decibels(psnr: float | None) -> str:
  return "infinite" if psnr is None else f"{psnr:.3f}"  # None where an image equals its reference


def _named_config(arguments: list[str]) -> str:
  """The value of `--config`: it must be known before the options that change it can be read."""
  name = "lol"
  for position, argument in enumerate(arguments):
    if argument == "--config" and position + 1 < len(arguments):
      name = arguments[position + 1]
    elif argument.startswith("--config="):
      name = argument.removeprefix("--config=")
  return name


def _listed_sweep(arguments: list[str]) -> list[str]:
  """`--population.sweep.PATH VALUES`, of which no parser knows all, as one `--population.sweep PATH=VALUES ...`."""
  prefix, others, sweep = "--population.sweep", [], []
  rest = iter(arguments)
  for argument in rest:
    name, equals, value = argument.partition("=")
    if not name.startswith(f"{prefix}."):
      others.append(argument)
      continue
    sweep.append(f"{name.removeprefix(f'{prefix}.')}={value if equals else next(rest, '')}")
  if not sweep:
    return arguments
  if prefix in others:  # its own values follow it
    place = others.index(prefix) + 1
    return [*others[:place], *sweep, *others[place:]]
  return [*others, prefix, *sweep]


_COMMANDS = {
  "search": Search,
  "train": Train,
  "enhance": Enhance,
  "evaluate": Evaluate,
  "import": Import,
  "demo": Demo,
  "hypergrad": Hypergrad,
}


def _parse(arguments: list[str]):
  """The command with its options; help and unknown options end the process here."""
  if not arguments or arguments[0] not in _COMMANDS:
    subcommands = (Annotated[kind, tyro.conf.subcommand(name)] for name, kind in _COMMANDS.items())
    description = "RUAS for JAX: search, train and use low-light enhancement networks of 3,400 numbers."
    choice = functools.reduce(operator.or_, subcommands)
    return tyro.cli(choice, args=arguments or ["--help"], prog="ruas", description=description)
  kind, start = _COMMANDS[arguments[0]], {}
  if issubclass(kind, _Experiment):
    config = _named_config(arguments)
    options = {field.name: getattr(load_config(config), field.name) for field in dataclasses.fields(Config)}
    required = {field.name: tyro.MISSING for field in dataclasses.fields(kind) if field.name in ("workdir", "genotype")}
    start["default"] = kind(**options, **required, config=config)
  return tyro.cli(kind, args=_listed_sweep(arguments[1:]), prog=f"ruas {arguments[0]}", **start)


def _one_line(box: str) -> str:
  """tyro's boxed message on wrong options, as one line: what is wrong, and which option comes near."""
  inside = [row.strip("│ ") for row in box.splitlines() if row.startswith("│")]
  sections = [list(rows) for rule, rows in itertools.groupby(inside, lambda row: row.startswith("──")) if not rule]
  if not sections:
    return box.strip()
  near = [row.split()[0] for rows in sections if rows[0].startswith("Perhaps") for row in rows if row.startswith("--")]
  known = [" ".join(rows) for rows in sections if rows[0].startswith("Available")]
  return "; ".join([" ".join(sections[0]), *known] + [f"perhaps you meant {' or '.join(near)}"] * bool(near))


def main(arguments: list[str] | None = None) -> None:
  """Runs `ruas` and exits: 0 when all went well; after a line on what was wrong, 1 for the input and 2 for options; 75
  where SIGTERM stopped a run, which is saved."""
  try:
    message = io.StringIO()
    try:
      with contextlib.redirect_stderr(message):
        command = _parse(sys.argv[1:] if arguments is None else arguments)
    except SystemExit:
      if message.getvalue():
        print(f"ruas: {_one_line(message.getvalue())}", file=sys.stderr)
      raise
    enable_compilation_cache()
    command.run()
  except UserError as error:
    for line in str(error).splitlines():
      print(f"ruas: {line}", file=sys.stderr)
    sys.exit(1)
  except Preempted as stop:
    print(f"ruas: {stop}", file=sys.stderr)
    sys.exit(EXIT_CODE)
  except KeyboardInterrupt:
    sys.exit(130)
  except BrokenPipeError:  # `ruas ... | head`
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)
  except OSError as error:  # a place that the system refuses: no permission, a name too long
    print(f"ruas: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
    sys.exit(1)
