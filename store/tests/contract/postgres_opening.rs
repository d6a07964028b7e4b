//! Opening a PostgreSQL: what is refused, and what is said then.
