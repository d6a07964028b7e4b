//! Asking: the current connection, or the next one if that is gone; bounded time, bounded answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use h2::{Reason, RecvStream};
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Request, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout, timeout_at};

use super::LinkState;
use super::keeper::Shared;
use super::line::Line;
use crate::body::{self, BodyError, Encoded, End, SendError};
use crate::wire::{DEFLATE, Endpoint, JSON, Nothing, Problem, Word};

/// Connections a question is sent on, if each breaks under it.
const TRIES_MAX: u32 = 3;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum AskError {
    /// No control node can be asked, or it is too busy; says what was seen.
    Away(String),
    /// Control looked and refuses.
    Refused(String),
    /// What control holds is damaged.
    Damaged(String),
    /// What came is no answer.
    Nonsense(String),
}

/// Why an exchange ended without an answer.
enum Broken {
    /// The control node has not read the question.
    Unread(String),
    /// It may have.
    Perhaps(String),
    /// It answered, wrongly.
    Nonsense(String),
}

impl Shared {
    /// Asks, within the endpoint's time, on as many connections as break meanwhile, unless asking twice would be wrong.
    pub(super) async fn ask<Q, A>(&self, endpoint: Endpoint, question: &Q) -> Result<A, AskError>
    where
        Q: Serialize,
        A: DeserializeOwned,
    {
        let answer = self.try_ask(endpoint, question).await;
        let tally = match &answer {
            Ok(_) | Err(AskError::Refused(_)) => &self.tally.answered,
            Err(AskError::Nonsense(_) | AskError::Damaged(_)) => &self.tally.nonsense,
            Err(AskError::Away(_)) => &self.tally.unanswered,
        };
        tally.fetch_add(1, Ordering::Relaxed);
        answer
    }

    async fn try_ask<Q, A>(&self, endpoint: Endpoint, question: &Q) -> Result<A, AskError>
    where
        Q: Serialize,
        A: DeserializeOwned,
    {
        let deadline = Instant::now() + endpoint.wait(&self.limits);
        let turn = timeout(self.limits.turn, self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(AskError::Away("too many questions at once".to_owned())) };
        let question = encode(endpoint, question).await?;
        let mut tries = 0;
        loop {
            tries += 1;
            let line = self.line(deadline).await?;
            let exchanged = timeout_at(deadline, exchange(&line, endpoint, question.clone(), self)).await;
            let why = match exchanged {
                Ok(Ok((status, answer))) => return self.interpret(&line, status, &answer),
                Ok(Err(Broken::Nonsense(what))) => {
                    self.complain(&line, &what);
                    return Err(AskError::Nonsense(what));
                }
                Ok(Err(Broken::Unread(why))) => {
                    line.retire(&why);
                    why
                }
                Ok(Err(Broken::Perhaps(why))) => {
                    line.retire(&why);
                    if !endpoint.may_repeat() {
                        return Err(AskError::Away(why));
                    }
                    why
                }
                Err(_) => {
                    self.complain(&line, "questions were not answered in time");
                    return Err(AskError::Away("no answer came in time".to_owned()));
                }
            };
            if tries == TRIES_MAX {
                return Err(AskError::Away(why));
            }
        }
    }

    /// Asks once, on this connection. The caller bounds the time.
    pub(super) async fn ask_on<Q, A>(
        &self,
        line: &Arc<Line>,
        endpoint: Endpoint,
        question: &Q,
    ) -> Result<A, AskError>
    where
        Q: Serialize,
        A: DeserializeOwned,
    {
        let question = encode(endpoint, question).await?;
        match exchange(line, endpoint, question, self).await {
            Ok((status, answer)) => self.interpret(line, status, &answer),
            Err(Broken::Unread(why) | Broken::Perhaps(why)) => Err(AskError::Away(why)),
            Err(Broken::Nonsense(what)) => Err(AskError::Nonsense(what)),
        }
    }

    /// Opens the wake on this connection.
    pub(super) async fn open_wake(&self, line: &Arc<Line>) -> Result<RecvStream, AskError> {
        let question = encode(Endpoint::Wake, &Nothing {}).await?;
        let away = |why: Broken| match why {
            Broken::Unread(why) | Broken::Perhaps(why) => AskError::Away(why),
            Broken::Nonsense(what) => AskError::Nonsense(what),
        };
        let (status, fields, mut answer) = begin(line, Endpoint::Wake, question, self).await.map_err(away)?;
        let kind = body::is_deflated(&fields);
        if status == StatusCode::OK {
            return match kind {
                Ok(false) => Ok(answer),
                Ok(true) => Err(AskError::Nonsense("the wake is deflated".to_owned())),
                Err(what) => Err(AskError::Nonsense(what.to_string())),
            };
        }
        let problem =
            body::read(&mut answer, kind.unwrap_or_default(), Endpoint::Wake.answer_len_max()).await;
        self.interpret::<Nothing>(line, status, &problem.unwrap_or_default())?;
        Err(AskError::Nonsense(format!("status {status}")))
    }

