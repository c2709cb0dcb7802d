from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pandas as pd
import pytest

from frugalseg.studies.report import results as study
from frugalseg.studies.report.conclusions import conclude
from frugalseg.studies.report.curves import draw_dice_curve, draw_dice_curves
from frugalseg.studies.report.report import write_report
from frugalseg.studies.report.scores import Scores
from tests.accessible import assert_accessible
from tests.studies.made_up import made_up_study

VOID = {"meta", "br", "img", "hr", "link", "input"}
HOSTILE = '<script>alert("x")</script> & $a_b$'


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps the text, the tags and the tables' trials."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[name] for name in ("href", "src") if name in found]
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] = f"{self.rows[-1][-1]}{data}".strip()


def gains(**of_method):
    def dice(method, budget, draw, seed, patient):
        wobble = 0.01 * ((3 * seed + 2 * draw + patient) % 5 - 2)
        return 0.5 + of_method.get(method, 0.0) + 0.01 * patient + (wobble if method != "scratch" else 0.0)

    return dice


def report_of(results, folder):
    return Page(write_report(results, folder, resamples=300).read_text(encoding="utf-8"))


def test_the_report_of_a_finished_study_has_all_sections(tmp_path):
    (tmp_path / "plan.yaml").write_text("name: made-up\nmethods: {a: <b>}\n")
    page = report_of(made_up_study(gains(best=0.1)), tmp_path)
    assert "made-up: 2 methods compared" in page.text
    assert "12 of 12" not in page.text  # 2 methods × 2 budgets × 6 runs
    assert "24 of 24 runs finished" in page.text
    assert "best has the highest mean Dice at 2 of 2 budgets" in page.text
    assert "the 95% interval of the difference in Dice lies above 0 for best in 2" in page.text
    assert "None: all 24 planned runs are finished" in page.text
    assert "not complete" not in page.text
    assert "methods: {a: <b>}" in page.text
    rows = [row for row in page.rows if row and row[0] == "best"]
    run_means = [
        0.6 + 0.035 + sum(0.01 * ((3 * s + 2 * d + i) % 5 - 2) for i in range(8)) / 8 for d in (0, 1) for s in range(3)
    ]
    sd = pd.Series(run_means).std()
    assert rows[0][1] == f"{sum(run_means) / 6:.3f} ± {sd:.3f}"


def test_the_page_can_be_read_by_keyboard_screen_reader_and_phone(tmp_path):
    assert_accessible(write_report(made_up_study(gains(best=0.1)), tmp_path, resamples=50).read_text(encoding="utf-8"))


def test_the_page_needs_nothing_from_outside_and_repeats_no_id(tmp_path):
    tests = [study.TestSet("held-out", True, True, 6), study.TestSet("abroad", False, True, 6)]
    page = report_of(made_up_study(gains(), tests=tests, backbones=["unet", "resunet"]), tmp_path)
    assert "script" not in page.tags
    assert all(link.startswith("#") for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links} <= set(page.ids)


def test_names_chosen_by_users_are_escaped(tmp_path):
    results = made_up_study(
        gains(),
        methods=["scratch", HOSTILE, "_first"],
        organs=[HOSTILE],
        tests=[study.TestSet(HOSTILE, True, True, 6)],
        state=lambda m, b, d, s: "failed" if (m, s) == (HOSTILE, 0) else "done",
    )
    trials = results.trials.assign(error=HOSTILE)
    results = dataclasses.replace(results, name=HOSTILE, description=HOSTILE, trials=trials)
    page = report_of(results, tmp_path)
    assert "script" not in page.tags
    assert page.text.count(HOSTILE) > 10
    assert {p.parent for p in tmp_path.rglob("*.tex")} == {tmp_path / "tables"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": ["scratch"], "budgets": ["5%"]}, "Only scratch was planned"),
        ({"methods": ["best"]}, "1 scan: scratch is not planned: there is nothing to compare with."),
        (
            {"state": lambda m, *_: "done" if m == "best" else "waiting"},
            "no run of scratch and of another method is finished yet",
        ),
        ({"state": lambda *_: "waiting"}, "No run is finished yet"),
        ({"state": lambda *_: "failed"}, "24 failed"),
        ({"draws": [0], "seeds": [0]}, "1 draw of the labels × 1 seed"),
        ({"organs": ["liver", "spleen"]}, "spleen on held-out (8 scans)"),
        ({"tests": [study.TestSet("one scan", True, False, 1)]}, "no method can be supported with 1 patient"),
    ],
    ids=[
        "one method",
        "no baseline",
        "no baseline yet",
        "nothing finished",
        "all failed",
        "one run",
        "two organs",
        "one patient",
    ],
)
def test_studies_of_every_shape_have_a_report(tmp_path, change, said):
    assert said in report_of(made_up_study(gains(best=0.1), **change), tmp_path).text


