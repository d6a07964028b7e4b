//! Reads a TLS ClientHello just far enough to choose a configuration: the server name, the ALPN protocols and the first
//! cipher suites.
//!
//! Pure functions over the handshake message (RFC 8446 §4.1.2), as QUIC's CRYPTO frames carry it; on TCP, rustls' own
//! acceptor reads the hello, and only whether it is whole is asked here. Nothing is believed because of what this
//! says: each TLS configuration holds only its own ALPN and verifier, and connections are dispatched on what was
//! *negotiated* (design §4).

use rustls::CipherSuite;

/// Most octets of a ClientHello that are kept. Post-quantum hellos have about 1.5 KiB; the largest with every
/// known extension stay under 4 KiB.
pub const HELLO_LEN_MAX: usize = 16 * 1024;

/// Most ALPN protocols looked at. Browsers send two or three.
pub const ALPN_PROTOCOLS_MAX: usize = 32;

/// Most cipher suites looked at: enough to see what comes first, after a value that means nothing.
pub const CIPHER_SUITES_MAX: usize = 4;

/// The parts of a ClientHello that choose a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// The DNS name the client asks for, lower-case (RFC 6066 §3); `None` if it sent none or an address.
    pub server_name: Option<String>,
    /// What the client offers to speak, in its order of preference (RFC 7301).
    pub alpn: Vec<Vec<u8>>,
    /// The first of the cipher suites it offers, in its order of preference: at most [`CIPHER_SUITES_MAX`].
    pub cipher_suites: Vec<CipherSuite>,
}

/// Why bytes are not a ClientHello that can be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// The first handshake message is another one.
    #[error("the first handshake message is not a ClientHello")]
    NotHello,
    /// It says it is longer than [`HELLO_LEN_MAX`].
    #[error("the ClientHello is longer than {HELLO_LEN_MAX} octets")]
    TooLong,
    /// Lengths or lists inside it do not fit.
    #[error("the ClientHello is malformed")]
    Malformed,
}

impl HelloError {
    /// The TLS alert that answers it (RFC 8446 §6.2).
    pub const fn alert(self) -> u8 {
        match self {
            Self::NotHello => 10,  // unexpected_message
            Self::TooLong => 47,   // illegal_parameter
            Self::Malformed => 50, // decode_error
        }
    }
}

/// Reads the ClientHello that `bytes` begin with; `None` while more is needed, which every proper prefix of a
/// hello is.
///
/// # Errors
/// [`HelloError`] as soon as the bytes cannot become a ClientHello.
pub fn parse(bytes: &[u8]) -> Result<Option<Hello>, HelloError> {
    let mut message = Reader(bytes);
    let Some(kind) = message.u8() else { return Ok(None) };
    if kind != CLIENT_HELLO {
        return Err(HelloError::NotHello);
    }
    let Some(len) = message.u24() else { return Ok(None) };
    if len > HELLO_LEN_MAX {
        return Err(HelloError::TooLong);
    }
    let Some(body) = message.take(len) else { return Ok(None) };
    read_body(body).ok_or(HelloError::Malformed).map(Some)
}

/// Whether the TLS records (RFC 8446 §5.1) that a connection begins with, `octets`, hold a whole ClientHello.
///
/// # Errors
/// [`HelloError`] as soon as they cannot: nothing more needs to be read.
pub fn is_whole(octets: &[u8]) -> Result<bool, HelloError> {
    let mut records = Reader(octets);
    // The message's own head may come in more than one record.
    let mut head = Vec::with_capacity(HEAD_LEN);
    let mut found = 0;
    loop {
        let Some(kind) = records.u8() else { return Ok(false) };
        if kind != RECORD_HANDSHAKE {
            return Err(HelloError::NotHello);
        }
        let Some(len) = records.take(2).and_then(|_version| records.u16()).map(usize::from) else {
            return Ok(false);
        };
        if len == 0 || len > RECORD_LEN_MAX {
            return Err(HelloError::Malformed);
        }
        let fragment = records.take_up_to(len);
        head.extend(fragment.iter().take(HEAD_LEN - head.len()));
        found += fragment.len();
        let mut message = Reader(&head);
        if message.u8().is_some_and(|kind| kind != CLIENT_HELLO) {
            return Err(HelloError::NotHello);
        }
        let body = message.u24();
        if body.is_some_and(|len| len > HELLO_LEN_MAX) {
            return Err(HelloError::TooLong);
        }
        if fragment.len() < len {
            return Ok(false);
        }
        if body.is_some_and(|len| found >= HEAD_LEN + len) {
            return Ok(true);
        }
    }
}

