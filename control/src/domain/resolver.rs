//! Asks DNS servers for TXT records: those of the system, or one that the operator names.
//!
//! Owns whom to ask, how often and how long; the DNS itself is hickory's. Nothing is kept between two questions: whoever has just
//! published a record wants it seen, and a machine's servers change. So each question has a client of its own, and what that has
//! running ends with it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData};
use tokio::time::timeout;

/// Where the system says whom it asks (resolv.conf(5)).
const SYSTEM: &str = "/etc/resolv.conf";

/// Servers of the system that are asked: as many as its own resolver asks.
const SERVERS_MAX: usize = 3;

/// Where DNS servers listen.
const PORT: u16 = 53;

/// For one question to one server, with all that follows from its answer: over TCP if it was cut, and after an alias.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Rounds through the servers: one may be back a moment later.
const ROUNDS: usize = 2;

/// Why the DNS gave no answer, neither yes nor no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookupError {
    /// Nothing came in time.
    #[error("no DNS server answered")]
    Silent,
    /// The name cannot be asked for.
    #[error("{0} is too long for the DNS")]
    Name(String),
    /// What came made no sense.
    #[error("what a DNS server sent makes no sense")]
    Nonsense,
    /// The server does not tell.
    #[error("a DNS server answered {0}")]
    Refused(String),
    /// It cannot be reached.
    #[error("a DNS server cannot be reached: {0}")]
    Unreachable(String),
}

/// Who is asked.
#[derive(Clone, Debug)]
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
    /// Asks each server in turn until one answers, twice around, 2 s each. Cancel safe.
    pub(crate) async fn txt(&self, name: &str) -> Result<Vec<String>, LookupError> {
        // With the last dot it is the whole name, and nothing is tried behind it.
        let asked = Name::from_ascii(format!("{name}.")).map_err(|_| LookupError::Name(name.to_owned()))?;
        let mut last = LookupError::Silent;
        let servers = self.servers();
        for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
            match timeout(ASK_TIMEOUT, ask(*server, &asked)).await {
                Ok(Ok(texts)) => return Ok(texts),
                Ok(Err(why)) => last = why,
                Err(_) => {}
            }
        }
        Err(last)
    }

    fn servers(&self) -> Vec<SocketAddr> {
        match self.at {
            Some(at) => vec![at],
            // Read each time: a machine that moves gets others.
            None => listed(&std::fs::read_to_string(SYSTEM).unwrap_or_default()),
        }
    }
}

/// The servers that a resolv.conf names; the machine's own if it names none, as resolv.conf(5) has it.
fn listed(text: &str) -> Vec<SocketAddr> {
    let words = text.lines().map(str::split_whitespace);
    let named = words.filter_map(|mut words| (words.next()? == "nameserver").then(|| words.next())?);
    let mut servers: Vec<_> = named
        // Behind `%` stands an interface, which an address of this kind has no place for.
        .filter_map(|word| word.split('%').next()?.parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, PORT))
        .take(SERVERS_MAX)
        .collect();
    if servers.is_empty() {
        servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
    }
    servers
}

async fn ask(server: SocketAddr, name: &Name) -> Result<Vec<String>, LookupError> {
    let client = client(server).map_err(|why| failed(&why))?;
    let answer = match client.txt_lookup(name.clone()).await {
        Ok(answer) => answer,
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => return no_records(none.response_code),
        Err(why) => return Err(failed(&why)),
    };
    let texts = answer.answers().iter().filter_map(|record| match &record.data {
        // A text longer than 255 octets is several strings (RFC 1035 §3.3.14).
        RData::TXT(text) => Some(String::from_utf8_lossy(&text.txt_data.concat()).into_owned()),
        _ => None,
    });
    Ok(texts.collect())
}

/// A client of one server: over UDP, and over TCP what does not fit.
fn client(server: SocketAddr) -> Result<TokioResolver, NetError> {
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
        connection.port = server.port();
        connection
    });
    let server = NameServerConfig::new(server.ip(), true, connections.into());
    let mut options = ResolverOpts::default();
    options.timeout = ASK_TIMEOUT;
    // Rounds are ours.
    options.attempts = 0;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    let config = ResolverConfig::from_name_servers(vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build()
}

/// No record is an answer only if the server says that there is none.
fn no_records(code: ResponseCode) -> Result<Vec<String>, LookupError> {
    match code {
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(Vec::new()),
        code => Err(refused(code)),
    }
}

