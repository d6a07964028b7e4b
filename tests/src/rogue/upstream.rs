//! An upstream that answers with octets of its own choice: every path is another way to break HTTP/1.1.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// What a client must never see of any answer.
pub const EVIL: &str = "evil";

/// Pause between pieces of what never ends.
const DRIP: Duration = Duration::from_millis(20);

/// What is sent for a path.
#[derive(Clone, Copy, Debug)]
enum Script {
    /// These octets, then the connection closes.
    Once(&'static [u8]),
    /// These octets, and the connection stays open for the next request.
    Stay(&'static [u8]),
    /// These octets, then the second ones again and again until somebody stops it.
    Endless(&'static [u8], &'static [u8]),
    /// A header of this many octets.
    LongField(usize),
    /// Nothing at all, for ever.
    Silence,
}

/// Path and answer.
const SCRIPTS: [(&str, Script); 27] = [
    ("/cr", Script::Once(b"HTTP/1.1 200 OK\r\nx-a: b\rx-evil: 1\r\ncontent-length: 2\r\n\r\nok")),
    ("/lf", Script::Once(b"HTTP/1.1 200 OK\r\nx-a: b\nx-b: c\r\ncontent-length: 2\r\n\r\nok")),
    ("/nul", Script::Once(b"HTTP/1.1 200 OK\r\nx-evil: a\0b\r\ncontent-length: 2\r\n\r\nok")),
    ("/nul-name", Script::Once(b"HTTP/1.1 200 OK\r\nx-\0evil: a\r\ncontent-length: 2\r\n\r\nok")),
    ("/space-in-name", Script::Once(b"HTTP/1.1 200 OK\r\nx evil: a\r\ncontent-length: 2\r\n\r\nok")),
    ("/folded", Script::Once(b"HTTP/1.1 200 OK\r\nx-a: b\r\n evil: c\r\ncontent-length: 2\r\n\r\nok")),
    ("/long-field", Script::LongField(1024 * 1024)),
    ("/endless-head", Script::Endless(b"HTTP/1.1 200 OK\r\n", b"x-evil: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n")),
    ("/slow-head", Script::Endless(b"HTTP/1.1 200 OK\r\nx-evil: ", b"x")),
    ("/short", Script::Once(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nten octets")),
    ("/long", Script::Stay(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nx-evil: 1\r\ncontent-length: 4\r\n\r\nevil")),
    ("/two-lengths", Script::Once(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 6\r\n\r\nokevil")),
    ("/length-and-chunked", Script::Stay(b"HTTP/1.1 200 OK\r\ncontent-length: 40\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nHTTP/1.1 200 OK\r\nx-evil: 1\r\n\r\n")),
    ("/negative-length", Script::Once(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nevil")),
    ("/bad-chunk", Script::Once(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nevil\r\n0\r\n\r\n")),
    ("/huge-chunk", Script::Once(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\nevil\r\n")),
    ("/chunk-tail", Script::Once(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nokevil\r\n0\r\n\r\n")),
    ("/no-last-chunk", Script::Once(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n")),
    ("/endless-1xx", Script::Endless(b"", b"HTTP/1.1 103 Early Hints\r\nlink: </evil>\r\n\r\n")),
    ("/unasked-101", Script::Once(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: evil\r\n\r\nevil")),
    ("/bad-status", Script::Once(b"HTTP/1.1 20000 evil\r\n\r\n")),
    ("/low-status", Script::Once(b"HTTP/1.1 099 evil\r\n\r\n")),
    ("/old", Script::Once(b"HTTP/9.9 200 evil\r\n\r\n")),
    ("/not-http", Script::Once(b"SSH-2.0-evil\r\n")),
    ("/unasked", Script::Stay(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nx-evil: 1\r\ncontent-length: 4\r\n\r\nevil")),
    ("/silence", Script::Silence),
    ("/plain", Script::Stay(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nplain")),
];

/// A running rogue. Stops when dropped.
#[derive(Debug)]
pub struct RogueUpstream {
    address: SocketAddr,
    listener: JoinHandle<()>,
}

impl RogueUpstream {
    /// Starts one on a free loopback port.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, listener: tokio::spawn(accept(listener)) })
    }

    /// `http://address`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for RogueUpstream {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

async fn accept(listener: TcpListener) {
    // Connections end with the listener.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    loop {
        let Some(path) = path(&mut stream).await? else { return Ok(()) };
        let script =
            SCRIPTS.iter().find(|(known, _)| *known == path).map_or(Script::Silence, |(_, script)| *script);
        match script {
            Script::Once(octets) => {
                stream.write_all(octets).await?;
                return stream.shutdown().await;
            }
            Script::Stay(octets) => stream.write_all(octets).await?,
            Script::Endless(first, again) => {
                stream.write_all(first).await?;
                loop {
                    stream.write_all(again).await?;
                    tokio::time::sleep(DRIP).await;
                }
            }
            Script::LongField(len) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nx-evil: ").await?;
                stream.write_all(&vec![b'x'; len]).await?;
                stream.write_all(b"\r\ncontent-length: 2\r\n\r\nok").await?;
            }
            Script::Silence => std::future::pending::<()>().await,
        }
    }
}

/// Reads one request's head, and gives the path without its query; `None` if the connection ended.
async fn path(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    const HEAD_LEN_MAX: usize = 64 * 1024;
    let mut head = Vec::new();
    while !head.windows(4).any(|four| four == b"\r\n\r\n") {
        if head.len() > HEAD_LEN_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(None);
        }
    }
    let head = String::from_utf8_lossy(&head);
    let target = head.split(' ').nth(1).unwrap_or_default();
    // A warpgate's own look whether anybody is here.
    let path = if target == "/" { "/plain" } else { target };
    Ok(Some(path.split('?').next().unwrap_or_default().to_owned()))
}
