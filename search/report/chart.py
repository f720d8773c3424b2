"""One chart of a report: a title that says what it shows, words on how to read it, and a figure of plotly."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Colours that people with any colour vision tell apart (Okabe and Ito 2008), on white and on black.
STATUS_COLORS = {
    "completed": "#009E73",
    "stopped": "#8A94A0",
    "running": "#56B4E9",
    "diverged": "#D55E00",
    "collapsed": "#CC79A7",
    "out_of_memory": "#E69F00",
    "failed": "#B3261E",
}
ACCENT = "#0072B2"
MARGIN = {"l": 64, "r": 16, "t": 16, "b": 56}  # pixels around the axes of a chart
BELOW = 62  # pixels from the axis down to the legend, between which its title is


@dataclass(frozen=True, kw_only=True)
class Chart:
    """key: its id on the page. title: what it shows. words: how to read it, or what it leaves out; may be empty."""

    key: str
    title: str
    words: str
    figure: "go.Figure"
    height: int = 380  # pixels

    @property
    def plot(self) -> dict[str, Any]:
        """Data and layout as JSON values."""
        import json

        plain = json.loads(str(self.figure.to_json()))
        layout = {name: value for name, value in plain["layout"].items() if name not in ("template", "title")}
        if "legend" in layout and layout.get("showlegend", True):
            layout["legend"]["y"] = -BELOW / max(1, self.height - MARGIN["t"] - MARGIN["b"])
        return {"data": plain["data"], "layout": layout | {"height": self.height}}


def figure(x: str, y: str, **layout: Any) -> "go.Figure":
    """An empty figure with these words along its axes."""
    import plotly.graph_objects as go

    made = go.Figure()
    made.update_layout(
        xaxis_title=x,
        yaxis_title=y,
        margin=MARGIN,
        legend={"orientation": "h"},
        hovermode="closest",
        **layout,
    )
    return made
