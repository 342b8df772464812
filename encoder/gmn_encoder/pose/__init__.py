"""How one NeRF is turned against another: a search over what their fields show, and a fit of the turned one."""
