"""A run that stopped goes on to the bits of a run that did not; one that cannot go on says why, in a line."""

import copy
import dataclasses
import functools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
from typing import NamedTuple

import jax
import numpy as np
import optax
import pytest
from etils import epath
from tiny_problem import dark_images, get_config, logged, truncate, write_images
from workdirs import assert_same, content_of, damage, flip, steps_in

from ruas_jax import plots
from ruas_jax.convolution import native
from ruas_jax.data.sources import ImageArrays
from ruas_jax.engine import device_loop, run_folder
from ruas_jax.engine.checkpoint import read_about
from ruas_jax.engine.journal import Journal
from ruas_jax.engine.lock import only_run_in
from ruas_jax.engine.preemption import Preempted
from ruas_jax.engine.run_options import CheckpointOptions, RunOptions
from ruas_jax.engine.snapshots import Snapshots
from ruas_jax.errors import UserError
from ruas_jax.experiments import population, search, setting, train
from ruas_jax.files import write_json
from ruas_jax.lowlight.genotype import Genotype
from ruas_jax.nas import one_search
from ruas_jax.nas import population as nas_population
from ruas_jax.nas.options import DiagnosticsOptions
from ruas_jax.sweep import PopulationOptions

ROOT = pathlib.Path(__file__).parents[1]
EVERY, STOP, END = 3, 5, 8  # of 7 images an epoch of the search has 3 or 4 steps, of the training 7
RATE = "search.weight_optimizer.learning_rate"


class Kind(NamedTuple):
  """A kind of run: its command, and what it changes in the configuration."""

  command: str
  placement: str = "device"
  look_every: int = 0
  members: PopulationOptions | None = None


KINDS = {
  "search": Kind("search", placement="stream", look_every=2),
  "training": Kind("train"),
  "population": Kind("search", members=PopulationOptions(sweep=(f"{RATE}=0.005,1e18",))),  # the second member fails
}


def look(state, batch, held_out, key, hyper):
  """In place of the diagnostics, whose program is large: a number that depends on all that they depend on."""
  seen = [leaf.mean() for leaf in jax.tree.leaves((batch, held_out, state.alpha))]
  return {"illumination_hessian_largest": sum(seen) + jax.random.uniform(key) + 100 * state.step}  # it rises


@pytest.fixture(scope="module")
def images(tmp_path_factory):
  return write_images(tmp_path_factory.mktemp("images"), dark_images(7))


@pytest.fixture(scope="module", autouse=True)
def one_program():
  """A program for each kind, not for each run; no pictures; and `look`."""
  current, programs, make = [None], {}, device_loop.make_program

  def make_once(*arguments, **options):
    return programs.setdefault(current[0], make(*arguments, **options))

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(device_loop, "make_program", make_once)
    patch.setattr(one_search, "make_diagnostics", lambda *_, **__: look)
    patch.setattr(nas_population, "check_sweep", lambda *_: None)  # it traces the losses
    for name in [name for name in vars(plots) if name.startswith(("plot_", "draw_"))]:
      patch.setattr(plots, name, lambda *_: None)
    yield functools.partial(current.__setitem__, 0)


@pytest.fixture
def go(images, one_program):
  """`go(kind, workdir)` takes a run to its end in this process; `go.config(kind)` is its configuration."""

  def config_of(kind, *, steps=END):
    return get_config().with_overrides(
      {
        "data.train": str(images),
        "data.placement": KINDS[kind].placement,
        "search.steps": steps,
        "search.diagnostics.every": KINDS[kind].look_every,
        "search.diagnostics.batches": 1,
        "training.steps": steps,
      }
    )

  def run(kind, workdir, *, steps=END, config=None, options=None, **arguments):
    one_program(kind)
    config, chosen = config or config_of(kind, steps=steps), KINDS[kind]
    options = options or RunOptions(checkpoint=CheckpointOptions(every=EVERY))
    if chosen.members:
      return population.search_population(config, chosen.members, workdir=workdir, run=options, **arguments)
    if chosen.command == "train":
      return train.train(config, **({"workdir": workdir, "run": options} | arguments))
    return search.search(config, workdir=workdir, run=options, **arguments)

  run.config = config_of
  return run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
  """Work directories by what they are, made once: `made(name, make)`, of which every caller gets a copy."""
  place, there = tmp_path_factory.mktemp("made"), set()

  def copy(name, make, folder):
    if name not in there:
      make(place / name)
      there.add(name)
    return shutil.copytree(place / name, folder, dirs_exist_ok=True)

  return copy


