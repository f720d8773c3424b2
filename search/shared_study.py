"""A study in a database, which several drivers share: Optuna's tables, and what each driver sees of them."""

import copy
import json
import secrets
import time
import weakref
from collections.abc import Container, Sequence
from datetime import datetime
from typing import Any

from optuna.storages import RDBStorage
from optuna.storages._cached_storage import _CachedStorage, _StudyInfo
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _create_scoped_session
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.dialects.postgresql import insert

from data.input_error import InputError
from search.drivers import DRIVER, OF_EACH_DRIVER, PULSE, NumberTaken, Pulses, as_cut_off
from search.outage import Outage, Patient
from search.study_address import SharedPlace, check_database


class NumberedStorage(RDBStorage):
    """Optuna's storage in a database, in which a trial is begun under the number that it was drawn for, or not at all.

    So drivers that draw at the same time never try the same: what a trial tries follows from its number.
    """

    def _get_prepared_new_trial(self, study_id: int, template_trial: FrozenTrial | None, session: Any) -> Any:
        # Optuna holds the study's row here, so nobody else begins a trial before this one is in or taken back.
        trial = super()._get_prepared_new_trial(study_id, template_trial, session)
        if template_trial is not None and template_trial.number != trial.number:
            raise NumberTaken
        return trial

    def set_once(self, study_id: int, key: str, value: Any) -> None:
        """Sets an attribute of a study, unless somebody has."""
        row = {"study_id": study_id, "key": key, "value_json": json.dumps(value)}
        self._execute(insert(models.StudyUserAttributeModel).values(**row).on_conflict_do_nothing())

    # Of what is written for every epoch, Optuna would ask first whether the trial has ended, and whether the epoch is
    # there: two or three times the way to the database and back. Only its driver writes to a trial, and knows.

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Sets an attribute of a trial that has not ended."""
        value_json = json.dumps(value)
        row = insert(models.TrialUserAttributeModel).values(trial_id=trial_id, key=key, value_json=value_json)
        self._execute(row.on_conflict_do_update(index_elements=["trial_id", "key"], set_={"value_json": value_json}))

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Reports what a trial that has not ended has shown."""
        model = models.TrialIntermediateValueModel
        stored, kind = model.intermediate_value_to_stored_repr(intermediate_value)
        changed = {"intermediate_value": stored, "intermediate_value_type": kind}
        row = insert(model).values(trial_id=trial_id, step=step, **changed)
        self._execute(row.on_conflict_do_update(index_elements=["trial_id", "step"], set_=changed))

    def _execute(self, statement: Any) -> None:
        with _create_scoped_session(self.scoped_session) as session:
            session.execute(statement)


