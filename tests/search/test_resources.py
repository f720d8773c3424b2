"""How many trials fit on which machines, and what is said when no cluster answers."""

import socket
import threading
from collections.abc import Iterator, Sequence

import pytest

from data.input_error import InputError
from search.resources import Machine, Needs, choose_needs, find_cluster


def machine(cpus: float, gpus: float = 0) -> Machine:
    return Machine(cpus=cpus, gpus=gpus)


@pytest.mark.parametrize(
    ("needs", "there", "count"),
    [
        (Needs(cpus=1, gpus=0), [machine(2)], 2),
        (Needs(cpus=2, gpus=0), [machine(3), machine(3)], 2),
        (Needs(cpus=0.5, gpus=0), [machine(2)], 4),
        (Needs(cpus=1, gpus=1), [machine(16, 8)], 8),
        (Needs(cpus=4, gpus=1), [machine(16, 8)], 4),
        (Needs(cpus=1, gpus=1), [machine(64), machine(8, 2)], 2),
        (Needs(cpus=1, gpus=1 / 3), [machine(8, 1)], 3),
        (Needs(cpus=1, gpus=0.5), [machine(64), machine(3, 4), machine(16, 2)], 7),
        (Needs(cpus=1, gpus=0.4), [machine(16, 2)], 4),
        (Needs(cpus=1, gpus=0.7), [machine(16, 3)], 3),
        (Needs(cpus=2, gpus=4), [machine(16, 8), machine(3, 8), machine(64, 2)], 3),
        (Needs(cpus=0.1, gpus=0), [machine(1)], 10),
        (Needs(cpus=1, gpus=2), [machine(8, 1), machine(8, 1)], 0),
        (Needs(cpus=1, gpus=0), [], 0),
    ],
)
def test_trials_fit_on_machines_one_by_one(needs: Needs, there: Sequence[Machine], count: int) -> None:
    assert needs.fit(there) == count


@pytest.mark.parametrize(
    ("asked", "there", "gpus"),
    [
        (None, [machine(4)], 0),
        (None, [machine(4), machine(4, 1)], 1),
        (0.5, [machine(4, 1)], 0.5),
        (0, [machine(4, 1)], 0),
    ],
)
def test_a_trial_has_one_gpu_where_there_are_any_unless_asked_otherwise(
    asked: float | None, there: Sequence[Machine], gpus: float
) -> None:
    assert choose_needs(1, asked, there) == choose_needs(None, asked, there) == Needs(cpus=1, gpus=gpus)


@pytest.mark.parametrize(("cpus", "gpus"), [(1, 3), (99, 0), (1, 0.5)])
def test_asking_for_more_than_there_is_says_what_there_is(cpus: float, gpus: float) -> None:
    with pytest.raises(InputError) as refusal:
        choose_needs(cpus, gpus, [machine(8), machine(0.5, 2)])
    assert f"cpus_per_trial {cpus} and gpus_per_trial {gpus} fit on no machine" in str(refusal.value)
    assert "one with 8 CPUs and 0 GPUs and one with 0.5 CPUs and 2 GPUs" in str(refusal.value)


@pytest.fixture
def answering() -> Iterator[dict[bytes, str]]:
    """Servers that answer a first greeting with the bytes: answer -> host:port."""
    servers: dict[bytes, str] = {}
    sockets = []
    for answer in (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00", b"HTTP/1.1 400 Bad Request\r\n\r\n", b""):
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)
        servers[answer] = f"127.0.0.1:{listener.getsockname()[1]}"

        def serve(listener: socket.socket = listener, answer: bytes = answer) -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(64)
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
    yield servers
    for one in sockets:
        one.close()


def test_only_what_speaks_as_ray_does_is_taken_for_a_cluster(answering: dict[bytes, str]) -> None:
    ray, web, silent = answering.values()
    assert find_cluster(ray) == ray
    for address in (web, silent):
        with pytest.raises(InputError, match=f"address '{address}': no cluster answers .what listens there is no Ray"):
            find_cluster(address)


def test_who_never_answers_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.resources.SECONDS_TO_ANSWER", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(InputError, match=f"address '{address}': no cluster answers .timed out"):
            find_cluster(address)
    with pytest.raises(InputError, match=f"address '{address}': no cluster answers .*refused"):
        find_cluster(address)


@pytest.mark.parametrize("address", ["", "10.0.0.1", "10.0.0.1:", ":6379", "ray://10.0.0.1:10001", "head:http"])
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    with pytest.raises(InputError, match=r"must be host:port, such as 10.0.0.1:6379, or auto"):
        find_cluster(address)


def test_a_port_that_cannot_be_is_no_cluster() -> None:
    with pytest.raises(InputError, match="no cluster answers"):
        find_cluster("127.0.0.1:99999")


def test_auto_is_the_cluster_of_this_machine(answering: dict[bytes, str], monkeypatch: pytest.MonkeyPatch) -> None:
    ray, *_ = answering.values()
    monkeypatch.setenv("RAY_ADDRESS", ray)
    assert find_cluster("auto") == ray
    monkeypatch.delenv("RAY_ADDRESS")
    monkeypatch.setattr("ray._private.utils.read_ray_address", lambda: None)
    with pytest.raises(InputError, match="address 'auto' finds no cluster on this machine"):
        find_cluster("auto")