fn refused(code: ResponseCode) -> LookupError {
    LookupError::Refused(match code {
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        code => format!("code {}", u16::from(code)),
    })
}

fn failed(why: &NetError) -> LookupError {
    match why {
        NetError::Timeout => LookupError::Silent,
        NetError::Io(why) => LookupError::Unreachable(why.to_string()),
        NetError::Dns(DnsError::ResponseCode(code)) => refused(*code),
        _ => LookupError::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use super::super::name_server::{NameServer, Says};
    use super::*;

    fn asking(server: &NameServer) -> Resolver {
        Resolver::new(Some(server.at))
    }

    #[tokio::test]
    async fn texts_come_whole_over_udp_over_tcp_where_they_are_too_long_and_through_an_alias() {
        let server = NameServer::start().await;
        let many: Vec<String> = (0..20).map(|number| format!("{number}{}", "x".repeat(300))).collect();
        let both = vec!["v=spf1 -all".to_owned(), "x".repeat(300)];
        server.say("a.example", Says::Texts(both.clone()));
        server.say("b.example", Says::Cut(many.clone()));
        server.say("c.example", Says::Alias("d.example", both.clone()));
        // One that leaves it to us to follow.
        server.say("e.example", Says::Alias("a.example", vec![]));
        let resolver = asking(&server);
        assert_eq!(resolver.txt("a.example").await.unwrap(), both);
        assert_eq!(resolver.txt("b.example").await.unwrap(), many);
        assert_eq!(resolver.txt("c.example").await.unwrap(), both);
        assert_eq!(resolver.txt("e.example").await.unwrap(), both);
    }

    #[tokio::test]
    async fn no_record_is_an_answer_and_no_answer_is_an_error() {
        let server = NameServer::start().await;
        server.say("none.example", Says::Texts(vec![]));
        server.say("broken.example", Says::Code(2));
        server.say("closed.example", Says::Code(5));
        server.say("nonsense.example", Says::Nonsense);
        let resolver = asking(&server);
        assert_eq!(resolver.txt("missing.example").await, Ok(Vec::new()));
        assert_eq!(resolver.txt("none.example").await, Ok(Vec::new()));
        assert_eq!(resolver.txt("broken.example").await, Err(LookupError::Refused("SERVFAIL".to_owned())));
        assert_eq!(resolver.txt("closed.example").await, Err(LookupError::Refused("REFUSED".to_owned())));
        assert_eq!(resolver.txt("nonsense.example").await, Err(LookupError::Nonsense));
        for name in ["x".repeat(64), ["x"; 200].join(".")] {
            assert_eq!(resolver.txt(&name).await, Err(LookupError::Name(name)));
        }
        drop(server);
        assert!(resolver.txt("a.example").await.is_err());
    }

    #[tokio::test]
    async fn what_was_published_a_moment_ago_is_seen() {
        let server = NameServer::start().await;
        let resolver = asking(&server);
        assert_eq!(resolver.txt("_a.shop.example").await, Ok(Vec::new()));
        server.say("_a.shop.example", Says::Texts(vec!["one".to_owned()]));
        assert_eq!(resolver.txt("_a.shop.example").await.unwrap(), ["one"]);
        server.say("_a.shop.example", Says::Texts(vec!["two".to_owned()]));
        assert_eq!(resolver.txt("_a.shop.example").await.unwrap(), ["two"]);
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up() {
        let server = NameServer::start().await;
        server.say("silent.example", Says::Silence);
        assert_eq!(asking(&server).txt("silent.example").await, Err(LookupError::Silent));
    }

    #[tokio::test]
    async fn an_answer_to_another_question_is_none() {
        let server = NameServer::start().await;
        let stolen = vec!["stolen".to_owned()];
        server.say("a.example", Says::Forged { texts: stolen.clone(), own: vec!["own".to_owned()] });
        assert_eq!(asking(&server).txt("a.example").await.unwrap(), ["own"]);
    }

    #[test]
    fn the_systems_servers_are_read_as_the_system_reads_them() {
        let text = "# nameserver 192.0.2.9\nsearch example\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\n\
                    nameserver nonsense\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let servers: Vec<_> = listed(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[fe80::1]:53", "192.0.2.2:53"]);
        assert_eq!(listed("").iter().map(ToString::to_string).collect::<Vec<_>>(), ["127.0.0.1:53"]);
    }
}
