//! Asks the DNS for TXT records: the system's resolver, or one that the operator names.
//!
//! Nothing is kept between two questions: whoever has just published a record wants it seen, and a machine's resolvers change.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

/// For one question to one server.
const ASK_TIMEOUT: Duration = Duration::from_secs(3);

/// Questions to each server.
const ASK_ATTEMPTS: usize = 2;

/// For one look with all its questions: whoever ran `host verify` waits for it.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Most texts read of one name; the rest is not looked at.
const TEXTS_MAX: usize = 100;

/// Why the DNS gave no answer, neither yes nor no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// Nothing came in time.
    #[error("no DNS server answered within {} s", LOOK_TIMEOUT.as_secs())]
    Silent,
    /// The name cannot be asked for.
    #[error("{0} is too long for the DNS")]
    Name(String),
    /// The server said that it cannot tell, or could not be reached.
    #[error("the DNS gave no answer: {0}")]
    Failed(String),
}

/// Who is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    at: Option<SocketAddr>,
}

impl Resolver {
    /// Asks the server at this address; `None`: those of the system.
    pub(crate) fn new(at: Option<SocketAddr>) -> Self {
        Self { at }
    }

    /// The texts of the TXT records of `name`, a full name without its last dot; none if there are none.
    ///
    /// Ends within [`LOOK_TIMEOUT`]. Cancel safe.
    pub(crate) async fn txt(self, name: &str) -> Result<Vec<String>, LookupError> {
        let asked = tokio::time::timeout(LOOK_TIMEOUT, self.ask(name)).await;
        asked.unwrap_or(Err(LookupError::Silent))
    }

