//! Asks DNS servers for TXT records: those of the system, or one that the operator names.
//!
//! Nothing is kept between two questions: whoever has just published a record wants it seen, and a machine's servers change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use mezusphere_model::Entropy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::message::{Answer, NoName, Nonsense, Question};

/// Where the system says whom it asks (resolv.conf(5)).
const SYSTEM: &str = "/etc/resolv.conf";

/// Servers of the system that are asked: as many as its own resolver asks.
const SERVERS_MAX: usize = 3;

/// Where DNS servers listen.
const PORT: u16 = 53;

/// For one question to one server.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Rounds through the servers: a datagram may be lost.
const ROUNDS: usize = 2;

/// Longest answer over UDP that is read, in octets.
const UDP_LEN_MAX: usize = 4096;

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

impl From<std::io::Error> for LookupError {
    fn from(why: std::io::Error) -> Self {
        Self::Unreachable(why.to_string())
    }
}

impl From<Nonsense> for LookupError {
    fn from(Nonsense: Nonsense) -> Self {
        Self::Nonsense
    }
}

/// Who is asked.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    at: Option<SocketAddr>,
    entropy: Entropy,
}

impl Resolver {
    /// Asks the server at this address; `None`: those of the system.
    pub(crate) fn new(at: Option<SocketAddr>, entropy: Entropy) -> Self {
        Self { at, entropy }
    }

    /// The texts of the TXT records of `name`, a full name without its last dot; none if there are none.
    ///
    /// Asks each server in turn until one answers, twice around, 2 s each. Cancel safe.
    pub(crate) async fn txt(&self, name: &str) -> Result<Vec<String>, LookupError> {
        let mut last = LookupError::Silent;
        let servers = self.servers();
        for server in servers.iter().cycle().take(servers.len() * ROUNDS) {
            // Drawn anew each time: whoever wants to answer in the server's place must guess it.
            let id = u16::from_be_bytes(self.entropy.bytes());
            let question = Question::new(name, id).map_err(|NoName(name)| LookupError::Name(name))?;
            match timeout(ASK_TIMEOUT, ask(*server, &question)).await {
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

async fn ask(server: SocketAddr, question: &Question) -> Result<Vec<String>, LookupError> {
    match over_udp(server, question).await? {
        Answer::Cut => match question.read(&over_tcp(server, question).await?)? {
            Answer::Cut => Err(LookupError::Nonsense),
            answer => texts(answer),
        },
        answer => texts(answer),
    }
}

fn texts(answer: Answer) -> Result<Vec<String>, LookupError> {
    match answer {
        Answer::Texts(texts) => Ok(texts),
        Answer::Refused(2) => Err(LookupError::Refused("SERVFAIL".to_owned())),
        Answer::Refused(5) => Err(LookupError::Refused("REFUSED".to_owned())),
        Answer::Refused(code) => Err(LookupError::Refused(format!("code {code}"))),
        Answer::Cut => Err(LookupError::Nonsense),
    }
}

async fn over_udp(server: SocketAddr, question: &Question) -> Result<Answer, LookupError> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // A port of its own for each question; connected, so that nobody else is heard.
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(&question.octets()).await?;
    let mut octets = vec![0; UDP_LEN_MAX];
    let len = socket.recv(&mut octets).await?;
    Ok(question.read(octets.get(..len).unwrap_or_default())?)
}

async fn over_tcp(server: SocketAddr, question: &Question) -> Result<Vec<u8>, LookupError> {
    let mut stream = TcpStream::connect(server).await?;
    let sent = question.octets();
    // Each message has its length before it (RFC 1035 §4.2.2).
    let len = u16::try_from(sent.len()).map_err(|_| LookupError::Nonsense)?;
    stream.write_all(&[len.to_be_bytes().as_slice(), &sent].concat()).await?;
    let len = stream.read_u16().await?;
    let mut octets = vec![0; usize::from(len)];
    stream.read_exact(&mut octets).await?;
    Ok(octets)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex};

    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::super::message::tests::{Says, answer, asked};
    use super::*;

    /// A name server on loopback that knows what it is told. Ends when dropped.
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
            if let Some(answer) = answer(&octets[..len], &says(zone, &octets[..len]), false) {
                socket.send_to(&answer, from).await.unwrap();
            }
        }
    }

    async fn streams(listener: TcpListener, zone: &Zone) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut question).await.unwrap();
            let answer = answer(&question, &says(zone, &question), true).unwrap();
            stream.write_u16(u16::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    }

    fn asking(server: &NameServer) -> Resolver {
        Resolver::new(Some(server.at), Entropy::counting())
    }

    #[tokio::test]
    async fn texts_come_over_udp_and_over_tcp_where_they_are_too_long() {
        let server = NameServer::start().await;
        let many: Vec<String> = (0..20).map(|number| format!("{number}{}", "x".repeat(300))).collect();
        server.say("a.example", Says::Texts(vec!["one".to_owned()]));
        server.say("b.example", Says::Cut(many.clone()));
        assert_eq!(asking(&server).txt("a.example").await.unwrap(), ["one"]);
        assert_eq!(asking(&server).txt("b.example").await.unwrap(), many);
    }

    #[tokio::test]
    async fn no_record_is_an_answer_and_no_answer_is_an_error() {
        let server = NameServer::start().await;
        server.say("broken.example", Says::Code(2));
        server.say("nonsense.example", Says::Nonsense);
        let resolver = asking(&server);
        assert_eq!(resolver.txt("missing.example").await, Ok(Vec::new()));
        assert_eq!(resolver.txt("broken.example").await, Err(LookupError::Refused("SERVFAIL".to_owned())));
        assert_eq!(resolver.txt("nonsense.example").await, Err(LookupError::Nonsense));
        let name = ["x"; 200].join(".");
        assert_eq!(resolver.txt(&name).await, Err(LookupError::Name(name)));
        let at = server.at;
        drop(server);
        let gone = Resolver::new(Some(at), Entropy::counting());
        assert!(gone.txt("a.example").await.is_err());
    }

    #[tokio::test]
    async fn a_silent_server_is_given_up() {
        let server = NameServer::start().await;
        server.say("silent.example", Says::Silence);
        assert_eq!(asking(&server).txt("silent.example").await, Err(LookupError::Silent));
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
