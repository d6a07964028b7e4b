//! A warpgate that enrols in order and then does as it likes: raw octets on the control stream, scripts for exchanges.
//!
//! Written over quinn, `tunnel-proto` and `pki` alone; it shares no code with the `warpgate` program.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use mezusphere_model::Clock;
use mezusphere_model::bundle::Bundle;
use mezusphere_model::connection_key::ConnectionKey;
use mezusphere_model::id::WarpgateId;
use mezusphere_model::slug::Slug;
use mezusphere_pki::tls::{connect_client_config, tunnel_client_config};
use mezusphere_pki::trust::certificates_from_pem;
use mezusphere_pki::{CurrentIdentity, CurrentTrust, EDGE_DNS_NAME, NodeIdentity, NodeKey, Trust};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{Connection, Endpoint, RecvStream, SendStream, TransportConfig, VarInt};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tunnel_proto::connect::{Decoder as ConnectDecoder, Enroll, Enrolled, Reply, Request, frame};
use tunnel_proto::control::{Decoder, Encoder, Hello, Message, VERSIONS};
use tunnel_proto::exchange::{Decoder as ExchangeDecoder, Event, RequestHead};

/// How long an edge may take to do what it must.
const ACTS_WITHIN: Duration = Duration::from_secs(15);

/// Between two Pings of one that wants to stay.
const PING_EVERY: Duration = Duration::from_secs(1);

/// Longest piece read at once.
const READ_LEN: usize = 64 * 1024;

fn clock() -> Clock {
    Clock::new(|| {
        #[expect(clippy::disallowed_methods, reason = "the edge judges certificates by the real time")]
        SystemTime::now()
    })
}

/// A certificate that control gave, and whom it may show it to.
pub struct RogueWarpgate {
    endpoint: Endpoint,
    identity: CurrentIdentity,
    trust: CurrentTrust,
    /// Who it is.
    pub id: WarpgateId,
    bundle: Bundle,
    port: u16,
}

impl RogueWarpgate {
    /// Enrols with a connection key, as any warpgate does.
    pub async fn enroll(key: &str) -> anyhow::Result<Self> {
        let key: ConnectionKey = key.parse()?;
        let endpoint = Endpoint::client(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let tls = connect_client_config(key.root, &clock(), &[tunnel_proto::CONNECT_ALPN])?;
        let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, key.port));
        let connection = endpoint.connect_with(config, address, key.host.as_str())?.await?;

        let node_key = NodeKey::generate()?;
        let request = Request::Enroll(Enroll {
            key: key.key.clone(),
            environment: key.environment,
            csr_der: STANDARD.encode(node_key.csr_der()?),
            instance: None,
            agent: "warpgate/0.1.0".to_owned(),
            hostname: "rogue".to_owned(),
        });
        let (mut send, mut receive) = connection.open_bi().await?;
        send.write_all(&frame(&request.to_json()?)?).await?;
        send.finish()?;
        let mut answer = ConnectDecoder::new();
        while let Some(chunk) = receive.read_chunk(READ_LEN, true).await? {
            answer.push(&chunk.bytes)?;
        }
        let Reply::Enrolled(enrolled) = Reply::from_json(&answer.finish()?)? else {
            anyhow::bail!("control did not enrol it");
        };
        connection.close(VarInt::from_u32(1), b"");
        Self::of(endpoint, &enrolled, node_key, &key)
    }

    fn of(
        endpoint: Endpoint,
        enrolled: &Enrolled,
        node_key: NodeKey,
        key: &ConnectionKey,
    ) -> anyhow::Result<Self> {
        // What it says of itself; the signature is for honest warpgates to judge.
        let payload = enrolled.bundle.jws.split('.').nth(1).context("a JWS")?;
        let bundle: Bundle = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload)?)?;
        let roots: Vec<_> = enrolled
            .roots_pem
            .iter()
            .map(|pem| certificates_from_pem(pem))
            .collect::<Result<Vec<_>, _>>()?
            .into_iter()
            .flatten()
            .collect();
        Ok(Self {
            endpoint,
            identity: CurrentIdentity::new(NodeIdentity::from_pem(&enrolled.chain_pem, node_key)?),
            trust: CurrentTrust::new(Trust::from_pin(&key.root, &roots)?),
            id: enrolled.warpgate,
            bundle,
            port: key.port,
        })
    }

    /// A Hello as an honest warpgate says it, offering these upstreams.
    pub fn hello(&self, upstreams: &[&str]) -> anyhow::Result<Hello> {
        let upstreams = upstreams.iter().map(|name| Slug::parse(name)).collect::<Result<Vec<_>, _>>()?;
        Ok(Hello {
            versions: VERSIONS,
            agent: "warpgate/0.1.0".to_owned(),
            instance: self.id,
            index: 0,
            count: 1,
            upstreams,
            bundle_revision: self.bundle.site.revision,
            features: 0,
        })
    }

    /// Dials the edge and opens the control stream; nothing is said on it yet.
    pub async fn dial(&self) -> anyhow::Result<RogueTunnel> {
        let edge = self.bundle.edges.first().context("the bundle names an edge")?;
        let tls =
            tunnel_client_config(&self.identity, &self.trust, edge.id, &clock(), &[tunnel_proto::ALPN])?;
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
        let mut transport = TransportConfig::default();
        transport
            .keep_alive_interval(Some(Duration::from_secs(1)))
            .max_concurrent_bidi_streams(10_000_u32.into());
        config.transport_config(Arc::new(transport));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let connection = self.endpoint.connect_with(config, address, EDGE_DNS_NAME)?.await?;
        let (send, receive) = connection.open_bi().await?;
        let send = Arc::new(Mutex::new(send));
        Ok(RogueTunnel { connection, send, receive, decoder: Decoder::from_edge() })
    }

    /// Dials, says Hello and waits for the Welcome.
    pub async fn join(&self, upstreams: &[&str]) -> anyhow::Result<RogueTunnel> {
        let mut tunnel = self.dial().await?;
        tunnel.say(&Message::Hello(self.hello(upstreams)?)).await?;
        let answer = tunnel.next().await?;
        anyhow::ensure!(matches!(answer, Some(Message::Welcome(_))), "no Welcome but {answer:?}");
        Ok(tunnel)
    }
}

