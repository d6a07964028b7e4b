//! Every bound of the link, with its unit and its reason. What tests shorten is in [`NodeLimits`] and [`LinkLimits`].

use std::time::Duration;

/// Longest question about one client or node, in octets: a tunnel with 256 upstreams, or a certificate request.
pub const QUESTION_LEN_MAX: usize = 64 * 1024;

/// Longest report, in octets, as sent and inflated: 1000 entries of 500 octets, and room.
pub const REPORT_LEN_MAX: usize = 1024 * 1024;

/// Longest report of all tunnels of an edge, in octets, inflated: 10 000 of 400 octets, and as much again for long names.
pub const TUNNELS_LEN_MAX: usize = 8 * 1024 * 1024;

/// Longest connect question, in octets: a message of 2 MiB in base64, and its frame.
pub const CONNECT_QUESTION_LEN_MAX: usize = 3 * 1024 * 1024;

/// Longest answer to a question about one client or node, in octets: a connect message in base64 again.
pub const ANSWER_LEN_MAX: usize = 3 * 1024 * 1024;

/// Longest batch of documents, in octets, inflated: [`BATCH_OCTETS_MAX`], one more document, keys and digests.
pub const BATCH_LEN_MAX: usize = 8 * 1024 * 1024;

/// Documents are added to a batch while it holds fewer octets than this.
pub const BATCH_OCTETS_MAX: usize = 4 * 1024 * 1024;

/// Longest list of heads, in octets, inflated: [`HEADS_MAX`] of 150 octets.
pub const HEADS_LEN_MAX: usize = 16 * 1024 * 1024;

/// Most partitions of an installation that can be followed over the link.
pub const HEADS_MAX: usize = 100_000;

/// Most reports in one message about what was applied.
pub const REPORTS_MAX: usize = 1000;

/// Longest line of the wake, in octets; more partitions at once are told as "anything".
pub const WAKE_LINE_LEN_MAX: usize = 64 * 1024;

/// Bodies shorter than this, in octets, are not worth deflating.
pub const DEFLATE_FROM: usize = 1024;

/// Longest join message either way, in octets: a chain, eight roots and a thousand evicted nodes.
pub const JOIN_MESSAGE_LEN_MAX: usize = 256 * 1024;

/// Longest field section of a request or answer, in octets: four short fields.
pub(crate) const FIELDS_LEN_MAX: u32 = 4 * 1024;

/// What a peer may send on a stream before it is read, in octets: the buffer one stalled reader costs.
pub(crate) const STREAM_WINDOW: u32 = 256 * 1024;

/// The same for a connection.
pub(crate) const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Octets of an answer that wait in a stream for the socket.
pub(crate) const SEND_BUFFER_LEN_MAX: usize = 128 * 1024;

/// Octets handed to a stream at a time.
pub(crate) const CHUNK_LEN: usize = 16 * 1024;

/// Most control nodes an edge tries; a cluster has three or five.
pub const CONTROLS_MAX: usize = 16;

/// The bounds of a control node's port.
#[derive(Clone, Debug)]
pub struct NodeLimits {
    /// Connections at once, of all kinds. A console page opens a few, an edge holds one or two.
    pub connections: usize,
    /// Connections of one address that have not proved who they are: a stranger cannot crowd out the edges.
    pub strangers_per_address: usize,
    /// Connections of all addresses that have not proved who they are.
    pub strangers: usize,
    /// Until the hello is whole and the handshake done.
    pub handshake: Duration,
    /// Links of one edge; the oldest makes room, as the edge has moved on.
    pub links_per_edge: usize,
    /// Splices of one edge.
    pub splices_per_edge: usize,
    /// Questions of one link at once (HTTP/2 streams).
    pub streams_per_link: u32,
    /// Reports and connect messages of one link that are in memory at once; more wait.
    pub long_questions_per_link: usize,
    /// Questions of all links at once; more are answered `busy`.
    pub questions: usize,
    /// For the body of a question to come.
    pub question: Duration,
    /// For control to answer a question.
    pub answer: Duration,
    /// For a peer that takes nothing of an answer, or a handshake's last octets, before its connection is closed.
    pub stall: Duration,
    /// Between two lines of the wake.
    pub heartbeat: Duration,
    /// Between two looks at who was evicted and whose certificate ended.
    pub look: Duration,
    /// For the PROXY header to come.
    pub proxy_header: Duration,
    /// Joins at once.
    pub joins: usize,
    /// For a join, from its first octet to its last.
    pub join: Duration,
    /// After being told to stop: for open questions and splices to end.
    pub grace: Duration,
}

impl Default for NodeLimits {
    fn default() -> Self {
        Self {
            connections: 8192,
            strangers_per_address: 64,
            strangers: 512,
            handshake: Duration::from_secs(10),
            links_per_edge: 4,
            splices_per_edge: 2048,
            streams_per_link: 128,
            long_questions_per_link: 8,
            questions: 1024,
            question: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            heartbeat: Duration::from_secs(5),
            look: Duration::from_millis(250),
            proxy_header: Duration::from_secs(5),
            joins: 16,
            join: Duration::from_secs(15),
            grace: Duration::from_secs(30),
        }
    }
}

/// The bounds of an edge's side.
#[derive(Clone, Debug)]
pub struct LinkLimits {
    /// For one control node to be connected: name look-up, TCP, TLS, and its first word. Three round trips and more.
    pub connect: Duration,
    /// Before the next control node is tried beside one that has not answered yet.
    pub stagger: Duration,
    /// The first wait after all failed, doubled up to [`LinkLimits::back_off_max`], with full jitter. With
    /// `connect` it stays under the 6 s within which a control node that is back must be found.
    pub back_off_min: Duration,
    /// See [`LinkLimits::back_off_min`].
    pub back_off_max: Duration,
    /// A connection that lasted this long was good: its loss is followed by a dial at once.
    pub stable: Duration,
    /// For an answer to a question about one client or node, from asking to the last octet, other control nodes included.
    pub question: Duration,
    /// The same for a batch of documents, a join of keys, or a connect message.
    pub batch: Duration,
    /// Without a line of the wake, a control node is dead. Its heartbeat is 5 s.
    pub silence: Duration,
    /// Between two PINGs.
    pub ping: Duration,
    /// For the answer to a PING. With `ping`, a dead control node is noticed within 6 s.
    pub pong: Duration,
    /// Questions at once; more wait for [`LinkLimits::turn`].
    pub questions: usize,
    /// For a turn when as many questions as allowed are asked already.
    pub turn: Duration,
    /// Between two looks at our own certificate, the trust and the ends of certificates.
    pub look: Duration,
    /// Splices being opened at once.
    pub splices_opening: usize,
    /// For a splice to be opened, all control nodes tried.
    pub splice: Duration,
}

impl Default for LinkLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(3),
            stagger: Duration::from_millis(300),
            back_off_min: Duration::from_millis(250),
            back_off_max: Duration::from_millis(1500),
            stable: Duration::from_secs(10),
            question: Duration::from_secs(5),
            batch: Duration::from_secs(10),
            silence: Duration::from_secs(6),
            ping: Duration::from_secs(2),
            pong: Duration::from_secs(3),
            questions: 256,
            turn: Duration::from_secs(1),
            look: Duration::from_millis(250),
            splices_opening: 256,
            splice: Duration::from_secs(8),
        }
    }
}
