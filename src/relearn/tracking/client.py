"""MLflow's client without its long waits, and the store that a fresh clone gets."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from relearn.errors import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient

STORE = "mlflow.db"
"""Name of the SQLite store under the storage root."""


def absolute_address(address: str, storage: Path) -> str:
    """Return the address of the store; an empty one means SQLite under the storage root.

    Args:
        address: ``tracking.address`` as given.
        storage: Storage root, absolute.
    """
    return address or f"sqlite:///{(storage / STORE).as_posix()}"


def open_client(address: str, timeout_seconds: int = 5) -> MlflowClient:
    """Return a client that gives up quickly and loads no pickles.

    Args:
        address: Absolute tracking address.
        timeout_seconds: Seconds for one request.
    """
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"  # its default waits for minutes
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(timeout_seconds)
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    from mlflow import MlflowClient

    for noisy in ("mlflow.store.db.utils", "alembic", "alembic.runtime.migration"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=address, registry_uri=address)


def probe(address: str, timeout_seconds: int) -> None:
    """Check that something listens at an http address; files need no check.

    Args:
        address: Absolute tracking address.
        timeout_seconds: Seconds to wait.

    Raises:
        TrackingError: Nothing answers; names the parameter and the way to go without.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https"):
        return
    import urllib.error
    import urllib.request

    request = urllib.request.Request(f"{address.rstrip('/')}/health")  # noqa: S310 -- http(s) only, see above
    try:
        with contextlib.closing(urllib.request.urlopen(request, timeout=timeout_seconds)):  # noqa: S310
            return
    except urllib.error.HTTPError:
        return  # something answers; whether it lets us in is seen when the run is opened
    except (OSError, ValueError) as error:
        raise unreachable(address, error) from error


def unreachable(address: str, error: Exception) -> TrackingError:
    """Return the error for an address that refuses or does not answer.

    Args:
        address: Tracking address; a password inside it is not shown.
        error: What was met.
    """
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
    return TrackingError(
        f"tracking.address: {without_password(address)} cannot be used ({reason}); start the "
        "server, correct the address, or add --params tracking.enabled=false"
    )


def without_password(address: str) -> str:
    """Return ``address`` without user name and password.

    Args:
        address: Any address.
    """
    parts = urlsplit(address)
    if "@" not in parts.netloc:
        return address
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


@contextlib.contextmanager
def refusing(address: str) -> Iterator[None]:
    """Turn whatever the store raises inside the block into one line.

    Args:
        address: Tracking address, for the message.

    Raises:
        TrackingError: The store refused or did not answer.
    """
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        raise unreachable(address, error) from error


_SHOWN_AS = {"mlflow.experimentKind": "custom_model_development"}
"""Opens the page on training runs instead of on traces of language models."""


def experiment_id(client: MlflowClient, name: str, artifacts: Path) -> str:
    """Return the id of the experiment, made with its artifacts under ``artifacts`` if new.

    Args:
        client: An open client.
        name: Name of the experiment.
        artifacts: Folder for artifacts of a local store.

    Raises:
        TrackingError: The experiment of that name has been deleted.
    """
    found = client.get_experiment_by_name(name)
    if found is not None:
        if found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"tracking.experiment: {name!r} was deleted; restore it or use another"
            )
        return str(found.experiment_id)
    local = str(client.tracking_uri).startswith("sqlite:")
    location = artifacts.resolve().as_uri() if local else None
    return str(client.create_experiment(name, artifact_location=location, tags=_SHOWN_AS))
