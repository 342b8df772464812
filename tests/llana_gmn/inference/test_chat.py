from __future__ import annotations

import pytest

from gmn_encoder.nerfs.files import save_nerf
from llana_gmn import ChatSession
from llana_gmn.commands import main
from llana_gmn.inference.chat import history


@pytest.fixture
def session(model, processor):
    return ChatSession(model, processor, max_new_tokens=8)


def greedy(model, processor, messages):
    inputs = processor.apply_chat_template(
        messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    return processor.post_process(model.generate(**inputs, max_new_tokens=8, do_sample=False), inputs)[0]


@pytest.fixture(scope="module")
def saved(tiny, nerfs, tmp_path_factory):
    path = tmp_path_factory.mktemp("chat")
    for part in tiny:
        part.save_pretrained(path / "model")
    for i, nerf in enumerate(nerfs):
        save_nerf(nerf, path / f"{i}.safetensors")
    return path


def test_turns_equal_the_template_by_hand(session, model, processor, nerfs):
    session.add_nerf(nerfs[0])
    first = session.ask("What is this?")
    messages = [
        {"role": "user", "content": [{"type": "nerf", "nerf": nerfs[0]}, {"type": "text", "text": "What is this?"}]}
    ]
    assert first.strip() == greedy(model, processor, messages)
    session.add_nerf(nerfs[2])
    second = session.ask("Which of the two is taller?")
    messages += [
        {"role": "assistant", "content": first.strip()},
        {
            "role": "user",
            "content": [{"type": "nerf", "nerf": nerfs[2]}, {"type": "text", "text": "Which of the two is taller?"}],
        },
    ]
    assert second.strip() == greedy(model, processor, messages)
    roles = [role for role, _ in history(session.messages)]
    assert roles == ["user", "assistant", "user", "assistant"]
    assert list(history(session.messages))[2][1] == "<nerf>\nWhich of the two is taller?"


def test_each_nerf_is_encoded_once(session, model, nerfs, monkeypatch):
    counted = []
    encode = type(model.nerf_encoder).encode
    monkeypatch.setattr(
        type(model.nerf_encoder), "encode", lambda self, n, **k: counted.append(len(n)) or encode(self, n, **k)
    )
    session.add_nerf(nerfs[0])
    session.ask("What is this?")
    session.ask("Sure?")
    assert counted == [1]


def test_answers_arrive_in_pieces_and_may_be_cut_short(session, nerfs):
    session.add_nerf(nerfs[1])
    stream = session.stream("What is this?")
    next(stream)
    stream.close()
    assert session.messages == []
    whole = session.ask("What is this?")  # the NeRF was still to be shown
    session.reset()
    session.add_nerf(nerfs[1])
    assert "".join(session.stream("What is this?")) == whole


def test_closing_an_answer_stops_the_generation(model, processor):
    session = ChatSession(model, processor, max_new_tokens=300, min_new_tokens=300)
    steps = []
    hook = model.language_model.register_forward_hook(lambda *_: steps.append(1))
    stream = session.stream("Hello?")
    next(stream)
    stream.close()
    hook.remove()
    assert 0 < len(steps) < 200


def test_embeddings_and_text_alone(session, model, nerfs):
    session.add_nerf(model.encode(nerfs)[1].numpy())
    with_embedding = session.ask("What is this?")
    session.reset()
    session.add_nerf(nerfs[1])
    assert session.ask("What is this?") == with_embedding
    session.reset()
    session.ask("Hello?")
    assert len(session.messages) == 2


def test_system_messages_stay_through_a_reset(model, processor):
    session = ChatSession(model, processor, system="Be brief.", max_new_tokens=2)
    session.ask("Hello?")
    session.reset()
    assert session.messages == [{"role": "system", "content": "Be brief."}]


def test_too_long_a_conversation_says_so(session):
    with pytest.raises(ValueError, match="the backbone reads 512; start a new one"):
        session.ask("a b c d e " * 200)


def test_failures_in_the_generating_thread_are_raised_here(session, model, monkeypatch):
    def fail(**options):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model, "generate", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        session.ask("Hello?")
    assert session.messages == []


def test_a_broken_nerf_leaves_the_conversation(session, tmp_path):
    with pytest.raises(FileNotFoundError):
        session.add_nerf(tmp_path / "none.pth")
    session.ask("Hello?")


def test_command_with_questions(saved, capsys, model, processor, nerfs):
    arguments = ["chat", "--model", str(saved / "model"), "--max-new-tokens", "8"]
    status = main(
        [*arguments, "--nerf", str(saved / "0.safetensors"), "--question", "What is this?", "--question", "Sure?"]
    )
    assert status == 0
    session = ChatSession(model, processor, max_new_tokens=8)
    session.add_nerf(nerfs[0])
    expected = session.ask("What is this?") + "\n" + session.ask("Sure?") + "\n"
    assert capsys.readouterr().out == expected


def test_command_reads_a_script(saved, capsys, monkeypatch, model, processor, nerfs):
    script = iter(
        [
            f"/nerf {saved / '1.safetensors'}",
            "What is this?",
            "/history",
            "/nerf nowhere.pth",
            "/dance",
            "",
            "/reset",
            "Hello?",
            "/quit",
            "never",
        ]
    )
    monkeypatch.setattr("builtins.input", lambda prompt="": next(script))
    assert main(["chat", "--model", str(saved / "model"), "--max-new-tokens", "4"]) == 1
    out, err = capsys.readouterr()
    session = ChatSession(model, processor, max_new_tokens=4)
    session.add_nerf(nerfs[1])
    answer = session.ask("What is this?")
    session.reset()
    hello = session.ask("Hello?")
    assert out == f"{answer}\nuser: <nerf>\nWhat is this?\nassistant: {answer.strip()}\n{hello}\n"
    assert "nowhere.pth: no such file" in err
    assert "/dance: no such command" in err
    assert next(script) == "never"


def test_command_samples_when_asked(saved, capsys):
    arguments = ["chat", "--model", str(saved / "model"), "--max-new-tokens", "6", "--question", "Hello?"]
    assert main([*arguments, "--temperature", "1.5", "--top-p", "0.9"]) == 0
    assert main([*arguments, "--beams", "2"]) == 1  # a streamer shows one beam only
    assert main([*arguments, "--max-new-tokens", "0"]) == 1
    assert "must be at least 1, got 0" in capsys.readouterr().err


def test_quantisation_leaves_encoder_and_projector_out():
    from llana_gmn.checkpoints.loading import quantization_config

    for bits in (4, 8):
        config = quantization_config(bits)
        assert (config.load_in_4bit, config.load_in_8bit) == (bits == 4, bits == 8)
        assert {"model.nerf_encoder", "model.projector", "lm_head"} <= set(config.llm_int8_skip_modules)
    with pytest.raises(ValueError, match="4 or 8 bits, got 3"):
        quantization_config(3)