@pytest.fixture
def whole(go, made, tmp_path):
  """`whole(kind)`: a run without a stop."""
  return lambda kind: made(f"whole {kind}", functools.partial(go, kind), tmp_path / "whole")


@pytest.fixture
def stopped(go, made, tmp_path):
  """`stopped(kind)`: a run that has taken its first steps only."""
  return lambda kind: made(f"stopped {kind}", functools.partial(go, kind, steps=STOP), tmp_path / "stopped")


def lines_of(capsys):
  lines = capsys.readouterr().err.splitlines()
  assert all(line.startswith("ruas: ") for line in lines)
  return [line.removeprefix("ruas: ") for line in lines]


def program(kind, go, workdir, folder, *options, before="", **environment):
  """The command in a process of its own, and statements before it: its exit code and the lines of its stderr."""
  write_json(folder / "config.json", dataclasses.asdict(go.config(kind)))
  command = [sys.executable, "-c", f"{before}from ruas_jax.commands.app import main; main()", KINDS[kind].command]
  command += ["--genotype", "published"] * (command[-1] == "train")
  command += ["--config", str(folder / "config.json"), "--workdir", str(workdir), "--checkpoint.every", str(EVERY)]
  command += options
  environment |= {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1e9"}  # it reads the cache alone
  done = subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True)
  return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_goes_on_is_the_run_that_never_stopped(kind, go, whole, stopped, capsys):
  there, workdir = whole(kind), stopped(kind)
  assert steps_in(there) == [3, 6, END] and steps_in(workdir) == [0, 3, STOP]
  for log in workdir.rglob("metrics.jsonl"):  # what a process that was killed had logged beyond its last snapshot
    with log.open("a") as file:
      file.write('{"step": 6, "illumination_train_loss": 99}\n{"step": 7, "illum')
  result = go(kind, workdir)
  assert_same(there, workdir)
  assert lines_of(capsys) == [f"resuming after step {STOP} from {workdir}/snapshots/000005"]
  if KINDS[kind].members:
    assert [bool(failure) for failure in result.failures] == [False, True]
  else:
    assert result.metrics == logged(workdir)
    assert [record["step"] for record in result.metrics] == list(range(1, END + 1))


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_snapshots_are_named_and_the_one_before_leads_to_the_same_bits(kind, go, whole, stopped, capsys):
  there, workdir = whole(kind), stopped(kind)
  damage(workdir, STOP)
  (workdir / "snapshots" / "000003" / "arrays" / "_METADATA").unlink()
  go(kind, workdir)
  assert_same(there, workdir)
  lines = lines_of(capsys)
  place = f"{workdir}/snapshots"
  assert lines == [
    f"checkpoint {place}/000005 is damaged: arrays/_METADATA is changed",
    f"checkpoint {place}/000003 is damaged: arrays/_METADATA is missing",
    f"resuming after step 0 from {place}/000000",
  ]


@pytest.mark.parametrize("kind", ["search", "population"])
def test_a_snapshot_says_what_was_so_when_it_was_taken(kind, go, tmp_path, monkeypatch):
  """It is written while the run goes on, looks again and loses members."""
  said, write = [], Snapshots.write

  def watched(self, step, arrays, about):
    said.append((copy.deepcopy(about), about))
    write(self, step, arrays, about)

  monkeypatch.setattr(Snapshots, "write", watched)
  go(kind, tmp_path / "run")
  assert len(said) == 4 and said[0][0] != said[-1][0]
  for then, later in said:
    assert later == then


def test_a_new_process_goes_on_to_the_same_bits(go, whole, stopped, tmp_path):
  there, workdir = whole("training"), stopped("training")
  code, lines = program("training", go, workdir, tmp_path)
  assert (code, lines) == (0, [f"ruas: resuming after step {STOP} from {workdir}/snapshots/000005"])
  for path in workdir.glob("*.png"):
    path.unlink()
  assert_same(there, workdir)


