"""What a hypergradient and a search say of themselves: terms, curvature, shares, and the early stop."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from stepping import first_state, players_of, problem_of, step_of

from ruas_jax.bilevel import BilevelProblem, compare, decompose, make_estimator, outer_curvature, summarize
from ruas_jax.errors import UserError
from ruas_jax.lowlight.loss_options import LossOptions
from ruas_jax.lowlight.network import build_network
from ruas_jax.lowlight.objectives import make_objectives
from ruas_jax.lowlight.operations import CANDIDATES, operation_names
from ruas_jax.lowlight.options import DenoisingOptions, IlluminationOptions, NetworkOptions
from ruas_jax.lowlight.problem import alpha_statistics
from ruas_jax.lowlight.search_options import RUASSearchOptions
from ruas_jax.nas.diagnostics import make_diagnostics
from ruas_jax.nas.observer import DiagnosticsObserver
from ruas_jax.nas.options import DiagnosticsOptions, SearchOptions
from ruas_jax.nas.state import Optimizers, SearchState
from ruas_jax.nas.stopping import rises_fast

pytestmark = pytest.mark.usefixtures("x64_module")

RNG = np.random.default_rng(0)
A, B, D = np.diag([1.0, 2.0, 3.0]), RNG.normal(size=(3, 2)), RNG.normal(size=(3, 2))
CURVED = np.array([[2.0, 0.5], [0.5, -1.0]])
PROBLEM = BilevelProblem(
  lambda w, a, batch: 0.5 * w @ A @ w - w @ (B @ a["a"] + batch),
  lambda w, a, batch: 0.5 * w @ w + w @ D @ a["a"] + 0.5 * batch * a["a"] @ CURVED @ a["a"],
)


def test_terms_of_a_quadratic_are_their_closed_forms():
  rate, alpha, weights, batch = 0.1, RNG.normal(size=2), RNG.normal(size=3), RNG.normal(size=3)
  inner = optax.sgd(rate)
  arguments = (jnp.asarray(weights), {"a": alpha}, inner.init(weights), batch[None], 1.0)
  terms = jax.jit(lambda: decompose(PROBLEM, inner, *arguments))()
  reached = weights - rate * (A @ weights - B @ alpha - batch)
  np.testing.assert_allclose(terms.direct["a"], D.T @ weights + CURVED @ alpha, rtol=1e-12)
  np.testing.assert_allclose(terms.shift["a"], D.T @ (reached - weights), rtol=1e-12)
  np.testing.assert_allclose(terms.implicit["a"], rate * B.T @ (reached + D @ alpha), rtol=1e-12)
  for name, gradient in (("unrolled", terms.total()), ("first_order", terms.direct)):
    estimate = jax.jit(lambda name=name: make_estimator(name, inner=inner)(PROBLEM, *arguments).gradient)()
    np.testing.assert_allclose(gradient["a"], estimate["a"], rtol=1e-12)

  summary = summarize(terms)
  total = np.asarray(terms.total()["a"])
  for name, term in terms._asdict().items():
    term = term["a"]
    assert summary[f"{name}_norm"] == pytest.approx(np.linalg.norm(term))
    cosine = term @ total / np.linalg.norm(term) / np.linalg.norm(total)
    assert summary[f"{name}_cosine"] == pytest.approx(float(cosine))
    assert summary[f"{name}_sign_agreement"] == np.mean(np.sign(term) == np.sign(total))


def test_comparison_of_gradients():
  compared = compare(
    {"x": jnp.array([1.0, -2.0]), "y": jnp.array(2.0)}, {"x": jnp.array([1.0, 2.0]), "y": jnp.array(2.0)}
  )
  assert compared["relative_error"] == pytest.approx(4 / 3)
  assert compared["cosine"] == pytest.approx(1 / 9)
  assert compared["sign_agreement"] == pytest.approx(2 / 3)
  half = compare(jnp.ones(3, jnp.bfloat16), jnp.ones(3))
  assert half["relative_error"] == 0 and half["relative_error"].dtype == jnp.float64


def test_curvature_of_a_quadratic():
  scales = jnp.array([1.0, 3.0])
  curvature = jax.jit(lambda: outer_curvature(PROBLEM, jnp.ones(3), {"a": jnp.ones(2)}, scales))()
  np.testing.assert_allclose(curvature.hessian, 2 * CURVED, rtol=1e-12)
  eigenvalues = np.linalg.eigvalsh(CURVED)
  np.testing.assert_allclose(curvature.eigenvalues, 2 * eigenvalues, rtol=1e-12)
  np.testing.assert_allclose(curvature.spread, np.abs(eigenvalues), rtol=1e-12)


def test_each_eigenvalue_problem_is_a_call_of_its_own():
  """Batched ones wait for each other's threads, for ever where two devices of a CPU solve them at the same time."""
  curvature = jax.jit(lambda scales: outer_curvature(PROBLEM, jnp.ones(3), {"a": jnp.ones(2)}, scales))
  lines = curvature.lower(jnp.ones(3)).as_text().splitlines()
  calls = [line for line in lines if "syevd" in line and "custom_call" in line]
  assert calls and all("(tensor<2x2xf64>) ->" in call for call in calls)