    /// The connection to use: the current one, or the next as long as control nodes have not all failed.
    async fn line(&self, deadline: Instant) -> Result<Arc<Line>, AskError> {
        let mut lines = self.line.subscribe();
        let mut state = self.state.subscribe();
        loop {
            let current = lines.borrow_and_update().clone();
            if let Some(line) = current.filter(|line| !line.has_ended()) {
                return Ok(line);
            }
            if let LinkState::Away(problem) = &*state.borrow_and_update() {
                return Err(AskError::Away(problem.message.clone()));
            }
            let changed = async {
                tokio::select! {
                    changed = lines.changed() => changed,
                    changed = state.changed() => changed,
                }
            };
            match timeout_at(deadline, changed).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(AskError::Away("the link was stopped".to_owned())),
                Err(_) => return Err(AskError::Away("no control node answers".to_owned())),
            }
        }
    }

    /// An answer made no sense, or control says it is away: after a few of them another control node is tried, if
    /// there is one. A new connection to the same one would change nothing.
    fn complain(&self, line: &Line, what: &str) {
        if self.controls.borrow().iter().any(|control| *control != line.control) {
            line.complain(what);
        }
    }

    /// What an answer means.
    fn interpret<A: DeserializeOwned>(
        &self,
        line: &Line,
        status: StatusCode,
        answer: &[u8],
    ) -> Result<A, AskError> {
        let nonsense = |what: String| {
            self.complain(line, &what);
            AskError::Nonsense(what)
        };
        if status == StatusCode::OK {
            let answer = body::decode(answer).map_err(|why| nonsense(why.to_string()))?;
            line.praise();
            return Ok(answer);
        }
        let problem: Problem =
            body::decode(answer).map_err(|why| nonsense(format!("status {status}: {why}")))?;
        // Words of the other end, for a log: bounded, and without control characters.
        let message: String = problem.message.chars().filter(|c| !c.is_control()).take(500).collect();
        match problem.error {
            Word::Away | Word::Busy => {
                self.complain(line, "the control node says it is away");
                Err(AskError::Away(message))
            }
            Word::Damaged => Err(AskError::Damaged(message)),
            Word::Refused => {
                line.praise();
                Err(AskError::Refused(message))
            }
            Word::Malformed | Word::Unknown => Err(AskError::Refused(message)),
        }
    }
}

async fn encode<Q: Serialize>(endpoint: Endpoint, question: &Q) -> Result<Encoded, AskError> {
    let encoded = body::encode(question, endpoint.deflates_question()).await;
    encoded.map_err(|why| AskError::Refused(why.to_string()))
}

/// Sends a question and reads the whole answer.
async fn exchange(
    line: &Line,
    endpoint: Endpoint,
    question: Encoded,
    shared: &Shared,
) -> Result<(StatusCode, Vec<u8>), Broken> {
    let (status, fields, mut answer) = begin(line, endpoint, question, shared).await?;
    let read = async {
        let is_deflated = body::is_deflated(&fields)?;
        body::read(&mut answer, is_deflated, endpoint.answer_len_max()).await
    };
    match read.await {
        Ok(answer) => Ok((status, answer)),
        Err(BodyError::Broken(why)) => Err(broken(&why)),
        Err(what) => Err(Broken::Nonsense(what.to_string())),
    }
}

/// Sends a question and waits for the head of the answer.
async fn begin(
    line: &Line,
    endpoint: Endpoint,
    question: Encoded,
    shared: &Shared,
) -> Result<(StatusCode, HeaderMap, RecvStream), Broken> {
    let unread = |why: h2::Error| Broken::Unread(why.to_string());
    let mut sender = line.send.clone().ready().await.map_err(unread)?;
    let mut request =
        Request::post(format!("https://{}{}", mezusphere_pki::CONTROL_DNS_NAME, endpoint.path()))
            .header(CONTENT_TYPE, JSON)
            .header(ACCEPT_ENCODING, DEFLATE);
    if question.is_deflated {
        request = request.header(CONTENT_ENCODING, DEFLATE);
    }
    let request = request.body(()).map_err(|why| Broken::Unread(why.to_string()))?;
    let (answer, mut stream) = sender.send_request(request, false).map_err(unread)?;
    let sent = body::send(&mut stream, question.bytes, End::Closes, shared.limits.batch).await;
    // A refusal may come before the question is through; then it counts, not that the rest was not taken.
    if let Err(SendError::Stalled) = sent {
        return Err(Broken::Perhaps("the control node does not read".to_owned()));
    }
    let (head, body) = answer.await.map_err(|why| broken(&why))?.into_parts();
    Ok((head.status, head.headers, body))
}

/// Whether the control node can have read a question whose stream ended so.
fn broken(why: &h2::Error) -> Broken {
    let is_refused = why.reason() == Some(Reason::REFUSED_STREAM);
    // After GOAWAY only streams the peer has not looked at end with it.
    let is_leaving = why.is_go_away() && why.is_remote() && why.reason() == Some(Reason::NO_ERROR);
    let text = why.to_string();
    if is_refused || is_leaving { Broken::Unread(text) } else { Broken::Perhaps(text) }
}
