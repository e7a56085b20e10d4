"""Changes of the service's tables, each a file in ``versions``; run by :meth:`Database.migrate`."""
