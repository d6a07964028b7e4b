//! A name server on loopback for tests, that says what it is told to. Its messages are written by hand (RFC 1035), so that
//! what asks is not held against itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinHandle;

const TYPE_CNAME: u16 = 5;
const TYPE_TXT: u16 = 16;
const CLASS_IN: u16 = 1;

/// Flags of an answer, and the one that says that it was cut.
const IS_ANSWER: u16 = 0x8180;
const IS_CUT: u16 = 0x0200;

/// What it says for a name.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// These texts.
    Texts(Vec<String>),
    /// Another name, and that one's texts.
    Alias(&'static str, Vec<String>),
    /// This code, and nothing else.
    Code(u8),
    /// Over UDP that there is more than fits.
    Cut(Vec<String>),
    /// To another question, with another id and for another name, these; then its own.
    Forged {
        /// What is no answer.
        texts: Vec<String>,
        /// What is.
        own: Vec<String>,
    },
    /// Octets that are no DNS, to the right question.
    Nonsense,
    /// Nothing.
    Silence,
}

/// A name server that knows what it is told. Ends when dropped.
#[derive(Debug)]
pub(crate) struct NameServer {
    pub(crate) at: SocketAddr,
    zone: Zone,
    task: JoinHandle<()>,
}

type Zone = Arc<Mutex<BTreeMap<String, Says>>>;

impl Drop for NameServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl NameServer {
    pub(crate) async fn start() -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let (at, zone) = (udp.local_addr().unwrap(), Zone::default());
        let known = Arc::clone(&zone);
        let task = tokio::spawn(async move {
            tokio::join!(datagrams(udp, &known), streams(tcp, &known));
        });
        Self { at, zone, task }
    }

    /// From now on it says this of a name.
    pub(crate) fn say(&self, name: &str, says: Says) {
        self.zone.lock().unwrap().insert(name.to_owned(), says);
    }
}

fn says(zone: &Zone, question: &[u8]) -> Says {
    zone.lock().unwrap().get(&asked(question)).cloned().unwrap_or(Says::Code(3))
}

async fn datagrams(socket: UdpSocket, zone: &Zone) {
    let mut octets = [0; 1000];
    while let Ok((len, from)) = socket.recv_from(&mut octets).await {
        let question = &octets[..len];
        for answer in answers(question, &says(zone, question), false) {
            socket.send_to(&answer, from).await.unwrap();
        }
    }
}

async fn streams(listener: TcpListener, zone: &Zone) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
        stream.read_exact(&mut question).await.unwrap();
        for answer in answers(&question, &says(zone, &question), true) {
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    }
}

/// The name in a question.
fn asked(question: &[u8]) -> String {
    let (mut labels, mut at) = (Vec::new(), 12);
    while question[at] != 0 {
        let len = usize::from(question[at]);
        labels.push(String::from_utf8(question[at + 1..=at + len].to_vec()).unwrap());
        at += len + 1;
    }
    labels.join(".")
}

fn written(name: &str) -> Vec<u8> {
    let labels =
        name.split('.').map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat());
    labels.chain([vec![0]]).collect::<Vec<_>>().concat()
}

fn record(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
    let mut out = owner.to_vec();
    out.extend(kind.to_be_bytes());
    out.extend(CLASS_IN.to_be_bytes());
    out.extend(60_u32.to_be_bytes());
    out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    out.extend(data);
    out
}

fn texts(owner: &[u8], texts: &[String]) -> Vec<Vec<u8>> {
    // A text longer than 255 octets is several strings (RFC 1035 §3.3.14).
    let strings = |text: &String| {
        let parts = text.as_bytes().chunks(255);
        parts.flat_map(|part| [&[u8::try_from(part.len()).unwrap()], part].concat()).collect::<Vec<_>>()
    };
    texts.iter().map(|text| record(owner, TYPE_TXT, &strings(text))).collect()
}

/// What it sends to a question, one after the other.
fn answers(question: &[u8], says: &Says, over_tcp: bool) -> Vec<Vec<u8>> {
    // Where the name stands in the question (RFC 1035 §4.1.4).
    let owner = [0xc0, 12];
    let (flags, records) = match says {
        Says::Texts(all) => (IS_ANSWER, texts(&owner, all)),
        Says::Alias(other, all) => {
            let other = written(other);
            let alias = record(&owner, TYPE_CNAME, &other);
            (IS_ANSWER, [alias].into_iter().chain(texts(&other, all)).collect())
        }
        Says::Cut(all) if over_tcp => (IS_ANSWER, texts(&owner, all)),
        Says::Cut(_) => (IS_ANSWER | IS_CUT, vec![]),
        Says::Code(code) => (IS_ANSWER | u16::from(*code), vec![]),
        Says::Forged { texts: forged, own } => {
            let mut another_id = question.to_vec();
            another_id[0] ^= 0xff;
            let mut another_name = question.to_vec();
            another_name[13] ^= 0x01;
            let forged = Says::Texts(forged.clone());
            let all = [
                (&another_id, forged.clone()),
                (&another_name, forged),
                (&question.to_vec(), Says::Texts(own.clone())),
            ]
            .map(|(question, says)| answers(question, &says, over_tcp));
            return all.concat();
        }
        Says::Nonsense => return vec![[&question[..2], b"and this is no DNS at all"].concat()],
        Says::Silence => return vec![],
    };
    let mut out = question[..2].to_vec();
    for word in [flags, 1, u16::try_from(records.len()).unwrap(), 0, 0] {
        out.extend(word.to_be_bytes());
    }
    let end = 12 + written(&asked(question)).len() + 4;
    out.extend(&question[12..end]);
    out.extend(records.concat());
    vec![out]
}
