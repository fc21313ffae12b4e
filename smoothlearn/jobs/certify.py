"""Certification of pipelines and searches, of as many rows as there are."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

from tqdm.auto import tqdm

from smoothlearn.certificates import Certificate
from smoothlearn.jobs.assembly import Assembly, facts, row_arrays
from smoothlearn.jobs.checkpoint import Checkpoint
from smoothlearn.jobs.chunks import (
    as_rows,
    certify_chunks,
    chunk_rows,
    is_killed_worker,
    rows_of,
)
from smoothlearn.jobs.fingerprint import hash_object, hash_rows
from smoothlearn.jobs.units import Question
from smoothlearn.nn.threads import one_thread
from smoothlearn.theory.arguments import as_finite


def certify(
    estimator: Any,
    X: Any,
    *,
    units: str = "input",
    radius: float | None = None,
    max_radius: float | None = None,
    n_jobs: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    verbose: int = 0,
) -> Certificate:
    r"""Certify X through the steps in front of a smoothed classifier, a chunk of rows at a time.

    Behind an affine preprocessing :math:`x \mapsto Ax + c`, a radius r of the smoother becomes
    :math:`r / \|A\|` in the units of X, with the operator norm of the certificate's norm.

    The result does not depend on ``n_jobs``, joblib's backend, or whether a checkpoint was used:
    the chunks are the same, the noise belongs to the row, and torch and BLAS compute with one
    thread each.

    Parameters
    ----------
    estimator : estimator
        A fitted smoothed classifier, or a pipeline or search that ends in one.
    X : array_like, sparse matrix or data frame of shape (n, d)
        What the estimator's ``predict`` takes. Of a ``numpy.memmap`` a chunk at a time is read.
    units : {"input", "smoother"}
        "input": radii are in the units of X. "smoother": in the units of what the smoother sees,
        behind a StandardScaler these are standard deviations.
    radius : float, optional
        Decide whether each row's radius is at least so large, and nothing else, which takes far
        fewer draws. In the units asked for. Rows that have it are certified at it, all others
        abstain. What is known without draws is told in full.
    max_radius : float, optional
        Do not ask for larger radii, in the units asked for.
    n_jobs : int or None
        Workers, as in joblib: ``joblib.parallel_config`` says which. Each computes chunks of rows
        with one thread, and with one GPU where there are several. None outside of a
        ``parallel_config``: this process alone, with the row threads of the smoother.
    checkpoint : str or path, optional
        A file that holds every chunk that is done. After an interruption, the same call goes on
        from there.
    verbose : int
        Show a progress bar over rows where positive.

    Returns
    -------
    Certificate

    Raises
    ------
    ValueError
        If a step in front is not affine and units is "input", an argument is out of range, or the
        checkpoint is damaged or of another job.
    TypeError
        If the final estimator has no ``certify``, or one that does not take the radius.
    OSError
        If the checkpoint cannot be read or written, or is in use.
    RuntimeError
        If a worker was killed.

    Notes
    -----
    Memory: X if it is no memory map, the certificate, some 50 bytes a row and 8 more for every
    class whose votes are counted (16 where they are soft), and in every worker a few copies of a
    chunk of at most 16 MB.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from smoothlearn import RandomizedSmoothingClassifier, certify
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> smoother = RandomizedSmoothingClassifier(LogisticRegression(), sigma=0.5)
    >>> pipeline = make_pipeline(StandardScaler(), smoother).fit(X, y)
    >>> round(certify(pipeline, X, units="smoother").accuracy(y, radius=0.5), 2)
    0.92
    >>> certify(pipeline, X).units
    'input'
    """
    if units not in ("input", "smoother"):
        raise ValueError(f"units must be 'input' or 'smoother', got {units!r}")
    question = Question.about(estimator, units, _asked(radius, max_radius))
    X = as_rows(X)
    if not X.shape:
        raise ValueError(f"X must hold rows, of shape (n, d), got {X!r}")
    if not X.shape[0]:
        return question.answer(X)
    loud = max(verbose, getattr(question.smoother, "verbose", 0)) > 0
    question = question.to(verbose=0)
    with ExitStack() as stack:
        stack.enter_context(one_thread())
        sample = _sample(question, X)
        decided = sample.tested_radius is not None
        size = chunk_rows(X.shape, voted=sample.n_draws is not None, decided=decided)
        whole = Assembly(X.shape[0], sample.classes)
        kept = None
        if checkpoint is not None:
            kept = stack.enter_context(Checkpoint(checkpoint, sample.classes))
            kept.claim(_identity(question, X, size))
        with tqdm(total=X.shape[0], unit="row", disable=not loud) as progress:
            for n_done in _fill(whole, question, X, size, n_jobs, kept):
                progress.update(n_done)
    return whole.certificate()


def _asked(radius: float | None, max_radius: float | None) -> dict[str, float]:
    if radius is not None and max_radius is not None:
        raise ValueError(
            f"radius={radius!r} asks for a decision and max_radius={max_radius!r} for a "
            "measurement; give one of them"
        )
    given = {"radius": radius, "max_radius": max_radius}
    return {
        name: as_finite(name, value, zero=True)
        for name, value in given.items()
        if value is not None
    }


def _sample(question: Question, X: Any) -> Certificate:
    """The certificate of no rows, or of one where the smoother wants any."""
    with warnings.catch_warnings(), suppress(ValueError):
        warnings.simplefilter("ignore")  # the chunks will tell
        return question.answer(rows_of(X, 0, 0))
    return question.answer(rows_of(X, 0, 1))


def _identity(question: Question, X: Any, size: int) -> dict[str, str]:
    """What a checkpoint must have in common with the job."""
    package = sys.modules[__name__.partition(".")[0]]
    asked = {name: repr(question.asked.get(name)) for name in ("radius", "max_radius")}
    return {
        "smoothlearn": package.__version__,
        "units": repr(question.units),
        **asked,
        "estimator": hash_object((question.steps, question.smoother)),
        "data": hash_rows(X),
        "rows in a chunk": str(size),
    }


def _fill(
    whole: Assembly,
    question: Question,
    X: Any,
    size: int,
    n_jobs: int | None,
    kept: Checkpoint | None,
) -> Iterator[int]:
    """Fill in the chunks that are kept, then compute the others; how many rows each of them has."""
    left = dict.fromkeys(range(0, len(whole), size))
    if kept:
        for start, arrays, about_all in kept.chunks():
            if start not in left or len(arrays["label"]) != min(size, len(whole) - start):
                raise kept.damaged(f"a chunk at row {start}")
            del left[start]
            yield whole.fill(start, arrays, about_all)
    try:
        for start, part in certify_chunks(question, X, left, size, n_jobs):
            arrays, about_all = row_arrays(part), facts(part)
            if kept:
                kept.add(start, arrays, about_all)
            yield whole.fill(start, arrays, about_all)
    except Exception as error:
        if not is_killed_worker(error):
            raise
        rest = "give a checkpoint to keep what is finished"
        if kept:
            rest = f"what was finished is kept in {kept.path!r}; run again to resume"
        raise RuntimeError(f"a worker was killed (out of memory?); {rest}") from error
