//! Every bound of the warpgate, with its unit and the reason for its value.
//!
//! Bounds of the wire are `tunnel_proto::limits`; time-outs of a route come with the route.

use std::time::Duration;

/// Longest text read as a connection key, in octets; a real one has under 600.
pub const KEY_LEN_MAX: usize = 4096;

/// Most upstreams on one command line: what a Hello can name.
pub const UPSTREAMS_MAX: usize = tunnel_proto::limits::UPSTREAMS_MAX;

/// How long one look-up of a host name may take; the system's resolver alone may take half a minute.
pub const RESOLVE_MAX: Duration = Duration::from_secs(5);

/// Most addresses tried for one name.
pub const ADDRESSES_MAX: usize = 8;

/// Threads of the runtime's blocking pool, which only resolves names here.
pub const BLOCKING_THREADS_MAX: usize = 2;

/// Without any answer over UDP for this long, the connect service is asked over TCP.
pub const ENROLL_QUIC_SILENCE_MAX: Duration = Duration::from_secs(3);

/// Once one address of the connect service has answered wrongly, the others may do better within this time.
pub const ENROLL_OTHERS_MAX: Duration = Duration::from_millis(500);

/// One whole conversation with the connect service; half of the ten seconds design §10 gives a start.
pub const ENROLL_EXCHANGE_MAX: Duration = Duration::from_secs(5);

/// First and longest wait before the connect service is asked again after a failure.
pub const CONTROL_BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// How often the connect service is asked for a newer bundle, ± a fifth. Edges relay new ones within a
/// second; this is for the case that every edge is silent or lies.
pub const BUNDLE_POLL_EVERY: Duration = Duration::from_mins(1);

/// The same while no edge is reached at all: others may have taken their places, and only control can say so.
pub const LOST_POLL_EVERY: Duration = Duration::from_secs(5);

/// When an edge says that our key is gone, control is asked this soon.
pub const DOUBT_PAUSE: Duration = Duration::from_secs(1);

/// Control is asked for another certificate at most this often on the word of edges that refuse the present one.
pub const REFUSED_IDENTITY_PAUSE: Duration = Duration::from_mins(1);

/// Most edges through which the connect service is looked for when its own name leads nowhere.
pub const DETOURS_MAX: usize = 8;

/// How often the wall clock is compared with the dates of certificates, because it may jump.
pub const CLOCK_LOOK_EVERY: Duration = Duration::from_secs(2);

/// How often idle connections to upstreams are looked through.
pub const SWEEP_EVERY: Duration = Duration::from_secs(15);

/// How long an exchange that names a newer bundle than ours waits for it (design §5).
pub const REVISION_WAIT_MAX: Duration = Duration::from_secs(1);

/// How far this machine's clock may differ from control's, at most; a quarter of the certificate's life if
/// that is less (design §9).
pub const CLOCK_SKEW_MAX: Duration = Duration::from_mins(5);

/// First and longest wait before an edge is dialled again (design §5).
pub const DIAL_BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// A tunnel that lasted this long counts as good: the back-off starts over.
pub const DIAL_STABLE_AFTER: Duration = Duration::from_mins(1);

/// Longest wait an edge can impose with `retry_after`.
pub const RETRY_AFTER_MAX: Duration = Duration::from_mins(10);

/// How long an edge that said "do not retry" is left alone, unless a new bundle or certificate comes.
pub const DO_NOT_RETRY_FOR: Duration = Duration::from_mins(10);

/// Longest wait for an edge that is about to stop, whatever it advises: its successor is often up within
/// seconds, and asking too soon costs one handshake.
pub const STOPPING_EDGE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Shortest and longest wait after another warpgate with the same identity took a tunnel's place. Two copies that both
/// dialled at once would push one another off for ever.
pub const REPLACED_BACKOFF: (Duration, Duration) = (Duration::from_mins(1), Duration::from_mins(10));

/// A tunnel that lasted this long was not fought over: the wait of [`REPLACED_BACKOFF`] starts over.
pub const REPLACED_CALM_AFTER: Duration = Duration::from_hours(1);

/// Edges that are to be dialled at the same moment start within this time for each, drawn evenly, and the first at
/// once: ten edges within a second. A thousand warpgates that start together must not meet every edge in step.
pub const START_STAGGER: Duration = Duration::from_millis(100);

/// How long an address may be silent when it is dialled over QUIC: a little more than the last repeat of the first packet
/// ([`INITIAL_RTT`]) needs, so that with the longest back-off a healed path is found within the 6 s of design §10. Four
/// of them can be answered over 750 ms.
pub const DIAL_SILENCE_MAX: Duration = Duration::from_millis(4_700);

/// The same over TCP, whose first packet is sent again after 1 and 3 s.
pub const TCP_SILENCE_MAX: Duration = Duration::from_millis(3_500);