class SharedStorage(_CachedStorage):
    """What one driver sees of a shared study, and writes to it.

    Its own trials nobody else writes to: it knows them by heart, and every write goes to the database at once. Those of
    others are as they were when it last read them (`refresh`). One that runs, but whose driver is silent, is seen
    waiting. Attributes of the study that each driver has (`OF_EACH_DRIVER`) are seen under their plain names by the
    driver whose they are, and by others under `name/driver`.
    """

    def __init__(self, storage: NumberedStorage, place: SharedPlace) -> None:
        self.driver = place.driver
        self.outage = Outage(str(place))
        super().__init__(Patient(storage, self.outage))  # type: ignore[arg-type]
        self._pulses = Pulses()
        self._last = -1  # the newest trial that has been read
        self._may_change: set[int] = set()  # trials of others that have not ended
        weakref.finalize(self, storage.engine.dispose)

    def refresh(self, study_id: int) -> None:
        """Gives a sign of life, and reads what others have written."""
        self._backend.set_study_user_attr(study_id, f"{PULSE}/{self.driver}", secrets.token_hex(4))
        attributes = self._backend.get_study_user_attrs(study_id)
        pulses = {key.partition("/")[2]: value for key, value in attributes.items() if key.startswith(f"{PULSE}/")}
        self._pulses.take_in(pulses, time.monotonic())
        self._read(study_id)

    def set_once(self, study_id: int, key: str, value: Any) -> Any:
        """Sets an attribute of a study unless somebody has; the value that holds."""
        self._backend.set_once(study_id, key, value)  # type: ignore[attr-defined]
        return self._backend.get_study_user_attrs(study_id)[key]

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Sets an attribute of a study; of those that each driver has, its own."""
        super().set_study_user_attr(study_id, self._key(key), value)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """The attributes of a study; of those that each driver has, its own by their plain names."""
        plain = {self._key(name): name for name in OF_EACH_DRIVER}
        return {plain.get(key, key): value for key, value in super().get_study_user_attrs(study_id).items()}

    def get_trial(self, trial_id: int) -> FrozenTrial:
        """What is known of a trial."""
        known = self._trial_id_to_study_id_and_number.get(trial_id)
        return super().get_trial(trial_id) if known is None else self._studies[known[0]].trials[known[1]]

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """All trials that are known, by their numbers; the first time, all that there are."""
        if self._last < 0:
            self._read(study_id)
        trials = self._studies[study_id].trials
        found = [trials[number] for number in sorted(trials) if states is None or trials[number].state in states]
        return copy.deepcopy(found) if deepcopy else found

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Tells the state of a trial of its own, and at its end its values."""
        if not super().set_trial_state_values(trial_id, state, values):
            return False
        trial, now = self._changing(trial_id), datetime.now()  # as Optuna has it
        trial.state = state
        if values is not None:
            trial.values = list(values)
        if state == TrialState.RUNNING:
            trial.datetime_start = now
        if state.is_finished():
            trial.datetime_complete = now
        return True

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Reports what an epoch of a trial of its own has shown."""
        self.check_trial_is_updatable(trial_id, self.get_trial(trial_id).state)
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        trial = self._changing(trial_id)
        trial.intermediate_values = {**trial.intermediate_values, step: intermediate_value}

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Sets an attribute of a trial of its own."""
        self.check_trial_is_updatable(trial_id, self.get_trial(trial_id).state)
        super().set_trial_user_attr(trial_id, key, value)
        trial = self._changing(trial_id)
        trial.user_attrs = {**trial.user_attrs, key: value}

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Sets what Optuna keeps beside a trial of its own."""
        super().set_trial_system_attr(trial_id, key, value)
        trial = self._changing(trial_id)
        trial.system_attrs = {**trial.system_attrs, key: value}

    def _key(self, name: str) -> str:
        return f"{name}/{self.driver}" if name in OF_EACH_DRIVER else name

    def _changing(self, trial_id: int) -> FrozenTrial:
        """What is known of a trial, to be changed: who has been given it before keeps it as it was."""
        study_id, number = self._trial_id_to_study_id_and_number[trial_id]
        trials = self._studies[study_id].trials
        trials[number] = copy.copy(trials[number])
        return trials[number]

    def _read(self, study_id: int) -> None:
        """Reads the trials that are new, and those of others that have not ended.

        Trials of a study come to be one after the other, so none that is new has a lower id than one that was read.
        """
        study = self._studies.setdefault(study_id, _StudyInfo())
        for trial in self._backend._get_trials(study_id, None, self._may_change, self._last):
            self._last = max(self._last, trial._trial_id)
            driver = trial.user_attrs.get(DRIVER, "")
            if driver == self.driver:
                if trial.number not in study.trials:
                    self._add_trials_to_cache(study_id, [trial])
                continue
            (self._may_change.discard if trial.state.is_finished() else self._may_change.add)(trial._trial_id)
            silent = trial.state == TrialState.RUNNING and self._pulses.is_silent(driver)
            self._add_trials_to_cache(study_id, [as_cut_off(trial) if silent else trial])


def open_storage(place: SharedPlace) -> SharedStorage:
    """The storage of a place, the same as long as it is in use. Raises InputError where it cannot be used."""
    if (storage := _OPEN.get(place)) is None:
        check_database(place.address)
        import psycopg
        from sqlalchemy.exc import SQLAlchemyError

        # Whether the connection is still there is not asked each time: what is lost is sent again (see `Outage`).
        connecting = {"connect_args": place.address.connection, "pool_size": 1}
        try:
            # Two drivers that come first at the same time would both make the tables.
            with psycopg.connect(**place.address.connection) as alone:
                alone.execute("SELECT pg_advisory_xact_lock(hashtext('unet-search'))")
                database = NumberedStorage("postgresql+psycopg://", connecting)
        except (RuntimeError, psycopg.Error, SQLAlchemyError) as error:  # the first is of another version of Optuna
            said = " ".join(str(error).partition("\n")[0].split())
            raise InputError(f"study '{place.address}' cannot be used ({said}): mend it, or name another.") from error
        storage = _OPEN[place] = SharedStorage(database, place)
    return storage


_OPEN: "weakref.WeakValueDictionary[SharedPlace, SharedStorage]" = weakref.WeakValueDictionary()
