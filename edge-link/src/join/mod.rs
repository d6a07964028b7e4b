//! Joining: how a new edge, which has nothing but a join token, gets its id and its first certificate.
//!
//! The edge makes its key itself and sends a certificate request; it has checked that the server's chain leads to the
//! root in the token before it writes the first octet, and that a control node answers. One message each way
//! (`u32 length big-endian | JSON`), then the connection ends. Here: the messages, and what a joiner does ([`join`]), or an
//! edge that was in and whose certificate opens no link any more ([`rejoin`]). Who may join is control's to say
//! ([`crate::server::Joins`]).

mod dial;
mod message;

pub use dial::{JoinError, Joined, join, rejoin};
pub(crate) use message::Answered;
pub use message::{JoinRefused, JoinReply, JoinRequest, RejoinRequest, refusal};
