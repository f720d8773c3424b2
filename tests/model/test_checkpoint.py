"""Models on disk: the same after the way there and back, refused when damaged, and never a way to run code."""

import ast
import json
import struct
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file

from data.input_error import InputError
from data.segmentation_data import Preparation
from model.checkpoint import (
    CONFIG,
    SCORES,
    WEIGHTS,
    ModelCard,
    load_model,
    load_tensors,
    read_card,
    save_model,
    save_tensors,
)
from model.config import NORMALISATIONS, TrainConfig
from tests.toys import TASKS, colored_squares

CONFIG_OF_TESTS = TrainConfig(depth=2, width=2, learning_rate=0.1 + 0.2, loss="dice", seed=3)


def card_of(task: str = "multilabel", **settings: Any) -> ModelCard:
    data = colored_squares(task, count=1)
    return ModelCard.of(replace(CONFIG_OF_TESTS, **settings), data, thresholds=(0.5,) * len(data.class_names))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model folder without a fault."""
    card = card_of()
    save_model(tmp_path / "model", card.build(), card, {"val_dice": 0.5})
    return tmp_path / "model"


def message_of(refused: Callable[[], object]) -> str:
    with pytest.raises(InputError) as error:
        refused()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("normalisation", NORMALISATIONS)
def test_a_model_is_the_same_bit_for_bit_after_the_way_to_disk_and_back(
    task: str, normalisation: str, tmp_path: Path
) -> None:
    card = card_of(task, normalisation=normalisation)
    network = card.build().train()
    images = torch.rand(2, 3, 16, 16) * 255
    network(images)  # moves the statistics of batch normalisation
    save_model(tmp_path / "run" / "best", network, card, {"val_dice": 0.25, "epoch": 4})
    again, card_again = load_model(tmp_path / "run" / "best")
    assert card_again == card
    assert not again.training
    before, after = network.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    for name in before:
        assert torch.equal(before[name], after[name])
        assert before[name].dtype == after[name].dtype
    assert torch.equal(network.eval()(images), again(images))
    assert sorted(path.name for path in (tmp_path / "run" / "best").iterdir()) == [CONFIG, WEIGHTS]
    assert load_tensors(tmp_path / "run" / "best" / WEIGHTS)[1] == {"scores": {"val_dice": 0.25, "epoch": 4}}


def test_a_card_keeps_every_setting_and_class_name(tmp_path: Path) -> None:
    card = replace(
        card_of(),
        class_names=("Gefäß", "no: yes", "1", "null"),
        thresholds=(1 / 3, 0.1, 0.0, 1.0),
        preparation=Preparation(size=123, color="grey", mask_threshold=0.1),
        source="C:\\pictures # 2",
        fingerprint="00123",
    )
    save_model(tmp_path, card.build(), card, {})
    assert read_card(tmp_path / CONFIG) == card


def test_the_config_is_a_text_that_a_person_can_read(folder: Path) -> None:
    lines = (folder / CONFIG).read_text(encoding="utf-8").splitlines()
    assert "  depth: 2" in lines
    assert "label_mode: multilabel" in lines
    assert "- class0" in lines


def test_a_second_save_replaces_the_first(folder: Path) -> None:
    card = card_of(seed=9)
    network = card.build()
    save_model(folder, network, card, {})
    again, card_again = load_model(folder)
    assert card_again.config.seed == 9
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in network.state_dict().items())
    assert sorted(path.name for path in folder.iterdir()) == [CONFIG, WEIGHTS]


@pytest.mark.parametrize("missing", [CONFIG, WEIGHTS])
def test_a_folder_without_a_whole_model_is_refused(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    words = message_of(lambda: load_model(folder))
    assert f"has no {missing}" in words
    assert str(folder) in words


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert f"{str(tmp_path / 'nowhere')!r} does not exist; give a folder with" in message_of(
        lambda: load_model(tmp_path / "nowhere")
    )


def test_the_model_of_a_run_is_found_in_the_runs_folder(folder: Path) -> None:
    best = folder.rename(folder.with_name("best"))
    assert message_of(lambda: load_model(best.parent)).endswith(f"did you mean {str(best)!r}?")


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 100, -4, -1], ids=lambda kept: f"bytes-{kept}")
def test_truncated_weights_are_refused(folder: Path, kept: int) -> None:
    whole = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(whole[:kept])
    words = message_of(lambda: load_model(folder))
    assert "is damaged" in words
    assert WEIGHTS in words


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x95" + b"a pickle, perhaps" * 9,
        b"\0" * 64,
        b"\xff" * 64,
        struct.pack("<Q", 2) + b"{}" + b"more than the header says",
        struct.pack("<Q", 8) + b"{broken}",
        struct.pack("<Q", 64) + b'{"__metadata__":{"facts":"{broken"}}'.ljust(64),
    ],
    ids=["pickle", "zeros", "ones", "too-long", "broken-header", "broken-facts"],
)
def test_a_file_that_holds_something_else_is_refused(folder: Path, content: bytes) -> None:
    (folder / WEIGHTS).write_bytes(content)
    assert "is damaged" in message_of(lambda: load_model(folder))


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    other = card_of(width=4).build()
    save_tensors(folder / WEIGHTS, other.state_dict(), {})
    assert f"{WEIGHTS} does not fit its {CONFIG}" in message_of(lambda: load_model(folder))
    save_file({"head.weight": torch.zeros(2, 2, 1, 1)}, folder / WEIGHTS)
    assert f"{WEIGHTS} does not fit its {CONFIG}" in message_of(lambda: load_model(folder))


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['touch {marker}']",
        "!!python/object/new:os.system ['touch {marker}']",
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{marker}']]",
        "!!python/name:os.system",
    ],
)
@pytest.mark.parametrize("place", ["alone", "thresholds", "config"])
def test_a_config_never_runs_code(folder: Path, tmp_path: Path, tag: str, place: str) -> None:
    marker = tmp_path / "code-ran"
    bad = tag.format(marker=marker)
    text = (folder / CONFIG).read_text(encoding="utf-8")
    if place == "alone":
        text = bad
    elif place == "thresholds":
        text = text.replace("thresholds:\n- 0.5", f"thresholds:\n- {bad}", 1)
    else:
        text = text.replace("depth: 2", f"depth: {bad}", 1)
    assert bad in text
    (folder / CONFIG).write_text(text, encoding="utf-8")
    assert "is no model configuration" in message_of(lambda: load_model(folder))
    assert not marker.exists()


def change(**entries: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda card: {**card, **entries}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda card: None, "None is in place of names"),
        (lambda card: "just words", "'just words' is in place of names"),
        (lambda card: [1, 2], "a list is in place of names"),
        (lambda card: {key: value for key, value in card.items() if key != "class_names"}, "class_names is missing"),
        (change(config=None), "config: None is in place of names"),
        (change(config={"depht": 3}), "config: entry 'depht' is not known; allowed"),
        (change(config={"depth": 9}), "depth 9 must be 6 or less"),
        (change(config={"depth": "3"}), "config: depth '3' must be a whole number"),
        (change(channels="three"), "channels 'three' must be a whole number"),
        (change(channels=0), "no channels"),
        (change(class_names=[]), "no classes"),
        (change(label_mode="multi"), "label_mode 'multi' must be multilabel or multiclass"),
        (change(label_mode=["multilabel"]), "label_mode a list must be multilabel or"),
        (change(thresholds="high"), "thresholds 'high' must be a list"),
        (change(thresholds=None), "thresholds None must be a list"),
        (change(thresholds=0.5), "thresholds 0.5 must be a list"),
        (change(thresholds=[0.5]), "one from 0 to 1 for each of its 2 classes"),
        (change(thresholds=[0.5] * 3), "one from 0 to 1 for each of its 2 classes"),
        (change(thresholds=[0.5, 1.5]), "has the thresholds [0.5, 1.5]"),
        (change(thresholds=[float("nan"), 0.5]), "thresholds nan must be a finite number"),
        (lambda card: {key: value for key, value in card.items() if key != "thresholds"}, "thresholds is missing"),
        (change(preparation={"sise": 3}), "preparation: entry 'sise' is not known"),
        (change(preparation=None), "preparation: None is in place of names"),
    ],
)
def test_a_config_that_is_wrong_is_refused_with_its_path(
    folder: Path, edit: Callable[[dict[str, Any]], Any], words: str
) -> None:
    card = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / CONFIG).write_text(yaml.safe_dump(edit(card)), encoding="utf-8")
    told = message_of(lambda: load_model(folder))
    assert words in told
    assert str(folder / CONFIG) in told


@pytest.mark.parametrize("content", [b"config: [unclosed", b"\xff\xfe\x00bytes", b"", b"\x00"])
def test_a_config_that_is_no_text_is_refused(folder: Path, content: bytes) -> None:
    (folder / CONFIG).write_bytes(content)
    assert "model configuration" in message_of(lambda: load_model(folder))


def test_an_old_config_without_a_newer_setting_gets_its_default(folder: Path) -> None:
    card = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    del card["config"]["schedule"]
    (folder / CONFIG).write_text(yaml.safe_dump(card), encoding="utf-8")
    assert read_card(folder / CONFIG).config == CONFIG_OF_TESTS


def test_an_old_config_with_one_threshold_has_it_for_all_classes(folder: Path) -> None:
    card = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    del card["thresholds"]
    (folder / CONFIG).write_text(yaml.safe_dump(card | {"threshold": 0.25}), encoding="utf-8")
    assert read_card(folder / CONFIG).thresholds == (0.25, 0.25)


def test_how_a_model_was_judged_lies_beside_it_until_it_is_replaced(folder: Path) -> None:
    card = card_of()
    judged = {"pooled": {"dice": 0.1 + 0.2}, "classes": {"Gefäß": {"dice": None}}}
    save_model(folder, card.build(), card, {}, judged=judged)
    assert json.loads((folder / SCORES).read_text(encoding="utf-8")) == judged
    assert "Gefäß" in (folder / SCORES).read_text(encoding="utf-8")
    save_model(folder, card.build(), card, {})
    assert not (folder / SCORES).exists()


def test_scores_that_are_no_json_are_not_written(folder: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_model(folder, card_of().build(), card_of(), {}, judged={"dice": float("nan")})
    assert not (folder / SCORES).exists()


def test_tensors_and_facts_survive_in_any_layout(tmp_path: Path) -> None:
    tensors = {
        "channels_last": torch.rand(3, 2, 4, 5).contiguous(memory_format=torch.channels_last),
        "slice": torch.rand(6, 6)[::2, 1:4],
        "scalar": torch.tensor(7.0),
        "whole": torch.arange(3),
        "needs_gradient": torch.ones(2, requires_grad=True),
    }
    facts = {"name": "Gefäß", "numbers": [1, 2.5, None], "nothing": float("nan")}
    save_tensors(tmp_path / "x.safetensors", tensors, facts)
    again, facts_again = load_tensors(tmp_path / "x.safetensors")
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    assert json.dumps(facts_again) == json.dumps(facts)


def test_a_card_has_a_line_for_each_of_its_facts(folder: Path) -> None:
    written = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    assert written.keys() == asdict(card_of()).keys()
    assert written["config"] == asdict(CONFIG_OF_TESTS)


@pytest.mark.parametrize("path", sorted(Path(__file__).parents[2].glob("model/*.py")), ids=lambda path: path.name)
def test_nothing_in_the_room_could_run_what_a_file_holds(path: Path) -> None:
    """A file of torch's own kind may be opened only as weights, by a reader that knows nothing else."""
    banned = {"torch.load", "torch.save", "torch.jit.load", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
    banned |= {"eval", "exec", "yaml.UnsafeLoader", "yaml.FullLoader", "yaml.Loader"}
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    weights_only = [call.func for call in calls if "weights_only=True" in map(ast.unparse, call.keywords)]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and node not in weights_only:
            assert ast.unparse(node) not in banned, f"line {node.lineno}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
            names -= {"pickle"} if names == {"pickle", "UnpicklingError"} else set()
            assert not names & {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib"}
            assert not (getattr(node, "module", None) in {"torch", "yaml"} and names & {"load", "save", "unsafe_load"})


@pytest.mark.parametrize("name", ["../../evil", "..", "", "a/b", "a\\b", "additive", "line\nbreak"])
def test_a_class_name_that_leads_out_of_the_folder_is_refused(folder: Path, name: str) -> None:
    card = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    card["class_names"] = [name, "other"]
    (folder / CONFIG).write_text(yaml.safe_dump(card), encoding="utf-8")
    with pytest.raises(InputError, match="class name"):
        read_card(folder / CONFIG)


def test_a_preparation_out_of_range_is_refused(folder: Path) -> None:
    card = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
    card["preparation"]["size"] = 3
    (folder / CONFIG).write_text(yaml.safe_dump(card), encoding="utf-8")
    with pytest.raises(InputError, match="size 3 must be"):
        read_card(folder / CONFIG)
