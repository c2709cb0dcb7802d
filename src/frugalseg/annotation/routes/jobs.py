"""Requests about jobs."""

from __future__ import annotations

from fastapi import APIRouter

from frugalseg.annotation.messages import JobMessage, JobRequest, TrainingMessage
from frugalseg.annotation.session import Session
from frugalseg.annotation.warm_start import describe_training


def make_router(session: Session) -> APIRouter:
    """The requests about jobs."""
    router = APIRouter(tags=["jobs"])

    @router.post("/api/jobs", status_code=201)
    def start_job(message: JobRequest) -> JobMessage:
        """Queue a job; one runs at a time."""
        if message.case is not None:
            session.open(message.case)
        job = session.runner.submit(message.kind, message.case, message.options)
        session.job_changed(job.id)
        return session.jobs.message(job.id)

    @router.get("/api/jobs")
    def list_jobs() -> list[JobMessage]:
        """The latest jobs, newest first."""
        return session.jobs.messages()

    @router.post("/api/jobs/{number}/cancel")
    def cancel_job(number: int) -> JobMessage:
        """End a queued or running job; no mask is changed."""
        session.runner.cancel(number)
        return session.jobs.message(number)

    @router.post("/api/jobs/{number}/resume")
    def resume_job(number: int) -> JobMessage:
        """Continue a job that was interrupted, cancelled or failed."""
        session.runner.resume(number)
        return session.jobs.message(number)

    @router.get("/api/training")
    def read_training() -> TrainingMessage:
        """What a training would do now."""
        return describe_training(session.context)

    return router