const CLIENT_HELLO: u8 = 1;
/// Octets of a handshake message before its body: its kind and its length.
const HEAD_LEN: usize = 4;
const RECORD_HANDSHAKE: u8 = 22;
/// Most octets of a record's fragment in the clear.
const RECORD_LEN_MAX: usize = 1 << 14;
const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
const NAME_TYPE_HOST: u8 = 0;

fn read_body(body: &[u8]) -> Option<Hello> {
    let mut body = Reader(body);
    body.take(2 + 32)?; // legacy_version, random
    body.vec8()?; // legacy_session_id
    let mut offered = Reader(body.vec16()?);
    let mut cipher_suites = Vec::with_capacity(CIPHER_SUITES_MAX);
    while !offered.is_empty() {
        let suite = offered.u16()?;
        if cipher_suites.len() < CIPHER_SUITES_MAX {
            cipher_suites.push(CipherSuite::from(suite));
        }
    }
    body.vec8()?; // legacy_compression_methods
    let mut hello = Hello { cipher_suites, ..Hello::default() };
    if body.is_empty() {
        return Some(hello);
    }
    let mut extensions = Reader(body.vec16()?);
    if !body.is_empty() {
        return None;
    }
    let mut seen_name = false;
    let mut seen_alpn = false;
    while !extensions.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.vec16()?;
        match kind {
            EXTENSION_SERVER_NAME if !std::mem::replace(&mut seen_name, true) => {
                hello.server_name = read_server_name(data)?.0;
            }
            EXTENSION_ALPN if !std::mem::replace(&mut seen_alpn, true) => hello.alpn = read_alpn(data)?,
            // An extension comes once (RFC 8446 §4.2); two of these could be read in two ways.
            EXTENSION_SERVER_NAME | EXTENSION_ALPN => return None,
            _ => {}
        }
    }
    Some(hello)
}

/// A DNS name, or none where an address stands for it.
struct ServerName(Option<String>);

fn read_server_name(data: &[u8]) -> Option<ServerName> {
    let mut data = Reader(data);
    let mut list = Reader(data.vec16()?);
    if !data.is_empty() || list.is_empty() {
        return None;
    }
    // The same reading as rustls, so that TCP and QUIC serve the same clients: exactly one host name (RFC 6066 §3
    // allows no second), and nothing from the first name of another kind on, because none was ever defined.
    let mut found = None;
    while !list.is_empty() && list.u8()? == NAME_TYPE_HOST {
        let name = std::str::from_utf8(list.vec16()?).ok()?;
        // A DNS name, or an address that counts as no name.
        let name = match rustls_pki_types::ServerName::try_from(name).ok()? {
            rustls_pki_types::ServerName::DnsName(name) => {
                ServerName(Some(name.as_ref().trim_end_matches('.').to_ascii_lowercase()))
            }
            _ => ServerName(None),
        };
        if found.replace(name).is_some() {
            return None;
        }
    }
    found
}

fn read_alpn(data: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut data = Reader(data);
    let mut list = Reader(data.vec16()?);
    if !data.is_empty() || list.is_empty() {
        return None;
    }
    let mut protocols = Vec::new();
    while !list.is_empty() {
        let protocol = list.vec8()?;
        if protocol.is_empty() {
            return None;
        }
        if protocols.len() < ALPN_PROTOCOLS_MAX {
            protocols.push(protocol.to_vec());
        }
    }
    Some(protocols)
}

/// Takes bytes from the front; `None` where there are too few.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// Fewer if there are no more.
    fn take_up_to(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.try_into().ok().map(u16::from_be_bytes)
    }

    fn u24(&mut self) -> Option<usize> {
        let bytes = self.take(3)?;
        Some(bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    /// A vector whose length is one octet.
    fn vec8(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(usize::from(len))
    }

    /// A vector whose length is two octets.
    fn vec16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(usize::from(len))
    }
}

#[cfg(test)]
mod tests;