def test_a_backbone_without_the_baseline_is_not_called_unfinished(tmp_path):
    results = made_up_study(gains(best=0.1), backbones=["unet", "resnet18-unet", "vit"], budgets=["5%"])
    trials = results.trials
    lone = (trials["backbone"] == "resnet18-unet") & (trials["method"] == "scratch")
    alone = (trials["backbone"] == "vit") & (trials["method"] == "best")
    results = dataclasses.replace(results, trials=trials[~lone & ~alone])
    text = report_of(results, tmp_path).text
    assert "resnet18-unet, 5%: scratch is not planned: there is nothing to compare with." in text
    assert "vit, 5%: only scratch is planned: there is nothing to compare it with." in text
    assert "of another method is finished yet" not in text
    assert "scratch not planned" in text  # in the table


def test_models_of_different_commits_are_warned_of(tmp_path):
    results = made_up_study(gains())
    assert "trained with the same code" not in report_of(results, tmp_path).text
    commit = results.trials["seed"].map({0: "abc", 1: "def", 2: "def-dirty"})
    text = report_of(dataclasses.replace(results, trials=results.trials.assign(commit=commit)), tmp_path).text
    assert "Not all models were trained with the same code. Commits: abc, def, def-dirty." in text
    averaged = commit.replace("def-dirty", "abc, def")
    text = report_of(dataclasses.replace(results, trials=results.trials.assign(commit=averaged)), tmp_path).text
    assert "same code. Commits: abc, def. Differences" in text
    waiting = results.trials.assign(commit=commit, state=["done" if c == "abc" else "waiting" for c in commit])
    assert "the same code" not in report_of(dataclasses.replace(results, trials=waiting), tmp_path).text


def test_methods_without_a_training_have_no_commit_to_differ(tmp_path):
    results = made_up_study(gains())
    is_trained = results.trials["method"] == "scratch"
    trials = results.trials.assign(trained=is_trained, commit=results.trials["commit"].where(is_trained, ""))
    assert "the same code" not in report_of(dataclasses.replace(results, trials=trials), tmp_path).text
    unknown = trials.assign(trained=True)
    text = report_of(dataclasses.replace(results, trials=unknown), tmp_path).text
    assert f"same code. Commits: {'0' * 40}, unknown." in text


def test_organs_that_models_have_not_learned_are_listed_with_their_runs(tmp_path):
    results = made_up_study(gains(), draws=[0], organs=["liver", "gland", "duct"])
    assert "not learned" not in report_of(results, tmp_path).text
    is_best = (results.trials["method"] == "best") & (results.trials["budget"] == "1 scan")
    unlearned = results.trials["seed"].map({0: "gland, duct", 1: "gland", 2: ""}).where(is_best, "")
    text = report_of(dataclasses.replace(results, trials=results.trials.assign(unlearned=unlearned)), tmp_path).text
    assert "best, unet, 1 scan: gland in 2 of 3 runs, duct in 1 of 3 runs" in text
    assert "best, unet, 3 scans: gland" not in text
    assert "scratch, unet, 1 scan: gland" not in text


def test_what_validation_and_intervals_assume_is_said(tmp_path):
    text = report_of(made_up_study(gains()), tmp_path).text
    assert "The masks of the validation patients are not part of the budget" in text
    assert "Student's t below 30 patients, BCa bootstrap from 30 (300 resamplings, seed 0)" in text
    assert "Bands: 95% interval over runs and patients (t interval, 2 draws, 3 seeds, 8 patients)." in text


def test_a_study_without_any_case_or_column_yet(tmp_path):
    results = made_up_study(gains(), state=lambda *_: "waiting")
    page = report_of(dataclasses.replace(results, cases=pd.DataFrame()), tmp_path)
    assert "0 of 24 runs finished, 24 waiting" in page.text
    assert "This study is not complete" in page.text
    assert "No run is finished yet" in page.text


def test_tables_are_written_and_those_of_an_older_report_go(tmp_path):
    tables = tmp_path / "tables"
    report_of(made_up_study(gains(), organs=["liver", "spleen"]), tmp_path)
    (tables / "mine.csv").write_text("a note of mine")
    names = set(json.loads((tables / "tables.json").read_text())["tables"])
    assert (
        {p.stem for p in tables.glob("*.csv")} == {p.stem for p in tables.glob("*.tex")} | {"mine"} == names | {"mine"}
    )
    assert "in-domain-held-out-spleen" in names
    results = made_up_study(gains())
    report_of(results, tmp_path)
    assert not (tables / "in-domain-held-out-spleen.csv").exists()
    assert (tables / "mine.csv").exists()
    read = pd.read_csv(tables / "in-domain-held-out-liver.csv").set_index(["method", "budget", "metric"])
    mean = results.cases.query("method == 'best' and budget == '3 scans'").dice.mean()
    assert read.loc[("best", "3 scans", "dice"), "mean"] == pytest.approx(mean, abs=1e-15)


def test_one_seed_gives_one_report(tmp_path):
    results = made_up_study(gains(best=0.1))
    assert report_of(results, tmp_path / "a").text == report_of(results, tmp_path / "b").text


def answered(results, resamples=10_000):
    scores = Scores(results, resamples=resamples)
    return conclude(scores, scores.endpoints[0])


