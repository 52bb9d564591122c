# Installed as etc/ipython/ipython_kernel_config.py of the environment: each of its kernels loads the
# extension that tells the timeline of the cells it executes (runbook_lib/incidents/kernel_events.py).
c = get_config()  # type: ignore[name-defined]  # noqa: F821
c.InteractiveShellApp.extra_extensions.append("runbook_lib.incidents.kernel_events")
