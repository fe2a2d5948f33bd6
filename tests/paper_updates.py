"""The methods' updates written out in numpy as in their papers, on the mean losses of the quadratic problem.

`trajectory(name, problem, steps, options)` returns the weights and alphas after each step. No code of the package is
used.
"""

import numpy as np


class _Derivatives:
  """The derivatives of the quadratic losses, in closed form."""

  def __init__(self, problem):
    self.hessian, self.pull, self.shift, self.target, self.tilt = problem.terms.values()

  def g_w(self, w, a):
    return self.hessian @ w - self.pull @ a - self.shift

  def g_a(self, w, a):
    return -self.pull.T @ w

  def f_w(self, w, a):
    return w - self.target

  def f_a(self, w, a):
    return a + self.tilt

  def f(self, w, a):
    return 0.5 * np.sum((w - self.target) ** 2) + 0.5 * a @ a + a @ self.tilt

  def cross(self, v):
    return -self.pull.T @ v

  def series(self, w, a, rate, terms):
    """The hypergradient with `rate Σ_{q=0..terms} (I − rate H)^q` in the place of the inverse."""
    factor = np.eye(len(w)) - rate * self.hessian
    inverse = rate * sum(np.linalg.matrix_power(factor, q) for q in range(terms + 1))
    return self.f_a(w, a) - self.cross(inverse @ self.f_w(w, a))


def _soba(d, w, a, steps, *, inner, outer, momentum=1.0):
  v, h = np.zeros_like(w), np.zeros_like(a)
  for _ in range(steps):
    gradient, slope, direction = d.g_w(w, a), d.hessian @ v + d.f_w(w, a), d.cross(v) + d.f_a(w, a)
    h = (1 - momentum) * h + momentum * direction
    w, v, a = w - inner * gradient, v - inner * slope, a - outer * h
    yield w, a


def _srba(d, w, a, steps, *, period, **options):
  return _soba(d, w, a, steps, **options)  # on full batches the recursion gives the direction itself


def _fsla(d, w, a, steps, *, inner, outer, momentum):
  v, a_before, average = np.zeros_like(w), a, None
  for _ in range(steps):
    w_new = w - inner * d.g_w(w, a)
    v_new = v - inner * (d.hessian @ v + d.f_w(w_new, a))
    now = d.f_a(w_new, a) + d.cross(v_new)
    before = d.f_a(w, a_before) + d.cross(v)
    average = now if average is None else now + (1 - momentum) * (average - before)
    a_before, w, v, a = a, w_new, v_new, a - outer * average
    yield w, a


def _ttsa(d, w, a, steps, *, inner, linear, terms, truncation, outer):
  for _ in range(steps):
    w = w - inner * d.g_w(w, a)
    a = a - outer * d.series(w, a, linear, terms - 1)
    yield w, a


def _amigo(d, w, a, steps, *, inner, inner_steps, linear_steps, outer):
  v = np.zeros_like(w)
  for _ in range(steps):
    for _ in range(inner_steps):
      w = w - inner * d.g_w(w, a)
    for _ in range(linear_steps):
      v = v - inner * (d.hessian @ v + d.f_w(w, a))
    a = a - outer * (d.f_a(w, a) + d.cross(v))
    yield w, a


def _stocbio(d, w, a, steps, *, inner, inner_steps, linear, terms, outer):
  for _ in range(steps):
    for _ in range(inner_steps):
      w = w - inner * d.g_w(w, a)
    a = a - outer * d.series(w, a, linear, terms)
    yield w, a


def _sustain(d, w, a, steps, *, terms, truncation, **options):
  return _mrbo(d, w, a, steps, terms=terms - 1, **options)


def _mrbo(d, w, a, steps, *, inner, linear, terms, inner_momentum, outer_momentum, outer):
  before = None
  for _ in range(steps):
    of_w, of_a = d.g_w(w, a), d.series(w, a, linear, terms)
    if before is not None:
      (w_old, a_old), (mean_w, mean_a) = before
      of_w = of_w + (1 - inner_momentum) * (mean_w - d.g_w(w_old, a_old))
      of_a = of_a + (1 - outer_momentum) * (mean_a - d.series(w_old, a_old, linear, terms))
    before = (w, a), (of_w, of_a)
    w, a = w - inner * of_w, a - outer * of_a
    yield w, a


