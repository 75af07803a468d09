"""Every document: what the seeds show loads unchanged, what is malformed is refused in one line that says where."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autolab.cli import init
from autolab.errors import RecordError
from autolab.lab.schemas import SCHEMAS, schema_text
from autolab.lab.schemas.campaign import Backlog, Campaign, Claims, State
from autolab.lab.schemas.config import Config, StoppingRule, VerifierPolicy
from autolab.lab.schemas.experiment import Design, Entrypoint, Hypothesis, Manifest, Results, ReviewResult, Trial
from autolab.lab.schemas.outcomes import Recommendation, Stage, Verdict, recommend
from autolab.lab.schemas.record import MAX_FIELDS, Record, parse_json, parse_yaml
from autolab.lab.schemas.replies import OUTPUTS, AgentResult, HypothesisOutput, IdeasOutput

SEEDS = Path(__file__).parents[1] / "data" / "seeds"
CONFIG = "metric: {primary: val_loss, direction: minimize, success_delta: 0.01}\n"
DESIGN = (SEEDS / "design.yaml").read_text(encoding="utf-8")
STATE = (SEEDS / "state.json").read_text(encoding="utf-8")

# The seeds' examples


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("state.json", State),
        ("backlog.yaml", Backlog),
        ("design.yaml", Design),
        ("run_manifest.json", Manifest),
        ("verifier_policy.yaml", VerifierPolicy),
    ],
)
def test_a_seeds_example_loads_unchanged(file: str, kind: type[Record]) -> None:
    text = (SEEDS / file).read_text(encoding="utf-8")
    plain = json.loads(text) if file.endswith(".json") else parse_yaml(text, file)[0]
    assert _within(plain, kind.load(SEEDS / file).value()) == []


def _within(shown: Any, held: Any, path: str = "") -> list[str]:
    """Places where the example says something that the document does not hold; later keys may come on top."""
    if isinstance(shown, dict) and isinstance(held, dict):
        return [p for key, part in shown.items() for p in _within(part, held.get(key, "absent"), f"{path}.{key}")]
    if isinstance(shown, list) and isinstance(held, list) and len(shown) == len(held):
        pairs = enumerate(zip(shown, held, strict=True))
        return [p for i, (a, b) in pairs for p in _within(a, b, f"{path}.{i}")]
    return [] if shown == held else [path]


def _filled(file: str) -> str:
    """A template of the seeds with the first of each `a|b|c` chosen."""
    text = (SEEDS / file).read_text(encoding="utf-8")

    def first(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: first(part) for key, part in value.items()}
        return value.split("|")[0].strip() if isinstance(value, str) else value

    return json.dumps(first(json.loads(text)))


def test_the_review_template_loads_once_filled() -> None:
    review = ReviewResult.from_text(_filled("review_result.template.json"), "review_result.json")
    assert review.status == "pass"
    assert review.commit is None, "a review without a commit loads, and never opens the gate"


def test_the_agent_result_template_loads_once_filled() -> None:
    assert AgentResult.from_text(_filled("agent_result.template.json"), "agent_result.json").completion_token_seen


@pytest.mark.parametrize(
    ("file", "kind"), [("review_result.template.json", ReviewResult), ("agent_result.template.json", AgentResult)]
)
def test_a_template_that_is_not_filled_is_refused(file: str, kind: type[Record]) -> None:
    with pytest.raises(RecordError, match="status: Input should be"):
        kind.from_text((SEEDS / file).read_text(encoding="utf-8"), file)


# Strictness


def _refusal(kind: type[Record], text: str, file: str) -> str:
    with pytest.raises(RecordError) as caught:
        kind.from_text(text, file)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{file}: "), message
    assert len(message) < 400, "a message is a line, not the document"
    return message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("seeds: [0, 1, 2]", "seeds: [0, true]"), "line 23: reproducibility.seeds.1: Input should be a valid integer"),
        (("seeds: [0, 1, 2]", "seeds: {max_pairs: 1}"), "line 23: reproducibility.seeds.max_pairs: Input should be"),
        (("seeds: [0, 1, 2]", "seeds: [0, 0]"), "line 22: reproducibility: seeds: a seed is given twice"),
        (("seeds: [0, 1, 2]", "seeds: []"), "line 22: reproducibility: seeds: none given"),
        (("seeds: [0, 1, 2]", "seeds: 3"), "line 23: reproducibility.seeds: Input should be a valid array, got 3"),
        (("deterministic: true", 'deterministic: "true"'), "line 24: reproducibility.deterministic: Input should be"),
        (("success_delta: 0.02", "success_delta: .nan"), "line 29: metrics.success_delta: must be a finite number"),
        (("success_delta: 0.02", "success_delta: -.inf"), "line 29: metrics.success_delta: must be a finite number"),
        (("success_delta: 0.02", "success_delta: 1e999"), "line 29: metrics.success_delta: must be a finite number"),
        (("success_delta: 0.02", "success_delta: 0"), "line 29: metrics.success_delta: Input should be greater than 0"),
        (("primary: val_accuracy", "primari: val_accuracy"), "metrics.primary: missing (and 1 more)"),
        (("- name: aug_x_on", "- name: Aug X"), "line 36: variants.0.name: String should match"),
        (("- name: aug_x_on", "- name: off"), "line 36: variants.0.name: Input should be a valid string, got False"),
        (("- name: aug_x_on", "- name: baseline_current"), "arm name used twice: baseline_current"),
        (("cpus_per_task: 8", "cpus_per_task: 8.5"), "compute.slurm.cpus_per_task: Input should be a valid integer"),
        (("  module: tinydesk_v4.train\n", ""), "entrypoint: name either module or command"),
        (("id: e1\n", "id: e1\nextra: 1\n"), "line 2: extra: unknown key"),
        (("id: e1\n", "id: e1\nid: e2\n"), "line 2: id: key given twice"),
        (("id: e1\n", "id: 2026\n"), "line 1: id: Input should be a valid string, got 2026"),
        (("id: e1\n", "id: !!python/name:os.system x\n"), "line 1: id: a tag (!!python/name:os.system) is not read"),
        (("id: e1\n", "id: [e1\n"), "not YAML"),
        (("id: e1\n", "id: e1\n? [a]\n: 1\n"), "line 2: a key has to be a plain text"),
        (("id: e1\n", "id: e1\n---\n"), "line 2 column 1: not YAML"),
        (("id: e1\n", 'id: "\0"\n'), "not YAML: unacceptable character"),
    ],
)
def test_a_malformed_design_is_refused_with_line_and_field(change: tuple[str, str], message: str) -> None:
    assert change[0] in DESIGN
    assert message in _refusal(Design, DESIGN.replace(*change, 1), "design.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (('"stage_attempt": 1', '"stage_attempt": true'), "stage_attempt: Input should be a valid integer, got True"),
        (('"stage_attempt": 1', '"stage_attempt": 1.5'), "stage_attempt: Input should be a valid integer"),
        (('"stage_attempt": 1', '"stage_attempt": "1"'), "stage_attempt: Input should be a valid integer, got '1'"),
        (('"stage_attempt": 1', '"stage_attempt": 0'), "stage_attempt: Input should be greater than or equal to 1"),
        (('"stage_attempt": 1', '"stage_attempt": NaN'), "NaN is not a number that JSON has"),
        (('"stage_attempt": 1', '"stage_attempt": 1e999'), "1e999 is not a number that JSON has"),
        (('"stage_attempt": 1', f'"stage_attempt": {"1" * 5000}'), "a number has more digits than can be read"),
        (('"stage_attempt": 1', '"stage": "launch", "stage_attempt": 1'), "stage: key given twice"),
        (('"stage_attempt": 1', '"stag": 1'), "stag: unknown key"),
        (('"implementation_review"', '"review"'), "stage: Input should be 'hypothesis'"),
        (('"run_0003"', '"\\ud800"'), "half a character"),
        (("{", ""), "not JSON"),
        (("}", "} {}"), "not JSON: Extra data"),
        (("}", ""), "not JSON"),
    ],
)
def test_a_malformed_state_is_refused_with_field(change: tuple[str, str], message: str) -> None:
    assert change[0] in STATE
    assert message in _refusal(State, STATE.replace(*change, 1), "state.json")


def test_an_unknown_key_is_refused_in_every_document() -> None:
    for name, kind in SCHEMAS.items():
        with pytest.raises(RecordError, match=r"surprise: unknown key|: missing"):
            kind.from_value({"surprise": 1}, name)
        assert kind.model_json_schema(by_alias=True)["additionalProperties"] is False, name


def test_an_integer_is_a_float_and_a_float_is_no_integer() -> None:
    assert Config.from_text(CONFIG.replace("0.01", "1"), "config.yaml").metric.success_delta == 1.0
    assert "must" in _refusal(Config, CONFIG.replace("0.01", ".inf"), "config.yaml")
    assert "valid integer" in _refusal(Config, CONFIG + "attempts: {stage: 5.0}\n", "config.yaml")


def test_a_number_that_json_lacks_is_refused_in_free_values_too() -> None:
    with pytest.raises(RecordError, match=r"output\.a: must be a finite number"):
        AgentResult.from_value({"output": {"a": float("nan")}}, "x")
    text = DESIGN.replace("augmentation_x: true", "rate: .inf")
    assert "variants.0.config_overrides.rate: must be a finite number" in _refusal(Design, text, "design.yaml")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("2026-02-12", "2026-02-12"),
        ("2026-02-12T23:30:00Z", "2026-02-12T23:30:00Z"),
        ("08:00:00", "08:00:00"),
        ("8:00:00", "8:00:00"),
        ("010", "010"),
        ("1_000", "1_000"),
        ("0x1f", "0x1f"),
        ("on", True),
        ("No", False),
        ("y", "y"),
        ("~", None),
        ("", None),
        ("=", "="),
    ],
)
def test_yaml_is_read_as_promised(written: str, value: object) -> None:
    found, _ = parse_yaml(f"a: {written}\n", "x.yaml")
    assert found == {"a": value}
    assert isinstance(found, dict)
    assert type(found["a"]) is type(value)


def test_yaml_keys_are_text_as_written() -> None:
    assert parse_yaml("on: 1\n010: 2\n~: 3\n", "x.yaml")[0] == {"on": 1, "010": 2, "~": 3}


def test_anchors_and_merges_are_read() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a\n"
    assert parse_yaml(text, "x.yaml")[0] == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}


def test_a_bomb_of_aliases_is_refused() -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(RecordError, match=f"more than {MAX_FIELDS} fields"):
        parse_yaml("\n".join(rows), "x.yaml")


@pytest.mark.parametrize("text", ["[" * 5000, "a: " + "[" * 2000 + "]" * 2000, "&a [*a]", "{" * 300 + "}" * 300])
def test_deep_yaml_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(RecordError, match=r"nested too deeply|not YAML|plain text") as caught:
        parse_yaml(text, "x.yaml")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("depth", [300, 5000, 200_000])
def test_deep_json_is_refused_in_one_line(depth: int) -> None:
    text = '{"status": "complete", "summary": "", "changed_files": [], "completion_token_seen": true, "output": {"a": '
    with pytest.raises(RecordError, match="nested too deeply"):
        AgentResult.from_text(text + "[" * depth + "]" * depth + "}}", "agent_result.json")


def test_a_huge_document_is_read_and_a_huge_wrong_value_is_not_repeated() -> None:
    text = json.dumps(json.loads(_filled("agent_result.template.json")) | {"summary": "x" * 3_000_000})
    with pytest.raises(RecordError, match=r"^agent_result\.json: summary: .* at most 20000 characters"):
        AgentResult.from_text(text, "agent_result.json")
    assert "got 'xxx" in _refusal(State, STATE.replace("launch", "").replace("pending", "x" * 100_000), "state.json")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for make, reason in (
        (lambda path: None, "not found"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: path.write_bytes(b"\xff\xfe{}"), "cannot be read"),
    ):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.json"
        make(path)
        with pytest.raises(RecordError, match=reason) as caught:
            State.load(path, "state.json")
        assert str(caught.value).startswith("state.json: ")


_TEXT = st.text(max_size=200)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=8), part, max_size=4),
    max_leaves=12,
)
_FILE = st.sampled_from(["x.json", "x.yaml"])


def _reads_or_refuses(kind: type[Record], text: str, file: str) -> None:
    try:
        assert isinstance(kind.from_text(text, file), kind)
    except RecordError as error:
        assert str(error).startswith(f"{file}: ")
        assert "\n" not in str(error)


@given(_TEXT, _FILE, st.sampled_from(sorted(SCHEMAS)))
def test_any_text_is_a_document_or_a_refusal(text: str, file: str, name: str) -> None:
    _reads_or_refuses(SCHEMAS[name], text, file)


@given(st.text(alphabet="a:-[]{}&*!?|>'\"#%@,. \n\t0~<=1e", max_size=60))
def test_any_yaml_like_text_is_a_value_or_a_refusal(text: str) -> None:
    _reads_or_refuses(Config, text, "x.yaml")


@given(raw=st.binary(max_size=80))
def test_any_bytes_in_a_file_are_a_document_or_a_refusal(raw: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "x.yaml"
    path.write_bytes(raw)
    try:
        Config.load(path)
    except RecordError as error:
        assert "\n" not in str(error)


@given(st.data())
def test_any_change_of_a_good_document_is_a_document_or_a_refusal(data: st.DataObject) -> None:
    file, kind = data.draw(st.sampled_from([("design.yaml", Design), ("run_manifest.json", Manifest)]))
    text = (SEEDS / file).read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 12)))
    _reads_or_refuses(kind, text[:start] + data.draw(st.text(max_size=6)) + text[end:], file)


@given(_JSON)
def test_any_value_in_an_agents_output_is_kept_or_refused(value: object) -> None:
    given_ = {"status": "complete", "summary": "", "changed_files": [], "completion_token_seen": False}
    try:
        result = AgentResult.from_value(given_ | {"output": {"x": value}}, "agent_result.json")
    except RecordError as error:
        assert "\n" not in str(error)
        return
    assert AgentResult.from_text(result.to_json(), "agent_result.json") == result
    for kind in (*OUTPUTS.values(), IdeasOutput):
        try:
            kind.from_value(value, "output")
        except RecordError as error:
            assert "\n" not in str(error)


# Several ideas in one answer

IDEA = {"title": "Wider", "mechanism": "m", "success": "s", "risk_bounds": []}


def test_ideas_of_one_answer_are_read_one_by_one() -> None:
    answer = {"ideas": [IDEA, IDEA | {"titel": "x"}, "an idea", IDEA | {"title": "\n"}, None, IDEA | {"title": "Last"}]}
    first, unknown, text, blank, nothing, last = IdeasOutput.from_value(answer, "reply.json").entries()
    assert isinstance(first, HypothesisOutput) and isinstance(last, HypothesisOutput)
    assert (first.title, last.title) == ("Wider", "Last")
    assert unknown == "idea 2: titel: unknown key"
    assert isinstance(text, str) and text.startswith("idea 3: ") and isinstance(nothing, str)
    assert isinstance(blank, str) and blank.startswith("idea 4: title: ") and "\n" not in text + blank + nothing


def test_one_idea_without_a_list_is_a_list_of_one() -> None:
    (only,) = IdeasOutput.from_value(IDEA, "reply.json").entries()
    assert only == HypothesisOutput.from_value(IDEA, "reply.json")


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ({"ideas": []}, "reply.json: ideas: "),
        ({"ideas": [IDEA], "thoughts": "x"}, "reply.json: thoughts: unknown key"),
        ({"ideas": IDEA}, "reply.json: ideas: "),
        ([IDEA], "reply.json: "),
        ({}, "reply.json: ideas: missing"),
        (IDEA | {"ideas": [IDEA]}, "reply.json: idea 1: ideas: unknown key"),
        ({"ideas": [{}]}, "reply.json: idea 1: title: missing"),
        ({"ideas": [1] * 9}, "; and 4 more"),
        ({"ideas": [IDEA] * 101}, "reply.json: ideas: "),
    ],
    ids=["none", "another key", "no list", "a bare list", "nothing", "both", "all bad", "many bad", "too many"],
)
def test_an_answer_without_any_idea_that_fits_is_refused_in_one_line(answer: object, problem: str) -> None:
    with pytest.raises(RecordError) as refused:
        IdeasOutput.from_value(answer, "reply.json")
    assert problem in str(refused.value) and "\n" not in str(refused.value) and len(str(refused.value)) < 800


# Round trips


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("state.json", State),
        ("backlog.yaml", Backlog),
        ("design.yaml", Design),
        ("run_manifest.json", Manifest),
        ("verifier_policy.yaml", VerifierPolicy),
    ],
)
def test_what_is_written_is_read_back_equal(file: str, kind: type[Record]) -> None:
    record = kind.load(SEEDS / file)
    assert kind.from_text(record.to_json(), "again.json") == record
    assert kind.from_text(record.to_yaml(), "again.yaml") == record


_WORDS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.sampled_from(
        ["1e-3", "1.e3", "on", "~", "null", "2026-02-12", "8:00", "010", "- a", "a: b", "---\n", "x ---\ny"]
    ),
)


@given(_WORDS, _WORDS, st.floats(min_value=5e-324, allow_infinity=False, allow_nan=False))
def test_any_words_survive_yaml_and_json(title: str, mechanism: str, delta: float) -> None:
    claim = Hypothesis(
        id="h1",
        title=title,
        metric="m",
        direction="minimize",
        success_delta=delta,
        success="s",
        risk_bounds=(mechanism,),
        mechanism=mechanism,
    )
    assert Hypothesis.from_text(claim.to_yaml(), "hypothesis.yaml") == claim
    assert Hypothesis.from_text(claim.to_json(), "hypothesis.json") == claim


def test_a_documents_names_on_disk_are_the_seeds(tmp_path: Path) -> None:
    config = Config.from_text(CONFIG, "config.yaml")
    assert "global" in config.value()["files"]
    assert Config.from_text(config.to_yaml(), "config.yaml") == config


def test_a_document_cannot_be_changed_in_memory() -> None:
    state = State.from_text(STATE, "state.json")
    with pytest.raises(ValueError, match="frozen"):
        state.stage = Stage.STOP  # type: ignore[misc]


# Rules between fields


def test_an_entrypoint_is_a_module_or_a_command_and_not_both() -> None:
    for value in ({}, {"module": "a", "command": "b"}):
        with pytest.raises(RecordError, match="name either module or command"):
            Entrypoint.from_value(value, "design.yaml")


def test_an_evaluator_needs_predictions_and_predictions_an_evaluator() -> None:
    for more in ("evaluate: {script: eval.py}\n", 'predict: {command: "python predict.py"}\n'):
        assert "evaluate and predict go together" in _refusal(Config, CONFIG + more, "config.yaml")


def test_a_model_is_taken_from_the_copy_that_the_training_runs_in() -> None:
    sealed = CONFIG + "evaluate: {script: eval.py}\npredict: {command: x, model: %s}\n"
    assert "set train.in_copy: true" in _refusal(Config, sealed % "out/net.pt", "config.yaml")
    for path in ("/out/net.pt", "../net.pt", "."):
        text = sealed % path + "train: {command: y, in_copy: true}\n"
        assert "is no path in the folder that the training runs in" in _refusal(Config, text, "config.yaml")


def test_only_the_metric_has_no_default() -> None:
    assert Config.from_text(CONFIG, "config.yaml").attempts.stage == 5
    assert "metric: missing" in _refusal(Config, "goal: x\n", "config.yaml")


def test_a_verdict_recommends_and_a_failure_asks_to_investigate() -> None:
    assert [recommend(v) for v in (Verdict.SUPPORTED, Verdict.REFUTED, Verdict.INCONCLUSIVE, None)] == [
        Recommendation.PROCEED,
        Recommendation.PIVOT,
        Recommendation.INVESTIGATE,
        Recommendation.INVESTIGATE,
    ]


# Schemas


@pytest.mark.process
def test_init_writes_the_schemas_that_the_models_have(tmp_path: Path) -> None:
    lab = init.make_lab(tmp_path / "lab", str(Path(__file__).parents[1] / "labs" / "tiny"), seed=1)
    written = {path.name: path.read_text(encoding="utf-8") for path in (lab.control / "schemas").iterdir()}
    assert written == {f"{name}.schema.json": schema_text(name) for name in SCHEMAS}


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_is_one_that_validators_accept(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text(name)))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("state", "state.json"),
        ("backlog", "backlog.yaml"),
        ("design", "design.yaml"),
        ("run_manifest", "run_manifest.json"),
    ],
)
def test_what_a_model_writes_fits_its_schema(name: str, file: str) -> None:
    validator = jsonschema.Draft202012Validator(json.loads(schema_text(name)))
    value = SCHEMAS[name].load(SEEDS / file).value()
    assert list(validator.iter_errors(value)) == []
    assert list(validator.iter_errors(value | {"surprise": 1})) != []


def test_default_documents_fit_their_schemas() -> None:
    documents = {
        "config": Config.from_text(CONFIG, "c.yaml"),
        "verifier_policy": VerifierPolicy(),
        "backlog": Backlog(),
    }
    for name, document in documents.items():
        validator = jsonschema.Draft202012Validator(json.loads(schema_text(name)))
        assert list(validator.iter_errors(document.value())) == [], name


def test_every_document_says_where_it_lies() -> None:
    assert [name for name, kind in SCHEMAS.items() if not kind.FILE] == []


def test_json_given_twice_is_refused_at_any_depth() -> None:
    with pytest.raises(RecordError, match="x: key given twice"):
        parse_json('{"a": [{"x": 1, "x": 2}]}', "x.json")


def test_campaign_and_trial_are_strict_too() -> None:
    with pytest.raises(RecordError, match="iterations: Input should be a valid integer"):
        Campaign.from_value({"iterations": True}, "ledger.jsonl line 3: campaign")
    with pytest.raises(RecordError, match=r"score\.loss: must be a finite number"):
        Trial.from_value({"score": {"loss": float("inf")}}, "trial")
    with pytest.raises(RecordError, match=r"status: missing \(and 3 more\)"):
        Results.from_value({"experiment_id": "e1"} | dict.fromkeys(["iteration_id", "run_id"], "x"), "results.yaml")


# The rule and the claims


def rule(**keys: object) -> StoppingRule:
    return StoppingRule.from_value(keys, "config.yaml: test")


def test_without_a_word_about_it_the_rule_is_sequential_at_its_stated_errors() -> None:
    found = rule()
    assert (found.rule, found.alpha, found.max_pairs, found.confirm_pairs) == ("sequential", 0.005, 24, 24)
    assert (found.resolve, found.fdr, found.deviation, found.holdout_questions) == (False, None, None, 20)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"rule": "sprt"}, "deviation: missing; sprt needs that of a pair's difference, declared by you"),
        ({"max_pairs": 2}, "the sequential rule decides from 3 pairs on"),
        ({"confirm_pairs": 2}, "the sequential rule decides from 3 pairs on"),
        ({"rule": "fixed", "max_pairs": 1}, "max_pairs"),
        ({"rule": "sprt", "deviation": 0}, "deviation"),
        ({"rule": "sprt", "deviation": -1.0}, "deviation"),
        ({"alpha": 0}, "alpha"),
        ({"alpha": 0.5}, "alpha"),
        ({"beta": 0}, "beta"),
        ({"fdr": 0}, "fdr"),
        ({"fdr": 1}, "fdr"),
        ({"holdout_questions": -1}, "holdout_questions"),
        ({"rule": "greedy"}, "rule"),
    ],
)
def test_a_rule_that_cannot_decide_or_promise_anything_is_refused(keys: dict[str, object], said: str) -> None:
    with pytest.raises(RecordError) as refused:
        rule(**keys)
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_two_pairs_are_enough_for_a_rule_that_has_its_deviation_or_looks_once() -> None:
    assert rule(rule="fixed", max_pairs=2, confirm_pairs=2).max_pairs == 2
    assert rule(rule="sprt", deviation=0.1, max_pairs=2, confirm_pairs=2).deviation == 0.1


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_a_calibration_over_fewer_than_three_seeds_is_refused(seeds: int) -> None:
    with pytest.raises(RecordError, match="calibrate"):
        Config.from_value(yaml_config() | {"calibrate": {"seeds": seeds}}, "config.yaml")
    assert Config.from_value(yaml_config() | {"calibrate": {"seeds": 3}}, "config.yaml").calibrate.seeds == 3


def yaml_config() -> dict[str, object]:
    return {"metric": {"primary": "val_loss", "direction": "minimize", "success_delta": 0.1}}


@pytest.mark.parametrize(("kept", "alpha", "share"), [(0, 0.0, None), (0, 0.1, None), (2, 0.01, 0.005), (1, 3.0, 1.0)])
def test_the_share_of_false_ones_is_what_was_allowed_over_what_was_kept(
    kept: int, alpha: float, share: float | None
) -> None:
    assert Claims(confirmations=3, kept=kept, alpha=alpha).false_share == share