/// How long QUIC is tried alone before TCP is dialled too: with what TCP needs after it, a start takes less than half of the
/// ten seconds of design §10.
pub const QUIC_HEAD_START: Duration = Duration::from_secs(3);

/// Round trips in which QUIC must be proven once the edge has answered, if that is longer than [`QUIC_HEAD_START`]: the
/// handshake, Welcome and the probe are three, and packets that overtake one another cost as many again.
pub const QUIC_ROUND_TRIPS: u32 = 8;

/// The longest that [`QUIC_ROUND_TRIPS`] may take. TCP is dialled meanwhile, and its Hello and probe fit into the rest of the
/// ten seconds of design §10.
pub const QUIC_ANSWERED_MAX: Duration = Duration::from_secs(7);

/// [`QUIC_HEAD_START`] where UDP was silent lately.
pub const QUIC_DOUBTED_HEAD_START: Duration = Duration::from_millis(500);

/// Shortest and longest wait before QUIC is tried again beside a tunnel over TCP; each is at least half of its bound, which
/// doubles.
pub const QUIC_RETURN_BACKOFF: (Duration, Duration) = (Duration::from_secs(15), Duration::from_mins(5));

/// How long HTTP/2 may take to begin on a connection whose TLS is up.
pub const HTTP2_HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// How long what was written on a tunnel over TCP may take to leave before it is closed.
pub const HTTP2_LAST_WORDS_MAX: Duration = Duration::from_secs(2);

/// Streams of a tunnel over TCP that were reset before they were looked at: an edge whose clients leave in a crowd.
pub const HTTP2_RESETS_MAX: usize = 1024;

/// Octets that the system may hold of a tunnel over TCP before it sends them.
pub const TCP_NOT_SENT_LEN_MAX: u32 = 32 * 1024;

/// How long a proxy may take to answer CONNECT: it resolves a name and connects.
pub const PROXY_ANSWER_MAX: Duration = Duration::from_secs(5);

/// Longest head of a proxy's answer, in octets.
pub const PROXY_HEAD_LEN_MAX: usize = 8 * 1024;

/// How long the rest of the handshake may take once an address has answered.
pub const DIAL_MAX: Duration = Duration::from_secs(5);

/// How much later the next address of the same edge is dialled.
pub const DIAL_STAGGER: Duration = Duration::from_millis(250);

/// The round-trip time assumed before one was measured: lost first packets are sent again after 0.3, 0.9, 2.1
/// and 4.5 s.
pub const INITIAL_RTT: Duration = Duration::from_millis(100);

/// A tunnel without a packet from its edge for this long is dead (design §10).
pub const TUNNEL_IDLE_MAX: Duration = Duration::from_secs(6);

/// How often an idle tunnel is kept alive; three may be lost before [`TUNNEL_IDLE_MAX`].
pub const TUNNEL_KEEP_ALIVE: Duration = Duration::from_millis(1_500);

/// Receive window of a tunnel, in octets. It is the memory budget of all unread uploads together, and wide enough
/// that 512 uploads must stall at once before it binds.
pub const TUNNEL_WINDOW: u32 = 256 * 1024 * 1024;

/// Most octets sent on a tunnel and not yet acknowledged: 8 MiB is 640 Mbit/s at 100 ms, and the most a
/// download adds to this process.
pub const TUNNEL_SEND_WINDOW: u64 = 8 * 1024 * 1024;

/// Octets of bulk that all streams of a tunnel over TCP may have handed to HTTP/2 and TCP not taken: enough to keep TCP busy
/// between two turns, and half a second of 1 Mbit/s.
pub const HTTP2_UNSENT_LEN_MAX: usize = 64 * 1024;

/// Octets that a stream over TCP writes in one turn, one frame of HTTP/2; and as many it writes first without waiting for a
/// turn, so that small answers never do.
pub const HTTP2_PIECE_LEN: usize = 16 * 1024;

/// A stream over TCP that waited this long for its turn is on a narrow link, or one that many share.
pub const HTTP2_NARROW_AFTER: Duration = Duration::from_millis(50);

/// Octets that it writes in one turn then, so that the turns of thirty take a second of 1 Mbit/s.
pub const HTTP2_NARROW_LEN: usize = 4 * 1024;

/// Octets sent in one go after which a stream lets others go first: larger than most pages' parts, and 2 s of a
/// 1 Mbit/s link.
pub const BULK_AFTER_LEN: usize = 256 * 1024;

/// A stream that was quiet for this long has begun anew: its next octets are not bulk.
pub const BULK_PAUSE_MIN: Duration = Duration::from_secs(1);

