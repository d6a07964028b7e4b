//! One JSON message on a stream: `u32 length big-endian | JSON`. Memory is taken as octets come, never by what the
//! length promises.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    /// The stream broke or ended.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Longer than the reader takes.
    #[error("the message has {0} octets, which is too long")]
    TooLong(usize),
    /// Not a message of this kind. The place only: the text may hold a secret.
    #[error("the message cannot be read: {0}")]
    Malformed(String),
}

/// Writes `message` and flushes.
pub(crate) async fn write<S, T>(stream: &mut S, message: &T, len_max: usize) -> Result<(), FrameError>
where
    S: AsyncWrite + Unpin,
    T: Serialize,
{
    let json = serde_json::to_vec(message).map_err(|why| FrameError::Malformed(why.to_string()))?;
    let len = u32::try_from(json.len()).ok().filter(|_| json.len() <= len_max);
    let len = len.ok_or(FrameError::TooLong(json.len()))?;
    stream.write_all(&len.to_be_bytes()).await?;
    stream.write_all(&json).await?;
    stream.flush().await?;
    Ok(())
}

/// Reads one message; what follows it is left in the stream.
pub(crate) async fn read<S, T>(stream: &mut S, len_max: usize) -> Result<T, FrameError>
where
    S: AsyncRead + Unpin,
    T: DeserializeOwned,
{
    let len = usize::try_from(stream.read_u32().await?).unwrap_or(usize::MAX);
    if len > len_max {
        return Err(FrameError::TooLong(len));
    }
    let mut json = Vec::new();
    stream.take(len as u64).read_to_end(&mut json).await?;
    if json.len() < len {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    serde_json::from_slice(&json).map_err(|why| FrameError::Malformed(place(&why)))
}

/// Where JSON could not be read, without quoting it.
pub(crate) fn place(why: &serde_json::Error) -> String {
    format!("{:?} error at line {} column {}", why.classify(), why.line(), why.column())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn a_message_survives_its_frame_and_what_is_cut_or_too_long_is_refused() {
        let mut framed = Vec::new();
        write(&mut framed, &vec!["a", "b"], 100).await.unwrap();
        assert_eq!(read::<_, Vec<String>>(&mut framed.as_slice(), 100).await.unwrap(), ["a", "b"]);
        for cut in 0..framed.len() {
            let cut = read::<_, Vec<String>>(&mut &framed[..cut], 100).await;
            assert!(matches!(cut, Err(FrameError::Io(_))), "{cut:?}");
        }
        let long = read::<_, Vec<String>>(&mut u32::MAX.to_be_bytes().as_slice(), 100).await;
        assert!(matches!(long, Err(FrameError::TooLong(_))), "{long:?}");
        assert!(matches!(write(&mut Vec::new(), &"abc", 4).await, Err(FrameError::TooLong(5))));
        let other = read::<_, u32>(&mut framed.as_slice(), 100).await;
        assert!(matches!(other, Err(FrameError::Malformed(_))), "{other:?}");
    }

    proptest! {
        #[test]
        fn r24_no_octets_make_the_reader_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let read = runtime.block_on(read::<_, serde_json::Value>(&mut octets.as_slice(), 1000));
            prop_assert!(read.is_err() || octets.len() > 4);
        }
    }
}
