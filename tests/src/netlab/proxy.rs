//! An HTTP proxy that knows CONNECT and nothing else (RFC 9110 §9.3.6), and asks for a password.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Longest head a client may send.
const HEAD_LEN_MAX: usize = 8 * 1024;

/// A running proxy; ends when dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on `on` and leads every client that shows a password to `to`, whatever name it asks for.
    pub async fn start(on: SocketAddr, to: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(on).await?;
        let address = listener.local_addr()?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let task = tokio::spawn(serve(listener, to, Arc::clone(&asked)));
        Ok(Self { address, asked, task })
    }

    /// The heads of all requests so far; field names in lower case.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, to: SocketAddr, asked: Arc<Mutex<Vec<String>>>) {
    while let Ok((client, _)) = listener.accept().await {
        // Ends with the connection.
        tokio::spawn(lead(client, to, Arc::clone(&asked)));
    }
}

async fn lead(mut client: TcpStream, to: SocketAddr, asked: Arc<Mutex<Vec<String>>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_LEN_MAX {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let lower: Vec<String> = head
        .lines()
        .map(|line| match line.split_once(": ") {
            Some((name, value)) => format!("{}: {value}", name.to_ascii_lowercase()),
            None => line.to_owned(),
        })
        .collect();
    let lower = lower.join("\n");
    let is_known = lower.contains("proxy-authorization: Basic ");
    asked.lock().unwrap_or_else(PoisonError::into_inner).push(lower);
    if !is_known {
        let refusal =
            b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"out\"\r\n\r\n";
        return client.write_all(refusal).await;
    }
    let mut server = TcpStream::connect(to).await?;
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
