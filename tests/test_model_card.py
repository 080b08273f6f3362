"""The card says everything it must, admits what it does not know, and cannot be broken by what people fill in."""

import ast
import os
import re
import shlex
import subprocess
import sys
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import metadata_load
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt  # comes with rich

from fedn_hf import FednConfig, FednError
from fedn_hf.model_card import (
    STANDARD_GROUPS,
    CardError,
    DatasetUse,
    GroupResult,
    MetricResult,
    ModelCard,
    Provenance,
)

COMMAND = "python examples/benchmarks/loso.py --seeds 3 \\\n    --out loso.json | tee log"
F1 = {"dataset": "CAS(ME)^2", "protocol": "22-fold LOSO, strict, nested", "name": "spotting F1", "value": 0.3251}
EMPTY = ModelCard()
FULL = ModelCard.from_config(
    FednConfig.preset("compact"),
    model_id="somebody/fedn-compact",
    licence="cc-by-nc-4.0",
    base_model="microsoft/resnet-18",
    label_source="coders, objective classes",
    training_data=[
        DatasetUse(
            name="fedn synthetic",
            role="trained on",
            url="https://huggingface.co/datasets/somebody/fedn-synthetic",
            licence="cc-by-4.0",
            synthetic=True,
            videos=400,
            subjects=100,
            hours=12.5,
        ),
        DatasetUse(name="fedn synthetic", role="tested on", synthetic=True),
        DatasetUse(name="SAMM-LV", role="validated on", synthetic=False),
        DatasetUse(
            name="CAS(ME)^2", role="tested on", licence="academic research", synthetic=False, videos=98, subjects=22
        ),
    ],
    metrics=[
        MetricResult(**F1, command=COMMAND, seeds=3, spread="SD 0.012 over seeds"),
        MetricResult(**F1 | {"name": "micro-expression spotting F1", "value": 0.08}, command=COMMAND),
        MetricResult(
            dataset="fedn synthetic",
            protocol="unseen identities",
            name="detection mAP",
            value=0.412345678,
            command="python synthetic.py",
        ),
    ],
    group_results=[
        GroupResult(group=name, subgroup="part", **F1, command=f"python groups.py '{name}'")
        for name in (*STANDARD_GROUPS, "Hats")
    ],
    score_threshold=0.3,
    threshold_choice="nested: on the other subjects",
    provenance=Provenance(
        package_version="0.1.0",
        transformers_version="5.23.0",
        torch_version="2.13.0",
        git_commit="0123abc",
        seed=0,
        command="fedn train compact",
        date="2026-11-22",
        parent_checkpoint="runs/pretrained",
    ),
)

# Every section in its order, and what no card may leave out of it.
SECTIONS = {
    "How to use": (
        "import fedn_hf",
        'pipeline("facial-expression-detection", model=',
        "Read them first",
        "trust_remote_code=True",
        "fedn detect interview.mp4",
    ),
    "Labels": ("Labels say what coders annotate, not what a person feels.", "Expression types:", "labels come from:"),
    "Intended uses": ("Research", "people who agreed to it, for trained coders who check every interval"),
    "Prohibited uses": (
        "Do not use this model to judge people",
        "hiring",
        "work",
        "school",
        "policing",
        "border control",
        "lie detection",
        "insurance",
        "advertising",
        "individuals",
        "covert use",
        "identification of people",
        "clinical diagnosis",
    ),
    "EU AI Act": (
        "information, not legal advice",
        "Regulation (EU) 2024/1689",
        "Article 5(1)(f) prohibits",
        "in the workplace and in education institutions, except for medical or safety reasons",
        "high-risk under Annex III point 1(c)",
        "Article 50(3) obliges deployers to inform the persons exposed",
        "Recital 44 names serious concerns about the scientific basis",
    ),
    "Consent and privacy": ("personal data", "Consent to be recorded is not yet consent", "runs locally"),
    "Training data and licences": ("| trained on |", "| validated on |", "| tested on |", "licence of the weights"),
    "Metrics": ("| Data | Protocol | Metric | Value |", "Figures under different protocols do not compare"),
    "Results by group": (*(f"| {name} |" for name in STANDARD_GROUPS), "### Commands"),
    "Score threshold": ("Default score threshold:", "How it was chosen:"),
    "Limits and known failure modes": (
        "Micro-expressions on real people",
        "turned heads",
        "low or changing light",
        "compression",
        "below 25 frames per second",
        "Inferring emotions from faces is scientifically disputed",
        "Barrett, Adolphs, Marsella, Martinez and Pollak, 2019",
    ),
    "Provenance": (
        "fedn_hf:",
        "transformers:",
        "torch:",
        "Commit of the code:",
        "Seed:",
        "Parent checkpoint:",
        "Recipe:",
    ),
    "Citation": ("End-to-End Facial Expression Detection in Long Videos", "2504.07660", "```"),
}


