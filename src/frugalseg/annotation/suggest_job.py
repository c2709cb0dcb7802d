"""The job that asks `frugalseg suggest` which slices to outline next."""

from __future__ import annotations

import shutil

from frugalseg.annotation.job_table import Job, JobError
from frugalseg.annotation.job_work import JobContext, JobWork, Step
from frugalseg.annotation.messages import JobOptions, Suggestion
from frugalseg.annotation.slices import LABELLED
from frugalseg.annotation.trained import TrainedModel, remember_suggestions
from frugalseg.annotation.training_jobs import write_labels
from frugalseg.annotation.training_plan import SIZE, plan_training
from frugalseg.engine.files import MODEL_FILE
from frugalseg.records.suggestions import SUGGESTIONS_FILE, SuggestionsRecord
from frugalseg.text import pluralize

BUDGET = 10
"""Number of slices to suggest."""


class SuggestWork(JobWork):
    """Prepare all scans, and ask which slices to outline next: for a model, or with a case for its mask."""

    def check(self, context: JobContext, case: str | None, options: JobOptions) -> None:
        """See `JobWork`."""
        if case is not None and TrainedModel.find(context.slices.database) is None:
            raise JobError("without a model nothing is known about this scan yet", "outline its middle slice")

    def steps(self, context: JobContext, job: Job) -> list[Step]:
        """See `JobWork`."""
        plan, store = plan_training(context), job.folder / "store"
        prepare = ["prepare", *context.image_words(), "--out", str(store), "--skip-broken"]
        prepare += ["--size", str(job.options.size or SIZE), "--fractions", "0", "0"]
        if plan.targets:
            labels = job.folder / "labels"
            write_labels(context, plan.cases, labels)
            prepare += ["--labels", str(labels), *context.target_words(plan.targets.values())]
        suggest = ["suggest", "--data", str(store), "--out", str(job.folder / "suggestions"), "--overwrite"]
        suggest += ["--budget", str(BUDGET), *context.common_words()]
        suggest += [] if job.case is None else ["--for", "mask", "--scan", job.case]
        model = TrainedModel.find(context.slices.database)
        if model is not None and (model.path(context.place.out) / MODEL_FILE).is_file():
            suggest += ["--model", str(model.path(context.place.out))]
        return [Step(prepare, "preparing all scans"), Step(suggest, "comparing slices")]

    def collect(self, context: JobContext, job: Job) -> str:
        """See `JobWork`."""
        found = SuggestionsRecord.read(job.folder / "suggestions" / SUGGESTIONS_FILE).suggestions
        fresh = [
            Suggestion(one.case, one.slice, one.reason)
            for one in found
            if one.case in context.scans.paths and context.slices.state(one.case, one.slice).source not in LABELLED
        ]
        remember_suggestions(context.slices.database, fresh)
        shutil.rmtree(job.folder / "store", ignore_errors=True)
        return f"{pluralize(len(fresh), 'slice')} suggested"