@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_saves_the_run_and_the_same_command_goes_on(kind, go, whole, tmp_path, monkeypatch, capsys):
  there, workdir, add = whole(kind), tmp_path / "run", Journal.add

  def add_and_terminate(self, *arguments):
    add(self, *arguments)
    if len(self.records[0]) >= 2:
      os.kill(os.getpid(), signal.SIGTERM)

  with monkeypatch.context() as patch:
    patch.setattr(Journal, "add", add_and_terminate)
    said = r"^[^\n]*: stopped by SIGTERM after step (\d) of 8; the same command resumes it$"
    with pytest.raises(Preempted, match=said):
      go(kind, workdir)
  assert 2 <= max(steps_in(workdir)) < END and not (workdir / "genotype.json").exists()
  go(kind, workdir)
  assert_same(there, workdir)
  assert len(lines_of(capsys)) == 1


def test_a_search_that_has_stopped_early_stays_stopped(go, tmp_path):
  stopping = DiagnosticsOptions(every=2, batches=1, window=1, threshold=1.0)
  config = go.config("search").with_overrides({"search.stop": "eigenvalue", "search.diagnostics": stopping})
  first = go("search", tmp_path / "run", config=config)
  before = content_of(tmp_path / "run")
  again = go("search", tmp_path / "run", config=config)
  assert len(first.metrics) == 4 and first.metrics[-1]["early_stop"] == 1 and again.metrics == first.metrics
  assert content_of(tmp_path / "run") == before
  assert first.genotype == again.genotype
  jax.tree.map(np.testing.assert_array_equal, first.state.alpha, again.state.alpha)


def test_other_versions_are_said_and_gone_on_with(go, whole, stopped, monkeypatch, capsys):
  there, workdir = whole("training"), stopped("training")
  monkeypatch.setattr("ruas_jax.engine.resume.versions", lambda: {"jax": "9.9", "python": "3"})
  go("training", workdir)
  lines = lines_of(capsys)
  assert [line.split(" was written with ")[1].split()[0] for line in lines[:-1]] == ["jax", "python"]
  assert lines[0].endswith(f"{jax.__version__} and is resumed with 9.9: the last bits may differ")
  assert_same(there, workdir, says=False)


@pytest.fixture
def refused(go, stopped, capsys, monkeypatch):
  """Asserts that a run is refused in one line, and that nothing is touched; gives the lines before it."""

  def check(said, *, kind="training", into=None, workdir=None, **arguments):
    workdir = workdir or stopped(kind)
    before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
    monkeypatch.setattr(train, "init_train_state", lambda *_: jax.numpy.zeros(()))  # nobody comes to need it
    with pytest.raises(UserError, match=said) as error:
      go(into or kind, workdir, **arguments)
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before
    return lines_of(capsys)

  return check


@pytest.mark.parametrize(
  "path, value, said",
  [
    ("seed", 3, "seed was 0 and is 3"),
    ("loss.eta_t", 0.5, "loss.eta_t was 0.01 and is 0.5"),
    ("data.crop", 10, "data.crop was 8 and is 10"),
    ("training.decay", True, "training.decay was False and is True and 1 more"),
  ],
)
def test_another_configuration_is_refused(path, value, said, go, refused):
  config = go.config("training").with_overrides({path: value})
  refused(rf"stopped belongs to another configuration \({said}\); resume with the same", config=config)


def own_loss(output, images):
  return (output.t[-1] - images).mean() ** 2


@pytest.mark.parametrize(
  ("given", "said"),
  [
    ({"illumination_loss": own_loss}, "illumination_loss was None and is 'test_resume.own_loss'"),
    ({"optimizer": optax.sgd(0.1)}, "optimizer was None and is 'optax.*chain.*update_fn'"),
  ],
)
def test_another_loss_or_optimiser_of_ones_own_is_refused(given, said, refused):
  refused(rf"stopped belongs to another configuration \({said}\); resume", **given)


@pytest.fixture
def another_form(monkeypatch):
  """Call it to give the convolution of the next runs another name."""

  def change():
    for module in (search, train, population):
      monkeypatch.setattr(module, "arithmetic", lambda: "another convolution")

  return change


@pytest.mark.parametrize("kind", KINDS)
def test_another_form_of_the_convolution_is_refused(kind, stopped, refused, another_form):
  workdir = stopped(kind)
  another_form()
  said = (
    f"{workdir} was computed with {setting.arithmetic()} and would be resumed with another convolution, which changes "
    "the last bits. Resume with the same form, or set `allow_other_arithmetic` to true"
  )
  refused(f"^{re.escape(said)}$", kind=kind, workdir=workdir)