@pytest.fixture(scope="module")
def supernet(x64_module):
  """The illumination player of a small smooth supernet."""
  network = build_network(
    NetworkOptions(illumination=IlluminationOptions(stages=1), denoising=DenoisingOptions(stages=1), smoothing=0.05)
  )
  return network, players_of(RUASSearchOptions(), make_objectives(network, LossOptions(rtv_sigma=1.0)), beta=1.0)[:1]


def test_softmax_shifts_are_the_null_directions_of_a_supernet(supernet):
  """Seven edges, seven shifts: 7 of the 49 eigenvalues are zero."""
  network, (player,) = supernet
  weights = network.init_weights(jax.random.key(0), jnp.float64)
  alpha = {name: jnp.asarray(RNG.normal(size=(7, 7))) for name in weights}
  images = RNG.uniform(0.02, 0.6, size=(2, 1, 6, 6, 3))
  problem = player.bilevel_problem(weights, alpha, {})
  curvature = jax.jit(lambda: outer_curvature(problem, player.pick(weights), player.pick(alpha), images))()
  size = np.sort(np.abs(curvature.eigenvalues))
  assert curvature.eigenvalues.shape == curvature.spread.shape == (49,)
  assert size[6] < 1e-10 * size[-1] < 1e-7 * size[-1] < size[7]
  shifts = np.repeat(np.eye(7), 7, axis=1)  # all logits of an edge by the same
  assert np.abs(shifts @ curvature.hessian).max() < 1e-12 * size[-1]


def test_what_a_search_logs(supernet):
  network, players = supernet
  options = RUASSearchOptions(unroll_steps=2, diagnostics=DiagnosticsOptions(every=1, batches=3))
  optimizer = optax.sgd(0.1)
  names = operation_names(CANDIDATES)
  problem = dataclasses.replace(
    problem_of(network, players, 6), statistics=lambda alpha: alpha_statistics(alpha, names)
  )
  diagnose = make_diagnostics(problem, options, Optimizers(optimizer, optimizer))
  images = {"image": np.zeros((3, 1, 8, 8, 3), np.uint8), "size": np.full((3, 1, 2), 8, np.int32)}
  with jax.enable_x64(False):
    _, init = step_of(problem, options, optimizer, optimizer)
    state = jax.eval_shape(lambda: first_state(init))
    metrics = jax.eval_shape(diagnose, state, images, images, jax.random.key(1), {})
  terms = [
    f"illumination_{term}_{of}"
    for term in ("direct", "shift", "implicit")
    for of in ("norm", "cosine", "sign_agreement")
  ]
  own = ["total_norm", "hessian_largest", "hessian_eigenvalues", "hessian_spread"]
  shares = [f"{module}_{name}" for module in ("illumination", "denoising") for name in ("skip_share", "entropy")]
  assert set(metrics) == {*terms, *shares, *(f"illumination_{name}" for name in own)}
  assert metrics["illumination_hessian_eigenvalues"].shape == (49,)


def test_shares_and_entropy():
  names = operation_names(CANDIDATES)
  skip = names.index("skip")
  collapsed = jnp.zeros((7, 7)).at[:, skip].set(1000.0)
  uniform = alpha_statistics({"illumination": jnp.zeros((7, 7)), "denoising": collapsed}, names)
  assert uniform["illumination_skip_share"] == pytest.approx(1 / 7)
  assert uniform["illumination_entropy"] == pytest.approx(np.log(7))
  assert uniform["denoising_skip_share"] == 1 and uniform["denoising_entropy"] == 0
  some_edges = alpha_statistics({"illumination": collapsed.at[4:].set(0.0)}, names)
  assert some_edges["illumination_skip_share"] == pytest.approx((4 + 3 / 7) / 7)