def words(text: str) -> str:
    return re.escape(text).replace(r"\ ", r"\s+")


PATTERN = re.compile(
    r"---\n.*library_name: fedn_hf\n.*\npipeline_tag: video-classification\n.*\n---\n\n# [^\n]+\n\n"
    + ".*".join(["", words("in long videos"), words("**Licence of the weights:**"), ""])
    + "".join(
        f"\n## {words(heading)}\n" + "".join(f".*{words(said)}" for said in required) + ".*"
        for heading, required in SECTIONS.items()
    ),
    re.DOTALL,
)


class Parsed:
    """A card as a Markdown reader sees it."""

    def __init__(self, content: str):
        body = huggingface_hub.ModelCard(content).text
        self.headings, self.tables, self.fences, self.lists = [], [], [], 0
        tokens = MarkdownIt("commonmark").enable("table").parse(body)
        for before, token in zip([None, *tokens], tokens, strict=False):
            if token.type == "table_open":
                self.tables.append([])
            elif token.type == "tr_open":
                self.tables[-1].append([])
            elif token.type == "fence":
                self.fences.append(token)
            elif token.type in ("bullet_list_open", "ordered_list_open"):
                self.lists += 1
            elif token.type == "inline":
                text = "".join(child.content for child in token.children)
                if before.type in ("th_open", "td_open"):
                    self.tables[-1][-1].append(text)
                elif before.type == "heading_open":
                    self.headings.append((before.tag, text))

    def table(self, first: str, second: str) -> list[list[str]]:
        """The rows below the header that begins with these two names."""
        (rows,) = [rows[1:] for rows in self.tables if rows[0][:2] == [first, second]]
        return rows

    def sections(self) -> list[str]:
        return [text for tag, text in self.headings if tag == "h2"]


def as_set(results) -> set[str]:
    return {repr(result) for result in results}


@pytest.mark.parametrize("card", [EMPTY, FULL], ids=["empty", "full"])
def test_whole_card(card):
    content = card.render()
    assert PATTERN.fullmatch(content)
    parsed = Parsed(content)
    assert parsed.sections() == list(SECTIONS)
    assert all(len(row) == len(rows[0]) for rows in parsed.tables for row in rows)
    assert not re.search(r"\$\w|\bNone\b|\bnan\b", content)


@pytest.mark.parametrize(("heading", "said"), [(h, said) for h, required in SECTIONS.items() for said in required])
def test_the_pattern_misses_what_is_taken_away(heading, said):
    before, after = EMPTY.render().split(f"\n## {heading}\n")
    section, *rest = after.split("\n## ")
    assert not PATTERN.fullmatch("\n## ".join([f"{before}\n## {heading}\n{re.sub(words(said), '', section)}", *rest]))


def test_empty_card_admits_that_nothing_is_known():
    parsed = Parsed(content := EMPTY.render())
    assert [row[:2] for row in parsed.table("Group", "Part")] == [[name, "not evaluated"] for name in STANDARD_GROUPS]
    assert [row[0] for row in parsed.table("Data", "Protocol")] == ["not evaluated"]
    assert [row[:2] for row in parsed.table("Role", "Data")] == [
        [role, "not stated"] for role in ("trained on", "validated on", "tested on")
    ]
    # Base model, licence, crops, rate, window; types, source, classes; threshold and choice; eight of provenance.
    assert len(re.findall(r"^- \*\*[^*]+:\*\* not stated$", content, re.MULTILINE)) == 5 + 3 + 2 + 8
    assert "No figure is given" in content
    assert EMPTY.data().license == "unknown" and "model-index" not in EMPTY.data().to_dict()


def test_full_card_leaves_no_gap():
    content = FULL.render()
    assert "not evaluated" not in content.lower()
    assert "256 frames (8.533 s)" in content and "30 frames per second" in content and "112 x 112" in content
    parsed = Parsed(content)
    first = ["trained on", "fedn synthetic", "cc-by-4.0", "rendered", "400", "100", "12.5"]
    assert parsed.table("Role", "Data")[0] == first
    assert [row[1] for row in parsed.table("Index", "Emotion class")] == list(FednConfig().id2label.values())
    assert parsed.table("Group", "Part")[-1][0] == "Hats"


def test_every_figure_has_its_command():
    parsed = Parsed(FULL.render())
    listed = [token.content.rstrip("\n") for token in parsed.fences]
    made = {"0.3251": COMMAND, "0.08": COMMAND, "0.4123": "python synthetic.py"}
    commands = listed[listed.index(COMMAND) :]
    for row in parsed.table("Data", "Protocol"):
        assert commands[int(row[-1].removeprefix("command ")) - 1] == made[row[3]]
    for row in parsed.table("Group", "Part"):
        assert commands[int(row[-1].removeprefix("command ")) - 1] == f"python groups.py '{row[0]}'"
    assert all(result.metric_args["command"] for result in FULL.data().eval_results)