def test_supported_worse_and_undecided_methods_are_distinguished():
    results = made_up_study(gains(best=0.1, good=0.05, bad=-0.1), methods=["scratch", "good", "best", "bad", "same"])
    said = answered(results)
    assert said.place == "liver on held-out (8 scans)"
    line = said.lines[0]
    start = r"1 scan: best \(\+0\.100 Dice, 95% CI \+0\.09\d to \+0\.10\d, t interval, 2 draws, 3 seeds, 8 patients; "
    assert re.match(start + r"p Holm 0\.062", line)  # 2 / 2^8 times 8 comparisons
    assert line.endswith("is supported against scratch; also supported: good; worse than scratch: bad.")
    assert "same" not in line


def test_no_difference_found_is_stated_where_the_interval_includes_zero():
    results = made_up_study(gains(), methods=["scratch", "same"], budgets=["5%"], draws=[0, 1, 2])
    said = answered(results, resamples=500)
    assert said.lines == ("5%: no difference from scratch found.",)
    assert said.lead[-1].endswith("always includes 0.")


def test_few_draws_of_the_labels_are_said_to_tell_too_little():
    said = answered(made_up_study(gains(best=0.3), budgets=["5%"], draws=[0, 1]), resamples=100)
    assert said.lead[-1].endswith("their variation is poorly known, so these intervals can be wide.")
    said = answered(made_up_study(gains(best=0.3), budgets=["5%"], draws=[0]))
    assert said.lead[-1].endswith("the intervals do not include the variation between draws.")


def test_fewer_than_six_patients_support_nothing():
    five = [study.TestSet("held-out", True, True, 5)]
    said = answered(made_up_study(gains(best=0.3), tests=five, budgets=["5%"]))
    assert said.lines[-1].endswith("no method can be supported with 5 patients (6 are needed).")


def test_one_run_supports_with_a_warning():
    said = answered(made_up_study(gains(best=0.3), draws=[0], seeds=[0], budgets=["5%"]))
    assert "t interval, 8 patients; one run, so another seed may differ" in said.lines[0]


def test_a_mean_that_methods_share_is_no_single_highest():
    said = answered(made_up_study(lambda *_: 0.0, methods=["scratch", "same"], budgets=["5%"]), resamples=100)
    assert said.lead[0] == "At no budget does a single method have the highest mean Dice."


def test_unfinished_budgets_do_not_count_as_won_and_are_named():
    results = made_up_study(
        gains(best=0.1), state=lambda m, b, d, s: "running" if (m, b, s) == ("best", "3 scans", 2) else "done"
    )
    said = answered(results, resamples=300)
    assert said.lead[0].startswith(
        "best has the highest mean Dice at 1 of 1 budget that every method has finished (2 are"
    )
    assert said.lines[1].endswith("Not all runs are finished: best.")


def test_transductive_methods_are_not_recommended_first():
    results = made_up_study(
        gains(best=0.1, moco=0.3), methods=["scratch", "moco", "best"], transductive=["moco"], budgets=["5%"]
    )
    said = answered(results, resamples=300)
    assert said.lead[0] == "best has the highest mean Dice at 1 of 1 budget. Methods marked † are not compared here."
    assert said.lines[0].startswith("5%: best (")
    assert said.lines[0].endswith("also supported: moco†.")
    assert said.lead[1].index("best in 1") < said.lead[1].index("moco† in 1")


def texts(svg):
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("}text")]


def test_curves_stand_on_masks_where_these_rise_and_in_the_plans_order_otherwise():
    scores = Scores(made_up_study(gains(), budgets=["1 scan", "5 scans"]), resamples=100)
    words = texts(draw_dice_curve(scores, scores.endpoints[0], "unet"))
    assert "annotated slices" in words
    assert {"scratch", "best", "40 masks", "80 masks", "liver on held-out"} <= set(words)
    results = made_up_study(gains())
    falling = dataclasses.replace(results, trials=results.trials.assign(masks=100 - results.trials["masks"]))
    scores = Scores(falling, resamples=100)
    assert "labels used" in texts(draw_dice_curve(scores, scores.endpoints[0], "unet"))


def test_curves_show_any_name_and_leave_out_backbones_without_a_run():
    results = made_up_study(gains(), methods=["scratch", "_a $x_1$ <b>"], backbones=["unet", "resunet"])
    done = results.trials.assign(state=results.trials["backbone"].map({"unet": "done", "resunet": "waiting"}))
    (chart,) = draw_dice_curves(Scores(dataclasses.replace(results, trials=done), resamples=100))
    assert any(word.endswith("_a $x_1$ <b>") for word in texts(chart))


def test_many_methods_look_different():
    methods = ["scratch", *(f"m{i}" for i in range(14))]
    scores = Scores(made_up_study(gains(), methods=methods, draws=[0], seeds=[0]), resamples=100)
    svg = draw_dice_curve(scores, scores.endpoints[0], "unet")
    lines = re.findall(r'style="fill: none; (stroke[^"]*stroke-width: 1\.7[^"]*)"', svg)
    assert len(set(lines)) == len(methods)
