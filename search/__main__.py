"""The command `python -m search`: says which commands there are, in the order in which people need them."""

import sys

from data.command_line import python, run_command

# Module -> what it does, and its shortest call.
COMMANDS = {
    "data.inspect": ("look a data set over before anything is trained", "my-pictures"),
    "search.run": ("search for a good U-net", "--data my-pictures"),
    "search.leaderboard": ("look at the trials of a run, or compare runs", "runs/NAME"),
    "search.report": ("make the report of a run, at any moment", "runs/NAME"),
    "search.finals": ("train the best again, and test them once", "runs/NAME"),
    "model.predict": ("masks and overlays for new pictures", "runs/NAME/best new-pictures/"),
    "model.export": ("ONNX and torch.export", "runs/NAME/best"),
    "model.train": ("one training without a search, or a row of a leaderboard again", "--from runs/NAME --rank 1"),
    "data.convert": ("any data set as a plain folder", "synthetic example"),
}


def search() -> None:
    """Lists the commands of this project."""
    width = max(len(f"{name} {call}") for name, (_, call) in COMMANDS.items())
    for name, (what, call) in COMMANDS.items():
        print(f"{python()} -m {f'{name} {call}':{width}}  {what}")
    print("Each has --help.")


if __name__ == "__main__":
    sys.exit(run_command(search))
