"""``livedump dump`` and ``livedump info``."""

from __future__ import annotations

import click

from livedump import abi, receipt
from livedump.cli.common import emit, examples, json_option, progress_bar
from livedump.cli.services import Services
from livedump.dump import DumpResult, Image, open_image, write
from livedump.receipt import PAGE_BYTES
from livedump.units import format_bytes

#: A dump was written, but pages are lost or its completeness is not proven.
EXIT_INCOMPLETE = 3


def render_result(result: DumpResult) -> str:
    """Where the dump is, how fast it went, and its short receipt."""
    size = format_bytes(result.written_bytes)
    rate = format_bytes(int(result.written_bytes / max(result.seconds, 1e-9)))
    head = f"dumped   {result.path}, {size} in {result.seconds:.1f} s ({rate}/s)"
    return f"{head}\n{receipt.render(result.report)}"


def render_info(image: Image, *, full: bool) -> str:
    """What an image is, and its receipt."""
    ram = sum(item.mem_bytes for item in image.ram)
    head = [
        f"image    {image.path}, {format_bytes(image.layout.end)}",
        f"kernel   {image.release or 'unknown'}, {image.cpus} CPUs, "
        f"{format_bytes(ram)} RAM in {len(image.ram)} ranges",
    ]
    if left_out := image.layout.left_out:
        pages, there = left_out // PAGE_BYTES, (ram - left_out) // PAGE_BYTES
        head.append(f"FILTERED: {pages:,} pages were taken out of this file, {there:,} are in it")
    if image.verdict is abi.Verdict.PENDING:
        head.append("INCOMPLETE: the dump did not finish, or this is the live image")
    body = receipt.render_full(image.report) if full else receipt.render(image.report)
    return "\n".join([*head, body])


@click.command(
    epilog=examples(
        "livedump dump vmcore",
        "livedump dump --force vmcore && crash vmlinux vmcore",
        "livedump dump /dev/vdb               onto a block device",
        "livedump dump --verify vmcore        check a dump written before",
    )
)
@click.argument("file")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("--verify", is_flag=True, help="Write nothing: check FILE and its verdict.")
@json_option
@click.pass_context
def dump(ctx: click.Context, file: str, force: bool, verify: bool) -> None:
    """Write the snapshot that is held to FILE, an ELF core for crash and drgn.

    The snapshot stays held: release it with `livedump release`. FILE is created with mode 0600 and
    gets its name only when everything is on the disk; a block device is written in place.

    Exit status 3 when the dump is not complete: pages lost, or completeness not proven.
    """
    services: Services = ctx.obj
    if verify:
        _show(ctx, file, full=False)
        return

    def read_report() -> abi.ReportDict:
        with services.control() as control:
            return control.status().report

    with progress_bar("dumping") as progress:
        result = write(
            file,
            status=read_report,
            source=services.image_path,
            progress=progress,
            force=force,
        )
    emit(result.to_dict(), lambda: render_result(result))
    if not result.complete:
        ctx.exit(EXIT_INCOMPLETE)


@click.command(epilog=examples("livedump info vmcore", "livedump info vmcore --json | jq .verdict"))
@click.argument("file")
@json_option
@click.pass_context
def info(ctx: click.Context, file: str) -> None:
    """Check a dump and print its whole receipt.

    Exit status 3 when the dump is not complete: unfinished, filtered, pages lost, or not proven.
    """
    _show(ctx, file, full=True)


def _show(ctx: click.Context, file: str, *, full: bool) -> None:
    with open_image(file) as image:
        emit(image.to_dict(), lambda: render_info(image, full=full))
        complete = image.is_complete
    if not complete:
        ctx.exit(EXIT_INCOMPLETE)
