"""Several drivers in one study, in a real PostgreSQL server: called as Ray calls them, and as whole commands."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState
from sqlalchemy.exc import OperationalError

import search.outage
from data.input_error import InputError
from model.config import TrainConfig
from search.conclusion import keep_best
from search.drivers import LONGEST_GAP, SECONDS_TO_LIVE, places_of_others
from search.ending import set_aside, take_up
from search.events import Events
from search.halving import PromotingScheduler
from search.leaderboard import read, read_run
from search.record import TrialRecord, records_from_study
from search.run_folder import RunFolder
from search.rungs import Rungs
from search.searcher import StudySearcher
from search.space import parse_space
from search.study import agree, check_terms, enter, find_study, keep_copy, outages_told, read_study, study_place
from search.study_address import check_database, read_address
from search.warm_start import past_trials
from tests.search.commands import SMALL, run_here, start
from tests.search.postgresql import SECRET, USER, Server
from tests.search.trainings import keep_model
from tests.toys import colored_squares

pytestmark = pytest.mark.drill


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", SECRET)


Make = Callable[..., StudySearcher]


@pytest.fixture
def make(server: Server, tmp_path: Path) -> Make:
    """Makes the searcher of a driver, in a study that is the test's own."""

    def make(driver: str, **asked: Any) -> StudySearcher:
        folder = tmp_path / driver / tmp_path.name
        folder.mkdir(parents=True, exist_ok=True)
        asked = {"num_trials": 6, "seed": 0, "max_concurrent": 3, "space": parse_space(())} | asked
        searcher = StudySearcher(journal=study_place(RunFolder(path=folder), server.url), **asked)
        enter(searcher.study, RunFolder(path=folder))
        return searcher

    return make


def run_trial(searcher: StudySearcher, ray_id: str, *curve: float, status: str = "completed") -> str:
    """A trial from its beginning to its end; our id of it."""
    suggestion = searcher.suggest(ray_id)
    assert isinstance(suggestion, dict)
    for epoch, value in enumerate(curve[:-1], start=1):
        searcher.on_trial_result(ray_id, {"epoch": epoch, "val_dice": value, "status": "running"})
    checkpoint = f"trials/{suggestion['trial_id']}/best"
    last = {"epoch": len(curve), "val_dice": curve[-1], "status": status, "checkpoint": checkpoint}
    searcher.on_trial_complete(ray_id, last)
    return str(suggestion["trial_id"])


def rows(searcher: StudySearcher) -> list[TrialRecord]:
    searcher.hear()
    return records_from_study(searcher.study)


def test_two_drivers_share_the_trials_and_know_all_of_them(make: Make) -> None:
    one, other = make("one"), make("other")
    ids = [run_trial(one, "a", 0.2, 0.7), run_trial(other, "b", 0.3), run_trial(other, "c", 0.1, 0.4)]
    ids += [run_trial(one, "d", 0.5, status="diverged"), run_trial(other, "e", 0.6), run_trial(one, "f", 0.6)]
    assert ids == [f"t{number:04d}" for number in range(6)]
    for searcher in (one, other):
        records = rows(searcher)
        assert [record.val_dice for record in records] == [0.7, 0.3, 0.4, 0.5, 0.6, 0.6]
        assert [record.status for record in records].count("completed") == 5
        assert searcher.suggest("g") == "FINISHED", "they count the trials of both"
    configs = [str(record.config) for record in rows(one)]
    assert len(set(configs)) == len(configs), "nothing is tried twice"
    states = [trial.state for trial in one.study.get_trials(deepcopy=False)]
    assert states == [trial.state for trial in make("third").study.get_trials(deepcopy=False)]
    assert states.count(TrialState.PRUNED) == 1


def test_samplers_see_the_trials_of_others_those_that_run_included(make: Make) -> None:
    one, other = make("one"), make("other")
    run_trial(one, "a", 0.7)
    one.suggest("b")
    other.hear()
    seen = other._history().get_trials(deepcopy=False)
    assert [trial.state for trial in seen] == [TrialState.COMPLETE, TrialState.RUNNING]
    one.on_trial_complete("b", {"epoch": 1, "val_dice": 0.2, "status": "completed"})
    other.hear()
    assert [trial.state for trial in other._history().get_trials(deepcopy=False)] == [TrialState.COMPLETE] * 2


