"""What workers do before their first lesion."""

from __future__ import annotations

import asyncio

from distributed import Worker, WorkerPlugin

from hgpscale.engine.kernel_cache import on_loopback, use_folder_of_this_node
from hgpscale.limits import set_memory_limit


class WorkerSetup(WorkerPlugin):  # type: ignore[misc] # distributed has no types
    """Give each library one thread and load the compiled kernels.

    Dask already runs one task a core: libraries that start threads of their own would only compete. Registering it
    again does nothing.
    """

    name = "hgpscale-worker-setup"
    idempotent = True

    async def setup(self, worker: Worker) -> None:
        """Prepare the thread that will run the tasks; compiling there keeps the worker's event loop answering."""
        set_memory_limit(worker.memory_manager.memory_limit)
        if not on_loopback(worker.scheduler.address):
            use_folder_of_this_node()  # before the kernels are imported, which look it up then
        await asyncio.get_running_loop().run_in_executor(worker.executors["default"], prepare_process)

    async def teardown(self, worker: Worker) -> None:
        """Take back what would outlive a worker that is a thread of the caller's process."""
        set_memory_limit(None)


def prepare_process() -> None:
    """Set SimpleITK, BLAS and OpenMP to one thread and load the kernels; OpenMP's setting is the calling thread's."""
    import SimpleITK as sitk
    import threadpoolctl

    from hgpscale.kernels import warm_up

    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    warm_up()
    # Last, because it reaches only libraries that are loaded by now.
    threadpoolctl.threadpool_limits(limits=1)
