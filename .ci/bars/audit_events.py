"""Reads the usage log and a patient's disclosures in every form and compares them. Exits with 1 at the first difference."""

import io
import json
import re
import subprocess
import sys
import urllib.request

import pandas as pd
from fhir.resources.R4B.auditevent import AuditEvent
from fhir.resources.R4B.bundle import Bundle

PROGRAM, DATA, STORY = sys.argv[1:]


def log(form):
    command = [PROGRAM, "uses", "log", "--format", form, "--data", DATA]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def checked(lines):
    """Events as the models take them: nothing is lost but the digits of a fraction of a second."""
    events = [json.loads(line) for line in lines.splitlines() if line]
    for event in events:
        model = AuditEvent.model_validate(event)
        again = json.loads(model.model_dump_json(exclude_none=True))
        assert {**again, "recorded": event["recorded"]} == event, event["id"]
    return events


def cell(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return "; ".join(map(cell, value)) if isinstance(value, list) else str(value)


def table(text, rows):
    read = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    assert len(read) == len(rows)
    for (_, line), row in zip(read.iterrows(), rows):
        assert all(line[c].removeprefix("'") == cell(row[c]) for c in read.columns), row


rows = json.loads(log("json"))["items"]
events = checked(log("fhir-ndjson"))
assert [e["id"] for e in events] == [r["event_id"] for r in rows] and rows
table(log("csv"), rows)

tokens = {t["who"]: t["token"] for t in json.load(open(STORY))["tokens"]}
server = subprocess.Popen([PROGRAM, "serve", "--listen", "127.0.0.1:0", "--data", DATA], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
try:
    url = next(m.group(0) for m in (re.search(r"http://127\.0\.0\.1:\d+", line) for line in server.stdout) if m)

    def get(who, path):
        request = urllib.request.Request(url + path, headers={"Authorization": f"Bearer {tokens[who]}"})
        return urllib.request.urlopen(request, timeout=60).read().decode()

    patient = "participant who withdrew"
    told = json.loads(get(patient, "/v1/me/disclosures"))["disclosures"]
    table(get(patient, "/v1/me/disclosures?format=csv"), told)
    own = checked(get(patient, "/v1/me/disclosures?format=fhir-ndjson"))
    assert [e["id"] for e in own] == [d["event_id"] for d in told] and told
    assert json.loads(get("operator", "/v1/uses"))["items"] == rows
    bundle = get("operator", "/v1/uses?format=fhir")
    assert len(Bundle.model_validate_json(bundle).entry) == len(rows)
    # Through the server the command says the same.
    assert json.loads(log("json"))["items"] == rows and checked(log("fhir-ndjson")) == events
finally:
    server.terminate()
    server.wait()
print(f"audit-events: {len(events)} uses and {len(own)} disclosures are FHIR R4 and equal their CSV and JSON")
