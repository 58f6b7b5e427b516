"""The verbs as a shell sees them: what they print where, and how they end."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import constants

from gemmary import cli
from gemmary.cli import opening
from gemmary.weights import hub

from ..weights.test_hub import PLAIN, QAT, lay
from ..weights.test_library import fill, gguf
from .terminals import FAKE, ROOT
from .tiny import write_tiny

GEMMARY = "import sys; sys.argv[0] = 'gemmary'; from gemmary.cli import main; main()"
VERBS = (
    "chat", "serve", "ps", "show", "pull", "list", "rm", "bench", "quantize", "convert", "study", "train",
)  # fmt: skip
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`gemmary words...` in this process, with an empty cache: exit code, stdout, stderr."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gemmary", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        told = capsys.readouterr()
        return int(end.value.code or 0), told.out, told.err

    return run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.gguf"))


def shell(*words: str, given: bytes | None = None, **env: str) -> subprocess.CompletedProcess[bytes]:
    """`python words...` with `given` piped in, or nothing."""
    return subprocess.run(
        [sys.executable, *words], input=given or b"", capture_output=True, timeout=100,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
    )  # fmt: skip


def asked(*words: str, given: bytes | None = None) -> str:
    """What a model is asked by `gemmary chat words...`."""
    done = shell(FAKE, "chat", *words, given=given, ECHO="1")
    assert done.returncode == 0, done.stderr
    found: str = json.loads(done.stdout)[-1]["content"]
    return found


def test_help_is_instant_and_loads_nothing_heavy() -> None:
    probe = (
        "import sys, time; start = time.process_time(); sys.argv = ['gemmary', '--help']\n"
        "from gemmary.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(time.process_time() - start, *sys.modules, file=sys.stderr)"
    )
    runs = [shell("-c", probe).stderr.split() for _ in range(3)]
    assert min(float(words[0]) for words in runs) < 0.5
    heavy = {b"numpy", b"numba", b"rich", b"prompt_toolkit", b"huggingface_hub", b"tokenizers", b"torch"}
    assert heavy & set(runs[0]) == set()


@pytest.mark.parametrize("verb", VERBS)
def test_every_help_page_has_examples(run: Run, verb: str) -> None:
    code, out, _ = run(verb, "--help")
    assert code == 0
    assert len([line for line in out.splitlines() if f"gemmary {verb}" in line and "Usage" not in line]) >= 2


def test_the_front_page_names_verbs_that_exist_and_no_others(run: Run) -> None:
    _, out, _ = run("--help")
    listed = [line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line.strip()]
    assert listed == list(VERBS)


def test_version(run: Run) -> None:
    code, out, _ = run("--version")
    assert code == 0 and out.startswith("gemmary ")


@pytest.mark.parametrize(
    "words",
    [
        ("frobnicate",),
        ("chat", "--hot"),
        ("chat", "--temperature", "warm"),
        ("chat", "--temperature", "-1"),
        ("chat", "--top-p", "2"),
        ("chat", "--context", "much"),
        ("chat", "--context", "0"),
        ("chat", "--threads", "0"),
        ("chat", "-p", "  "),
        ("pull",),
    ],
)
def test_wrong_calls_end_with_2_and_a_sentence(
    run: Run, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert "Error: " in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("show", "nothing.gguf"), "nothing.gguf: there is no such file or folder"),
        (("show", "nothing"), "nor a model of that name"),
        (("show", "4b"), f"fetch it with `gemmary pull {PLAIN}`"),
        (("chat", PLAIN, "-p", "hello"), f"fetch it with `gemmary pull {PLAIN}`"),
        (("pull", "./x"), "is not a model of the hub"),
        (("rm", "org/nothing", "-y"), "is not in the cache"),
        (("rm", "./x", "-y"), "is not the id of a model"),
    ],
)
def test_errors_end_with_1_and_one_sentence(
    run: Run, words: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    code, out, err = run(*words)
    assert (code, out) == (1, "")
    assert err.startswith("gemmary: ") and told in err and err.count("\n") == 1


def test_prompt_and_piped_input_are_joined() -> None:
    assert asked("-p", "Sum this up:", given=b"a long text\n") == "Sum this up:\n\na long text"
    assert asked(given="only piped: Grüße".encode()) == "only piped: Grüße"
    assert asked("-p", "only a prompt") == "only a prompt"


def test_piped_bytes_that_are_no_text() -> None:
    done = shell(FAKE, "chat", given=b"\xff\xfe\x00")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == b"gemmary: the piped input is not UTF-8 text\n"


def test_a_reader_that_leaves_early_is_no_error_to_talk_about() -> None:
    command = [sys.executable, FAKE, "chat", "-p", "count"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as chat:  # fmt: skip
        assert chat.stdout is not None and chat.stderr is not None
        assert chat.stdout.read(3) == b"w0 "
        chat.stdout.close()
        assert b"Traceback" not in chat.stderr.read()
        assert chat.wait() == 1


def test_a_real_model_answers_alike_for_a_seed(tiny: str) -> None:
    words = ("-c", GEMMARY, "chat", tiny, "-p", "hello", "--max-tokens", "6", "--seed", "5", "--json")
    first, second = (json.loads(shell(*words).stdout) for _ in range(2))
    assert first["text"] == second["text"]
    assert first["finish_reason"] in ("length", "stop")
    assert first["timings"]["decode_tokens"] == first["usage"]["completion_tokens"]


def test_what_is_handed_on_to_load(
    run: Run, tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gemmary.engine import load as load_module
    from gemmary.errors import PromptError

    asked: list[dict[str, object]] = []

    def load(path: Path, **options: object) -> None:
        asked.append(options)
        raise PromptError("loaded enough")

    monkeypatch.setattr(load_module, "load", load)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    plain = {"context": None, "threads": None, "draft": None, "cache": None, "mmproj": None}
    for words, expected in (
        ((), {}), (("--draft", tiny), {"draft": Path(tiny)}), (("--cache", "int8"), {"cache": "int8"}),
        (("--mmproj", "m.gguf"), {"mmproj": Path("m.gguf")}),
    ):  # fmt: skip
        assert run("chat", tiny, "-p", "Hello", *words)[0] == 1
        assert asked.pop() == plain | expected
    code, _, err = run("chat", tiny, "-p", "Hello", "--draft", str(tmp_path / "missing.gguf"))
    assert (code, asked) == (1, [])
    assert "missing.gguf" in err


@pytest.mark.parametrize("verb", ["chat", "bench"])
def test_a_format_of_keys_and_values_that_is_not_there(
    run: Run, verb: str, tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Hello")))
    code, out, err = run(verb, tiny, "--cache", "int4")
    assert (code, out) == (1, "")
    assert err.endswith('gemmary: cache must be "f16", "bf16", "f32" or "int8", not \'int4\'\n')


def test_show_counts_what_the_file_holds(run: Run, tiny: str) -> None:
    code, out, err = run("show", tiny, "--context", "100")
    assert (code, err) == (0, "")
    facts = {line[:14].strip(): line[14:].strip() for line in out.splitlines()}
    assert facts["architecture"].startswith("Gemma 3")
    assert facts["context"] == "256 tokens" and facts["vocabulary"] == "320 tokens"
    assert "with a context of 100 tokens: weights" in facts["memory"]
    assert facts["token table"].split() == ["Q8_0", "21.8", "kB"]  # 320 rows of 2 blocks of 34 bytes
    assert facts["norms"].split()[0] == "F32"


def test_show_refuses_a_context_that_the_model_has_not(run: Run, tiny: str) -> None:
    code, _, err = run("show", tiny, "--context", "1k")
    assert code == 1 and "at most 256 tokens" in err


def test_show_prints_no_control_characters_of_a_file(run: Run, tiny: str, tmp_path: Path) -> None:
    evil = tmp_path / "evil\x1b]0;x\x07.gguf"
    evil.write_bytes(Path(tiny).read_bytes())
    _, out, _ = run("show", str(evil))
    assert "evil]0;x.gguf" in out and "\x1b" not in out and "\x07" not in out
    _, _, err = run("show", f"{evil}.gone")
    assert "evil]0;x.gguf.gone" in err and "\x1b" not in err


def test_list_and_rm(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "bundled", lambda: Path(__file__))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    fill(lay(tmp_path / "hub", QAT, "gemma-3-4b-it-q4_0.gguf") / "gemma-3-4b-it-q4_0.gguf", gguf("gemma3"))
    code, out, err = run("list")
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == ["nano", QAT]
    code, out, err = run("rm", PLAIN)
    assert code == 1 and "say -y" in err
    code, out, err = run("rm", PLAIN, "-y")
    assert (code, out) == (0, "") and err.startswith(f"Deleted {QAT}")
    assert len(run("list")[1].splitlines()) == 1


def test_list_says_which_models_see(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "bundled", lambda: Path(__file__))
    folder = lay(tmp_path / "hub", QAT, "gemma-3-4b-it-q4_0.gguf", "mmproj-model-f16-4B.gguf")
    fill(folder / "gemma-3-4b-it-q4_0.gguf", gguf("gemma3"))
    fill(folder / "mmproj-model-f16-4B.gguf", gguf("clip"))
    plain = lay(tmp_path / "hub", PLAIN, "config.json", "model.safetensors")
    fill(plain / "config.json", b'{"model_type": "gemma3", "vision_config": {}}')
    lines = [" ".join(line.split()[3:]) for line in run("list")[1].splitlines()]
    assert lines == ["comes with Gemmary", "safetensors, sees pictures", "Q4_0, sees pictures"]
    monkeypatch.setattr(opening, "fetch", lambda name: folder / "gemma-3-4b-it-q4_0.gguf")
    assert "gemmary chat 4b --image FILE" in run("pull", "4b")[2]


def test_rm_takes_no_neighbours_along(run: Run, tmp_path: Path) -> None:
    folder = lay(tmp_path / "hub", "org/many", "g-Q4_0.gguf", "g-Q8_0.gguf")
    for name in ("g-Q4_0.gguf", "g-Q8_0.gguf"):
        fill(folder / name, gguf("gemma3"))
    code, _, err = run("rm", "org/many:q8_0", "-y")
    assert code == 1 and "gemmary rm org/many" in err
    assert (folder / "g-Q8_0.gguf").exists()
    assert run("rm", "org/many", "-y")[0] == 0
    assert not folder.exists()


def test_pull_prints_the_path_and_nothing_else_on_stdout(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "fetch", lambda name: Path("/cache/x.gguf"))
    code, out, err = run("pull", "4b")
    assert (code, out) == (0, "/cache/x.gguf\n")
    assert "gemmary chat 4b" in err


def test_a_stopped_pull_says_how_to_go_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(name: str) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(opening, "fetch", fetch)
    code, out, err = run("pull", "4b")
    assert (code, out) == (130, "")
    assert "`gemmary pull 4b` goes on" in err


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("gemmary sh", "show"),
        ("gemmary chat --temp", "--temperature"),
        ("gemmary serve nano --lo", "--log"),
        ("gemmary serve --log ", "plain json"),
        ("gemmary serve --log json na", "nano"),
    ],
)
def test_shells_complete_verbs_and_flags(line: str, found: str) -> None:
    words = line.split(" ")
    env = {"_GEMMARY_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    assert shell("-c", GEMMARY, **env).stdout.decode().split() == found.split()


def test_shells_complete_models(tmp_path: Path) -> None:
    folder = lay(tmp_path / "hub", QAT, "gemma-3-4b-it-q4_0.gguf")
    fill(folder / "gemma-3-4b-it-q4_0.gguf", gguf("gemma3"))
    env = {"_GEMMARY_COMPLETE": "complete_bash", "COMP_WORDS": "gemmary show ", "COMP_CWORD": "2"}
    done = shell("-c", GEMMARY, **env, HF_HUB_CACHE=str(tmp_path / "hub"))
    assert done.stdout.decode().split() == ["nano", QAT]


def test_errors_of_the_house_are_the_only_ones_made_short(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(hub, "bundled", broken)
    with pytest.raises(ZeroDivisionError):
        monkeypatch.setattr(sys, "argv", ["gemmary", "show"])
        cli.main()