@pytest.mark.parametrize("kind", KINDS)
def test_with_an_option_another_form_of_the_convolution_resumes(kind, go, whole, stopped, another_form, capsys):
  there, workdir = whole(kind), stopped(kind)
  another_form()
  go(kind, workdir, options=RunOptions(checkpoint=CheckpointOptions(every=EVERY), allow_other_arithmetic=True))
  assert_same(there, workdir, says=False)
  assert read_about(workdir / "snapshots" / f"{END:06}")["arithmetic"] == "another convolution"
  assert lines_of(capsys) == [f"resuming after step {STOP} from {workdir}/snapshots/000005"]


def test_a_form_with_which_nothing_was_or_will_be_computed_is_not_refused(go, whole, stopped, another_form):
  """After the last step, and before the first one."""
  there, workdir = whole("training"), stopped("training")
  damage(workdir, STOP, 3)
  another_form()
  go("training", there)
  go("training", workdir)
  assert_same(there, workdir, says=False)


def test_runs_of_versions_that_recorded_no_form_resume(go, whole, tmp_path, another_form, monkeypatch):
  there, workdir = whole("training"), tmp_path / "old"
  with monkeypatch.context() as patch:
    about_run = run_folder.about_run
    patch.setattr(run_folder, "about_run", lambda identity, _: without_form(about_run(identity, None)))
    go("training", workdir, steps=STOP)
  assert "arithmetic" not in read_about(workdir / "snapshots" / f"{STOP:06}")
  another_form()
  go("training", workdir)
  assert_same(there, workdir, says=False)


def without_form(about):
  return {name: value for name, value in about.items() if name != "arithmetic"}


def test_a_training_that_began_with_the_native_convolution(go, stopped, tmp_path):
  """Processes without it: the first is refused, the second has the option."""
  if not native.form().native:
    pytest.skip(f"needs the compiled convolution, and there is none: {native.form().about}")
  workdir = stopped("training")
  code, lines = program("training", go, workdir, tmp_path, RUAS_JAX_NATIVE="off")
  assert code == 1 and len(lines) == 1 and "would be resumed with XLA's convolution, which changes" in lines[0]
  code, lines = program("training", go, workdir, tmp_path, "--allow-other-arithmetic", RUAS_JAX_NATIVE="off")
  assert code == 0 and max(steps_in(workdir)) == END, lines
  assert lines[0].endswith("is resumed with XLA (RUAS_JAX_NATIVE=off): the last bits may differ")


def test_other_images_are_refused(go, refused, tmp_path):
  place = write_images(tmp_path / "other", dark_images(8))
  other = go.config("training").with_overrides({"data.train": str(place)})
  refused(r"another configuration \(data.train was .* and is .* and 1 more\)", config=other)
  renamed = ImageArrays(list("abcdefg"), dark_images(7))
  refused(r"another configuration \(images.train was '7 images, .*' and is '7 images, .*'\)", images=renamed)


def test_another_kind_of_run_is_refused(go, refused):
  refused(r"configuration \(kind was 'train' and is 'search' and .* more\)", into="search")
  refused("configuration \\(kind was 'train' and is 'population' and .* more\\)", into="population")


def test_another_genotype_is_refused(refused):
  genotype = Genotype(("conv_3x3",) * 7, ("skip",) * 7)
  refused("another configuration \\(genotype was 'IEM.*' and is 'IEM.*'\\)", genotype=genotype)


def test_more_steps_done_than_asked_for_are_refused(refused):
  refused(r"stopped holds a run of 5 steps, which is more than the 4 steps of the options; allow more steps", steps=4)


def test_steps_may_not_grow_where_the_rates_follow_them(go, refused, tmp_path, monkeypatch):
  def decaying(steps):
    return go.config("training", steps=steps).with_overrides({"training.decay": True})

  def begin_only(loop, *, run_folder, **_):
    with Journal(run_folder, [run_folder.path]) as journal:
      journal.begin(loop, None)
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(train, "iterate", begin_only)
    with pytest.raises(KeyboardInterrupt):
      go("training", tmp_path / "run", config=decaying(4))
  said = r"another configuration \(training.steps was 4 and is 5\)"
  refused(said, workdir=tmp_path / "run", config=decaying(5))


