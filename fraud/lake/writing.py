"""One batch into one table, once: rows shaped as the table wants them, committed with the batch's own mark."""

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError

from fraud.errors import DataError
from fraud.lake.faults import reading
from fraud.lake.place import Place
from fraud.lake.tables import Table

# No log entry goes by itself: what may go is for `maintain` to say, which knows the cuts in use.
PROPERTIES = {
    "delta.logRetentionDuration": "interval 3650 days",
    "delta.enableExpiredLogCleanup": "false",
    "delta.checkpointInterval": "20",
}


def mark(table: Table, query: str) -> str:
    """Return the application id under which a query's batches are kept in a table."""
    return f"{query}/{table.name}"


def create(place: Place, table: Table) -> DeltaTable:
    """Return the table, made where it isn't there yet; two writers may try at the same time."""
    uri = f"{place.uri}/{table.name}"
    with reading(f"the lake's table {uri}"):
        try:
            return DeltaTable.create(
                uri,
                table.schema,
                mode="ignore",
                partition_by=["date"],
                configuration=PROPERTIES,
                storage_options=dict(place.options),
                # Else the slower of two makes it again, as version 1: a change of metadata that fails other writers.
                commit_properties=CommitProperties(max_commit_retries=0),
            )
        except DeltaError:
            return DeltaTable(uri, storage_options=dict(place.options))  # the other writer made it


def commit(delta: DeltaTable, table: Table, rows: pa.Table, *, query: str, batch: int) -> None:
    """Append rows, shaped by `shaped`, together with the batch's mark."""
    with reading(f"the lake's table {delta.table_uri}"):
        write_deltalake(
            delta,
            rows,
            mode="append",
            commit_properties=CommitProperties(app_transactions=[Transaction(mark(table, query), batch)]),
        )


def shaped(table: Table, rows: pa.Table, *, query: str, batch: int) -> pa.Table:
    """Return the rows with the table's columns and types; `date`, `query` and `batch` are filled in where absent.

    Raises:
        DataError: a column is missing, unknown or of another type, or holds a null that it must not.
    """
    filled = {"query": pa.scalar(query), "batch": pa.scalar(batch, pa.int64())}
    columns = []
    for wanted in table.schema:
        if wanted.name in rows.column_names:
            column = rows[wanted.name]
        elif wanted.name in filled:
            column = pa.repeat(filled[wanted.name], len(rows))
        elif wanted.name == "date" and "broker_time" in rows.column_names:
            column = pc.cast(rows["broker_time"], pa.date32(), safe=False)
        else:
            raise DataError(f"rows for the lake's table {table.name} lack {wanted.name}; they have {rows.column_names}")
        try:
            column = column if column.type == wanted.type else pc.cast(column, wanted.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
            raise DataError(f"{table.name}.{wanted.name} must be {wanted.type}: {exc}") from exc
        if column.null_count and not wanted.nullable:
            raise DataError(f"{table.name}.{wanted.name} holds {column.null_count} nulls, and must hold none")
        columns.append(column)
    unknown = sorted(set(rows.column_names) - set(table.schema.names))
    if unknown:
        raise DataError(f"the lake's table {table.name} has no column {', '.join(unknown)}")
    return pa.table(columns, table.schema)
