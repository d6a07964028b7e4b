//! What a connection on TCP begins with: its ClientHello, read until it is whole and kept for TLS to read again.
//!
//! Until then nothing is known of a client but its address, and most connections that stay here mean nobody well. So one that
//! has said nothing holds no buffer, one that says half a hello just that half, and [`super::crowd`] knows how much.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};

use super::crowd::Member;
use super::hello::{self, HELLO_LEN_MAX, HelloError};
use super::wrong_scheme;

/// Octets asked for at once: a ClientHello of today comes with the first read.
const READ_LEN: usize = 4 * 1024;

/// Most octets read before a ClientHello is whole: the longest that is looked at, and the heads of a few records.
const ARRIVAL_LEN_MAX: usize = HELLO_LEN_MAX + 4 * 1024;

/// What a connection holds before its handshake, beside a ClientHello longer than [`HELLO_LEN_USUAL`]: its task, its socket.
pub(super) const ARRIVING_LEN: usize = 12 * 1024;

/// A ClientHello not longer than this counts for nothing, so that whoever has said one holds no more than the silent.
const HELLO_LEN_USUAL: usize = 4 * 1024;

/// Why a connection is not begun.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArrivalError {
    /// It broke, or ended too soon.
    #[error("it ended before its ClientHello: {0}")]
    Ended(#[from] io::Error),
    /// A request in the clear, as much of it as came with the first octets.
    #[error("plain HTTP on the TLS port")]
    PlainHttp(Vec<u8>),
    /// Not a ClientHello that can be served.
    #[error("{0}")]
    Hello(#[from] HelloError),
}

/// Reads from `stream` until its ClientHello is whole: all that was read, and perhaps more. Tells `arriving` how much is held.
///
/// Ends by itself only if the client says something or goes: whoever calls it limits how long.
pub(super) async fn read_hello<T: AsyncRead + Unpin>(
    stream: &mut T,
    arriving: &Member,
) -> Result<Vec<u8>, ArrivalError> {
    let mut octets = Vec::new();
    loop {
        read_more(stream, &mut octets).await?;
        if wrong_scheme::is_plain_http(&octets) {
            octets.truncate(wrong_scheme::HEAD_LEN_MAX);
            return Err(ArrivalError::PlainHttp(octets));
        }
        if hello::is_whole(&octets)? {
            return Ok(octets);
        }
        if octets.len() > ARRIVAL_LEN_MAX {
            return Err(HelloError::TooLong.into());
        }
        if octets.capacity() > HELLO_LEN_USUAL {
            arriving.holds(ARRIVING_LEN + octets.capacity() - HELLO_LEN_USUAL);
        }
    }
}

/// Reads what there is, at least one octet. The buffer to read into is there only while there is something to read.
async fn read_more<T: AsyncRead + Unpin>(stream: &mut T, octets: &mut Vec<u8>) -> io::Result<()> {
    poll_fn(|cx| {
        let mut space = [0; READ_LEN];
        let mut read = ReadBuf::new(&mut space);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
        if read.filled().is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        octets.extend_from_slice(read.filled());
        Poll::Ready(Ok(()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt as _, duplex};

    use super::super::crowd::Crowd;
    use super::*;

    /// What comes of a client that says `octets`, a few at a time, and goes; and what it held most.
    async fn arrive(octets: &[u8], at_once: usize) -> (Result<Vec<u8>, ArrivalError>, usize) {
        let (mut client, mut stream) = duplex(at_once);
        let crowd = Crowd::new(usize::MAX);
        let (member, _leave) = crowd.join([192, 0, 2, 1].into(), ARRIVING_LEN);
        let say = async move {
            // Fails when enough was read.
            drop(client.write_all(octets).await);
        };
        let (arrived, ()) = tokio::join!(
            async {
                let arrived = read_hello(&mut stream, &member).await;
                drop(stream);
                arrived
            },
            say
        );
        (arrived, crowd.held())
    }

    /// A hello of `len` octets, in one record; what is in it is nobody's business here.
    fn hello(len: u16) -> Vec<u8> {
        let (record, body) = (len.to_be_bytes(), (len - 4).to_be_bytes());
        let mut octets = [&[22, 3, 1][..], &record, &[1, 0], &body].concat();
        octets.resize(usize::from(len) + 5, 0);
        octets
    }

    #[tokio::test]
    async fn a_hello_is_read_whole_and_nothing_is_lost_that_came_with_it() {
        for at_once in [1, 100, 64 * 1024] {
            let octets = hello(2000);
            let (arrived, held) = arrive(&octets, at_once).await;
            assert_eq!(arrived.unwrap(), octets, "{at_once} at once");
            assert_eq!(held, ARRIVING_LEN, "a usual hello counts for nothing");
        }
        let more = [hello(2000), vec![9; 50]].concat();
        assert_eq!(arrive(&more, 64 * 1024).await.0.unwrap(), more);
    }

    #[tokio::test]
    async fn r23_what_is_held_of_a_long_hello_counts() {
        let octets = hello(15_000);
        let (arrived, held) = arrive(&octets[..14_000], 1000).await;
        assert!(matches!(arrived, Err(ArrivalError::Ended(_))), "{arrived:?}");
        assert!((ARRIVING_LEN + 9_000..ARRIVING_LEN + 32 * 1024).contains(&held), "{held}");
        assert_eq!(arrive(&octets, 1000).await.0.unwrap(), octets, "but it may be said");
    }

    #[tokio::test]
    async fn r23_what_will_never_be_a_hello_is_not_waited_for() {
        let too_long = [&[22, 3, 1, 0x40, 0, 1, 0, 0x40, 1][..], &[0; 9000]].concat();
        let (arrived, _) = arrive(&too_long, 64).await;
        assert!(matches!(arrived, Err(ArrivalError::Hello(HelloError::TooLong))), "{arrived:?}");
        // Of octets that are most of them records' heads.
        let thin = [&[22, 3, 1, 0, 4, 1, 0, 0x3f, 0xff][..], &[22, 3, 1, 0, 1, 7].repeat(5000)].concat();
        let (arrived, _) = arrive(&thin, 1024).await;
        assert!(matches!(arrived, Err(ArrivalError::Hello(HelloError::TooLong))), "{arrived:?}");
        let (arrived, _) = arrive(b"GET / HTTP/1.1\r\n\r\n", 1024).await;
        assert!(matches!(arrived, Err(ArrivalError::PlainHttp(head)) if head.starts_with(b"GET / ")));
        let (arrived, _) = arrive(b"SSH-2.0-x\r\n", 1024).await;
        assert!(matches!(arrived, Err(ArrivalError::Hello(HelloError::NotHello))), "{arrived:?}");
    }
}