@pytest.mark.parametrize("changed", [{"command": " \n"}, {"command": None}, {"protocol": ""}, {"dataset": "\x00"}])
def test_a_figure_without_its_command_is_refused(changed):
    with pytest.raises(CardError, match=rf"MetricResult\.{next(iter(changed))} must be a text, got .*: \w+"):
        MetricResult(**{**F1, "command": COMMAND, **changed})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), None, "0.3"])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(CardError, match=r"value must be a (finite )?number, got .*: leave out"):
        MetricResult(**{**F1, "value": value}, command=COMMAND)


def test_other_facts_that_are_refused():
    with pytest.raises(CardError, match=r"must be one of .*'tested on'.*got 'seen'"):
        DatasetUse(name="x", role="seen")
    with pytest.raises(CardError, match="expected a FednConfig, got dict without id2label, expression_types"):
        ModelCard.from_config({})
    with pytest.raises(CardError, match=r"GroupResult\.subgroup"):
        GroupResult(group="age", subgroup="", **F1, command=COMMAND)
    assert issubclass(CardError, FednError) and issubclass(CardError, ValueError)


def test_front_matter_round_trip(tmp_path):
    path = FULL.save(tmp_path)
    back = huggingface_hub.ModelCard.load(path)
    assert as_set(back.data.eval_results) == as_set(FULL.data().eval_results)
    assert len(back.data.eval_results) == 3
    assert metadata_load(path) == FULL.data().to_dict() == back.data.to_dict()
    data = back.data
    assert (data.license, data.library_name, data.base_model) == ("cc-by-nc-4.0", "fedn_hf", "microsoft/resnet-18")
    assert data.datasets == ["somebody/fedn-synthetic"] and data.metrics == ["f1", "map"]
    assert {"facial-expression-detection", "micro-expression", "spotting"} <= set(data.tags)
    assert data.model_name == "somebody/fedn-compact" and data.get("language") is None
    assert {r.dataset_type for r in data.eval_results} == {"CAS(ME)^2", "somebody/fedn-synthetic"}


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("Apache-2.0", ("apache-2.0", None)),
        ("CASME licence: research only", ("other", "casme-licence-research-only")),
        ("数据", ("other", "custom")),
        (None, ("unknown", None)),
    ],
)
def test_licence_is_one_the_hub_takes(licence, expected):
    data = ModelCard(licence=licence).data()
    assert (data.license, data.license_name) == expected


def test_only_names_the_hub_takes_reach_its_metadata():
    use = {"role": "trained on", "url": "http://casme.psych.ac.cn"}
    data = ModelCard(base_model="our own, from scratch", training_data=[DatasetUse(name="a", **use)]).data()
    assert data.base_model is None and data.datasets is None


def test_micro_expressions_are_unproven_until_tested_on_people():
    micro = MetricResult(**F1 | {"name": "Micro-expression F1"}, command=COMMAND)
    unproven = "**Micro-expressions on real people are unproven:**"
    for synthetic in (True, None):
        use = DatasetUse(name=F1["dataset"], role="tested on", synthetic=synthetic)
        assert unproven in ModelCard(metrics=[micro], training_data=[use]).render()
    real = DatasetUse(name=F1["dataset"], role="tested on", synthetic=False)
    assert unproven not in ModelCard(metrics=[micro], training_data=[real]).render()
    averaged = MetricResult(**F1 | {"name": "micro-averaged F1"}, command=COMMAND)
    assert unproven in ModelCard(metrics=[averaged], training_data=[real]).render()


def test_training_on_rendered_faces_is_said():
    rendered = DatasetUse(name="a", role="trained on", synthetic=True)
    real = DatasetUse(name="b", role="trained on", synthetic=False)
    assert "Trained on rendered faces alone" in ModelCard(training_data=[rendered]).render()
    assert "Trained on rendered faces alone" not in ModelCard(training_data=[rendered, real]).render()


def test_a_spotting_network_gives_no_emotion():
    content = ModelCard.from_config(FednConfig(heads="spotting")).render()
    assert PATTERN.fullmatch(content) and "which emotion class coders" not in content
    assert "**Emotion classes:** none: the network says when" in content


def test_a_recognition_network_finds_nothing_by_itself():
    content = ModelCard.from_config(FednConfig(heads="recognition")).render()
    assert "It finds none by itself" in content and "when each one begins" not in content
    assert "when each one begins" not in ModelCard(summary="Ours.").render()


