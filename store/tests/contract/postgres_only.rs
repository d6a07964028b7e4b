//! What only PostgreSQL has: writers beside each other, the second wall, and other nodes.
