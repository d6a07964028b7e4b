//! A stream of bytes both ways, whatever is below it.

use tokio::io::{AsyncRead, AsyncWrite};

/// Reads and writes; TLS over TCP in a program, a pipe in a test.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A client's connection to a platform host, carried between an edge and a control node.
pub type SpliceStream = Box<dyn Duplex>;
