//! A small HTTP proxy: CONNECT and nothing else, perhaps for those who know the password.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

pub struct Proxy {
    pub address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Lets through whoever shows `credentials` (`user:password`), or everybody; `answer` replaces its answer to all.
    pub async fn start(credentials: Option<&str>, answer: Option<&'static str>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let expected =
            credentials.map(|plain| format!("proxy-authorization: basic {}", BASE64.encode(plain)));
        let seen = Arc::clone(&asked);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, expected.clone(), answer, Arc::clone(&seen)));
            }
        });
        Self { address, asked, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// What it was asked to connect to.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    mut client: TcpStream,
    expected: Option<String>,
    answer: Option<&'static str>,
    asked: Arc<Mutex<Vec<String>>>,
) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let authority = head.strip_prefix("CONNECT ")?.split(' ').next()?.to_owned();
    asked.lock().unwrap().push(authority.clone());
    let is_known = expected.is_none_or(|expected| {
        // The scheme's name has no case, the credentials have.
        head.lines().any(|line| {
            line.len() == expected.len()
                && line.eq_ignore_ascii_case(&expected)
                && line.split(' ').next_back() == expected.split(' ').next_back()
        })
    });
    if let Some(answer) = answer {
        client.write_all(answer.as_bytes()).await.ok()?;
        return None;
    }
    if !is_known {
        let challenge =
            "HTTP/1.1 407 Who are you\r\nproxy-authenticate: Basic realm=x\r\ncontent-length: 0\r\n\r\n";
        client.write_all(challenge.as_bytes()).await.ok()?;
        return None;
    }
    // Names under localhost resolve here whatever the system's resolver says.
    let port: u16 = authority.rsplit(':').next()?.parse().ok()?;
    let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else {
        client.write_all(b"HTTP/1.1 502 No way\r\n\r\n").await.ok()?;
        return None;
    };
    client.write_all(b"HTTP/1.1 200 OK\r\nx-proxy: yes\r\n\r\n").await.ok()?;
    copy_bidirectional(&mut client, &mut server).await.ok().map(drop)
}
