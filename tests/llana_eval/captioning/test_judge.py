"""A judge of answers: a tiny language model made here, and an endpoint on this machine that fails."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from llana_eval.captioning import judge_endpoint
from llana_eval.captioning.judge import PROMPT, judge_file, judge_prompt, parse_score
from llana_eval.captioning.judge_endpoint import EndpointJudge
from llana_eval.captioning.tables import captioning_tables
from llana_gmn.commands import main
from tests.llana_eval.conftest import saying_model

KEY = "sk-very-secret"
METRICS = ["--metrics", "bleu-1", "--resamples", "20"]


@pytest.fixture
def results(tmp_path):
    """A result file of six answers."""
    path = tmp_path / "results.json"
    records = [
        {
            "object_id": f"o{i}",
            "question": f"What is {i}?",
            "ground_truth": "A red chair.",
            "model_output": f"A chair {i}.",
        }
        for i in range(6)
    ]
    path.write_text(json.dumps(records))
    return path


class Server:
    """An endpoint whose answers a test chooses: ``answer(number of the request, prompt) -> (status, body)``."""

    def __init__(self):
        self.requests = []
        self.answer = lambda number, prompt: (200, chat("70#good"))
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.requests.append((self.path, self.headers.get("Authorization"), content))
                status, body = outer.answer(len(outer.requests), content["messages"][0]["content"])
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


def chat(text):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", KEY)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    yield server
    server.close()


@pytest.fixture
def waits(monkeypatch):
    """Nobody waits; how long they would have."""
    waited = []
    monkeypatch.setattr(judge_endpoint.time, "sleep", waited.append)
    return waited


def command(results, server, *more):
    return [
        *("score", str(results), "--judge", "big/judge-1", "--judge-url", server.url, "--judge-key-env", "JUDGE_KEY"),
        *("--judge-batch-size", "1", *METRICS, *more),
    ]


def replies(results):
    return [json.loads(line) for line in (results.parent / "results_judge_judge-1.jsonl").read_text().splitlines()]


def test_an_endpoint_that_fails_once_is_asked_again(results, server, waits, capsys):
    server.answer = lambda number, prompt: (503, b"full") if number == 3 else (200, chat(f"{number * 10}#reason"))
    assert main(command(results, server)) == 0
    assert len(server.requests) == 7 and waits == [1.0]
    path, authorization, content = server.requests[0]
    assert (path, authorization) == ("/v1/chat/completions", f"Bearer {KEY}")
    assert (content["model"], content["temperature"], content["max_tokens"]) == ("big/judge-1", 0, 64)
    prompts = [request[2]["messages"][0]["content"] for request in server.requests]
    assert prompts[2] == prompts[3] and len(set(prompts)) == 6
    assert "Question: What is 0?\nReference: A red chair.\nAnswer: A chair 0.\n" in prompts[0]
    found = replies(results)
    assert [each["score"] for each in found] == [10, 20, 40, 50, 60, 70]
    assert found[0]["reply"] == "10#reason" and found[0]["model_output"] == "A chair 0."
    written = json.loads((results.parent / "results_evaluated_traditional.json").read_text())
    assert written["overall_scores"]["judge"] == "41.6667"
    assert [each["scores"]["judge"] for each in written["results"]] == [10, 20, 40, 50, 60, 70]
    assert len(written["confidence_intervals"]["judge"]) == 2
    assert written["settings"]["judge"] == {
        "judge": "big/judge-1",
        "judge_url": f"{server.url}/chat/completions",
        "max_new_tokens": 64,
        "temperature": 0,
        "prompt": PROMPT,
    }
    captured = capsys.readouterr()
    assert "Judge (of 6 records)" in captured.out
    for file in results.parent.iterdir():
        assert KEY not in file.read_text()
    assert KEY not in captured.out + captured.err


def test_an_endpoint_that_fails_half_way_is_continued(results, server, waits, capsys):
    server.answer = lambda number, prompt: (200, chat("70#good")) if number < 3 else (500, b"broken " + KEY.encode())
    assert main(command(results, server)) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "failed 6 times (HTTP 500 broken ***); what was judged is kept" in err
    assert waits == [1, 2, 4, 8, 16]
    assert [each["object_id"] for each in replies(results)] == ["o0", "o1"]
    server.requests.clear()
    server.answer = lambda number, prompt: (200, chat("30#bad"))
    assert main(command(results, server)) == 0
    assert len(server.requests) == 4
    assert [each["score"] for each in replies(results)] == [70, 70, 30, 30, 30, 30]
    assert main(command(results, server)) == 0
    assert len(server.requests) == 4  # nothing is left to ask
    assert main(command(results, server, "--overwrite")) == 0
    assert len(server.requests) == 10 and {each["score"] for each in replies(results)} == {30}
    assert main(command(results, server, "--judge-max-new-tokens", "9")) == 1
    assert "was begun with max_new_tokens 64, now 9" in capsys.readouterr().err


def test_a_record_that_changed_is_judged_again(results, server):
    assert main(command(results, server)) == 0
    records = json.loads(results.read_text())
    records[2]["model_output"] = "A lamp."
    results.write_text(json.dumps(records))
    assert main(command(results, server)) == 0
    assert len(server.requests) == 7 and "Answer: A lamp.\n" in server.requests[6][2]["messages"][0]["content"]


def test_replies_that_come_with_a_failure_are_kept(results, server, waits):
    def answer(number, prompt):
        return (500, b"") if "What is 1?" in prompt else (200, chat("70#good"))

    server.answer = answer
    assert main([*command(results, server), "--judge-batch-size", "4"]) == 1
    assert [each["object_id"] for each in replies(results)] == ["o0", "o2", "o3"]


def test_replies_without_a_score_are_counted_and_named(results, server, tmp_path, capsys):
    def answer(number, prompt):
        return 200, chat("I cannot say." if "What is 4?" in prompt else "80#fine" if "chair 1." in prompt else "40#so")

    server.answer = answer
    assert main(command(results, server)) == 1
    captured = capsys.readouterr()
    assert "1 of 6 replies hold no score from 0 to 100 (of records 4); they are left out" in captured.err
    assert "Judge (of 5 records)" in captured.out
    assert replies(results)[4]["score"] is None and replies(results)[4]["reply"] == "I cannot say."
    written = json.loads((tmp_path / "results_evaluated_traditional.json").read_text())
    assert written["overall_scores"]["judge"] == "48.0000" and "judge" not in written["results"][4]["scores"]
    # Compared are the records that both have a score of.
    other = tmp_path / "other.json"
    records = json.loads(results.read_text())
    records[3]["model_output"] = "What is 4? A chair."
    other.write_text(json.dumps(records))
    assert main([*command(results, server), "--against", str(other), "--out", str(tmp_path / "s.json")]) == 1
    comparison = json.loads((tmp_path / "s.json").read_text())["comparison"]["judge"]
    assert (comparison["first"], comparison["second"]) == (50.0, 50.0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((401, b'{"error": "wrong key sk-very-secret"}'), "refused the request of big/judge-1 (HTTP 401"),
        ((404, b"no such model"), "refused the request of big/judge-1 (HTTP 404 no such model)"),
        ((302, b""), "refused the request of big/judge-1 (HTTP 302)"),
        ((200, b"<html>"), "failed 6 times (its answer is no chat completion)"),
        ((200, b'{"choices": []}'), "failed 6 times (its answer is no chat completion)"),
        ((429, b"slow down"), "failed 6 times (HTTP 429 slow down)"),
    ],
)
def test_what_an_endpoint_says_is_one_sentence_without_the_key(results, server, waits, capsys, answer, message):
    server.answer = lambda number, prompt: answer
    assert main(command(results, server)) == 1
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1 and KEY not in err
    assert all(path == "/v1/chat/completions" for path, _, _ in server.requests)  # a redirect is not followed
    assert len(server.requests) == (1 if "refused" in message else 6)
    assert not list(results.parent.glob("*_judge_*"))  # a judge that never replied leaves no file


def test_an_endpoint_that_is_not_there(results, server, waits, capsys):
    server.close()
    assert main(command(results, server)) == 1
    err = capsys.readouterr().err
    assert "failed 6 times" in err and "refused" in err and err.count("\n") == 1


def test_nothing_is_contacted_unasked_and_bad_options_are_one_sentence(results, server, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(judge_endpoint.EndpointJudge, "__init__", lambda *a, **k: pytest.fail("unasked"))
    assert main(["score", str(results), *METRICS]) == 0
    monkeypatch.undo()
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    monkeypatch.setenv("TWO_LINES", "a\nb")
    url = ["--judge-url", server.url]
    for options, message in [
        (["--judge", "m", *url, "--judge-key-env", "JUDGE_KEY"], "the environment has no JUDGE_KEY"),
        (["--judge", "m", *url, "--judge-key-env", "TWO_LINES"], "TWO_LINES: holds what no key does"),
        (url, "--judge-url needs --judge"),
        (["--judge", "m", "--judge-key-env", "JUDGE_KEY"], "--judge-key-env needs --judge-url"),
        (["--judge", "gpt-4o"], "gpt-4o: is no directory of a language model"),
        (["--judge", "m", "--judge-url", "file:///etc/passwd"], "--judge-url is no address of a server"),
        (["--judge", "m", "--judge-url", "http://host:port/v1"], "--judge-url is no address of a server"),
        (["--judge", "m", "--judge-url", "http://me:pw@host/v1"], "--judge-url holds a user or a password"),
        (["--judge", "m", *url, "--judge-batch-size", "0"], "--judge-batch-size must be at least 1"),
    ]:
        capsys.readouterr()
        assert main(["score", str(results), *METRICS, *options]) == 1
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1 and "pw" not in err, err
    assert not server.requests and not list(tmp_path.glob("*_judge_*"))


def test_an_endpoint_without_a_key_and_with_a_query(server):
    judge = EndpointJudge("m", f"{server.url}/chat/completions?api-version=1&sig={KEY}")
    assert dict(judge.replies(["a", "b"])) == {0: "70#good", 1: "70#good"}
    path, authorization, _ = server.requests[0]
    assert path == f"/v1/chat/completions?api-version=1&sig={KEY}" and authorization is None
    assert KEY not in str(judge.settings)


def test_a_wait_that_the_server_asks_for_is_bounded(server, waits, monkeypatch):
    monkeypatch.setattr(judge_endpoint, "_seconds", lambda text: 1e6)
    server.answer = lambda number, prompt: (429, b"") if number == 1 else (200, chat("1#"))
    assert dict(EndpointJudge("m", server.url).replies(["a"])) == {0: "1#"}
    assert waits == [60.0]


def test_a_local_model_judges(results, tmp_path, capsys):
    model = saying_model(tmp_path / "judge", "75#right")
    assert main(["score", str(results), "--judge", str(model), *METRICS]) == 0
    assert "Judge (of 6 records)" in capsys.readouterr().out
    file = tmp_path / "results_judge_judge.jsonl"
    assert {(each["score"], each["reply"]) for each in map(json.loads, file.read_text().splitlines())} == {
        (75.0, "75#right")
    }
    settings = json.loads((tmp_path / "results_judge_judge.jsonl.settings.json").read_text())
    assert (settings["judge"], settings["prompt"]) == (str(model), PROMPT) and len(settings["judge_sha256"]) == 64


def test_a_local_model_that_makes_no_sense(results, tmp_path, capsys):
    from transformers import AutoModelForCausalLM

    from llana_gmn.assembly.tiny import tiny_text_config, tiny_tokenizer

    model = tmp_path / "random"
    tiny_tokenizer().save_pretrained(model)
    AutoModelForCausalLM.from_config(tiny_text_config()).save_pretrained(model)
    options = ["--judge", str(model), "--judge-batch-size", "4", "--judge-max-new-tokens", "5"]
    assert main(["score", str(results), *options, *METRICS]) == 1
    captured = capsys.readouterr()
    assert captured.err.count("6 of 6 replies hold no score") == 1
    assert "BLEU-1" in captured.out and "Judge" not in captured.out
    assert "judge" not in json.loads((tmp_path / "results_evaluated_traditional.json").read_text())["overall_scores"]


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("75#right", 75.0),
        ("62.5 # close", 62.5),
        ("**80**# bold", 80.0),
        ("Score: 40", 40.0),
        ("score 90/100", 90.0),
        ("100", 100.0),
        ("55, as the colour is missing", 55.0),
        ("<think>3 facts of 4.</think>\n75#three of four", 75.0),
        ("", None),
        ("120#too much", None),
        ("-5#negative", None),
        ("3 of 4 facts are there", None),
        ("1. The reference says a chair", None),
        ("I would say it is good", None),
        ("The year 1999#", None),
    ],
)
def test_scores_in_replies(reply, score):
    assert parse_score(reply) == score


def test_prompts_and_names():
    record = {"object_id": "a", "ground_truth": "A {red} chair.", "model_output": "{question}"}
    prompt = judge_prompt(record)
    assert "Question: What is this object?\nReference: A {red} chair.\nAnswer: {question}\nReply:" in prompt
    assert judge_file("out/a.json", "org/m 1").name == "a_judge_m_1.jsonl"


def test_the_judge_is_one_more_column():
    tables = captioning_tables(
        "Brief", [11], method="mine", test="hash", scores={"sbert_similarity": 5.0, "judge": 60.0}
    )
    assert [column.name for column in tables[0].columns][-1] == "Judge"
    assert tables[0].rows[-1] == ("mine", "hash", 5.0, None, 60.0) and tables[0].rows[0][-1] is None
    (own,) = captioning_tables("Multi", [], method="mine", test="hash", scores={"judge": 60.0})
    assert own.rows == [("mine", "hash", 60.0)] or list(own.rows[0]) == ["mine", "hash", 60.0]