def test_a_number_is_drawn_for_once(make: Make) -> None:
    one, other = make("one"), make("other")
    first = one.suggest("a")
    second = other.suggest("b")  # it still knew of no trial
    assert isinstance(first, dict) and isinstance(second, dict)
    assert (first.pop("trial_id"), second.pop("trial_id")) == ("t0000", "t0001")
    assert first != second


def test_many_drivers_at_once_take_each_number_once(make: Make) -> None:
    searchers = [make(str(count), num_trials=12, max_concurrent=12, searcher="random") for count in range(3)]
    drawn: list[Any] = []

    def draw(searcher: StudySearcher, name: str) -> None:
        drawn.extend(searcher.suggest(f"{name}{count}") for count in range(12))

    threads = [threading.Thread(target=draw, args=(one, str(place))) for place, one in enumerate(searchers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = sorted(one["trial_id"] for one in drawn if isinstance(one, dict))
    assert ids == [f"t{number:04d}" for number in range(12)]
    assert [record.trial_id for record in rows(searchers[0])] == ids


def test_a_trial_whose_beginning_was_heard_though_the_answer_was_lost_is_begun_once(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher = make("one")
    database = searcher.study._storage._backend._storage  # type: ignore[attr-defined]
    begin, lost = database._create_new_trial, [True]

    def begin_and_lose(*given: Any) -> Any:
        begun = begin(*given)
        if lost.pop() if lost else False:
            raise OperationalError("INSERT", {}, Exception("server closed the connection"))
        return begun

    monkeypatch.setattr(database, "_create_new_trial", begin_and_lose)
    assert run_trial(searcher, "a", 0.5) == "t0000"
    assert run_trial(searcher, "b", 0.6) == "t0001"
    assert [(record.trial_id, record.val_dice) for record in rows(make("other"))] == [("t0000", 0.5), ("t0001", 0.6)]


def test_a_driver_leaves_the_trials_of_others_alone(make: Make) -> None:
    one, other = make("one"), make("other")
    for name in ("a", "b"):
        one.suggest(name)
    one.on_trial_result("a", {"epoch": 1, "val_dice": 0.3})
    one.set_aside("a")
    other.suggest("c")
    other.hear()
    set_aside(other.study, "num_trials 6 reached")
    one.hear()
    states = [TrialState.WAITING, TrialState.RUNNING, TrialState.WAITING]
    assert [trial.state for trial in one.study.get_trials(deepcopy=False)] == states
    take_up(one.study)  # of its own, a rests
    assert [trial.state for trial in one.study.get_trials(deepcopy=False)] == states
    again = make("other", num_trials=3)
    take_up(again.study)
    again.study._storage.refresh(again.study._study_id)  # type: ignore[attr-defined]
    reopened = make("other", num_trials=3)
    assert reopened.suggest("c2")["trial_id"] == "t0002"  # type: ignore[index]
    assert reopened.suggest("d") is None, "what others have left is none of its business"


def test_who_is_killed_goes_on_with_its_own_and_is_not_waited_for(make: Make) -> None:
    killed, other = make("killed"), make("other")
    run_trial(killed, "a", 0.8)
    killed.suggest("b")
    killed.on_trial_result("b", {"epoch": 1, "val_dice": 0.3, "status": "running"})
    killed.hear()  # its last sign of life
    del killed
    other.hear()
    moment = [time.monotonic()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("search.shared_study.time.monotonic", lambda: moment[0])
        for _ in range(int(SECONDS_TO_LIVE / LONGEST_GAP) + 1):
            moment[0] += LONGEST_GAP
            done, cut_off = rows(other)
    assert (done.status, done.val_dice) == ("completed", 0.8)
    assert (cut_off.status, cut_off.val_dice) == ("stopped", 0.3)
    assert cut_off.reason.startswith("its driver is silent: --resume that one")
    assert other.study.get_trials(deepcopy=False)[1].state == TrialState.WAITING
    assert other._history().get_trials(deepcopy=False)[1].state == TrialState.PRUNED

    resumed = make("killed")
    again = resumed.suggest("b2")
    assert again["trial_id"] == "t0001"  # type: ignore[index]
    resumed.on_trial_complete("b2", {"epoch": 2, "val_dice": 0.6, "status": "completed"})
    resumed.hear()
    for searcher in (resumed, other):
        assert [(row.status, row.val_dice) for row in rows(searcher)] == [("completed", 0.8), ("completed", 0.6)]


def test_rungs_hold_the_trials_of_both(make: Make) -> None:
    one, other = make("one"), make("other")
    for name, value in (("a", 0.7), ("b", 0.8), ("c", 0.9)):
        one.suggest(name)
        one.on_trial_result(name, {"epoch": 1, "val_dice": value, "status": "running"})
    scheduler = PromotingScheduler(Rungs(max_epochs=9, evaluate_every=1, folds=1))
    scheduler.refill(other.study)
    scheduler.hear(other.hear())
    scheduler.hear(other.hear())
    first = scheduler._reached[scheduler.rungs[0]]
    assert sorted(point[0] for point in first.points.values()) == [0.7, 0.8, 0.9]
    assert first.next is None, "what waits elsewhere is not its to take up"
    one.on_trial_result("c", {"epoch": scheduler.rungs[1], "val_dice": 0.95, "status": "running"})
    scheduler.hear(other.hear())
    assert [point[0] for point in scheduler._reached[scheduler.rungs[1]].points.values()] == [0.95]


def test_the_best_model_of_another_is_named_and_not_looked_for_here(make: Make, tmp_path: Path) -> None:
    one, other = make("one"), make("other")
    better, own = run_trial(one, "a", 0.9), run_trial(other, "b", 0.4)
    records = rows(other)
    run = RunFolder(path=tmp_path / "other" / tmp_path.name)
    for trial_id in (better, own):  # the first is here by chance
        keep_model(TrainConfig(depth=2, width=2), colored_squares("binary"), run.trials / trial_id, {})
    said: list[str] = []
    exported = keep_best(run, records, Events(run.events, said.append), places_of_others(other.study), None)
    assert exported is not None and exported.trial_id == own
    (line,) = said
    assert line.startswith("another driver has the best model, t0000 (val_dice 0.9000): ")
    assert line.endswith(f":{tmp_path}/one/{tmp_path.name}/trials/t0000/best")


def test_a_copy_is_for_all_that_only_look(make: Make, tmp_path: Path) -> None:
    searcher = make("one")
    run_trial(searcher, "a", 0.2, 0.7)
    searcher.suggest("b")
    journal = tmp_path / "one" / tmp_path.name / "study.log"
    for _ in range(2):
        keep_copy(searcher.study, journal)
    copied = read_study(journal)
    assert records_from_study(copied) == records_from_study(searcher.study)
    assert [trial.intermediate_values for trial in copied.trials] == [{1: 0.2, 2: 0.7}, {}]
    assert [trial.values["max_epochs"] for trial in past_trials([journal.parent], "")] == [60]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and SECRET in path.read_text()]


def test_what_was_asked_first_holds_for_all(make: Make) -> None:
    one, other = make("one"), make("other")
    agree(one.study, {"seed": 0, "data's fingerprint": "a"})
    check_terms(other.study, {"seed": 0, "data's fingerprint": "a"})
    agree(other.study, {"seed": 0, "data's fingerprint": "a"})
    for settle in (check_terms, agree):
        with pytest.raises(InputError, match=r"^data's fingerprint 'b' differs from 'a', with which shared study"):
            settle(other.study, {"seed": 0, "data's fingerprint": "b"})


def test_a_study_is_there_once_somebody_has_begun_it(make: Make, server: Server, tmp_path: Path) -> None:
    run = RunFolder(path=tmp_path / "one" / tmp_path.name)
    run.path.mkdir(parents=True)
    assert find_study(study_place(run, server.url)) is None
    make("other")
    assert find_study(study_place(run, server.url)) is not None


def test_what_each_driver_has_for_itself_stays_apart(make: Make) -> None:
    one, other = make("one").study, make("other").study
    one.set_user_attr("seconds", 10.0)
    other.set_user_attr("seconds", 20.0)
    assert (one.user_attrs["seconds"], other.user_attrs["seconds"]) == (10.0, 20.0)


@pytest.mark.parametrize(
    ("change", "password", "said"),
    [
        ((), "wrong", "does not take the password: put the right one into PGPASSWORD or ~/.pgpass"),
        (("/studies", "/nothing"), SECRET, "has no such database: make it (createdb), or name another"),
        ((USER, "poor"), "poor", "lets the user write nothing: GRANT CREATE ON SCHEMA public TO that user"),
        (("127.0.0.1", "127.0.0.2"), SECRET, "does not answer: start it, or mend the host and the port"),
    ],
)
def test_a_database_that_cannot_be_used_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], password: str, said: str
) -> None:
    if password == "poor":
        server.sql("CREATE DATABASE own")
        server.sql("CREATE USER poor PASSWORD 'poor'")
        change, url = (), server.url.replace(USER, "poor").replace("/studies", "/own")
    else:
        url = server.url.replace(*change) if change else server.url
    monkeypatch.setenv("PGPASSWORD", password)
    with pytest.raises(InputError) as refused:
        check_database(read_address(url))
    assert said in str(refused.value)
    assert password == "poor" or password not in str(refused.value)


@pytest.mark.timeout(60)
def test_while_the_database_is_away_the_search_waits_and_loses_nothing(make: Make, server: Server) -> None:
    searcher, said = make("one"), []
    searcher.suggest("a")
    searcher.on_trial_result("a", {"epoch": 1, "val_dice": 0.3, "status": "running"})
    server.stop()
    start = threading.Timer(2.0, server.start)
    start.start()
    try:
        with outages_told(searcher.study, said.append, lambda: False):
            searcher.on_trial_result("a", {"epoch": 2, "val_dice": 0.5, "status": "running"})
            searcher.on_trial_complete("a", {"epoch": 3, "val_dice": 0.7, "status": "completed"})
            run_trial(searcher, "b", 0.4)
    finally:
        start.join()
    begun, over = said
    assert "does not answer (" in begun and begun.endswith("): the search waits for it")
    assert "answers again after" in over
    first, second = make("other").study.trials
    assert (first.intermediate_values, first.value, second.value) == ({1: 0.3, 2: 0.5, 3: 0.7}, 0.7, 0.4)


@pytest.mark.timeout(60)
def test_a_database_that_stays_away_is_given_up_in_one_line_and_ctrl_c_is_heard(
    make: Make, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher, impatient = make("one"), make("other")
    for one in (searcher, impatient):
        one.suggest("a")
    server.stop()
    try:
        with pytest.raises(KeyboardInterrupt), outages_told(impatient.study, print, lambda: True):
            impatient.on_trial_result("a", {"epoch": 1, "val_dice": 0.3, "status": "running"})
        monkeypatch.setattr(search.outage, "SECONDS_OF_PATIENCE", 0.3)
        told = r"has not answered for 0 minutes .*: start it, then go on with --resume\.$"
        with pytest.raises(InputError, match=told), outages_told(searcher.study, print, lambda: False):
            try:
                searcher.on_trial_result("a", {"epoch": 1, "val_dice": 0.3, "status": "running"})
            except InputError as error:  # as Ray does with what goes wrong in a searcher
                raise RuntimeError("a traceback") from error
    finally:
        server.start()


def commanded(server: Server, storage: Path | str, *words: str, name: str = "shared") -> tuple[str, ...]:
    where = ("--study", server.url, "--name", name, "--storage", str(storage))
    return (*where, "--num-trials", "6", "--max-epochs", "6", *SMALL, *words)


def wait_until(ready: Callable[[], bool], *drivers: "subprocess.Popen[str]") -> None:
    until = time.monotonic() + 300
    while not ready():
        assert time.monotonic() < until
        assert all(driver.poll() is None for driver in drivers), [driver.communicate() for driver in drivers]
        time.sleep(0.1)


@pytest.mark.timeout(1000)
def test_two_commands_share_a_search_though_one_is_killed(server: Server, tmp_path: Path) -> None:
    folders = [tmp_path / name / "shared" for name in ("one", "other")]
    drivers = [start(*commanded(server, folder.parent)) for folder in folders]
    try:
        wait_until(lambda: all(list(folder.glob("trials/*/best")) for folder in folders), *drivers)
        drivers[0].kill()
        out, errors = drivers[1].communicate(timeout=300)
        assert (drivers[1].returncode, errors) == (0, ""), out
    finally:
        for driver in drivers:
            driver.kill()
            driver.communicate()
    own = [{path.name for path in folder.glob("trials/*")} for folder in folders]
    assert all(own)
    assert own[0].isdisjoint(own[1])
    assert own[0] | own[1] == {f"t{number:04d}" for number in range(6)}
    after = read(folders[1] / "leaderboard.csv").set_index("trial_id")
    assert set(after.index) == own[0] | own[1]
    assert set(after["status"][sorted(own[1])]) == {"completed"}

    resumed = start("--resume", "--name", "shared", "--storage", str(folders[0].parent))
    out, errors = resumed.communicate(timeout=300)
    assert (resumed.returncode, errors) == (0, ""), out
    rows_of_both = read(folders[0] / "leaderboard.csv").set_index("trial_id")
    assert set(rows_of_both.index) == own[0] | own[1]
    assert set(rows_of_both["status"]) == {"completed"}
    assert set(rows_of_both.epochs) == {6}
    best = rows_of_both.index[rows_of_both["rank"] == 1][0]
    assert ("another driver has the best model" in out) == (best in own[1])
    assert (folders[0] / "best").is_dir()
    assert len(read_study(folders[0] / "study.log").trials) == 6
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


@pytest.mark.timeout(900)
def test_a_driver_whose_run_lies_at_a_url_goes_on_with_its_own_from_another_machine(
    server: Server, tmp_path: Path
) -> None:
    run, machines = tmp_path / "bucket/away", [str(tmp_path / name) for name in ("one", "other")]
    storage = f"file://{run.parent}"
    killed = start(*commanded(server, storage, name=run.name), UNET_SEARCH_CACHE=machines[0])
    try:
        wait_until(lambda: bool(list(run.glob("trials/*/best/*"))), killed)
    finally:
        killed.kill()
        killed.communicate()
    begun = {path.name for path in run.glob("trials/*")}
    for machine, trials in zip(machines, (6, 7), strict=True):
        command = ("--resume", "--name", run.name, "--storage", storage, "--num-trials", str(trials))
        resumed = start(*command, UNET_SEARCH_CACHE=machine)
        out, errors = resumed.communicate(timeout=300)
        assert (resumed.returncode, errors) == (0, ""), out
        rows = read(run / "leaderboard.csv").set_index("trial_id")
        assert begun <= set(rows.index) == {f"t{number:04d}" for number in range(trials)}
        assert set(rows["status"]) == {"completed"}
        assert set(rows.epochs) == {6}


def test_a_command_that_does_not_fit_in_is_refused_before_anything_is_made(
    server: Server, make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = tmp_path.name
    agree(make("one").study, {"seed": 7, "max_epochs": 6})
    assert run_here(*commanded(server, tmp_path / "runs", name=name)) == 2
    assert capsys.readouterr().err.startswith("error: seed 0 differs from 7, with which shared study 'unet-search/")
    monkeypatch.setenv("PGPASSWORD", "wrong")
    assert run_here(*commanded(server, tmp_path / "runs", name=name)) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "does not take the password" in said and "wrong" not in said
    assert not (tmp_path / "runs").exists()


def test_who_looks_at_a_leaderboard_asks_no_database(
    make: Make, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    searcher = make("one")
    run_trial(searcher, "a", 0.2, 0.7)
    run = tmp_path / "one" / tmp_path.name
    (run / "settings.yaml").write_text(f"study: {server.url}\n")
    keep_copy(searcher.study, run / "study.log")
    monkeypatch.setattr("psycopg.connect", None)
    monkeypatch.setattr("search.study_address.check_database", None)
    assert read_run(run)["val_dice"].tolist() == [0.7]
