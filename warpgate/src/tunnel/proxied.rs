//! A TCP connection through an HTTP proxy: CONNECT (RFC 9110 §9.3.6), and what its refusals mean.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::proxy::Proxy;
use super::tcp::connect_any;
use crate::limits::{PROXY_ANSWER_MAX, PROXY_HEAD_LEN_MAX};
use crate::resolve::resolve;

/// Why a proxy does not lead there, in a sentence without a full stop, with a code and a next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProxyFailure {
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) next: &'static str,
}

impl ProxyFailure {
    fn unreachable(proxy: &Proxy, why: &str) -> Self {
        Self {
            code: "proxy.unreachable",
            message: format!("the proxy {proxy} cannot be reached: {why}"),
            next: "check --proxy or HTTPS_PROXY, and that this machine reaches the proxy",
        }
    }

    fn bad_answer(proxy: &Proxy, why: &str) -> Self {
        Self {
            code: "proxy.bad_answer",
            message: format!("the proxy {proxy} gave no usable answer: {why}"),
            next: "check that --proxy or HTTPS_PROXY names an HTTP proxy that allows CONNECT",
        }
    }

    /// What a status other than 2xx means.
    fn status(proxy: &Proxy, authority: &str, status: u16) -> Self {
        let (code, message, next) = match status {
            407 if proxy.authorization.is_some() => (
                "proxy.auth",
                format!("the proxy {proxy} did not accept the user and password given with it (407)"),
                "correct them in --proxy or HTTPS_PROXY; the proxy must accept Basic",
            ),
            407 => (
                "proxy.auth",
                format!("the proxy {proxy} wants a user and a password (407)"),
                "write them into --proxy or HTTPS_PROXY: http://user:password@host:port",
            ),
            400..=499 => (
                "proxy.refused",
                format!("the proxy {proxy} refused to connect to {authority} ({status})"),
                "ask whoever runs the proxy to allow CONNECT to that host and port",
            ),
            500..=599 => (
                "proxy.no_way",
                format!("the proxy {proxy} could not connect to {authority} ({status})"),
                "check that the edge runs and that the proxy reaches it",
            ),
            _ => return Self::bad_answer(proxy, &format!("status {status}")),
        };
        Self { code, message, next }
    }
}

/// Connects to `authority` (`host:port`) through `proxy`. The address is the proxy's.
///
/// Takes as long as the connection to the proxy, and [`PROXY_ANSWER_MAX`].
pub(crate) async fn connect(proxy: &Proxy, authority: &str) -> Result<(TcpStream, SocketAddr), ProxyFailure> {
    let unreachable = |why: &dyn std::fmt::Display| ProxyFailure::unreachable(proxy, &why.to_string());
    let addresses = resolve(&proxy.host, proxy.port).await.map_err(|why| unreachable(&why))?;
    let (mut stream, address) = connect_any(&addresses).await.map_err(|why| unreachable(&why))?;
    let asking = async {
        stream.write_all(question(proxy, authority).as_bytes()).await?;
        read_status(&mut stream).await
    };
    let status = match timeout(PROXY_ANSWER_MAX, asking).await {
        Err(_) => {
            let why = format!("nothing within {} s", PROXY_ANSWER_MAX.as_secs());
            return Err(ProxyFailure::bad_answer(proxy, &why));
        }
        Ok(Err(why)) => return Err(ProxyFailure::bad_answer(proxy, &why.to_string())),
        Ok(Ok(status)) => status,
    };
    if (200..300).contains(&status) {
        Ok((stream, address))
    } else {
        Err(ProxyFailure::status(proxy, authority, status))
    }
}

fn question(proxy: &Proxy, authority: &str) -> String {
    let authorization = proxy
        .authorization
        .as_ref()
        .map_or_else(String::new, |value| format!("proxy-authorization: {}\r\n", value.expose()));
    let agent = crate::AGENT;
    format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: {agent}\r\n{authorization}\r\n")
}

/// Reads one head, and the next if it is informational; not an octet more, because what follows is the edge's.
async fn read_status(stream: &mut TcpStream) -> io::Result<u16> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") && !head.ends_with(b"\n\n") {
            if head.len() >= PROXY_HEAD_LEN_MAX {
                return Err(bad("its head is too long"));
            }
            head.push(stream.read_u8().await.map_err(|_| bad("the connection ended"))?);
        }
        let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = std::str::from_utf8(line).map_err(|_| bad("it is not HTTP"))?;
        let mut words = line.split_ascii_whitespace();
        if !words.next().is_some_and(|version| version.starts_with("HTTP/1.")) {
            return Err(bad("it is not HTTP"));
        }
        let status = words.next().filter(|word| word.len() == 3).and_then(|word| word.parse::<u16>().ok());
        match status.ok_or_else(|| bad("it is not HTTP"))? {
            100..=199 => {}
            status => return Ok(status),
        }
    }
}
