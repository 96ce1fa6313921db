"""Stages on disk: plan, records, resume, executors. `run_project` is the whole road in one call."""

from eucentric._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "CollectiveOutcome": "stage",
        "CollectiveStage": "stage",
        "Exclusion": "settings",
        "ItemStage": "stage",
        "ItemStore": "store",
        "Outcome": "stage",
        "Plan": "plan",
        "ProjectLock": "lock",
        "ProjectSettings": "settings",
        "Record": "records",
        "RunInterrupted": "summary",
        "RunSummary": "summary",
        "StageStore": "store",
        "explain_validation_error": "explain",
        "project_status": "status",
        "read_record": "records",
        "read_records": "records",
        "run_project": "runner",
        "run_stage": "runner",
    },
)
