"""Runs a notebook in the Deno Jupyter kernel and fails with the error of the first cell that fails.

Two things differ from `jupyter execute`. The kernel may say that a cell is done before its last messages are
out, so this runner reads on for a moment after each cell. And nothing outside the notebook's folder and a
temporary one is touched: the kernel is described here, so no installed kernelspec and no HOME is needed.
"""

import argparse
import asyncio
import json
import os
import pathlib
import sys
import tempfile

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("notebook", type=pathlib.Path)
parser.add_argument("--deno", required=True, help="path of the deno binary whose kernel runs the cells")
parser.add_argument("--timeout", type=int, default=300, help="seconds per cell")
target = parser.add_mutually_exclusive_group()
target.add_argument("--in-place", action="store_true", help="write the outputs into the notebook")
target.add_argument("--output", type=pathlib.Path, help="write the notebook with outputs to this file")
arguments = parser.parse_args()

scratch = tempfile.TemporaryDirectory(prefix="oka-notebook-")
for name in ("JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"):
    os.environ[name] = scratch.name
os.environ.setdefault("XDG_RUNTIME_DIR", scratch.name)  # else every WebGPU start complains
os.environ["JUPYTER_PREFER_ENV_PATH"] = "0"

import nbformat  # noqa: E402 (reads the environment)
from nbclient import NotebookClient  # noqa: E402
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError  # noqa: E402
from queue import Empty  # noqa: E402

LATE_SECONDS = 0.15


class DrainingClient(NotebookClient):
    """Reads on after a cell's idle message until nothing has come for a while."""

    async def _async_poll_output_msg(self, parent_msg_id, cell, cell_index):
        await super()._async_poll_output_msg(parent_msg_id, cell, cell_index)
        while True:
            try:
                message = await asyncio.wait_for(self.kc.get_iopub_msg(timeout=LATE_SECONDS), 5)
            except Empty:
                return
            if message["parent_header"].get("msg_id") == parent_msg_id:
                if message["msg_type"] != "status":
                    self.process_message(message, cell, cell_index)


def merge_streams(outputs):
    """Joins neighbouring pieces of the same stream, as a front end shows them."""
    merged = []
    for output in outputs:
        last = merged[-1] if merged else {}
        if output.output_type == "stream" and last.get("output_type") == "stream" and last.name == output.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


def plain_times(notebook):
    """Drops the execution times, which differ in every run."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)


def main():
    path = arguments.notebook.resolve()
    spec = pathlib.Path(scratch.name, "kernels", "deno")
    spec.mkdir(parents=True)
    argv = [arguments.deno, "jupyter", "--kernel", "--conn", "{connection_file}"]
    kernel = {"argv": argv, "display_name": "Deno", "language": "typescript"}
    (spec / "kernel.json").write_text(json.dumps(kernel))

    notebook = nbformat.read(path, as_version=4)
    client = DrainingClient(
        notebook,
        kernel_name="deno",
        timeout=arguments.timeout,
        resources={"metadata": {"path": str(path.parent)}},
    )
    failure = None
    try:
        client.execute()
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        failure = str(error)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = merge_streams(cell.outputs)
    plain_times(notebook)
    output = path if arguments.in_place else arguments.output
    if output and not (failure and arguments.in_place):
        part = output.with_name(output.name + ".part.tmp")
        nbformat.write(notebook, part)
        os.replace(part, output)
    if failure:
        print(f"error: Cannot run {path.name}: {failure}", file=sys.stderr)
        sys.exit(1)


main()