/// Buffers asked of the system for the UDP socket, in octets. Below it, loss at high rates (measured: 1.2 % → 0).
pub const SOCKET_BUFFER_LEN: usize = 4 * 1024 * 1024;

/// Messages waiting for a tunnel's control stream: acknowledged identities, mostly. A lost one costs 1 KiB again.
pub const CONTROL_QUEUE_MAX: usize = 1024;

/// A replaced tunnel is closed this long before its certificate ends, so that the edge never has to cut it.
pub const CERTIFICATE_MARGIN: Duration = Duration::from_secs(2);

/// Two renewals are at least this far apart, whatever a certificate's dates say.
pub const RENEWAL_PAUSE_MIN: Duration = Duration::from_secs(1);

/// How long the reason for a tunnel's end may take to arrive after the end of its control stream.
pub const CLOSE_REASON_WAIT_MAX: Duration = Duration::from_secs(1);

/// How long an edge may take to send the head of an exchange it opened.
pub const HEAD_MAX: Duration = Duration::from_secs(10);

/// Octets read from a stream at once.
pub const READ_LEN: usize = 64 * 1024;

/// Octets up to which parts of a request body are joined on their way to an upstream.
pub const UPLOAD_PIECE_LEN: usize = 32 * 1024;

/// Parts of a request body waiting for a slow upstream, beside what the stream's window holds.
pub const UPLOAD_QUEUE_MAX: usize = 2;

/// Most idle connections kept to one upstream.
pub const POOL_IDLE_MAX: usize = 256;

/// How long an idle connection is kept; many upstreams close theirs after 60 s or more.
pub const POOL_IDLE_FOR: Duration = Duration::from_secs(55);

/// A request that must not be sent twice goes on no connection that was idle for longer: Node's servers close
/// theirs after 5 s, and a request that meets the close is lost.
pub const POOL_FRESH_FOR: Duration = Duration::from_secs(3);

/// How long a used connection may take to become ready for the next request.
pub const POOL_READY_MAX: Duration = Duration::from_secs(2);

/// Most octets of a response head of an upstream, which also bounds its trailers.
pub const UPSTREAM_HEAD_LEN_MAX: usize = 32 * 1024;

/// Largest read from an upstream, in octets. A download that nobody reads holds three of them.
pub const UPSTREAM_BUFFER_LEN_MAX: usize = 64 * 1024;

/// How long the probe of an upstream may take when routes are shown.
pub const PROBE_MAX: Duration = Duration::from_secs(2);

/// How long the number of connected edges must stay as it is before it is told.
pub const EDGE_COUNT_SETTLES: Duration = Duration::from_secs(1);

/// How long the first probe through an edge may take before another is asked for.
pub const ROUND_TRIP_MAX: Duration = Duration::from_secs(3);

/// How long after Welcome the first probe must be back.
pub const PROOF_MAX: Duration = Duration::from_secs(10);

/// How long after a probe came back the next is asked for.
pub const PROBE_EVERY: Duration = Duration::from_secs(15);

/// A later probe that is not back after this long is overdue: three repeats of a lost packet fit at 750 ms.
pub const PROBE_OVERDUE_AFTER: Duration = Duration::from_secs(6);

/// Overdue probes in a row after which an edge is dialled anew.
pub const PROBE_FAILURES_MAX: usize = 2;

/// How often a tunnel looks whether anything still comes.
pub const LISTEN_EVERY: Duration = Duration::from_millis(500);

/// When no tunnel has heard anything over UDP for this long, all go on from a fresh socket. One keep-alive may be lost
/// before, and a round trip of 750 ms fits between it and [`TUNNEL_IDLE_MAX`] several times.
pub const REBIND_AFTER: Duration = Duration::from_millis(2_500);

/// Two fresh sockets are at least this far apart: each costs every connection its measured speed.
pub const REBIND_PAUSE: Duration = Duration::from_secs(10);

/// How long exchanges may run after a signal to stop (design §5).
pub const DRAIN_GRACE: Duration = tunnel_proto::limits::DRAIN_GRACE;

/// Shortest and longest time after Drain in which exchanges that crossed it on the wire may still come.
pub const DRAIN_LATE_ARRIVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// How long the last word to the edges may take when a second signal ends everything at once: one packet to each, and
/// whoever signals twice does not wait.
pub const FORCED_FLUSH_MAX: Duration = Duration::from_millis(100);

/// How long the last octets of a drained tunnel may take to be acknowledged.
pub const DRAIN_FLUSH_MAX: Duration = Duration::from_secs(2);

/// Lines waiting to be printed; more are dropped and counted, because a terminal that stands still must not
/// stop traffic.
pub const OUTPUT_QUEUE_MAX: usize = 256;

/// The same failure again within this time is counted, not printed.
pub const FOLD_FOR: Duration = Duration::from_mins(5);

