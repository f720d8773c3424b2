"""The report in a real browser: it sorts, filters, draws and hovers, on a screen and a phone, without a complaint."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from search.report.page import write_page
from search.report.run_facts import read_facts
from tests.search.browser import DESKTOP, PHONE, chromium
from tests.search.made_up_run import make_run

pytestmark = [pytest.mark.drill, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("runs") / "made-up", 200)
    write_page(run.path / "report.html", read_facts("runs/made-up", run.path))
    return run.path / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Any, page_file: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, open; at the end nothing may have been complained of, and nothing asked of anybody."""
    size, scheme = getattr(request, "param", (DESKTOP, "light"))
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    yield page
    scroll_through(page)
    assert complaints == []
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == [page_file.as_uri()]
    context.close()


def scroll_through(page: Any) -> None:
    for place in page.query_selector_all(".plot"):
        place.scroll_into_view_if_needed()
        page.wait_for_function("place => place.classList.contains('js-plotly-plot')", arg=place)


def column(page: Any, name: str) -> list[str]:
    names = [text.strip() for text in page.locator("#trials th").all_inner_texts()]
    return [text.strip() for text in page.locator(f"#trials td:nth-child({names.index(name) + 1})").all_inner_texts()]


def test_a_click_on_a_column_sorts_and_another_one_turns_it_round(page: Any) -> None:
    first = column(page, "rank")
    assert first[:3] == ["1", "2", "3"] and len(first) == 25
    page.get_by_role("button", name="seconds").click()
    up = [float(text) for text in column(page, "seconds")]
    page.get_by_role("button", name="seconds").click()
    down = [float(text) for text in column(page, "seconds")]
    assert up == sorted(up) and down == sorted(down, reverse=True) and up[0] < down[0]
    assert page.locator("#trials th[aria-sort=descending]").inner_text().strip().startswith("seconds")
    page.get_by_role("button", name="val_dice", exact=True).click()
    best = [float(text) for text in column(page, "val_dice")]
    assert best == sorted(best, reverse=True), "scores fall first"
    page.get_by_role("button", name="show 100 more of 175").click()
    assert len(column(page, "rank")) == 125


def test_what_is_typed_filters(page: Any) -> None:
    box = page.get_by_label("filter rows")
    box.fill("loss=dice depth>3")
    assert set(column(page, "loss")) == {"dice"} and set(column(page, "depth")) == {"4"}
    shown, of = page.locator("#count").inner_text().split(" of ")
    assert 0 < int(shown) < int(of) == 200
    box.fill("t0013")
    assert column(page, "trial_id") == ["t0013"]
    box.fill("depht>3")
    assert page.locator("#count").inner_text() == "cannot read depht>3"
    assert "wrong" in (box.get_attribute("class") or "")
    box.fill("")
    assert page.locator("#count").inner_text() == "200 of 200"


def test_all_columns_come_and_go(page: Any) -> None:
    few = page.locator("#trials th").count()
    page.get_by_role("button", name="all columns").click()
    assert page.locator("#trials th").count() > few + 5
    assert "val_auc_pr" in page.locator("#trials thead").inner_text()
    page.get_by_role("button", name="all columns").click()
    assert page.locator("#trials th").count() == few


def test_a_point_tells_of_its_trial(page: Any) -> None:
    chart = page.locator("[data-plot=best-so-far]")
    chart.scroll_into_view_if_needed()
    chart.locator(".scatterlayer .point").first.wait_for()
    places = [one.bounding_box() for one in chart.locator(".scatterlayer .point").all()[:20]]
    for place in places:
        page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
        page.wait_for_timeout(150)
        if chart.locator(".hoverlayer .hovertext").count():
            break
    said = chart.locator(".hoverlayer .hovertext").first.text_content()
    assert "val_dice 0." in said and "t0" in said and "learning_rate" in said


def test_a_click_on_a_status_hides_its_curves(page: Any) -> None:
    chart = page.locator("[data-plot=curves]")
    chart.scroll_into_view_if_needed()
    chart.locator(".legend .traces").first.wait_for()
    lines = chart.locator(".scatterlayer .trace")
    before = lines.count()
    chart.locator(".legend .traces", has_text="stopped").locator(".legendtoggle").click()
    fewer = "([place, count]) => place.querySelectorAll('.scatterlayer .trace').length < count"
    page.wait_for_function(fewer, arg=[chart.element_handle(), before])


@pytest.mark.parametrize("page", [(PHONE, "light"), (PHONE, "dark"), (DESKTOP, "dark")], indirect=True)
def test_it_fits_a_phone_and_the_dark(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    scroll_through(page)
    dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    back, text = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    brightness = [sum(map(int, color[4:-1].split(", "))) for color in (back, text)]
    assert (brightness[0] < brightness[1]) == dark
    written = page.evaluate("getComputedStyle(document.querySelector('.xtitle')).fill")
    assert written == text
    assert page.evaluate(
        "[...document.querySelectorAll('.plot')].every(plot => plot.getBoundingClientRect().width > 200)"
    )


def test_what_a_trial_says_runs_nothing(page: Any) -> None:
    seen: list[str] = []
    page.on("dialog", lambda dialog: (seen.append(dialog.message), dialog.dismiss()))
    page.get_by_label("filter rows").fill("status=failed")
    page.get_by_role("button", name="all columns").click()
    assert any("</script>" in text for text in column(page, "reason"))
    page.locator("#endings").scroll_into_view_if_needed()
    assert "<b>all</b> masks were empty" in page.locator("main").inner_text()
    assert seen == []