def _f2sa(d, w, a, steps, *, inner, inner_steps, penalty, penalised, outer):
  y, z = w, w
  for k in range(steps):
    factor = penalty(k)
    for _ in range(inner_steps):
      z = z - inner * d.g_w(z, a)
      y = y - penalised(k) * (d.f_w(y, a) + factor * d.g_w(y, a))
    a = a - outer * (d.f_a(y, a) + factor * (d.g_a(y, a) - d.g_a(z, a)))
    yield z, a


def _bome(d, w, a, steps, *, inner, inner_steps, weights_rate, outer, control=0.5):
  for k in range(steps):
    lower = w
    for _ in range(inner_steps):
      lower = lower - inner * d.g_w(lower, a)
    q_w, q_a = d.g_w(w, a), d.g_a(w, a) - d.g_a(lower, a)
    f_w, f_a = d.f_w(w, a), d.f_a(w, a)
    square = q_w @ q_w + q_a @ q_a
    factor = max(0, (control * square - f_w @ q_w - f_a @ q_a) / square)
    w, a = w - weights_rate(k) * (f_w + factor * q_w), a - outer(k) * (f_a + factor * q_a)
    yield w, a


def _iaptt(d, w, a, steps, *, inner, inner_steps, initial, outer):
  z, factor = w, np.eye(len(w)) - inner * d.hessian
  for _ in range(steps):
    path = [z]
    for _ in range(inner_steps):
      path.append(path[-1] - inner * d.g_w(path[-1], a))
    end = 1 + int(np.argmax([d.f(point, a) for point in path[1:]]))
    # w_end = factor^end z + inner Σ_{k<end} factor^k (P a + b)
    to_w = d.f_w(path[end], a)
    slope = inner * sum(np.linalg.matrix_power(factor, k) for k in range(end)) @ d.pull
    z, a = z - initial * np.linalg.matrix_power(factor, end) @ to_w, a - outer * (d.f_a(path[end], a) + slope.T @ to_w)
    yield path[-1], a


def _bda(d, w, a, steps, *, inner, inner_steps, share, outer):
  start = w
  for _ in range(steps):
    w, slope = start, np.zeros_like(d.pull)
    for k in range(inner_steps):
      of_f, of_g = share(k) * inner, (1 - share(k)) * inner
      slope = slope - of_f * slope - of_g * (d.hessian @ slope - d.pull)
      w = w - of_f * d.f_w(w, a) - of_g * d.g_w(w, a)
    a = a - outer * (d.f_a(w, a) + slope.T @ d.f_w(w, a))
    yield w, a


def _nested(d, w, a, steps, *, rate, inner_steps, outer):
  factor = np.eye(len(w)) - rate * d.hessian
  slope = rate * sum(np.linalg.matrix_power(factor, k) for k in range(inner_steps)) @ d.pull
  for _ in range(steps):
    for _ in range(inner_steps):
      w = w - rate * d.g_w(w, a)
    a = a - outer * (d.f_a(w, a) + slope.T @ d.f_w(w, a))
    yield w, a


UPDATES = {
  "nested": _nested,
  "amigo": _amigo,
  "stocbio": _stocbio,
  "soba": _soba,
  "fsla": _fsla,
  "ttsa": _ttsa,
  "saba": _soba,  # on full batches the tables hold the values themselves
  "srba": _srba,
  "sustain": _sustain,
  "mrbo": _mrbo,
  "f2sa": _f2sa,
  "bome": _bome,
  "iaptt": _iaptt,
  "bda": _bda,
}


def trajectory(name, problem, steps, options):
  weights, alphas = zip(*UPDATES[name](_Derivatives(problem), *problem.start, steps, **options), strict=True)
  return np.array(weights), np.array(alphas)
