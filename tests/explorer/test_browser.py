"""The explorer in a headless Chromium: by clicks and keys, without scripts, on a phone, in the dark, and by axe."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import ENTER, LEFT, TAB, Browser
from pages import Site

#: axe-core, MPL-2.0, as it came from the npm registry.
AXE = (Path(__file__).parents[1] / "vendor" / "axe.min.js").read_text(encoding="utf-8")
PAGES = ("/", "/stations", "/station/1", "/series/1/111", "/series/2/121", "/accuracy", "/models", "/drift", "/landing",
         "/landing/1", "/data", "/nothing")  # fmt: skip
PHONE = 360

pytestmark = pytest.mark.slow
each_page = pytest.mark.parametrize("path", PAGES)


@pytest.fixture
def page(window: Browser, site: Site) -> Iterator[Browser]:
    """A wide window in the light, with scripts; what the console complains of fails the test."""
    window.dark(False)
    window.scripts(True)
    window.size(1280, 900)
    window.open(site.address)
    window.complaints()
    yield window
    complaints = [line for line in window.complaints() if "status of 404" not in line]
    assert complaints == []


def drawn(page: Browser) -> int:
    return int(page.run("return document.querySelectorAll('.plot canvas').length"))


def test_from_the_list_to_a_series_and_what_made_it(page: Browser, site: Site) -> None:
    page.follow('a[href="/station/101"]')
    assert "No series of this station" in page.text("main")
    page.open(site.address)
    page.type("#search", "north")
    page.wait("document.querySelectorAll('tbody.station').length == 1")
    page.wait("location.href.endsWith('/?search=north&region=&parameter=&list=')")
    page.follow(".who a")
    assert page.text("h1") == "North Hill"
    assert drawn(page) == 2
    page.follow("#p111 h3 a")
    assert page.text("h1").startswith("Room Temperature")
    assert drawn(page) == 1
    page.follow("a[href='/models#version-1']")
    assert "version 1" in page.text("main").lower()


def test_filters_work_without_a_reload(page: Browser) -> None:
    page.run("window.stayed = true")
    page.run("const s = document.querySelector('[name=region]'); s.value = 'south';"
             "s.dispatchEvent(new Event('change', {bubbles: true}))")  # fmt: skip
    page.wait(
        "location.search.includes('region=south') && !document.querySelector('#results').innerText.includes('North')"
    )
    page.click("a[rel=next]")
    page.wait("document.querySelector('a[rel=prev]')")


def test_slider_goes_through_the_nights(page: Browser, site: Site) -> None:
    page.open(site.address + "/series/1/111")
    assert "earlier night" not in page.text("main")
    page.run("window.stayed = true; document.querySelector('input[data-slides]').focus()")
    page.press(LEFT)
    page.wait("document.body.innerText.includes('earlier night')")
    assert page.run("return window.stayed === true")
    page.wait("location.search.includes('origin=')")
    assert drawn(page) == 1
    page.click("a[rel=next]")
    page.wait("!document.body.innerText.includes('earlier night')")


def test_chart_is_drawn_in_the_zone_that_is_asked_for(page: Browser, site: Site) -> None:
    page.open(site.address + "/series/1/111")
    page.follow("a[href*='time=site']")
    assert page.run("return document.querySelector('.u-legend').innerText").startswith("Asia/Ho_Chi_Minh")
    assert "35" in page.text(".says")


def test_keys_alone_reach_the_content_and_a_station(page: Browser, site: Site) -> None:
    page.press(TAB)
    assert page.run("return document.activeElement.className") == "skip"
    page.press(ENTER)
    assert page.run("return document.activeElement.id") == "main"
    for _ in range(12):
        page.press(TAB)
        if page.run("return document.activeElement.matches('.who a')"):
            break
    page.press(ENTER)
    page.wait("location.pathname.startsWith('/station/')")


def test_without_scripts_every_chart_has_its_sentence_table_and_picture(page: Browser, site: Site) -> None:
    page.scripts(False)
    page.open(site.address + "/series/1/111")
    source = str(page.ask("GET", "/source"))
    assert "The median passes the high limit of 35" in source
    assert source.count("<tr>") > 48
    assert '<noscript><img class="still"' in source
    page.open(site.address)
    page.type("#search", "north")
    page.follow("form button")
    assert "search=north" in page.url
    assert "Valley" not in page.text("#results")


@each_page
@pytest.mark.parametrize("look", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Browser, site: Site, path: str, look: str) -> None:
    page.dark(look == "dark")
    page.open(site.address + path)
    # Handed over through the driver: the policy of the page lets no script of others in.
    page.run(AXE + "\nwindow.axe = axe;")
    page.run("axe.run(document, {resultTypes: ['violations']}).then(r => window.axeSaid = r.violations)")
    found = page.wait("window.axeSaid && {violations: window.axeSaid}")["violations"]
    told = [f"{v['id']}: {n['target']}" for v in found if v["impact"] in ("serious", "critical") for n in v["nodes"]]
    assert told == []


@each_page
def test_page_fits_a_phone(page: Browser, site: Site, path: str) -> None:
    page.size(PHONE, 800)
    page.open(site.address + path)
    assert page.run("return document.documentElement.scrollWidth") <= PHONE


def test_hostile_text_runs_nowhere(page: Browser, site: Site) -> None:
    for path in ("/stations", "/station/2", "/series/2/121", "/landing", "/landing/1", "/data"):
        page.open(site.address + path)
        assert page.run("return document.title") != "owned"
        assert page.run("return document.querySelectorAll('main img[src=x]').length") == 0
