"""The explorer over HTTP: every page and form of it, what is escaped, what is refused, what a batch's ETag spares."""

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import psycopg2
import pytest
import sqlalchemy as sa
from nights import HomeMaker
from pages import HOSTILE, Site, served

from bts_assets.contracts.errors import UsageError
from bts_assets.explorer.guard import HEADERS
from bts_assets.explorer.pages import accuracy
from bts_assets.explorer.question import literal
from bts_assets.explorer.server import token_for
from bts_assets.settings import load_settings
from bts_assets.storage.postgres import connect

PAGES = ("/", "/stations", "/station/1", "/station/2", "/series/1/111", "/series/2/121", "/series/1/121", "/accuracy",
         "/models", "/drift", "/landing", "/landing/1", "/data")  # fmt: skip
TOKEN = "correct horse battery"  # noqa: S105 - of a test
each_page = pytest.mark.parametrize("path", PAGES)


def joined(path: str, query: str) -> str:
    return f"{path}{'&' if '?' in path else '?'}{query}"


@each_page
def test_page_is_shown_to_the_reader_with_the_banner(site: Site, path: str) -> None:
    answer = site.get(path)
    assert answer.status == 200, answer.text
    assert 'class="banner' in answer.text
    assert "batch 2, model version 1" in answer.text
    for name, value in HEADERS.items():
        assert answer.headers[name] == value