def test_nothing_sound_is_left(refused, stopped):
  workdir = stopped("training")
  damage(workdir, 0, 3, STOP)
  lines = refused(r"snapshots: all checkpoints are damaged; choose another `workdir`", workdir=workdir)
  assert [f"{step:06} is damaged" in line for line, step in zip(lines, (STOP, 3, 0), strict=True)] == [True] * 3


@pytest.mark.parametrize("how", ["flip", "truncate", "remove"])
def test_a_log_that_is_not_what_was_logged_is_named(how, go, stopped, capsys):
  workdir = stopped("training")
  log = workdir / "metrics.jsonl"
  {"flip": flip, "truncate": truncate, "remove": pathlib.Path.unlink}[how](log)
  before = {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()}
  with pytest.raises(UserError, match=r"^.*metrics.jsonl: its first \d+ bytes have changed since the run wrote them"):
    go("training", workdir)
  before[workdir / "config.json"] = (workdir / "config.json").read_bytes()  # of a run with more steps
  assert {path: path.read_bytes() for path in workdir.rglob("*") if path.is_file()} == before
  assert len(lines_of(capsys)) == 1


def test_a_run_that_moves_on_keeps_no_results_of_fewer_steps(go, stopped, monkeypatch):
  workdir = stopped("training")
  (workdir / "notes.txt").write_text("somebody's own")

  def interrupt(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(train, "save_model", interrupt)
  assert (workdir / "checkpoint").exists()
  with pytest.raises(KeyboardInterrupt):
    go("training", workdir)
  left = sorted(path.name for path in workdir.iterdir())
  assert "checkpoint" not in left and {"notes.txt", "snapshots", "metrics.jsonl", "config.json"} <= set(left)


def test_what_killed_processes_left_half_written_goes(go, whole, stopped):
  there, workdir = whole("training"), stopped("training")
  for name in (".checkpoint.99.new/arrays", ".state.99.old", "snapshots/.000009.99.new"):
    (workdir / name).mkdir(parents=True)
  for name in (".metrics.jsonl.99", ".losses.png.99", ".mine.99"):
    (workdir / name).touch()
  go("training", workdir)
  assert [path.name for path in workdir.rglob(".*") if path.name != ".zarray"] == [".mine.99"]
  (workdir / ".mine.99").unlink()
  assert_same(there, workdir)


def test_sigterm_while_the_results_are_written_lets_them_be_written(go, whole, tmp_path, monkeypatch):
  there, workdir, save = whole("training"), tmp_path / "run", train.save_model

  def terminate_and_save(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    save(*arguments)

  monkeypatch.setattr(train, "save_model", terminate_and_save)
  go("training", workdir)
  assert_same(there, workdir)


def test_what_the_first_write_left_when_it_was_killed_is_no_run(go, whole, tmp_path, capsys):
  """Nothing but a half-written snapshot of the beginning: the run begins."""
  there, workdir = whole("training"), tmp_path / "run"
  (workdir / "snapshots" / ".000000.99.new" / "arrays").mkdir(parents=True)
  go("training", workdir)
  assert_same(there, workdir)
  assert lines_of(capsys) == []


def test_a_run_that_is_at_work_is_left_alone(stopped, refused):
  workdir = stopped("training")
  for options in (RunOptions(), RunOptions(overwrite=True)):
    with only_run_in(epath.Path(workdir)):
      refused("another run uses this folder; wait until it ends", workdir=workdir, options=options)


@pytest.mark.skipif(os.getuid() == 0, reason="root writes in read-only folders too")
def test_a_folder_that_cannot_be_written_is_one_line(stopped, refused):
  workdir = stopped("training")
  workdir.chmod(0o500)
  try:
    refused("stopped: cannot be written", workdir=workdir)
  finally:
    workdir.chmod(0o700)


def test_a_full_disk_is_one_line_and_hurts_no_earlier_snapshot(go, whole, stopped, tmp_path):
  there, workdir = whole("training"), stopped("training")
  limit = 20_000  # bytes of a file: more than the log, less than the arrays
  before = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); "
  code, lines = program("training", go, workdir, tmp_path, before=before)
  assert code == 1 and len(lines) == 2 and lines[0].startswith("ruas: resuming after step 5")
  assert lines[1].startswith(f"ruas: {workdir}/snapshots/000006: the checkpoint cannot be written (")
  assert steps_in(workdir) == [0, 3, STOP]
  go("training", workdir)
  assert_same(there, workdir)
