"""The address of a shared study: what is one, what is not, and that no password is ever shown."""

from dataclasses import replace
from pathlib import Path

import pytest

from data.input_error import InputError
from search.run_folder import RunFolder
from search.settings import SearchSettings, check_same_run
from search.study_address import StudyAddress, read_address, refusal


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("postgresql://ann@host/team", {"user": "ann", "host": "host", "dbname": "team"}),
        ("postgresql://a%40b@[::1]:5433/t-1", {"user": "a@b", "host": "::1", "port": 5433, "dbname": "t-1"}),
        ("postgresql:///team?host=/run/sockets", {"host": "/run/sockets", "dbname": "team"}),
        ("postgresql://host/team?sslmode=verify-full", {"host": "host", "dbname": "team", "sslmode": "verify-full"}),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, given: dict[str, object]) -> None:
    address = read_address(text)
    assert address.connection.items() >= given.items()
    assert {"user", "host", "port", "dbname", "sslmode"} & address.connection.keys() == given.keys()
    assert str(address) == text
    assert read_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("team", "study 'team' must begin with postgresql://"),
        ("", "study '' must begin with postgresql://"),
        ("mysql://ann@host/team", "must begin with postgresql://"),
        ("postgres://host/team", "study 'postgres://host/team' must begin with postgresql://"),
        ("postgresql://host", "is no address: write it like postgresql://user@host/database"),
        ("postgresql://host/", "is no address"),
        ("postgresql://host/a/b", "is no address"),
        ("postgresql://host:99999/team", "is no address"),
        ("postgresql://[host/team", "is no address"),
        ("postgresql://host/te%0Aam", "is no address"),
        ("postgresql://host/team?sslmode", "is no address"),
        ("postgresql://host/team?host=a&host=b", "is no address"),
        ("postgresql://host/team?service=x", "option 'service' behind its ?; allowed: host, sslmode"),
        ("postgresql://ann:s3cr3t@host/team", "put it into PGPASSWORD or ~/.pgpass"),
        ("postgresql://ann:s3cr3t@[host/team", "is no address"),
        ("postgresql://host/team?password=s3cr3t", "put it into PGPASSWORD or ~/.pgpass"),
        ("postgresql://host/team?sslpassword=s3cr3t", "put it into PGPASSWORD or ~/.pgpass"),
        ("mysql://ann:s3cr3t@host/team", "must begin with postgresql://"),
        ("ann:s3cr3t@host/team", "must begin with postgresql://"),
    ],
)
def test_what_is_no_address_is_refused_without_its_password(text: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        SearchSettings(study=text, name="mine")
    assert said in str(refused.value)
    assert "s3cr3t" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ('FATAL:  password authentication failed for user "ann"', "does not take the password"),
        ('FATAL:  database "team" does not exist', "has no such database: make it"),
        ('FATAL:  role "ann" does not exist', "does not know the user"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1"', "lets nobody in from this machine"),
        ("connection refused\nIs the server running?", "does not answer: start it"),
        ("", "does not answer: start it, or mend the host and the port (no reason given)."),
    ],
)
def test_what_a_server_says_is_told_in_one_line(said: str, meaning: str) -> None:
    message = str(refusal(StudyAddress(host="host", database="team"), said))
    assert message.startswith("study 'postgresql://host/team' ")
    assert meaning in message
    assert "\n" not in message


def test_a_shared_study_needs_the_name_that_its_drivers_share() -> None:
    with pytest.raises(InputError, match=r"--study needs the name .*: add --name"):
        SearchSettings(study="postgresql://host/team")


def test_a_run_keeps_its_study() -> None:
    began = SearchSettings(study="postgresql://host/team", name="mine")
    check_same_run(began, began.as_mapping(), "mine")
    for other in (None, "postgresql://host/other"):
        with pytest.raises(InputError, match=r"study .* run 'mine' began, and a run keeps it: leave --study out"):
            check_same_run(replace(began, study=other), began.as_mapping(), "mine")


def test_the_driver_of_a_run_keeps_its_name(tmp_path: Path) -> None:
    from search.drivers import driver_id

    for name in ("one", "other"):
        (tmp_path / name).mkdir()
    one, other = (RunFolder(path=tmp_path / name) for name in ("one", "other"))
    assert driver_id(one) == driver_id(one) != driver_id(other)
    one.driver.write_text("../x\n")
    with pytest.raises(InputError, match=r"driver\.txt' must hold the 8 hexadecimal digits of a driver's name, not"):
        driver_id(one)
