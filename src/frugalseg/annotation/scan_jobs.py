"""Jobs on one scan: propagate its outlined slices, or refine the masks that a program made."""

from __future__ import annotations

import numpy as np

from frugalseg.annotation.job_table import Job, JobError
from frugalseg.annotation.job_work import JobContext, JobWork, Step, find_single_mask, keep_input, require_case
from frugalseg.annotation.messages import JobOptions
from frugalseg.annotation.reviews import read_reviews
from frugalseg.annotation.slices import LABELLED, Stroke
from frugalseg.text import pluralize


class PropagateWork(JobWork):
    """Propagate the outlined and reviewed slices of one scan through it."""

    def check(self, context: JobContext, case: str | None, options: JobOptions) -> None:
        """See `JobWork`."""
        states = context.states(require_case(case))
        if not any(state.source in LABELLED and state.labels for state in states):
            raise JobError("no outlined slice of this scan shows anything", "outline one slice first")
        if all(state.source in LABELLED for state in states):
            raise JobError("every slice of this scan is outlined or reviewed", "there is nothing to propagate")

    def steps(self, context: JobContext, job: Job) -> list[Step]:
        """See `JobWork`."""
        case = require_case(job.case)
        states = context.states(case)
        shown = [state.slice for state in states if state.source in LABELLED and state.labels]
        empty = [state.slice for state in states if state.source in LABELLED and not state.labels]
        first = max((z + 1 for z in empty if z < shown[0]), default=0)
        last = min((z - 1 for z in empty if z > shown[-1]), default=len(states) - 1)
        if len(shown) == last - first + 1:
            raise JobError("the slices beside the outlined ones are outlined as empty", "there is nothing to propagate")
        values = {value for z in shown for value in states[z].labels}
        given = keep_input(job, "given", lambda folder: context.write_masks(case, folder, LABELLED))
        words = ["propagate", "--images", str(context.scans.path(case)), "--annotations", str(given)]
        words += ["--slices", ",".join(map(str, shown)), "--slice-range", f"{first},{last}"]
        words += ["--out", str(job.folder / "masks"), "--model", context.options.model, "--resume", "auto"]
        words += ["--cache", str(context.place.embeddings), *context.target_words(values), *context.common_words()]
        return [Step(words, "propagating")]

    def collect(self, context: JobContext, job: Job) -> str:
        """See `JobWork`."""
        case = require_case(job.case)
        mask = find_single_mask(job.folder / "masks")
        reviews = read_reviews(next(iter(mask.parent.glob("*.slices.csv")), None))

        def make_stroke(z: int, plane: np.ndarray) -> Stroke:
            confidence, review = reviews.get(z, (None, ""))
            return Stroke(plane, "propagate", f"job {job.id}", "", 0.0, "propagated", confidence, review)

        changed = context.take_over(case, mask, make_stroke, (None, "propagated", "predicted"))
        doubtful = sum(bool(review) for z, (_, review) in reviews.items() if z in set(changed))
        return f"propagated to {pluralize(len(changed), 'slice')}; {doubtful} should be looked at"


class RefineWork(JobWork):
    """Refine the masks that a program made in one scan."""

    def check(self, context: JobContext, case: str | None, options: JobOptions) -> None:
        """See `JobWork`."""
        states = context.states(require_case(case))
        if not any(state.source not in LABELLED and state.labels for state in states):
            raise JobError("this scan has no propagated or predicted mask to refine", "propagate or train first")

    def steps(self, context: JobContext, job: Job) -> list[Step]:
        """See `JobWork`."""
        case = require_case(job.case)
        given = keep_input(job, "given", lambda folder: context.write_masks(case, folder, ()))
        words = ["refine", "--images", str(context.scans.path(case)), "--masks", str(given)]
        words += ["--out", str(job.folder / "masks"), "--model", context.options.model, "--resume", "auto"]
        words += ["--cache", str(context.place.embeddings), *context.common_words()]
        return [Step(words, "refining")]

    def collect(self, context: JobContext, job: Job) -> str:
        """See `JobWork`."""
        case = require_case(job.case)
        states = context.states(case)

        def make_stroke(z: int, plane: np.ndarray) -> Stroke:
            before = states[z]
            return Stroke(plane, "refine", f"job {job.id}", "", 0.0, before.source, before.confidence, before.review)

        mask = find_single_mask(job.folder / "masks")
        changed = context.take_over(case, mask, make_stroke, ("propagated", "predicted"))
        return f"refined {pluralize(len(changed), 'slice')}"
