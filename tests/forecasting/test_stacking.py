"""Weights and widths from all origins, scores from the others; statistical candidates where it is worst without."""

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import datetime

import numpy as np
import pytest
from small_panels import NORMAL, make_evidence

from bts_assets.contracts.grid import Grid
from bts_assets.contracts.panel import Panel
from bts_assets.contracts.quantiles import MEDIAN
from bts_assets.forecasting import stacking
from bts_assets.forecasting.calibration import Calibration
from bts_assets.forecasting.ensemble_weights import INCUMBENT_SHARE
from bts_assets.forecasting.metrics import METRICS
from bts_assets.forecasting.out_of_sample import HoldoutForecasts
from bts_assets.forecasting.pooling import pool
from bts_assets.forecasting.stacking import Stacked, stack

SERIES, ORIGINS, HORIZON = 12, 8, 12
CHEAP = {"lstm": 0.2, "last_value": 0.5, "median": 0.4}

#: Stations whose truth is hardest to forecast.
WORST = (3, 5, 11)


def evidence(seed: int = 0, origins: int = ORIGINS) -> HoldoutForecasts:
    """Each candidate knows a share of the truth; its intervals are too narrow."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(SERIES, origins, HORIZON))
    truth[[s - 1 for s in WORST]] *= 4
    noise = rng.normal(size=(len(CHEAP), *truth.shape)) * 0.5
    medians = {name: share * truth + noise[k] for k, (name, share) in enumerate(CHEAP.items())}
    return make_evidence(truth, {name: median[..., None] + 0.6 * NORMAL for name, median in medians.items()})


class Knowing:
    """Knows the truth of its evidence but for a share, and whom it was asked about, at which origin."""

    def __init__(
        self, evidence: HoldoutForecasts, share: float = 0.9, name: str = "knowing", width: float = 0.5
    ) -> None:
        self.evidence, self.share, self.name, self.width = evidence, share, name, width
        self.asked: list[tuple[list[int], datetime]] = []

    def forecast(self, panel: Panel) -> np.ndarray:
        self.asked.append((panel.station_id.tolist(), panel.end))
        past = self.evidence.panel
        column = self.evidence.origins.index((panel.end - past.start) // past.grid.step)
        truth = self.evidence.truth[np.searchsorted(past.station_id, panel.station_id), column]
        return (self.share * truth)[..., None] + self.width * NORMAL


class Raising:
    name = "raising"

    def forecast(self, panel: Panel) -> np.ndarray:
        raise RuntimeError("does not converge")


class FailsOn:
    """As `Knowing`, but of one station it only says why it has nothing."""

    name = "fails_on"

    def __init__(self, evidence: HoldoutForecasts, station: int) -> None:
        self.knowing, self.station = Knowing(evidence), station

    def forecast_each(self, panel: Panel) -> tuple[np.ndarray, dict[int, str]]:
        quantiles = self.knowing.forecast(panel)
        rows = np.flatnonzero(panel.station_id == self.station)
        quantiles[rows] = np.nan
        return quantiles, {int(row): "ValueError: too flat" for row in rows}


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, np.ndarray]]:
    """The quantiles (series, origins, steps, levels) that were scored, by candidate."""
    given: dict[str, np.ndarray] = {}
    scores = HoldoutForecasts.scores

    def kept(self: HoldoutForecasts, name: str, quantiles: np.ndarray) -> object:
        given[name] = quantiles.copy()
        return scores(self, name, quantiles)

    monkeypatch.setattr(HoldoutForecasts, "scores", kept)
    return given


def stacked(given: HoldoutForecasts, *heavy: object, series: int = 3, fits: int = 9) -> Stacked:
    return stack(given, "lstm", ("lstm",), heavy, series, fits, ())


def statistical_weight(found: Stacked, station: int, name: str = "knowing") -> float:
    return float(found.weights.of(np.array([station]), np.array([9]))[0, found.weights.candidates.index(name)])


@pytest.mark.parametrize("origin", [0, 3, 7])
def test_what_an_origin_is_served_does_not_depend_on_its_own_truth(
    judged: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch, origin: int
) -> None:
    monkeypatch.setattr(stacking, "calibrate", lambda *_: Calibration())
    stacked(evidence())
    before = judged["served"]
    changed = evidence()
    changed.truth[:, origin] = 10 - 3 * changed.truth[:, origin]
    stacked(changed)
    np.testing.assert_array_equal(judged["served"][:, origin], before[:, origin])
    elsewhere = (origin + 4) % ORIGINS
    assert (judged["served"][:, elsewhere] != before[:, elsewhere]).any(axis=(1, 2)).mean() > 0.5


def test_calibration_leaves_the_median_of_an_origin_to_the_others_too(judged: dict[str, np.ndarray]) -> None:
    stacked(evidence())
    before = judged["served"]
    changed = evidence()
    changed.truth[:, 2] += 5
    stacked(changed)
    np.testing.assert_array_equal(judged["served"][:, 2, :, MEDIAN], before[:, 2, :, MEDIAN])


def test_factors_of_an_origin_come_from_the_others(judged: dict[str, np.ndarray]) -> None:
    given = evidence()
    given.truth[:, 6:] *= 100
    stacked(given)
    width = np.ptp(judged["served"], axis=3).mean(axis=(0, 2))
    assert width[:6].mean() > 1.5 * width[6:].mean()


def test_with_a_single_origin_the_score_is_that_of_the_prior(judged: dict[str, np.ndarray]) -> None:
    given = evidence(origins=1)
    found = stacked(given)
    prior = [INCUMBENT_SHARE, (1 - INCUMBENT_SHARE) / 2, (1 - INCUMBENT_SHARE) / 2]
    expected = pool(given.quantiles, np.repeat([prior], len(given.panel), axis=0))
    np.testing.assert_allclose(judged["served"], expected, rtol=1e-5, atol=1e-5)
    assert found.weights.default.tolist() != pytest.approx(prior, abs=1e-3)


@pytest.mark.parametrize("knows", [0.1, 0.6])
def test_the_loss_bonus_moves_weight_from_statistical_candidates_to_the_lstm(
    monkeypatch: pytest.MonkeyPatch, knows: float
) -> None:
    given = evidence()
    lstm = given.candidates.index("lstm")
    given.quantiles[lstm] += (knows - CHEAP["lstm"]) * given.truth[..., None]
    found = stacked(given, Knowing(given, share=0.6, width=1.5))
    monkeypatch.setattr(stacking, "_LOSS_BONUS", 0.0)
    without = stacked(given, Knowing(given, share=0.6, width=1.5))
    more = found.weights.default[lstm] - without.weights.default[lstm]
    less = [statistical_weight(without, s) - statistical_weight(found, s) for s in WORST]
    if knows > 0.5:
        assert more > 0.1
        assert min(less) >= 0
        assert np.mean(less) > 0.001
    else:
        # It is no help to one that is far behind: what the others serve anyway is left to them.
        assert 0 <= more < 0.1
        assert max(np.abs(less)) < 0.1


def test_the_loss_bonus_is_small_where_the_history_is_shorter_than_a_week(monkeypatch: pytest.MonkeyPatch) -> None:
    given = evidence()
    given.quantiles[given.candidates.index("lstm")] += 0.3 * given.truth[..., None]
    monkeypatch.setattr(stacking, "_LOSS_BONUS", 0.3)
    whole = stacked(given).weights.default[0]
    # The same evidence as of one twelfth of the days: as if a day had so many more steps.
    grid = given.panel.grid
    finer = Grid(grid.step / 12, grid.context / 12, grid.horizon / 12)
    panel = Panel(finer, given.station_id, given.parameter_id, given.panel.end, given.panel.values)
    short = stacked(dataclasses.replace(given, panel=panel)).weights.default[0]
    monkeypatch.setattr(stacking, "_LOSS_BONUS", 0.0)
    none = stacked(given).weights.default[0]
    assert none < short < none + (whole - none) / 4


def test_every_candidate_and_what_is_served_is_scored_at_every_origin() -> None:
    scores = stacked(evidence()).scores
    assert scores.columns.tolist() == ["station_id", "parameter_id", "origin", "candidate", *METRICS]
    assert scores.groupby("candidate").size().to_dict() == dict.fromkeys([*CHEAP, "served"], SERIES * ORIGINS)
    mase = scores.groupby("candidate")["mase"].mean()
    assert mase["served"] <= 1.02 * mase.drop("served").min()
    coverage = scores.groupby("candidate")[["coverage80", "coverage90"]].mean()
    assert coverage.loc["last_value", "coverage80"] < 0.72
    assert coverage.loc["served", "coverage80"] == pytest.approx(0.8, abs=0.05)
    assert coverage.loc["served", "coverage90"] == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize(
    ("fits", "origins"),
    [
        pytest.param(9, (0, 4, 7), id="three-each"),
        pytest.param(11, (0, 4, 7), id="never-more"),
        pytest.param(100, range(ORIGINS), id="all"),
        pytest.param(1, (0, 7), id="two-at-least"),
    ],
)
def test_statistical_candidates_are_asked_about_the_worst_series_alone_at_some_origins(
    fits: int, origins: Sequence[int]
) -> None:
    given = evidence()
    heavy = Knowing(given)
    stacked(given, heavy, fits=fits)
    ends = [given.panel.start + given.origins[k] * given.panel.grid.step for k in origins]
    assert heavy.asked == [(list(WORST), end) for end in ends]


def test_no_series_to_try_is_no_trial() -> None:
    given = evidence()
    heavy = Knowing(given)
    found = stacked(given, heavy, series=0)
    assert heavy.asked == []
    assert np.isnan(statistical_weight(found, WORST[0]))
    np.testing.assert_array_equal(found.weights.default[:3], stacked(given).weights.default)


def test_what_was_not_tried_is_told_from_what_counts_nothing() -> None:
    given = evidence()
    found = stacked(given, Knowing(given), Knowing(given, share=-3.0, name="misled"))
    plain = stacked(given).weights
    assert found.weights.candidates == (*CHEAP, "knowing", "misled")
    for station in range(1, SERIES + 1):
        (own,) = found.weights.of(np.array([station]), np.array([9]))
        if station in WORST:
            assert own[3] > 0.5
            assert own[4] == 0
            assert own.sum() == pytest.approx(1, abs=1e-5)
        else:
            assert np.isnan(own[3:]).all()
            np.testing.assert_array_equal(own[:3], plain.by_series[station, 9])
    assert np.isnan(found.weights.default[3:]).all()
    assert np.isnan(found.weights.by_parameter[9][3:]).all()


def test_a_statistical_candidate_shares_with_the_others_in_their_proportions() -> None:
    given = evidence()
    found = stacked(given, Knowing(given, share=0.45, width=2.0)).weights
    plain = stacked(given).weights.by_series[WORST[0], 9]
    own = found.by_series[WORST[0], 9]
    assert 0 < own[3] < 1
    np.testing.assert_allclose(own[:3] / (1 - own[3]), plain, atol=1e-4)


def test_where_a_statistical_candidate_counts_only_its_origins_are_scored_as_served() -> None:
    given = evidence()
    scores = stacked(given, Knowing(given)).scores
    counts = scores.groupby(["candidate", "station_id"]).size()
    assert counts["knowing"].to_dict() == dict.fromkeys(WORST, 3)
    expected = {station: 3 if station in WORST else ORIGINS for station in range(1, SERIES + 1)}
    assert counts["served"].to_dict() == expected
    worst = scores[scores["station_id"].isin(WORST)].groupby("candidate")["mase"].mean()
    assert worst["served"] < 0.5 * worst[list(CHEAP)].min()


def test_a_statistical_candidate_that_does_no_good_harms_nothing() -> None:
    given = evidence()
    found, plain = stacked(given, Knowing(given, share=-3.0, name="misled")), stacked(given)
    for station in WORST:
        np.testing.assert_array_equal(found.weights.by_series[station, 9][:3], plain.weights.by_series[station, 9])
    served, without = (s.scores[s.scores["candidate"] == "served"] for s in (found, plain))
    assert served.reset_index(drop=True).equals(without.reset_index(drop=True))


@pytest.mark.parametrize(
    ("share", "width"), [(-0.6, 3.0), (0.8, 0.02)], ids=["worse than the last value", "sure of what is not so"]
)
@pytest.mark.parametrize("fits", [6, 9, 24])
def test_a_statistical_candidate_that_is_not_to_be_trusted_has_no_weight(share: float, width: float, fits: int) -> None:
    given = evidence()
    found = stacked(given, Knowing(given, share=share, width=width), fits=fits)
    assert [statistical_weight(found, station) for station in WORST] == [0, 0, 0]


def test_a_statistical_candidate_that_fails_is_named_and_harms_nothing() -> None:
    given = evidence()
    found, plain = stacked(given, Raising(), Knowing(given)), stacked(given, Knowing(given))
    assert found.failures == {"raising": "RuntimeError: does not converge"}
    assert found.weights.candidates == (*CHEAP, "raising", "knowing")
    for station in range(1, SERIES + 1):
        (own,) = found.weights.of(np.array([station]), np.array([9]))
        assert np.isnan(own[3])
        np.testing.assert_array_equal(own[[0, 1, 2, 4]], plain.weights.by_series[station, 9])
    assert found.scores.equals(plain.scores)
    alone = stacked(given, Raising())
    np.testing.assert_array_equal(alone.weights.default[:3], stacked(given).weights.default)


def test_a_failure_of_one_series_costs_no_other() -> None:
    given = evidence()
    found = stacked(given, FailsOn(given, WORST[1]))
    assert found.failures == {"fails_on": "ValueError: too flat"}
    assert statistical_weight(found, WORST[0], "fails_on") > 0.5
    # As where it was not tried: that it counted 0 would say that it was found wanting.
    assert np.isnan(statistical_weight(found, WORST[1], "fails_on"))
    (own,) = found.weights.of(np.array([WORST[1]]), np.array([9]))
    assert np.nansum(own) == pytest.approx(1, abs=1e-5)


def test_without_an_origin_the_prior_serves_and_nothing_is_scored() -> None:
    given = evidence().of_origins(np.zeros(ORIGINS, dtype=bool))
    found = stacked(given, Knowing(given))
    assert found.scores.empty
    assert found.weights.default[:3].tolist() == pytest.approx([0.25, 0.375, 0.375])
    assert found.weights.by_series == {}
    np.testing.assert_array_equal(found.calibration.default, 1.0)