@pytest.mark.parametrize(
  ("eigenvalues", "stop"),
  [
    ([1, 1, 1, 2], False),  # the mean of two before is 1, now 1.5: exactly 0.67
    ([1, 1, 1, 1], False),
    ([4, 4, 5, 5], False),  # 0.8
    ([1, 1, 2], False),  # too few
    ([9, 9, 1, 1, 2, 2], True),  # only the last four count
    ([1, 1, 9, 9, 8, 8], False),
    ([-2, -2, -1, -1], False),  # nothing positive to grow
    ([-2, -2, 1, 1], True),
  ],
)
def test_rule_of_robustdarts(eigenvalues, stop):
  threshold = 0.6 if eigenvalues == [1, 1, 1, 2] else 0.75
  assert rises_fast(eigenvalues, window=2, threshold=threshold) is stop


class HeldOut:
  """A feed of nothing that knows its place."""

  place, data = 0, ()

  def read(self, count):
    self.place += count
    return (np.zeros(1),)

  def fetch(self, data, ticket):
    return ticket

  def seek(self, step):
    self.place = step


def make_observer(largest):
  """Fed with these largest eigenvalues, one a look."""
  options = SearchOptions(stop="eigenvalue", diagnostics=DiagnosticsOptions(every=1, window=2))
  values = iter(largest)

  def diagnose(*_):
    return {"x_hessian_largest": next(values), "x_hessian_eigenvalues": [0, 1]}

  return DiagnosticsObserver(options, diagnose, HeldOut(), None)


STATE = SearchState(0, {}, {"x": jnp.zeros((), jnp.float32)}, {}, {})


def chosen_by(observer):
  return observer.chosen_alpha(STATE.alpha) if all(observer.stopped) else None


def look(observer, step):
  """At a round whose alpha is its number."""
  (metrics,) = observer(SearchState(step, {}, {"x": jnp.array(float(step))}, {}, {}), (None, None), [True])
  return metrics, observer.stopped[0]


def observe(largest):
  observer = make_observer(largest)
  for step in range(1, len(largest) + 1):
    metrics, stop = look(observer, step)
    if stop:
      break
  return step, metrics, chosen_by(observer)


def test_an_early_stop_goes_back_by_the_window():
  step, metrics, chosen = observe([1.0, 1.0, 1.0, 5.0, 9.0, 9.0])
  assert step == 4 and metrics["early_stop"] == 1 and chosen == {"x": 2.0}
  step, metrics, chosen = observe([1.0, 1.0, 1.0, 1.0, 1.0, 9.0, 9.0])
  assert step == 6 and chosen == {"x": 4.0}
  step, metrics, chosen = observe([1.0] * 6)
  assert step == 6 and chosen is None and "early_stop" not in metrics


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_an_observer_goes_on_where_another_stopped(cut):
  """Through JSON, as in a snapshot."""
  largest = [1.0, 1.0, 1.0, 5.0]
  first, second = (make_observer(part) for part in (largest[:cut], largest[cut:]))
  looks = [look(first, step) for step in range(1, cut + 1)]
  second.restore(json.loads(json.dumps(first.about())), STATE)
  looks += [look(second, step) for step in range(cut + 1, 5)]
  assert [stop for _, stop in looks] == [False, False, False, True] and chosen_by(second) == {"x": 2.0}
  assert second._held_out.place == cut + (4 - cut)
  kept = json.loads(json.dumps(second.about()))
  for about in (kept, {"measured": kept["measured"]} | kept["members"][0]):  # the second as earlier versions kept it
    third = make_observer([])
    third.restore(about, STATE)
    assert chosen_by(third) == {"x": 2.0} and chosen_by(third)["x"].dtype == np.float32


@pytest.mark.parametrize(
  ("options", "complaint"),
  [
    ({"skips": 0}, "skips"),
    ({"match": 2.0}, "match"),
    ({"every": -1}, "every"),
    ({"every": 1, "window": 0}, "window"),
    ({"every": 1, "threshold": 1.5}, "threshold"),
  ],
)
def test_wrong_options_are_refused(options, complaint):
  with pytest.raises(UserError, match=complaint):
    DiagnosticsOptions(**options)
