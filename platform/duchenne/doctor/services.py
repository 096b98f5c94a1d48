"""The services that the environment names: the records' database, and S3."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from duchenne.doctor.finding import Finding, first_line
from duchenne.records.database import Database
from duchenne.records.errors import RecordsError
from duchenne.records.migrate import HEAD, current_revision
from duchenne.records.store import SQLITE_NAME, URL_VARIABLE

CONNECT_SECONDS, ANSWER_SECONDS = 5, 10
ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
_S3_URL = re.compile(r"s3://(?P<bucket>[a-z0-9][-.a-z0-9]+)(/(?P<prefix>.*))?")


def records_finding(home: Path) -> Finding:
    """The records' database: reached, and of which revision. Nothing is migrated, and no password is shown."""
    url = os.environ.get(URL_VARIABLE)
    if not url and not (home / SQLITE_NAME).exists():
        return Finding("records", "ok", f"none yet; the first sweep makes {home / SQLITE_NAME}")
    try:
        database = Database(url or home / SQLITE_NAME, busy_timeout=CONNECT_SECONDS)
    except RecordsError as error:
        return Finding("records", "missing", first_line(error), f"mend {URL_VARIABLE}")
    try:
        with database.read() as session:
            revision = current_revision(session.connection())
    except RecordsError as error:
        return Finding("records", "missing", first_line(error), f"start the database, or mend {URL_VARIABLE}")
    finally:
        database.engine.dispose()
    if revision is None:
        return Finding("records", "ok", f"{database.where} answers, and has no tables yet")
    if revision > HEAD:
        return Finding(
            "records",
            "missing",
            f"{database.where} is at revision {revision}, newer than {HEAD}",
            "install the version that wrote it",
        )
    later = "" if revision == HEAD else f"; the next sweep brings it to {HEAD}"
    return Finding("records", "ok", f"{database.where} at revision {revision}{later}")


def storage_finding(data: str | None) -> Finding:
    """S3: whether the bucket of `data` can be listed, or else whether the configured endpoint answers."""
    endpoint = next((os.environ[name] for name in ENDPOINT_VARIABLES if os.environ.get(name)), None)
    if data is None and endpoint is None:
        return Finding("S3", "ok", "no endpoint is configured; --data s3://BUCKET/PREFIX looks at a bucket")
    match = None if data is None else _S3_URL.fullmatch(data)
    if data is not None and match is None:
        return Finding("S3", "missing", "--data must be s3://BUCKET/PREFIX, but is another", "write it so")
    where = data or str(endpoint)
    try:
        seen = _asked(match["bucket"], match["prefix"] or "") if match else _greeted()
    except Exception as error:  # botocore's own are made at run time
        return Finding("S3", "missing", f"{where}: {first_line(error)}", _mend(error))
    return Finding("S3", "ok", f"{where}: {seen}")


def _client() -> Any:
    limits = import_module("botocore.config").Config(
        connect_timeout=CONNECT_SECONDS, read_timeout=ANSWER_SECONDS, retries={"total_max_attempts": 2}
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    return import_module("botocore.session").get_session().create_client("s3", region_name=region, config=limits)


def _asked(bucket: str, prefix: str) -> str:
    found = _client().list_objects_v2(Bucket=bucket, Prefix=prefix, MaxKeys=1)
    return "can be listed" if found.get("KeyCount") else "can be listed, and holds nothing"


def _greeted() -> str:
    """The endpoint's answer to a request that every endpoint knows; a refusal of the keys is an answer too."""
    try:
        buckets = _client().list_buckets()["Buckets"]
    except import_module("botocore.exceptions").ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == 403:
            return "answers; its buckets can't be listed, which no sweep needs"
        raise
    return f"answers, {len(buckets)} buckets"


def _mend(error: Exception) -> str:
    """The next step for what S3 said."""
    code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
    match code or type(error).__name__:
        case "NoCredentialsError" | "PartialCredentialsError":
            return "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or use workload identity"
        case "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "ExpiredToken":
            return "renew the keys"
        case "AccessDenied" | "403":
            return "ask for s3:ListBucket and s3:GetObject on it"
        case "NoSuchBucket" | "404":
            return "mind the name and the region, or make the bucket"
        case _:
            return f"check {' and '.join(ENDPOINT_VARIABLES)}, and the network"