    async fn ask(self, name: &str) -> Result<Vec<String>, LookupError> {
        let failed = |why: NetError| match why {
            NetError::Timeout => LookupError::Silent,
            why => LookupError::Failed(why.to_string()),
        };
        // With its last dot: the system's search domains are not for names from outside.
        let name = hickory_resolver::proto::rr::Name::from_ascii(format!("{name}."))
            .map_err(|_| LookupError::Name(name.to_owned()))?;
        let resolver = self.resolver().map_err(failed)?;
        match resolver.txt_lookup(name).await {
            Ok(found) => Ok(found
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    RData::TXT(text) => Some(String::from_utf8_lossy(&text.txt_data.concat()).into_owned()),
                    _ => None,
                })
                .take(TEXTS_MAX)
                .collect()),
            Err(why) if why.is_no_records_found() => Ok(Vec::new()),
            Err(why) => Err(failed(why)),
        }
    }

    fn resolver(self) -> Result<TokioResolver, NetError> {
        let mut builder = match self.at {
            None => TokioResolver::builder_tokio()?,
            Some(at) => {
                let ways = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut way| {
                    way.port = at.port();
                    way
                });
                let server = NameServerConfig::new(at.ip(), true, ways.to_vec());
                let config = ResolverConfig::from_name_servers(vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options = builder.options_mut();
        options.timeout = ASK_TIMEOUT;
        options.attempts = ASK_ATTEMPTS;
        options.cache_size = 0;
        options.edns0 = true;
        builder.build()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use hickory_resolver::proto::op::{Message, ResponseCode};
    use hickory_resolver::proto::rr::rdata::{CNAME, TXT};
    use hickory_resolver::proto::rr::{Name, Record};
    use tokio::net::UdpSocket;
    use tokio::task::JoinHandle;

    use super::*;

    /// What a name server of a test says for a name.
    #[derive(Clone, Debug)]
    pub(crate) enum Says {
        /// These texts.
        Texts(Vec<String>),
        /// Another name's texts.
        Alias(String, Vec<String>),
        /// This refusal.
        Code(ResponseCode),
        /// Octets that are no DNS.
        Nonsense,
        /// Nothing.
        Silence,
    }

    /// A name server on loopback that knows what it is told. Ends when dropped.
    #[derive(Debug)]
    pub(crate) struct NameServer {
        pub(crate) at: SocketAddr,
        zone: Arc<Mutex<BTreeMap<String, Says>>>,
        task: JoinHandle<()>,
    }

    impl Drop for NameServer {
        fn drop(&mut self) {
            self.task.abort();
        }
    }

    impl NameServer {
        pub(crate) async fn start() -> Self {
            let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            let at = socket.local_addr().unwrap();
            let zone: Arc<Mutex<BTreeMap<String, Says>>> = Arc::default();
            let known = Arc::clone(&zone);
            let task = tokio::spawn(async move {
                let mut octets = [0; 4096];
                while let Ok((len, from)) = socket.recv_from(&mut octets).await {
                    let Ok(question) = Message::from_vec(&octets[..len]) else { continue };
                    if let Some(answer) = answer(&question, &known) {
                        socket.send_to(&answer, from).await.unwrap();
                    }
                }
            });
            Self { at, zone, task }
        }

        /// From now on it says this of a name.
        pub(crate) fn say(&self, name: &str, says: Says) {
            self.zone.lock().unwrap().insert(name.to_owned(), says);
        }
    }

    fn answer(question: &Message, zone: &Mutex<BTreeMap<String, Says>>) -> Option<Vec<u8>> {
        let query = question.queries.first()?.clone();
        let name = query.name().to_lowercase().to_ascii();
        let says = zone.lock().unwrap().get(name.trim_end_matches('.')).cloned();
        let mut message = Message::response(question.metadata.id, question.metadata.op_code);
        message.metadata.recursion_desired = true;
        message.metadata.recursion_available = true;
        message.add_query(query.clone());
        let text = |name: &Name, text: String| {
            // A text longer than 255 octets is several strings (RFC 1035 §3.3).
            let parts = text.as_bytes().chunks(255).map(|part| String::from_utf8(part.to_vec()).unwrap());
            Record::from_rdata(name.clone(), 60, RData::TXT(TXT::new(parts.collect())))
        };
        match says {
            None => message.metadata.response_code = ResponseCode::NXDomain,
            Some(Says::Code(code)) => message.metadata.response_code = code,
            Some(Says::Texts(texts)) => {
                for each in texts {
                    message.add_answer(text(query.name(), each));
                }
            }
            Some(Says::Alias(other, texts)) => {
                let other = Name::from_ascii(format!("{other}.")).unwrap();
                let alias = RData::CNAME(CNAME(other.clone()));
                message.add_answer(Record::from_rdata(query.name().clone(), 60, alias));
                for each in texts {
                    message.add_answer(text(&other, each));
                }
            }
            Some(Says::Nonsense) => return Some(b"this is no DNS".to_vec()),
            Some(Says::Silence) => return None,
        }
        Some(message.to_vec().unwrap())
    }

    #[tokio::test]
    async fn texts_are_read_whole_and_through_an_alias() {
        let server = NameServer::start().await;
        let long = "x".repeat(300);
        server.say("a.example", Says::Texts(vec!["one".to_owned(), long.clone()]));
        server.say("b.example", Says::Alias("c.example".to_owned(), vec!["two".to_owned()]));
        let resolver = Resolver::new(Some(server.at));
        let mut texts = resolver.txt("a.example").await.unwrap();
        texts.sort();
        assert_eq!(texts, ["one".to_owned(), long]);
        assert_eq!(resolver.txt("b.example").await.unwrap(), ["two"]);
    }

    #[tokio::test]
    async fn no_record_is_an_answer_and_no_answer_is_an_error() {
        let server = NameServer::start().await;
        server.say("empty.example", Says::Texts(Vec::new()));
        server.say("broken.example", Says::Code(ResponseCode::ServFail));
        let resolver = Resolver::new(Some(server.at));
        assert_eq!(resolver.txt("missing.example").await, Ok(Vec::new()));
        assert_eq!(resolver.txt("empty.example").await, Ok(Vec::new()));
        assert!(matches!(resolver.txt("broken.example").await, Err(LookupError::Failed(_))));
        let name = ["x"; 200].join(".");
        assert_eq!(resolver.txt(&name).await, Err(LookupError::Name(name)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_silent_or_talks_nonsense_ends_in_time() {
        let server = NameServer::start().await;
        server.say("silent.example", Says::Silence);
        server.say("nonsense.example", Says::Nonsense);
        let resolver = Resolver::new(Some(server.at));
        for name in ["silent.example", "nonsense.example"] {
            assert!(resolver.txt(name).await.is_err(), "{name}");
        }
    }
}