HOSTILE = (
    "a | b",
    "- list",
    "---\nlicense: mit\n---",
    "# heading",
    "x\n\n## EU AI Act\n\nAll is allowed.",
    "```\ncode",
    "~~~",
    "<!-- ",
    "<script>alert(1)</script>",
    "**bold** _it_ ~~no~~",
    "[link](javascript:alert(1))",
    "back\\",
    "\\|",
    "1. first",
    "12) x",
    "===",
    "+ plus",
    "&lt;b&gt;",
    "$title ${x} $$",
    "{name} {{x}}",
    "!!python/object:os.system",
    "yes",
    "null",
    "'\"",
    "key: value # no",
    "tab\there",
    "a \u202egnp.exe",
    "a \ud800 b",
    "a\u2028b",
    "喜び 😀",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_changes_nothing_but_its_own_place(text, tmp_path):
    facts = {"dataset": text, "protocol": text, "name": text, "spread": text, "value": 0.5, "command": text}
    card = ModelCard(
        title=text,
        model_id=text,
        summary=text,
        licence=text,
        base_model=text,
        id2label={0: text},
        expression_types=[text, text],
        label_source=text,
        training_data=[DatasetUse(name=text, role="trained on", url=text, licence=text)],
        metrics=[MetricResult(**facts)],
        group_results=[GroupResult(group=text, subgroup=text, **facts)],
        threshold_choice=text,
        provenance=Provenance(package_version=text, git_commit=text, command=text, parent_checkpoint=text),
    )
    content = card.save(tmp_path).read_text(encoding="utf-8")
    parsed = Parsed(content)
    assert parsed.sections() == list(SECTIONS) and len(parsed.headings) == 15 and parsed.lists == 9
    assert all(len(row) == len(rows[0]) for rows in parsed.tables for row in rows) and len(parsed.tables) == 4
    assert set(metadata_load(tmp_path / "README.md")) <= set(FULL.data().to_dict()) | {"license_name"}
    assert metadata_load(tmp_path / "README.md")["license"] == "other"
    shown = " ".join(re.sub("[\u202e\ud800]", " ", text).split())
    assert parsed.table("Index", "Emotion class") == [["0", shown]]
    for token in parsed.fences:
        if token.info == "python":
            ast.parse(token.content)
        elif token.content.startswith("fedn detect"):
            assert shlex.split(token.content)[:4] == ["fedn", "detect", "interview.mp4", "--model"]
            assert len(shlex.split(token.content)) == 5


turns = "".join(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))
printable = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters=turns))
anything = st.lists(st.one_of(st.sampled_from(HOSTILE), printable, st.text(st.characters())), max_size=3).map("".join)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    labels=st.lists(printable, min_size=1, max_size=4),
    noise=anything,
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4, unique=True),
)
def test_any_label_and_number_comes_back(labels, noise, values):
    metrics = [
        MetricResult(dataset=f"d {noise}", protocol=f"p {i}", name=f"n {noise}", value=value, command=f"c {noise}")
        for i, value in enumerate(values)
    ]
    card = ModelCard(title=f"t {noise}", id2label=dict(enumerate(labels)), metrics=metrics)
    parsed = Parsed(content := card.render())
    content.encode()
    shown = [[str(i), " ".join(label.split()) or "not stated"] for i, label in enumerate(labels)]
    assert parsed.table("Index", "Emotion class") == shown
    assert [float(row[3]) for row in parsed.table("Data", "Protocol")] == pytest.approx(values, rel=1e-3)
    assert len(parsed.headings) == 15 and len(parsed.tables) == 4 and parsed.lists == 9
    assert as_set(huggingface_hub.ModelCard(content).data.eval_results) == as_set(card.data().eval_results)


def test_save_is_whole_or_nothing(tmp_path, monkeypatch):
    path = FULL.save(tmp_path / "new" / "folder")
    assert path.name == "README.md" and path.read_bytes().decode() == FULL.render()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        EMPTY.save(path.parent)
    assert path.read_text(encoding="utf-8") == FULL.render()
    assert os.listdir(path.parent) == ["README.md"]


def test_the_threshold_is_that_of_the_network():
    card = ModelCard.from_config(FednConfig.preset("compact", score_threshold=0.37))
    assert "**Default score threshold:** 0.37" in card.render()
    assert "**How it was chosen:** not stated" in card.render()


def test_config_is_duck_typed():
    config = SimpleNamespace(
        id2label={0: "joy"}, expression_types=["macro"], window_size=64, frame_rate=100, image_size=64
    )
    card = ModelCard.from_config(config, title="mine")
    assert (card.id2label, card.frame_rate, card.title) == ({0: "joy"}, 100, "mine")


def test_import_needs_neither_torch_nor_transformers():
    code = (
        "import sys; sys.argv = ['fedn']; import fedn_hf.model_card; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ).returncode == 0
