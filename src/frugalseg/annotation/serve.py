"""`frugalseg annotate`: opens a folder of scans in a local web page."""

from __future__ import annotations

import getpass
import secrets
import socket
import threading
import warnings
import webbrowser
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from frugalseg.annotation.launcher import Launcher, LocalLauncher
from frugalseg.annotation.place import Place
from frugalseg.annotation.security import AccessRules, is_loopback
from frugalseg.engine.files import check_out
from frugalseg.engine.lock import is_in_use, lock_folder
from frugalseg.engine.progress import no_heartbeat, say
from frugalseg.errors import OptionError, PairingError, RunError, disk_errors
from frugalseg.imaging.find import check_distinct_files, find_dataset, find_masks
from frugalseg.imaging.validation import ScanWarning
from frugalseg.interrupts import sigterm_as_ctrl_c
from frugalseg.options import AnnotateOptions
from frugalseg.text import name_some, pluralize

if TYPE_CHECKING:
    from frugalseg.annotation.session import Session

EXTRA = "pip install 'frugalseg[annotate]'"
DEMO_OUT = Path("frugalseg-annotate-demo")
SHUTDOWN_S = 5


def annotate(options: AnnotateOptions) -> Path:
    """Serve the page until Ctrl-C; returns the folder of annotations.

    Raises:
        OptionError: no token is possible, the port is in use, or Ray is not installed.
        ScanError, PairingError: the folders hold no scans, or masks that do not belong to them.
        RunError: another server works in the folder, it holds other files, FastAPI is not installed, or no cluster
            answers.
        DiskError: the folder cannot be written.
    """
    _require_server()
    if options.out is not None:
        check_out(options.out)  # before it is compared with --images
    place, images = _find_places(options)
    check_out(place.out)
    if is_in_use(place.out) and not place.state.is_file():
        raise RunError(
            f"{place.out} holds files that `annotate` has not made",
            "choose another --out; to correct masks, give their folder as --masks",
        )
    listener = _listen(options)
    with listener:
        lock = lock_folder(place.out)
        try:
            if options.demo:
                _make_phantoms(place, options.phantoms)
            with closing(_find_launcher(options)) as launcher:
                session = _open_session(options, place, images, launcher)
                try:
                    _serve(session, options, listener)
                finally:
                    session.stop()
        finally:
            lock.release()
    say(f"masks and annotations.json: {place.out}")
    return place.out


def _require_server() -> None:
    try:
        import fastapi
        import uvicorn
    except ImportError as error:
        raise RunError(f"`annotate` needs {error.name}, which is not installed", EXTRA) from None
    del fastapi, uvicorn


def _find_places(options: AnnotateOptions) -> tuple[Place, Path]:
    """The folder of annotations, and that of the scans."""
    if options.images is None:
        out = options.out or DEMO_OUT
        return Place(out.absolute()), Place(out.absolute()).work / "phantoms" / "images"
    images = options.images.absolute()
    if options.out is not None and options.out.resolve() == images.resolve():
        raise OptionError("--out is the folder of the scans", "choose another --out")
    return Place((options.out or images.with_name(f"{images.name}-annotations")).absolute()), images


def _make_phantoms(place: Place, count: int) -> None:
    from frugalseg.phantoms.cohort import write_cohort

    folder = place.work / "phantoms"
    if not folder.is_dir():
        partial = folder.with_name("phantoms.partial")
        write_cohort(partial, count, seed=0)
        with disk_errors(folder):
            partial.rename(folder)


def _find_launcher(options: AnnotateOptions) -> Launcher:
    if options.ray is None:
        return LocalLauncher()
    from frugalseg.annotation.ray_launcher import RayLauncher
    from frugalseg.engine.threads import requested_threads, usable_cores

    here = options.threads or requested_threads() or usable_cores()
    return RayLauncher(options.ray, here if options.ray == "local" else options.threads)