/// Most different failures that are folded at once.
pub const FOLD_KINDS_MAX: usize = 64;

/// Lines of output kept for `warpgate logs`: days of a calm warpgate.
pub const JOURNAL_LINES_MAX: usize = 1000;

/// Octets of output kept for `warpgate logs`, as JSON: a table of routes is the longest line by far.
pub const JOURNAL_LEN_MAX: usize = 512 * 1024;

/// Lines that wait for a reader of `warpgate logs --follow`; a slower one hears how many it missed.
pub const JOURNAL_FOLLOW_MAX: usize = 128;

/// Subjects of which the newest event is kept: edges and upstreams, with room for edges that came and went.
pub const JOURNAL_LATEST_MAX: usize = 256;

/// Connections to the local control socket at once; more wait.
pub const LOCAL_CONNECTIONS_MAX: usize = 8;

/// Longest request on the local control socket, in octets; a real one has under 100.
pub const LOCAL_REQUEST_LEN_MAX: usize = 4096;

/// How long a local client may take to ask, and to take each part of the answer.
pub const LOCAL_PATIENCE: Duration = Duration::from_secs(5);

/// Longest answer that a local client reads, in octets.
pub const LOCAL_ANSWER_LEN_MAX: u64 = 4 * 1024 * 1024;

/// Most running warpgates that `warpgate status` looks for on one machine.
pub const LOCAL_INSTANCES_MAX: usize = 256;

/// Longest configuration file, in octets.
pub const CONFIG_LEN_MAX: u64 = 256 * 1024;

/// How long one step of `warpgate check` may take; a lookup and a handshake over UDP have bounds of their own.
pub const CHECK_STEP_MAX: Duration = Duration::from_secs(5);

/// Most edges that `warpgate check` dials, all at once.
pub const CHECK_EDGES_MAX: usize = 16;

/// How long a service manager is kept waiting for the first tunnel: afterwards the start counts as done, because
/// `warpgate` goes on trying, and a boot must not hang on an installation that is away.
pub const NOTIFY_PATIENCE: Duration = Duration::from_secs(20);

/// Largest CA file of an upstream, in octets: a whole system's bundle has 250 KiB.
pub const UPSTREAM_CA_LEN_MAX: usize = 1024 * 1024;

/// Shortest and longest pause between two health checks of an upstream.
pub const HEALTH_CHECK_EVERY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_hours(24));

/// How long the answer to a health check may take at most.
pub const HEALTH_CHECK_MAX: Duration = Duration::from_mins(1);

/// How long a connection to an upstream may be silent before the system asks whether it is still there.
pub const UPSTREAM_KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How often it asks in vain before the connection is dead: after a minute in all.
pub const UPSTREAM_KEEP_ALIVE_PROBES: u32 = 3;

/// How long to wait when the queue of a socket in the file system is full; the system does not tell when it no longer is.
pub const SOCKET_BUSY_PAUSE: Duration = Duration::from_millis(5);

/// Exchanges that share one HTTP/2 connection to an upstream; more make another one. What servers usually allow.
pub const H2_STREAMS_MAX: usize = 100;

/// Most HTTP/2 connections to one upstream: with [`H2_STREAMS_MAX`], what one tunnel may carry.
pub const H2_CONNECTIONS_MAX: usize = 128;

/// Receive window of one HTTP/2 exchange with an upstream, in octets: fifty stalled downloads hold 6 MiB. An upstream
/// stands near its warpgate: at 1 ms it gives 128 MB/s, more than a tunnel carries.
pub const H2_STREAM_WINDOW: u32 = 128 * 1024;

/// Receive window of an HTTP/2 connection to an upstream, in octets: so wide that it never binds, because then one
/// stalled exchange would stop the others.
pub const H2_CONNECTION_WINDOW: u32 = H2_STREAM_WINDOW * 128;

/// Octets of an upload that an HTTP/2 connection holds before they leave.
pub const H2_SEND_BUFFER_LEN: usize = 128 * 1024;

/// How long an upstream may take to say, once asked for an upgrade over HTTP/2, what it can.
pub const H2_SETTINGS_MAX: Duration = Duration::from_secs(2);

/// Octets read at once of a protocol that was switched to; what an idle WebSocket holds.
pub const RAW_READ_LEN: usize = 8 * 1024;

/// How long a WebSocket lives on without a byte when one side has ended its half: it has no half-closed state.
pub const RAW_LINGER: Duration = Duration::from_millis(900);

/// First and longest wait before an upstream that could not be reached is dialled from here, so that it is known when
/// it is back even if edges send their requests elsewhere meanwhile.
pub const REACH_AGAIN: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// How long such a dial may take.
pub const REACH_MAX: Duration = Duration::from_secs(5);
