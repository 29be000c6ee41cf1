"""The bake-off: who is asked what, and how answers are kept and scored."""

from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
from made_up_corpus import TRUTH

from analyzer.errors import ConfigError, DataError
from analyzer.timing.rates import Rates
from calibration.bakeoff import (
    Rival,
    measured_at,
    ours_at,
    read_answers,
    sample,
    write_answers,
    write_rows,
)
from calibration.peers import PEERS, Answer, PeerMissing, peer, run_worker
from calibration.peers.base import two_phases
from calibration.problem import build, predict
from calibration.scored import IDEAL
from calibration.tally import tally
from reports.validate.bakeoff import BakeoffOptions, run_bakeoff


@pytest.fixture(scope="module")
def places(scored):
    return sample(scored)


def answers_at(places, scored, efficiency=1.0):
    """A peer that is our own model at one efficiency, communication and all."""
    ideal = ours_at(places, scored, IDEAL) / efficiency
    return {
        place.asked.id: Answer(tuple(times), (0.0, 0.0, 0.0))
        for place, times in zip(places, ideal, strict=True)
    }


def test_the_sample_is_the_same_every_time_and_dealt_out_evenly(scored, places):
    again = sample(scored)
    assert [p.asked.id for p in again] == [p.asked.id for p in places]
    assert len({p.asked.id for p in places}) == len(places) == 72
    few = sample(scored, 10)
    assert [p.group for p in few] == [0, 1] * 5


def test_places_lead_back_to_their_rows(scored, places):
    measured = measured_at(places, scored)
    for place, row in zip(places, measured, strict=True):
        assert place.asked.case.observed == pytest.approx(tuple(row))


def test_answers_survive_their_file(tmp_path, scored, places):
    answers = answers_at(places, scored)
    answers[places[0].asked.id] = Answer(problem="cannot, really")
    back = read_answers(write_answers(answers, tmp_path / "peer.csv"))
    assert back.keys() == answers.keys()
    assert back[places[0].asked.id].problem == "cannot, really"
    for key, answer in answers.items():
        assert back[key].times(0.5) == pytest.approx(answer.times(0.5), rel=1e-5, nan_ok=True)


def test_somebody_elses_file_needs_an_id_and_times_only(tmp_path, places):
    path = tmp_path / "theirs.csv"
    path.write_text(f"id,ttft_s,tpot_s,e2e_s\n{places[0].asked.id},1.5,,3\n")
    answer = read_answers(path)[places[0].asked.id]
    assert answer.times()[0] == 1.5
    assert np.isnan(answer.times()[1])
    predicted = Rival("theirs", read_answers(path)).predicted(places)
    assert np.isfinite(predicted).sum() == 2


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("ttft_s\n1\n", "id"),
        ("id,ttft_s\na,soon\n", "ttft_s"),
        ("id,ttft_s\na,-1\n", "ttft_s"),
        ("", "empty"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path, text, names):
    path = tmp_path / "broken.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=names):
        read_answers(path)


def test_the_best_factor_is_found_with_each_model_held_out(scored, places):
    measured = measured_at(places, scored)
    rival = Rival("ideal", answers_at(places, scored))
    best = rival.best_factor(places, measured)
    assert tally(best, measured).geomean < 0.05
    assert tally(rival.predicted(places), measured).bias < -0.4
    first = places[0]
    eff = rival.predicted(places)[0] / best[0]
    assert eff == pytest.approx(TRUTH[first.asked.system.name], rel=0.08)


def test_two_phases_add_up_to_the_whole(places):
    case = places[0].asked.case
    answer = two_phases(case, (1.0, 0.25), (0.1, 0.01))
    ttft, tpot, e2e = answer.times(0.5)
    steps = case.workload.output_tokens - 1
    assert (ttft, tpot) == pytest.approx((2.25, 0.21))
    assert e2e == pytest.approx(ttft + steps * tpot)


def test_rows_to_answer_say_what_was_run(tmp_path, scored):
    path = tmp_path / "rows.csv"
    assert run_bakeoff(BakeoffOptions(rows=path, most=5), scored) == ()
    lines = path.read_text().splitlines()
    assert len(lines) == 6
    assert lines[0].startswith("id,hardware,engine,model")
    assert write_rows(sample(scored, 5), path).read_text().splitlines() == lines


def test_run_compares_files_and_counts_what_went_unanswered(tmp_path, scored, places):
    answers = answers_at(places, scored, 0.45)
    answers.pop(places[0].asked.id)
    path = write_answers(answers, tmp_path / "mine.csv")
    everybody, pairs, silent = run_bakeoff(BakeoffOptions(predictions=(path,)), scored)
    assert everybody.rows[-1][:2] == ("mine", len(places) - 1)
    assert {row[0] for row in pairs.rows} == {"mine"}
    assert dict(row[1:] for row in silent.rows) == {"answered": 71, "not asked": 1}


def test_peers_are_known_by_name(scored):
    assert set(PEERS) == {"genz", "aiconfigurator"}
    with pytest.raises(ConfigError, match="genz"):
        peer("gnz")
    with pytest.raises(ConfigError, match="at least one"):
        run_bakeoff(BakeoffOptions(most=0), scored)


@pytest.mark.parametrize("name", sorted(PEERS))
def test_a_peer_without_its_package_says_so(name, places):
    package = {"genz": "GenZ", "aiconfigurator": "aiconfigurator_core"}[name]
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed here")
    with pytest.raises(PeerMissing, match="not installed"):
        peer(name)([places[0].asked], sys.executable)


def test_a_worker_that_breaks_is_reported(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text("import sys\nsys.exit('out of paper')\n")
    with pytest.raises(ConfigError, match="out of paper"):
        list(run_worker(script, sys.executable, []))
    with pytest.raises(ConfigError, match="no such interpreter"):
        list(run_worker(script, str(tmp_path / "python"), []))


def test_a_worker_sees_every_request_and_stray_output_is_ignored(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(
        "import sys, json\nprint('hello')\n"
        "for line in sys.stdin: print(json.dumps({'id': json.loads(line)['id']}))\n"
    )
    got = list(run_worker(script, sys.executable, [{"id": "a"}, {"id": "b"}]))
    assert got == [{"id": "a"}, {"id": "b"}]


def test_ideal_of_a_lone_row_is_what_the_group_says(scored, places):
    place = places[3]
    group = scored[place.group].group
    alone = predict(build([place.asked.case], group.problem.machine), Rates.ideal())
    assert alone[0] == pytest.approx(scored[place.group].predicted[IDEAL][place.row])