def _open_session(options: AnnotateOptions, place: Place, images: Path, launcher: Launcher) -> Session:
    from frugalseg.annotation.imports import MaskImport, name_labels
    from frugalseg.annotation.session import Session
    from frugalseg.annotation.warm_up import start_warming_up

    # Every warning about a scan names its file; the page shows them with the scan.
    warnings.simplefilter("ignore", ScanWarning)
    paths, given = find_dataset(images, options.labels or options.masks, options.series)
    masks = {} if options.labels is None and options.masks is None else given
    folder = place.work / "phantoms" / "labels" if options.demo else options.references
    references = {} if folder is None else find_references(folder, paths)
    session = Session(options, images, paths, references, place, options.annotator or _find_user(), launcher)
    name_labels(session)
    session.start()
    start_warming_up(session)
    if masks:
        MaskImport(session, masks).start()
    say(f"{pluralize(len(paths), 'scan')} in {images}")
    return session


def find_references(folder: Path, scans: Mapping[str, Path]) -> dict[str, Path]:
    """The reference masks of these scans; those of other scans are left out.

    Raises:
        ScanError: the folder does not exist or holds no masks.
        PairingError: none of them belongs to a scan, or one is a scan itself.
    """
    masks = {case: path for case, path in find_masks(folder).items() if case in scans}
    if not masks:
        raise PairingError(
            f"--references {folder} holds no mask of these scans ({name_some(scans)})",
            "give scan and mask of a case the same name",
        )
    check_distinct_files(scans, masks, "scan and reference")
    return masks


def _find_user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no account, as in some containers
        return "unknown"


def _listen(options: AnnotateOptions) -> socket.socket:
    """The socket of the server; raises `OptionError` where the port is in use, before anything is read or written."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or str(error)
        raise OptionError(
            f"--host {options.host} --port {options.port} cannot be used ({reason})",
            "choose another --port (0 takes a free one), or end the program that uses it",
        ) from None
    return listener


def _make_rules(options: AnnotateOptions) -> AccessRules:
    if is_loopback(options.host):
        return AccessRules(options.token, read_only=options.read_only)
    return AccessRules(options.token or secrets.token_urlsafe(24), hosts=None, read_only=options.read_only)


def _serve(session: Session, options: AnnotateOptions, listener: socket.socket) -> None:
    import uvicorn

    from frugalseg.annotation.app import make_app
    from frugalseg.annotation.routes.files import PAGE

    port = int(listener.getsockname()[1])
    rules = _make_rules(options)
    address = _announce(options, rules, port)
    if not (PAGE / "index.html").is_file():
        say("the page is not built: run `make web` in a checkout (needs Node); wheels contain it")
    elif not options.no_browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    config = uvicorn.Config(
        make_app(session, rules),
        access_log=False,  # paths of requests hold case ids
        log_level="warning",
        timeout_graceful_shutdown=SHUTDOWN_S,
        server_header=False,
        lifespan="off",
    )
    server = uvicorn.Server(config)
    end = server.handle_exit

    def end_streams(sig: int, frame: FrameType | None) -> None:
        session.events.close()
        end(sig, frame)

    server.handle_exit = end_streams  # type: ignore[method-assign]
    with no_heartbeat(), sigterm_as_ctrl_c(), suppress(KeyboardInterrupt):  # Ctrl-C is the way to end the server
        server.run(sockets=[listener])


def _announce(options: AnnotateOptions, rules: AccessRules, port: int) -> str:
    """Print the address, which is returned, and a warning where others can reach it."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    query = f"/?token={rules.token}" if rules.token else "/"
    address = f"http://{host}:{port}{query}"
    print(f"open {address}", flush=True)
    if not is_loopback(options.host):
        say(
            "warning: scans are sent unencrypted (HTTP), and whoever sees the token can open them; from another "
            f"machine, `ssh -L {port}:localhost:{port} THIS-MACHINE` to a server without --host is safer"
        )
    say("Ctrl-C ends the server; every stroke is saved when it is drawn")
    return address