/// An open connection with its control stream.
#[derive(Debug)]
pub struct RogueTunnel {
    /// The connection.
    pub connection: Connection,
    send: Arc<Mutex<SendStream>>,
    receive: RecvStream,
    decoder: Decoder,
}

impl RogueTunnel {
    /// Says one message, well formed.
    pub async fn say(&mut self, message: &Message) -> anyhow::Result<()> {
        let mut encoder = Encoder::new();
        encoder.message(message)?;
        self.write(&encoder.take()).await
    }

    /// Writes octets on the control stream.
    pub async fn write(&mut self, octets: &[u8]) -> anyhow::Result<()> {
        Ok(self.send.lock().await.write_all(octets).await?)
    }

    /// The next message of the edge; `None` at the end of the stream.
    pub async fn next(&mut self) -> anyhow::Result<Option<Message>> {
        let search = async {
            loop {
                if let Some(message) = self.decoder.poll()? {
                    return anyhow::Ok(Some(message));
                }
                let Some(chunk) = self.receive.read_chunk(READ_LEN, true).await? else { return Ok(None) };
                self.decoder.push(chunk.bytes);
            }
        };
        tokio::time::timeout(ACTS_WITHIN, search).await.context("the edge says nothing")?
    }

    /// Waits until the edge has closed the tunnel; gives its reason.
    pub async fn closed(&self) -> anyhow::Result<quinn::ConnectionError> {
        tokio::time::timeout(ACTS_WITHIN, self.connection.closed()).await.context("the edge keeps the tunnel")
    }

    /// Stays alive and answers every exchange as `script` says, until dropped.
    pub fn serve<F>(
        &self,
        script: impl Fn(RequestHead, SendStream, RecvStream) -> F + Send + Sync + 'static,
    ) -> Serving
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (connection, control) = (self.connection.clone(), Arc::clone(&self.send));
        Serving(tokio::spawn(async move {
            let script = Arc::new(script);
            let mut exchanges = tokio::task::JoinSet::new();
            // A silent warpgate would lose its tunnel before it did any harm.
            exchanges.spawn(async move {
                for n in 1.. {
                    let mut encoder = Encoder::new();
                    encoder.message(&Message::Ping { n })?;
                    control.lock().await.write_all(&encoder.take()).await?;
                    tokio::time::sleep(PING_EVERY).await;
                }
                Ok(())
            });
            while let Ok((send, mut receive)) = connection.accept_bi().await {
                let script = Arc::clone(&script);
                exchanges.spawn(async move {
                    match head(&mut receive).await? {
                        Some(head) => script(head, send, receive).await,
                        // A probe: it is answered, so that the edge takes this for a warpgate in order.
                        None => Ok(()),
                    }
                });
                while exchanges.try_join_next().is_some() {}
            }
        }))
    }
}

/// Exchanges being answered; ends when dropped.
#[derive(Debug)]
pub struct Serving(JoinHandle<()>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Reads the head of an exchange; `None`: it is no request.
async fn head(receive: &mut RecvStream) -> anyhow::Result<Option<RequestHead>> {
    let mut decoder = ExchangeDecoder::requests();
    loop {
        match decoder.poll()? {
            Some(Event::Request { head, .. }) => return Ok(Some(*head)),
            Some(_) => return Ok(None),
            None => {}
        }
        let Some(chunk) = receive.read_chunk(READ_LEN, true).await? else { return Ok(None) };
        decoder.push(chunk.bytes);
    }
}

/// A frame with any type, any payload, and a length that need not be the payload's.
pub fn raw_frame(kind: u8, said_len: u64, payload: &[u8]) -> Bytes {
    let mut octets = vec![kind];
    octets.extend_from_slice(&(said_len | 0xc000_0000_0000_0000).to_be_bytes());
    octets.extend_from_slice(payload);
    octets.into()
}
