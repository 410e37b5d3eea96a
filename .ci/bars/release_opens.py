"""Opens two release packages as a researcher would, and compares them. Exits with 1 at the first thing that is wrong."""

import json
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

ARROW = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us"),
    "bool": pa.bool_(),
}
DUCKDB = {
    "int64": "BIGINT",
    "float64": "DOUBLE",
    "string": "VARCHAR",
    "date": "DATE",
    "datetime": "TIMESTAMP",
    "bool": "BOOLEAN",
}
ID_CLASSES = {"subject_id", "event_id", "event_ref"}


def tables(package):
    manifest = json.loads((package / "release.json").read_text())
    return {Path(f["path"]).stem: f for f in manifest["files"] if f["path"].startswith("tables/")}


def check_types(package):
    for name, entry in tables(package).items():
        path = package / entry["path"]
        schema = pq.read_schema(path)
        assert [c["name"] for c in entry["columns"]] == schema.names, f"{name}: columns"
        described = dict(duckdb.sql(f"describe select * from '{path}'").project("column_name, column_type").fetchall())
        frame = pd.read_parquet(path)
        assert len(frame) == entry["rows"] == duckdb.sql(f"select count(*) from '{path}'").fetchall()[0][0], name
        for column in entry["columns"]:
            field = schema.field(column["name"])
            assert field.type == ARROW[column["type"]], f"{name}.{column['name']}: {field.type}"
            assert field.nullable == column["nullable"], f"{name}.{column['name']}: nullable"
            assert described[column["name"]] == DUCKDB[column["type"]], f"{name}.{column['name']} in DuckDB"
            if not column["nullable"] and column["type"] == "int64":
                assert frame[column["name"]].dtype == "int64", f"{name}.{column['name']} in pandas"


def check_joins(package):
    listed = tables(package)
    person = pd.read_parquet(package / listed["person"]["path"])
    assert person.person_id.is_unique and person.person_id.is_monotonic_increasing
    assert ((person.person_id > 0) & (person.person_id < 2**53)).all()
    joined = 0
    for name, entry in listed.items():
        path = package / entry["path"]
        frame = pd.read_parquet(path)
        assert frame.person_id.isin(person.person_id).all(), f"{name}: a person_id that is not in person"
        assert frame.person_id.is_monotonic_increasing, f"{name}: not sorted by person_id"
        rows = duckdb.sql(
            f"select count(*) from '{path}' join '{package / listed['person']['path']}' using (person_id)"
        ).fetchall()[0][0]
        assert rows == len(frame), name
        joined += rows
    return len(person), joined


def ids(package):
    found = set()
    for entry in tables(package).values():
        frame = pd.read_parquet(package / entry["path"])
        for column in entry["columns"]:
            if column["class"] in ID_CLASSES:
                found.update(frame[column["name"]].dropna().astype("int64"))
    return found


def vectors(package):
    """The dates of each person, in order: what could match a person by exact dates."""
    people = {}
    for entry in tables(package).values():
        dates = [c["name"] for c in entry["columns"] if c["type"] == "date"]
        frame = pd.read_parquet(package / entry["path"])
        for column in dates:
            for person, day in zip(frame.person_id, frame[column]):
                if pd.notna(day):
                    people.setdefault(person, []).append((column, day))
    return {tuple(sorted(v)) for v in people.values() if len(v) > 1}


def main():
    one, two = (Path(p) for p in sys.argv[1:3])
    for package in (one, two):
        check_types(package)
        persons, rows = check_joins(package)
        print(f"{package.parent.name}: {persons} persons, {rows} rows joined by person_id; types as declared")
    shared = ids(one) & ids(two)
    assert not shared, f"{len(shared)} ids are in both releases"
    same = vectors(one) & vectors(two)
    assert not same, f"{len(same)} date vectors are in both releases"
    print(f"release-opens: {len(ids(one))} and {len(ids(two))} ids, none shared; no date vector shared")


main()