class Tags(HTMLParser):
    """Every tag of a page with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@each_page
def test_page_holds_no_script_and_no_style_and_loads_nothing_from_elsewhere(site: Site, path: str) -> None:
    for tag, attributes in Tags(site.get(path).text).found:
        assert tag != "style"
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        if tag in ("script", "link", "img") and attributes.get("type") != "application/json":
            source = attributes.get("src") or attributes.get("href") or ""
            assert source.startswith("/static/" if tag != "img" else path)
        assert not (attributes.get("href") or "").startswith("javascript")


@each_page
def test_sql_of_a_page_runs_as_it_stands_and_gives_its_csv(site: Site, night: str, path: str) -> None:
    first = re.split(r";\n\n?", site.get(joined(path, "format=sql")).text)[0]
    csv_rows = site.get(joined(path, "format=csv")).rows()
    with psycopg2.connect(night) as connection, connection.cursor() as cursor:
        cursor.execute(first.replace("%", "%%") if "%(" in first else first)
        found = cursor.fetchall()
    if path != "/":  # the list's CSV has a row a breach
        assert len(csv_rows) == len(found) > 0


@each_page
def test_every_table_of_a_page_is_to_be_had_as_csv_and_as_sql(site: Site, night: str, path: str) -> None:
    links = set(re.findall(r'href="([^"]*[?&;]table=[^"]*)"', site.get(path).text))
    assert len(links) >= 2
    for csv_of in (link.replace("&amp;", "&") for link in links if "format=csv" in link):
        answer = site.get(csv_of)
        assert answer.status == 200, csv_of
        assert re.search(r"table=(\w+)", csv_of)[1] in answer.headers["Content-Disposition"]  # type: ignore[index]
        with psycopg2.connect(night) as connection, connection.cursor() as cursor:
            cursor.execute(site.get(csv_of.replace("format=csv", "format=sql")).text)
            assert len(cursor.fetchall()) == len(answer.rows()), csv_of
            assert answer.text.split("\r\n")[0].count(",") > 0, "columns are named, whether there are rows or not"


def test_table_that_a_page_has_not_is_one_line(site: Site) -> None:
    answer = site.get("/data?format=csv&table=drift")
    assert (answer.status, "this page has no table drift: it has parameters, series" in answer.text) == (404, True)


def test_what_differs_between_champion_and_challenger_is_shown(site: Site) -> None:
    page = site.get("/models").text
    assert '<tr><th scope="col">Fact</th><th scope="col">version 2</th><th scope="col">version 1</th></tr>' in page
    assert '<tr class="differs"><th scope="row">BTS_LSTM_WIDTH</th><td>128</td><td>64</td></tr>' in page
    assert "BTS_CATALOGUE</th><td>unset</td><td>–</td></tr>" in page
    assert "BTS_LSTM_PATCHES" not in page  # the same in both: it is counted
    assert '<span class="quiet">package</span> numpy</th><td>2.4.0</td><td>–</td></tr>' in page
    assert '<tr class="differs"><th scope="row">length, hours</th><td>48</td><td>24</td></tr>' in page
    assert "training data until" not in page  # the same in both, as the settings above
    assert '<tr><th scope="row">median MASE</th><td class="n">0.710</td><td class="n">0.740</td></tr>' in page
    assert '<tr><th scope="row">80 % coverage</th><td class="n">80.0 %</td><td class="n">79.0 %</td></tr>' in page
    assert 'lstm <span class="quiet">on 4 series</span></th><td class="n">0.750</td><td class="n">–</td></tr>' in page
    rows = site.get("/models?format=csv&table=differences&version=1&beside=2").rows()
    assert {"topic": "setting", "name": "BTS_LSTM_WIDTH", "version": "64", "beside": "128", "differs": "True"} in rows
    assert site.get("/models?version=9").status == 404


@each_page
def test_hostile_text_is_shown_as_text(site: Site, path: str) -> None:
    page = site.get(path).text
    assert "<img src=x" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert ">49<" not in page


def test_hostile_names_are_there_to_be_read(site: Site) -> None:
    page = site.get("/station/2").text
    assert "&lt;img src=x onerror" in page
    assert "\\x1b[31m\\u202e{{ 7 * 7 }}" in page
    csv_text = site.get("/stations?search=%3D1&format=csv").rows()
    assert csv_text[0]["name"] == f"'{HOSTILE}"  # no formula to a spreadsheet


def test_page_is_not_drawn_again_while_nothing_new_is_there(site: Site) -> None:
    tag = site.get("/series/1/111").headers["ETag"]
    if site.get("/series/1/111", If_None_Match=tag).status == 200:  # five minutes were over between the two
        tag = site.get("/series/1/111").headers["ETag"]
    assert site.get("/series/1/111", If_None_Match=tag).status == 304
    assert site.get("/series/1/121", If_None_Match=tag).status == 200
    assert site.get("/series/1/111?days=3", If_None_Match=tag).status == 200


def test_tag_changes_with_what_is_published(site: Site, server_url: str, night: str) -> None:
    tag = site.get("/").headers["ETag"]
    owner = f"{server_url.rsplit('/', 1)[0]}/{night.rsplit('/', 1)[1]}"
    with psycopg2.connect(owner) as connection, connection.cursor() as cursor:
        cursor.execute("INSERT INTO bts.publication (batch_id, serves_latest, reason) VALUES (2, true, 'again')")
    connection.close()
    assert site.get("/", If_None_Match=tag).status == 200


def test_list_is_read_page_by_page_forwards_and_back(site: Site) -> None:
    def ids(path: str) -> list[str]:
        listed = site.get(path).text.partition('class="findings"')[0]
        return re.findall(r'href="/station/(\d+)"', listed)

    def way(path: str, rel: str) -> str | None:
        found = re.search(rf'rel="{rel}" href="([^"]+)"', site.get(path).text)
        return found[1].replace("&amp;", "&") if found else None

    seen, path = [ids("/")], "/"
    while (following := way(path, "next")) is not None:
        path = following
        seen.append(ids(path))
    assert [len(page) for page in seen] == [25, 25, 12]
    assert len({station for page in seen for station in page}) == 62
    back = way(path, "prev")
    assert back is not None
    assert ids(back) == seen[1]
    back = way(back, "prev")
    assert back is not None
    assert ids(back) == seen[0]
    assert way(back, "prev") is None
    rows = site.get("/?format=csv").rows()
    assert {row["station_id"] for row in rows} == {station for page in seen for station in page}
    likely = [row["first_likely_at"] for row in rows if row["first_likely_at"]]
    assert likely == sorted(likely)
    assert all(row["first_likely_at"] for row in rows[: len(likely)])  # the likely come before the possible


def test_what_wears_out_is_on_the_first_page_and_on_its_station(site: Site) -> None:
    page = site.get("/").text
    assert page.index("generator stood while the grid was away") < page.index("room is 2.4 °C warmer than before")
    assert "air conditioners" in page
    rows = site.get("/?format=csv&table=findings").rows()
    assert [(row["station_id"], row["kind"]) for row in rows] == [
        ("1", "generator_stood"), ("2", "cooling"), ("1", "battery"),
    ]  # fmt: skip
    assert "What wears out" not in site.get("/?search=nobody").text
    assert "What wears out" not in site.get("/?parameter=111").text
    station = site.get("/station/1").text
    assert "battery lasts 5.2 h (4.1 to 6.6), 9.8 h before" in station
    assert "check battery strings" in station
    assert "room is 2.4" not in station


def test_list_is_narrowed(site: Site) -> None:
    def found(query: str) -> set[str]:
        return {row["station"] for row in site.get(f"/?{query}&format=csv").rows()}

    assert found("search=north") == {"North Hill"}
    assert found("search=133") == {"Valley 133"}
    assert found("search=%25") == set()
    assert found("region=north") == {"North Hill"}
    assert found("parameter=116&list=all") == set()
    assert "None of these stations is expected" in site.get("/?search=nobody").text


def test_filters_offer_parameters_of_this_network_alone(site: Site) -> None:
    offered = re.findall(r'<option value="(\d+)"', site.get("/").text)
    assert sorted(offered) == ["111", "121"]


def test_the_list_of_stations_says_how_sure_as_the_first_page_does(site: Site) -> None:
    page = site.get("/stations?search=Valley+105").text
    assert '<span class="sure likely">likely</span> 1 limit, 57 %' in page


def test_totals_of_landing_files_are_of_those_that_are_listed(site: Site) -> None:
    assert "<strong>2</strong> files in the last day" in site.get("/landing").text
    for narrowed in ("status=refused", "search=broken", "known=2&from=2020-01-01T00:00Z&until=2020-01-02T00:00Z"):
        page = site.get(f"/landing?{narrowed}").text
        rows = site.get(f"/landing?{narrowed}&format=csv").rows()
        assert len(rows) == page.count('class="file"') == ("known" not in narrowed)
        assert ("<strong>1</strong> file listed" in page) == bool(rows)
        assert "<strong>0</strong> readings taken" in page or not rows


def test_what_is_beyond_a_limit_now_is_said(site: Site) -> None:
    page = site.get("/").text
    assert page.count('class="now"') == 1  # the others were last observed below theirs, or long ago
    assert 'class="now">now 231 V' in page


def test_an_earlier_forecast_is_drawn_over_the_actuals(site: Site) -> None:
    page = site.get("/series/1/111").text
    assert "No step of this forecast has been observed yet" not in page  # four of tonight have
    origins = re.findall(r'<option value="(\d{4}-[^"]+)"', page)
    assert len(origins) == 2
    earlier = site.get(f"/series/1/111?origin={origins[1]}")
    assert "earlier night" in earlier.text
    rows = site.get(f"/series/1/111?origin={origins[1]}&format=csv").rows()
    assert len(rows) == 192
    assert sum(row["came"] != "" for row in rows) == 100
    assert site.get("/series/1/111?origin=2020-01-01T00:00Z").status == 404


def test_series_says_what_its_chart_shows(site: Site) -> None:
    page = site.get("/series/1/111?time=site").text
    assert "The median passes the high limit of 35 °C at" in page
    assert '"zone":"Asia/Ho_Chi_Minh"' in page
    assert "http://127.0.0.1:3000/runs/dagster-2" in page
    assert "http://127.0.0.1:5000/#/experiments/1/runs/run-1?workflowType=machine_learning" in page
    assert 'seasonal naive</th><td class="n">30 %' in site.get("/series/2/121").text
    assert "232 V, the station's own" in site.get("/series/2/121").text


def test_a_very_large_batch_leaves_the_worst_series_to_sql(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Over the last 7 scored days" in site.get("/accuracy").text
    monkeypatch.setattr(accuracy, "MANY", 3)
    page = site.get("/accuracy?list=usual").text  # another address than the one above, whose answer is kept
    assert "Over the last 7 scored days" in page
    assert "SELECT * FROM bts.worst_series" in page


def test_why_this_forecast_names_recalibration_and_similar_days(site: Site) -> None:
    page = site.get("/series/1/111").text
    # By quarters of the horizon, each with the nights that speak for it.
    factors = '<td class="n">3.0</td>' + 4 * '<td class="n">1.10</td>'
    assert [f'<th scope="row">{hours}</th>{factors}' in page for hours in ("0 to 12", "36 to 48")] == [True, True]
    days = re.findall(r'datetime="([^"]+)">.*?</time></th><td class="n">([^<]+)</td><td class="n">([^<]+)</td>', page)
    newest = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    # The same shape five degrees lower, and what the day after it was; then one with three times the swing, reversed.
    assert days == [
        (f"{newest - timedelta(days=3):%Y-%m-%dT00:00:00Z}", "0", "-30.0 to -21.0 °C"),
        # Of the steps three in four: all but the farthest quarter.
        (f"{newest - timedelta(days=2):%Y-%m-%dT00:00:00Z}", "3.33", "27.0 to 30.0 °C"),
    ]
    assert "not recalibrated" in site.get("/series/2/121").text


def test_errors_are_told_by_hour_of_the_day_beside_the_baselines(site: Site) -> None:
    page = site.get("/accuracy").text
    assert "Forecasts are closest at 00:00 UTC (MASE 0.50)" in page
    # 12 hours of the first quarter were scored, each of what served, of the last value and of none other.
    assert len(re.findall(r'<th scope="row">\d\d:00</th><td class="n"><strong>0.50</strong>', page)) == 12
    assert '<td class="n">1.00</td><td class="n">75 %</td>' in page
    assert "scored before hours were kept" in site.get("/accuracy?parameter=116").text


def test_errors_are_told_by_stretch_of_the_horizon_beside_the_baselines(site: Site) -> None:
    page = site.get("/accuracy").text
    line = '0 to 12</th><td class="n">96</td><td class="n"><strong>0.50</strong></td><td class="n">1.00</td>'
    assert line in page


@pytest.mark.parametrize("path", ["/station/1", "/series/1/111"])
def test_planned_outages_are_marked_and_named(site: Site, path: str) -> None:
    page = site.get(path).text
    assert '"spans":[[' in page
    assert "planned outage: =1+1" in page
    assert "planned_outage" in site.get(joined(path, "format=sql")).text
    # Of another station, another outage.
    assert "planned outage: =1+1" not in site.get(path.replace("/1", "/2", 1).replace("111", "121")).text


def test_alerts_of_a_station_are_marked_where_they_are_expected(site: Site) -> None:
    page = site.get("/station/1").text
    charts = dict(
        re.findall(r'<figure class="chart small" id="p(\d+)">.*?"spans":(\[.*?\])\}</script>', page, re.DOTALL)
    )
    told = [span for span in json.loads(charts["111"]) if span[3] == "alert"]
    assert [(begin == end, what) for begin, end, what, _ in told] == [
        (True, "minor alert: Room Temperature above 35 °C within 48 h, chance 98 % (open)")
    ]
    assert "alert" not in charts["121"]  # of the other parameter
    assert "bts.alert_status" in site.get("/station/1?format=sql").text
    assert '"alert"]' not in site.get("/station/2").text


def test_data_is_that_of_the_night_and_a_counters_level_has_no_quantiles(site: Site) -> None:
    page = site.get("/data").text
    assert "training data" not in page
    rows = {row["parameter_id"]: row for row in site.get("/data?format=csv").rows()}
    assert (rows["111"]["median"], rows["111"]["minimum"]) == ("30.0", "20.0")
    assert (rows["165"]["median"], rows["165"]["minimum"]) == ("", "400.0")


def test_drift_is_shown_by_whatever_views_tell_of_it(site: Site) -> None:
    page = site.get("/drift").text
    assert '<a href="/series/1/111">Room Temperature</a>' in page
    assert "<td>12.5</td>" in page


def test_an_open_alert_has_no_end(site: Site) -> None:
    page = site.get("/station/1?time=site").text
    assert re.search(r'"key alert"></span>from <time [^>]+>[^<]+</time> on, without an end yet: minor alert:', page)


def test_a_series_that_is_not_forecast_has_its_history_and_no_words_of_a_forecast(site: Site, server_url: str) -> None:
    page = site.get("/series/3/111").text
    assert "Why no forecast" in page
    for words in ("of this forecast", "recalibrated", "(median)", "80 % interval", "Similar past days"):
        assert words not in page
    assert "there is nothing to draw" in site.get("/series/3/111?format=png").text  # it has no observation either
    assert site.get("/series/3/111?format=csv").text.startswith("observed_at,value,readings")


@pytest.mark.parametrize(
    "path", ["/series/2/121", "/station/2", "/series/1/111?time=site", "/accuracy", "/?region=north", "/"]
)
def test_picture_is_a_png(site: Site, path: str) -> None:
    answer = site.get(joined(path, "format=png"))
    assert answer.headers["Content-Type"] == "image/png"
    assert answer.body.startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/nothing", 404, "there is no such page"),
        ("/station/99", 404, "no station 99 is known"),
        ("/series/1/99999", 404, "no parameter 99999 is known"),
        ("/series/2/111", 404, "look at the station&#39;s own parameters"),
        ("/?after=what", 400, "begin at its first page"),
        ("/?after=a~b~c", 400, "begin at its first page"),
        ("/station/1?days=x", 400, "days is no whole number from 1 to 28"),
        ("/series/1/111?origin=now", 400, "origin is no instant"),
        ("/?format=pdf", 400, "format is none of"),
        ("/models?format=png", 404, "there is nothing to draw"),
        ("/?search=%00", 400, "search is no text"),
        ("/station/9999999999999999999999", 404, "no station"),
    ],
)
def test_mistake_in_an_address_is_one_line(site: Site, path: str, status: int, said: str) -> None:
    answer = site.get(path)
    assert answer.status == status
    assert said in answer.text


def test_nothing_but_reading_is_allowed(site: Site) -> None:
    assert site.get("/", data=b"").status == 405


def test_before_the_first_night_every_page_says_what_to_do(make_home: HomeMaker) -> None:
    with served(connect(make_home().url, timedelta(seconds=10), read_only=True)) as address:
        fresh = Site(address)
        for path in ("/", "/stations"):
            answer = fresh.get(path)
            assert answer.status == 200, answer.text
            assert "nothing has been published yet: run bts nightly" in answer.text
        assert fresh.get("/series/1/111").status == 404


def test_database_that_is_gone_is_one_line(new_database: object, server_url: str) -> None:
    engine = sa.create_engine("postgresql+psycopg2://nobody@127.0.0.1:1/none", connect_args={"connect_timeout": 2})
    with served(engine) as address:
        answer = Site(address).get("/")
    assert answer.status == 503
    assert "lost" in answer.text or "Postgres" in answer.text


def test_other_names_of_the_host_are_refused(site: Site) -> None:
    assert site.get("/", Host="localhost:80").status == 200
    assert site.get("/", Host="evil.example").status == 400


def test_token_lets_in_and_nothing_else_does(reader: sa.Engine) -> None:
    with served(reader, TOKEN) as address:
        guarded = Site(address)
        assert guarded.get("/").status == 401
        assert "What needs a visit" not in guarded.get("/?format=csv").text
        assert guarded.get("/", Authorization="Bearer wrong").status == 401
        assert guarded.get("/", Cookie="bts_token=wrong").status == 401
        refused = guarded.get("/enter", data=b"token=wrong")
        assert (refused.status, "That is not the token" in refused.text) == (401, True)
        assert guarded.get("/", Authorization=f"Bearer {TOKEN}", Host="evil.example").status == 200
        entered = guarded.get("/enter", data=b"token=correct+horse+battery")
        assert (entered.status, entered.headers["Location"]) == (303, "/")
        cookie = entered.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()
        assert guarded.get("/", Cookie=cookie.split(";")[0]).status == 200


def test_others_may_look_with_a_token_only() -> None:
    assert token_for(load_settings(), "127.0.0.1") is None
    with pytest.raises(UsageError, match="set BTS_EXPLORER_TOKEN to 16 characters"):
        token_for(load_settings(), "0.0.0.0")  # noqa: S104
    with pytest.raises(UsageError, match="has 5 characters"):
        token_for(load_settings(explorer_token="short"), "127.0.0.1")  # noqa: S106
    settings = load_settings(explorer_token=TOKEN)
    assert token_for(settings, "0.0.0.0") == TOKEN  # noqa: S104
    assert TOKEN not in str(settings.public())


def test_literals_are_what_postgres_reads(reader: sa.Engine) -> None:
    values = ["it's", "back\\slash", 1, 2.5, None, True, HOSTILE]
    with reader.connect() as connection:
        told = connection.exec_driver_sql(f"SELECT {', '.join(map(literal, values))}".replace("%", "%%")).one()
    assert [float(v) if isinstance(values[i], float) else v for i, v in enumerate(told)] == values
