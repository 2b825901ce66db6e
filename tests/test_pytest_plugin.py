"""The fixtures for the tests of others, as these see them: each story is a pytest of its own."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rpyc_gateway.whereabouts import shown
from tests.blocking_house import House, open_blocking_lab

pytest_plugins = ["pytester"]

CHILD = f"stdio:{sys.executable} -m rpyc_gateway stdio --name {{}} --serve classic"
NOWHERE = "tcp://127.0.0.1:1"

Run = Callable[..., pytest.RunResult]


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with open_blocking_lab(2) as house:
        yield house


@pytest.fixture
def run(pytester: pytest.Pytester) -> Run:
    """Runs the tests of a text with pytest, in another process; or here, which takes a fraction of the time."""

    def run(tests: str, *options: str, ini: str = "", here: bool = False) -> pytest.RunResult:
        pytester.makepyfile(tests)
        pytester.makeini(f"[pytest]\nfilterwarnings = error\n{ini}")
        options = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest", *options)
        return pytester.runpytest_inprocess(*options) if here else pytester.runpytest_subprocess(*options)

    return run


def test_tests_get_sessions_by_the_names_of_nodes(house: House, run: Run) -> None:
    tests = """
    import sys
    import pytest

    seen = []

    @pytest.fixture(scope="module")
    def lab(gw_connect):
        with gw_connect("lab") as lab:
            yield lab

    def test_one(gw_node):
        conn = gw_node("lab")
        seen.append(conn)
        assert conn.path[1:] == ("relay1", "lab")
        assert conn.eval("6 * 7") == 42
        assert gw_node("lab") is not conn

    def test_other(gw_node):
        assert seen[0].closed
        from rpyc_gateway.background import background
        assert len(background()._ways) == 1  # the link is still there
        assert gw_node("lab").modules.os.getpid() > 0

    def test_fixtures_may_be_of_a_module(lab, gw_node):
        assert lab.eval("1") == gw_node("lab").eval("1")
    """
    ini = f"gw_url = {NOWHERE}\ngw_config = missing.toml\ngw_nodes =\n  lab = {NOWHERE}\n"
    run(tests, "--gw-url", house.url, ini=ini).assert_outcomes(passed=3)
    house.until(lambda: not len(house.lab._serving))


def test_each_node_may_have_its_own_url_and_is_there_again_after_its_end(house: House, run: Run) -> None:
    tests = """
    import os
    import signal

    def test_names(gw_node):
        assert gw_node("anne").path[1:] == ("anne",)
        assert gw_node("lab").path[-1] == "lab"
        assert gw_node("bert").path[-1] == "bert"

    def test_end(gw_node):
        os.kill(gw_node("anne").modules.os.getpid(), signal.SIGKILL)

    def test_after_the_end(gw_node):
        assert gw_node("anne").modules.os.getpid() != os.getpid()

    def test_urls(gw_node, request):
        url = request.config.getini("gw_url")
        assert gw_node("lab", url=url).path[-1] == gw_node("lab", url=[url]).path[-1] == "lab"
        assert gw_node(url=request.config.getini("gw_nodes")[0].partition("=")[2].strip()).path[1:] == ("anne",)
    """
    ini = f"gw_nodes =\n  anne = {CHILD.format('anne')}\n  bert = {NOWHERE}\ngw_url = {house.url}\n"
    bert = f"bert={CHILD.format('bert')}"
    options = ("--gw-node", bert, "-n2", "--dist=loadfile", "-p", "no:trio")
    run(tests, *options, ini=ini).assert_outcomes(passed=4)


def test_a_node_that_is_not_reached_is_one_clear_line(run: Run) -> None:
    tests = """
    import pytest

    @pytest.fixture
    def lab(gw_node):
        return gw_node("lab", url="tcp://127.0.0.1:1")

    def test_fixture(lab): pass
    def test_nowhere(gw_node): gw_node("lab")
    def test_refused(gw_node): gw_node(url=["tcp://127.0.0.1:1", "tcp://10.0.0.1:2"])
    async def test_trio(gw_open):
        async with gw_open("lab"): pass
    async def test_trio_task(gw_open):
        import trio
        async with trio.open_nursery():
            async with gw_open("lab", url="tcp://127.0.0.1:1"): pass
    """
    failed = run(tests, ini="trio_mode = true")
    failed.assert_outcomes(failed=4, errors=1)
    nobody = "no session with lab at tcp://127.0.0.1:1: DialFailed: *127.0.0.1:1*refused*"
    for lines in (
        ("*ERROR at setup of test_fixture*", nobody),  # and no traceback of ours
        ("*_ test_nowhere _*", "no session with lab: Unreachable: nothing says where it is: --gw-url *"),
        ("*_ test_refused _*", "no session with tcp://127.0.0.1:1 then tcp://10.0.0.1:2: DialFailed: *"),
    ):
        failed.stdout.fnmatch_lines(lines, consecutive=True)
    skipped = run(tests, "-rs", ini="trio_mode = true\ngw_unreachable = skip", here=True)
    skipped.assert_outcomes(skipped=5)
    skipped.stdout.fnmatch_lines_random(["SKIPPED * no session with lab at tcp://127.0.0.1:1: DialFailed: *"])


def test_the_lines_of_the_page_run(run: Run, pytester: pytest.Pytester) -> None:
    page = (Path(__file__).parents[1] / "docs/testing.md").read_text()
    (tests,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (ini,) = re.findall(r"```ini\n\[pytest\]\n(.*?)```", page, re.DOTALL)
    dials = "".join(f"[[dial]]\nurl = {CHILD.format(name)!r}\n" for name in ("relay", "lab"))
    pytester.makefile(".toml", chain=f"[node]\nname = 'hq'\n{dials}")
    run(tests, ini=f"{ini}\ntrio_mode = true").assert_outcomes(passed=2)


def test_a_gateway_can_be_run_for_the_tests(run: Run, pytester: pytest.Pytester) -> None:
    pytester.makefile(
        ".toml",
        chain=f"[node]\nname = 'hq'\n[[listen]]\nurl = 'tcp://127.0.0.1:1'\n[[dial]]\nurl = {CHILD.format('lab')!r}\n",
    )
    tests = """
    import os
    import signal
    import pytest

    def test_that_fails(gw_node, caplog):
        gw_node("lab").builtins.print("printed", "there", flush=True)
        gw_node("lab").modules.os.system("echo said by a program >&2")
        while "said by a program" not in caplog.text:  # it comes by another way than the answer
            gw_node("lab").ping()
        assert False

    async def test_in_trio(gw_open, capsys):
        async with gw_open("lab") as lab:
            assert await lab.eval("6 * 7") == 42
            await lab.builtins.print("printed for", lab.eval("'trio'"))
        assert capsys.readouterr().out == "printed for trio\\n"

    async def test_in_trio_nothing_blocks(gw_node):
        with pytest.raises(RuntimeError, match="async with gw_open"):
            gw_node("lab")

    async def test_that_ends_its_node(gw_open):
        async with gw_open("lab") as lab:
            os.kill(await lab.modules.os.getpid(), signal.SIGKILL)
            await lab.wait_closed()
    """
    result = run(tests, ini="gw_config = chain.toml\ntrio_mode = true")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["*test_that_fails*", "*Captured gw_node call*", "*hq -> lab"])
    result.stdout.fnmatch_lines(["*Captured stdout call*", "printed there"])
    result.stdout.fnmatch_lines(["*Captured log call*", "INFO *: said by a program"])
    ghost = "def test_it(gw_node): gw_node('ghost')"
    result = run(ghost, "--gw-config=chain.toml", "--gw-timeout=0.01", here=True)
    result.stdout.fnmatch_lines(["no session with ghost: Unreachable: no way to ghost after 0.01 s. There are: hq*"])


@pytest.mark.parametrize(
    ("ini", "message"),
    [
        ("gw_nodes =\n  lab", "rpyc-gateway: a node is given as NAME=URL, not 'lab'"),
        ("gw_config = missing.toml", "rpyc-gateway: *missing.toml: cannot be read: No such file or directory"),
        ("gw_timeout = soon", "rpyc-gateway: gw_timeout is a number of seconds, not 'soon'"),
        ("gw_unreachable = xfail", "rpyc-gateway: gw_unreachable is fail or skip, not 'xfail'"),
    ],
)
def test_wrong_options_are_named(run: Run, ini: str, message: str) -> None:
    result = run("def test_it(gw_node): gw_node('lab')", ini=ini, here=True)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ERROR at setup of test_it*", message], consecutive=True)


def test_who_does_not_use_it_does_not_load_it(run: Run) -> None:
    tests = """
    import sys

    def test_it():
        loaded = {name for name in sys.modules if name.startswith(("rpyc_", "trio", "msgspec", "click"))}
        assert loaded == {"rpyc_gateway", "rpyc_gateway.version", "rpyc_gateway.pytest_plugin"}
    """
    run(tests, "-p", "no:trio", "-p", "no:xdist").assert_outcomes(passed=1)


def test_what_threads_have_printed_there_arrives_before_the_session_of_the_test_is_closed(run: Run) -> None:
    tests = """
    PRINTS = '''
    import threading
    thread = threading.Thread(target=lambda: [print("line", number, "of", name) for number in range(3000)])
    thread.start()
    '''

    def test_that_blocks(gw_node):
        lab = gw_node("lab")
        lab.namespace["name"] = "blocking code"
        lab.execute(PRINTS)
        lab.eval("thread.join()")

    async def test_in_trio(gw_open):
        async with gw_open("lab") as lab:
            await lab.execute("name = 'trio code'" + PRINTS)
            await lab.eval("thread.join()")
    """
    told = run(tests, "-s", "--gw-node", f"lab={CHILD.format('lab')}", ini="trio_mode = true")
    told.assert_outcomes(passed=2)
    told.stdout.fnmatch_lines(["*line 2999 of blocking code", "*line 2999 of trio code"])


def test_what_is_no_name_is_shown_all_the_same() -> None:
    """It is told that it is none."""
    assert shown(5, None) == "5"  # type: ignore[arg-type]
    assert shown("lab", ["tcp://a:1", "tcp://b:2"]) == "lab at tcp://a:1 then tcp://b:2"
