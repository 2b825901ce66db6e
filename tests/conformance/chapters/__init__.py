"""The rows, chapter by chapter."""

from tests.conformance.chapters import (
    asynchronous,
    attributes,
    calls,
    classes,
    containers,
    contexts,
    data_model,
    exceptions,
    identity,
    iteration,
    matching,
    operators,
    stdlib,
    trio_code,
    values,
)

CHAPTERS = tuple(
    module.CHAPTER
    for module in (
        data_model,
        attributes,
        operators,
        containers,
        calls,
        iteration,
        contexts,
        exceptions,
        classes,
        matching,
        identity,
        values,
        stdlib,
        asynchronous,
        trio_code,
    )
)
