import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import vitjax
from vitjax.commands import huge_pages
from vitjax.commands.huge_pages import asking, with_huge_pages

ASKS = "glibc.malloc.hugetlb=1"
SCRIPT = textwrap.dedent(
    """
    import os, sys
    from pathlib import Path
    from vitjax.commands import huge_pages

    huge_pages._OFFERS = Path(sys.argv[1])
    print(os.getpid(), os.environ.get("GLIBC_TUNABLES", "-"), *sys.argv[2:], flush=True)
    huge_pages.with_huge_pages()
    print("goes on", flush=True)
    """
)
GLIBC = bool(getattr(os, "confstr_names", {})) and (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")


def started(tmp_path, offers, *, said=None, options=()):
    """What a script prints that asks for huge pages on a system that has this to say."""
    script, offered = tmp_path / "script.py", tmp_path / "enabled"
    script.write_text(SCRIPT)
    offered.write_text(offers)
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    environment["PYTHONPATH"] = str(Path(vitjax.__file__).parent.parent)
    if said is not None:
        environment["GLIBC_TUNABLES"] = said
    words = [sys.executable, *options, str(script), str(offered), "a b", "--c=d"]
    run = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()


@pytest.mark.skipif(not GLIBC, reason="huge pages are asked for by glibc")
def test_a_process_starts_anew_once_by_the_same_number_and_with_the_same_words(tmp_path):
    first, second, last = started(tmp_path, "always [madvise] never")
    number, tunables, *words = first.split(maxsplit=2)
    assert tunables == "-" and words == ["a b --c=d"]
    assert second == f"{number} {ASKS} a b --c=d" and last == "goes on"


@pytest.mark.parametrize("offers", ["[always] madvise never", "always madvise [never]", ""])
def test_it_goes_on_where_the_system_gives_huge_pages_to_all_or_to_none(tmp_path, offers):
    assert [line.split(maxsplit=1)[-1] for line in started(tmp_path, offers)] == ["- a b --c=d", "on"]


@pytest.mark.parametrize("said", ["glibc.malloc.hugetlb=0", f"glibc.malloc.check=0:{ASKS}"])
def test_it_goes_on_where_the_user_has_said_whether_to_ask(tmp_path, said):
    assert [line.split(maxsplit=1)[-1] for line in started(tmp_path, "[madvise]", said=said)][-1] == "on"
    assert asking({"GLIBC_TUNABLES": said}) is None


@pytest.mark.skipif(not GLIBC, reason="huge pages are asked for by glibc")
def test_options_of_python_stay(tmp_path):
    _, second, last = started(tmp_path, "[madvise]", options=("-u", "-B"))
    assert ASKS in second and last == "goes on"


def test_a_debugger_is_not_started_anew(tmp_path):
    printed = started(tmp_path, "[madvise]", options=("-m", "pdb", "-c", "continue"))
    assert "goes on" in printed and not any(ASKS in line for line in printed)


def test_what_else_was_said_to_glibc_stays():
    assert asking({"GLIBC_TUNABLES": "glibc.malloc.check=0", "A": "b"}) == {
        "GLIBC_TUNABLES": f"glibc.malloc.check=0:{ASKS}",
        "A": "b",
    }


def test_a_process_that_cannot_be_started_anew_goes_on(monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "refused")

    tried = []
    monkeypatch.setattr(huge_pages, "_is_plain", lambda *_: tried.append(True) or True)
    monkeypatch.setattr(huge_pages, "_offered", lambda: True)
    monkeypatch.setattr(os, "execve", refuse)
    monkeypatch.setattr(sys, "modules", {name: it for name, it in sys.modules.items() if name != "jax"})
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    with_huge_pages()
    assert tried
