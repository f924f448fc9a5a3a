"""What the JSON answers look like."""

from datetime import datetime

from pydantic import BaseModel, Field

from pipeline.figures import Figures
from pipeline.states import Phase, State
from sink.http_headers import path


class SourceView(BaseModel):
    """The newest upload, as it lies in the uploads bucket."""

    key: str
    bytes: int
    etag: str
    last_modified: datetime


class ResultView(BaseModel):
    """The result that can be fetched now: the newest's, or an older one's, of a lower `generation`."""

    generation: int
    file_id: str
    rows: int = Field(description="rows of the input: results + rejected")
    results: int
    rejected: int
    bytes: int
    sha256: str
    published: datetime
    result_url: str
    rejects_url: str
    receipt_url: str


class RatesView(BaseModel):
    """Rows a second now, by stage."""

    capture: float
    compute: float
    store: float


class JobView(BaseModel):
    """Where a file is. Figures are null where they aren't known yet."""

    name: str
    state: Phase
    summary: str = Field(description="the same in a line for people")
    reason: str | None = Field(None, description="why there is no newer result")
    generation: int | None = Field(None, description="how many times the file was taken on; null: not yet")
    file_id: str | None = Field(None, description="the newest job")
    calculation: str | None = None
    source: SourceView | None = None
    rows_captured: int | None = Field(None, description="rows that Kafka has acknowledged, from the start")
    rows_total: int | None = Field(None, description="rows of the file; null until all are captured")
    rows_malformed: int | None = Field(
        None, description="rows that can't be read; null in lists of published files"
    )
    rows_computed: int | None = Field(None, description="as far as the stages tell; null where nobody does")
    rows_stored: int | None = Field(None, description="rows that the sink has, or had; likewise")
    rows_rejected: int | None = Field(None, description="rows without a result so far; likewise")
    rows_per_second: RatesView | None = Field(None, description="while it runs and the stages tell")
    eta_seconds: float | None = Field(None, description="until the result, at the present rates")
    age_seconds: float | None = Field(None, description="since the job was made, or the upload")
    waits_for: str | None = Field(
        None, description="what has to happen before it goes on; null while it moves"
    )
    taken_on: datetime | None = Field(
        None, description="when a job was made of the upload; null in lists of published files"
    )
    captured: datetime | None = None
    ended: datetime | None = None
    result: ResultView | None = None


class Results(BaseModel):
    """One page of files, by name; `next` is the address of the page after it."""

    items: list[JobView]
    next: str | None = None


def job_view(state: State) -> JobView:
    """Return a state as JSON shows it."""
    job, captured, done = state.job, state.captured, state.served if state.state == "published" else None
    view = JobView(
        name=state.name,
        state=state.state,
        summary=state.summary,
        reason=state.reason,
        generation=state.generation,
        file_id=state.file_id,
        source=_source(state),
        result=_result(state),
    )
    if done is not None:
        return view.model_copy(
            update={
                "calculation": done.calculation,
                "rows_captured": done.rows,
                "rows_total": done.rows,
                "rows_malformed": state.rows_malformed,
                "taken_on": job.created if job else None,
                "captured": done.captured,
                "ended": done.published,
            }
        )
    return view.model_copy(
        update={
            "calculation": job.calculation.label if job else None,
            "rows_captured": state.rows_captured,
            "rows_total": captured.rows if captured else None,
            "rows_malformed": state.rows_malformed,
            "taken_on": job.created if job else None,
            "captured": captured.finished if captured else None,
            "ended": state.end.ended if state.end and not state.pending else None,
        }
    )


def with_figures(view: JobView, found: Figures) -> JobView:
    """Return a view with what the stages tell."""
    rates = {stage: round(found.rates.get(stage, 0.0), 1) for stage in RatesView.model_fields}
    return view.model_copy(
        update={
            "rows_captured": found.captured if found.captured is not None else view.rows_captured,
            "rows_total": found.total if found.total is not None else view.rows_total,
            "rows_computed": found.computed,
            "rows_stored": found.stored,
            "rows_rejected": found.rejected,
            "rows_per_second": RatesView.model_validate(rates) if found.rates else None,
            "eta_seconds": None if found.eta is None else round(found.eta, 1),
            "age_seconds": None if found.age is None else round(found.age, 1),
            "waits_for": found.waits_for,
        }
    )


def _source(state: State) -> SourceView | None:
    if state.upload is None:
        return None
    lies = state.upload
    return SourceView(key=lies.key, bytes=lies.size, etag=lies.etag, last_modified=lies.last_modified)


def _result(state: State) -> ResultView | None:
    receipt = state.served
    if receipt is None or receipt.output is None:
        return None
    return ResultView(
        generation=receipt.generation,
        file_id=receipt.file_id,
        rows=receipt.rows,
        results=receipt.results,
        rejected=receipt.rejected,
        bytes=receipt.output.size,
        sha256=receipt.output.sha256,
        published=receipt.published,
        result_url=path("results", state.name),
        rejects_url=path("rejects", state.name),
        receipt_url=path("receipts", state.name),
    )
