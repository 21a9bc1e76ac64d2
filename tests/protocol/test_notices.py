"""That the cases notice: each broken plugin turns those red that are about its fault, as an operator would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import broken, broken_http
from .reference import Handler, Reference, serving

HERE = Path(__file__).parent

LOGIC = {
    broken.IdsInASet: "test_holds.py::test_the_same_id_twice_has_to_be_released_twice",
    broken.NoCounts: "test_holds.py::test_two_ids_hold_a_volume_together",
    broken.CountOnly: "test_holds.py::test_unmount_with_an_unknown_id_changes_nothing",
    broken.NeedsId: "test_engines.py::test_mount_and_unmount",
    broken.KnowsItsIds: "test_holds.py::test_unmount_of_what_was_never_mounted_succeeds",
    broken.RepeatedIdIsAnError: "test_traces.py",
    broken.InUseUntilUnmounted: "test_holds.py::test_remove_ends_a_hold_that_nobody_has",
    broken.MountsNothing: "test_engines.py::test_mount_and_unmount",
    broken.NeverUnmounts: "test_engines.py::test_mount_and_unmount",
    broken.MountsOverAMount: "test_together.py::test_twenty_mounts_of_one_volume_at_once",
    broken.ForgetsAtHandshake: "test_holds.py::test_the_handshake_touches_no_mount",
    broken.CreatesOnce: "test_engines.py::test_create_again_without_options_changes_nothing",
    broken.CreateIgnoresOptions: "test_volumes.py::test_a_known_volume_is_not_created_again_with_other_options",
    broken.CreateStartsAnew: "test_volumes.py::test_a_mounted_volume_is_created_again_and_stays_mounted",
    broken.RemovePurges: "test_holds.py::test_remove_ends_a_hold_that_nobody_has",
    broken.KnowsEveryName: "test_engines.py::test_get_of_an_unknown_volume_is_an_error",
    broken.TakesAnyName: "test_names.py::test_a_bad_name_is_refused_by_every_call",
    broken.RepeatsItself: "test_engines.py::test_a_call_without_its_arguments_is_refused",
    broken.DateLikePython: "test_engines.py::test_get_finds_a_volume",
    broken.StatusIsAList: "test_engines.py::test_get_finds_a_volume",
    broken.OtherSpelling: "test_engines.py::test_get_finds_a_volume",
    broken.AnswersInTwoLines: "test_engines.py::test_get_of_an_unknown_volume_is_an_error",
    broken.NotFound: "test_engines.py::test_get_of_an_unknown_volume_is_an_error",
    broken.HandshakeOnlyWhenEmpty: "test_engines.py::test_activate_names_the_volume_driver",
}
HTTP = {
    broken_http.ErrWith200: "test_engines.py::test_mount_of_an_unknown_volume_is_an_error",
    broken_http.EmptyErr: "test_engines.py::test_success_is_read_alike_by_all_engines",
    broken_http.PlainErrors: "test_requests.py::test_an_unknown_method_is_a_404_with_err",
    broken_http.JsonOnly: "test_engines.py::test_activate_names_the_volume_driver",
    broken_http.NeedsHost: "test_engines.py::test_activate_names_the_volume_driver",
    broken_http.HangsUp: "test_http.py::test_a_connection_serves_many_requests",
    broken_http.NoContent: "test_engines.py::test_create_with_options_makes_the_volume",
    broken_http.OneAtATime: "test_together.py::test_idle_connections_keep_nobody_out",
    broken_http.WaitsInLine: "test_together.py::test_two_hundred_gets_at_once",
    broken_http.NoLimit: "test_requests.py::test_a_huge_body_is_refused",
}


def run_cases(home: Path, plugin: type[Reference], handler: type[Handler], cases: str) -> str:
    """The last line of a run of these cases against that plugin."""
    data, mounts, socket = home / "data", home / "mounts", home / "p.sock"
    data.mkdir()
    mounts.mkdir()
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider", str(HERE / cases)]
    given = ["--plugin-socket", str(socket), "--plugin-opt", f"dir={data}", "--plugin-data", str(data)]
    with serving(plugin(mounts), socket, handler):
        done = subprocess.run(
            [*command, *given], cwd=HERE.parent.parent, capture_output=True, text=True, timeout=300, check=False
        )
    return done.stdout.strip().rpartition("\n")[2]


@pytest.fixture(autouse=True)
def _only_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can mount")


@pytest.mark.parametrize(("faulty", "cases"), LOGIC.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_plugin_with_a_fault_is_noticed(tmp_path: Path, faulty: type[Reference], cases: str) -> None:
    """A case that stays green whatever the plugin does proves nothing."""
    assert " failed" in run_cases(tmp_path, faulty, Handler, cases)


@pytest.mark.parametrize(("handler", "cases"), HTTP.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_server_with_a_fault_is_noticed(tmp_path: Path, handler: type[Handler], cases: str) -> None:
    """The same for what is wrong in the HTTP around a right plugin."""
    assert " failed" in run_cases(tmp_path, Reference, handler, cases)


def test_any_plugin_can_be_asked(tmp_path: Path) -> None:
    """All cases pass with a right plugin that is known by its socket only, and none is left out without a reason."""
    last = run_cases(tmp_path, Reference, Handler, "")
    assert " passed" in last
    assert " failed" not in last
    assert " error" not in last
