//! As much of the DNS (RFC 1035) as asking for TXT records takes: one question, and the texts of an answer. No I/O.

use thiserror::Error;

/// Longest label, in octets (RFC 1035 §2.3.4).
const LABEL_LEN_MAX: usize = 63;

/// Longest name as it is sent, in octets (RFC 1035 §2.3.4).
const NAME_LEN_MAX: usize = 255;

/// Records looked at of one answer; what is sent beyond is not for us.
const RECORDS_MAX: u16 = 200;

/// Size of answer that we take over UDP, in octets: what passes every network unfragmented (DNS flag day 2020).
const UDP_LEN: u16 = 1232;

const TYPE_TXT: u16 = 16;
const TYPE_OPT: u16 = 41;
const CLASS_IN: u16 = 1;

/// Flags of the second word: it is a response, it was cut, and that the server may ask others for us.
const IS_RESPONSE: u16 = 0x8000;
const IS_CUT: u16 = 0x0200;
const MAY_RECURSE: u16 = 0x0100;

/// A name that cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0} is too long for the DNS")]
pub(super) struct NoName(pub(super) String);

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// These texts, maybe none.
    Texts(Vec<String>),
    /// More than fits: ask over TCP.
    Cut,
    /// The server does not tell; its code (RFC 1035 §4.1.1).
    Refused(u8),
}

/// What came is no answer to the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("what the DNS server sent makes no sense")]
pub(super) struct Nonsense;

/// A question for the TXT records of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Question {
    id: u16,
    name: Vec<u8>,
}

impl Question {
    /// The question for `name`, a full name without its last dot; `id` is drawn, so that strangers cannot guess it.
    pub(super) fn new(name: &str, id: u16) -> Result<Self, NoName> {
        let too_long = || NoName(name.to_owned());
        let mut sent = Vec::new();
        for label in name.split('.') {
            let len = u8::try_from(label.len()).map_err(|_| too_long())?;
            if label.is_empty() || label.len() > LABEL_LEN_MAX {
                return Err(too_long());
            }
            sent.push(len);
            sent.extend_from_slice(label.as_bytes());
        }
        sent.push(0);
        if sent.len() > NAME_LEN_MAX { Err(too_long()) } else { Ok(Self { id, name: sent }) }
    }

    /// As it is sent.
    pub(super) fn octets(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // One question, and one record beside: how much we take (RFC 6891).
        for word in [self.id, MAY_RECURSE, 1, 0, 0, 1] {
            out.extend(word.to_be_bytes());
        }
        out.extend_from_slice(&self.name);
        out.extend(TYPE_TXT.to_be_bytes());
        out.extend(CLASS_IN.to_be_bytes());
        out.push(0);
        for word in [TYPE_OPT, UDP_LEN, 0, 0, 0] {
            out.extend(word.to_be_bytes());
        }
        out
    }

    /// Reads an answer to it. Records of any owner count: an alias has the owner it leads to.
    pub(super) fn read(&self, octets: &[u8]) -> Result<Answer, Nonsense> {
        let mut from = Reader(octets);
        let (id, flags) = (from.word()?, from.word()?);
        let (questions, answers) = (from.word()?, from.word()?);
        from.take(4)?;
        if id != self.id || flags & IS_RESPONSE == 0 {
            return Err(Nonsense);
        }
        let [.., low] = flags.to_be_bytes();
        let code = low & 0x0f;
        // A server that cannot read a question may leave it out.
        if questions == 1 {
            let asked = from.take(self.name.len())?;
            if !asked.eq_ignore_ascii_case(&self.name) || from.word()? != TYPE_TXT || from.word()? != CLASS_IN
            {
                return Err(Nonsense);
            }
        } else if code == 0 {
            return Err(Nonsense);
        }
        match code {
            0 if flags & IS_CUT != 0 => Ok(Answer::Cut),
            0 => from.texts(answers).map(Answer::Texts),
            // There is no such name.
            3 => Ok(Answer::Texts(Vec::new())),
            code => Ok(Answer::Refused(code)),
        }
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Nonsense> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Nonsense)?;
        self.0 = rest;
        Ok(taken)
    }

    fn octet(&mut self) -> Result<u8, Nonsense> {
        self.take(1)?.first().copied().ok_or(Nonsense)
    }

    fn word(&mut self) -> Result<u16, Nonsense> {
        let octets = self.take(2)?.try_into().map_err(|_| Nonsense)?;
        Ok(u16::from_be_bytes(octets))
    }

    /// Passes over a name; where a pointer leads (RFC 1035 §4.1.4) is not looked at.
    fn skip_name(&mut self) -> Result<(), Nonsense> {
        loop {
            match self.octet()? {
                0 => return Ok(()),
                len @ 1..=63 => {
                    self.take(usize::from(len))?;
                }
                0xc0.. => return self.octet().map(drop),
                _ => return Err(Nonsense),
            }
        }
    }

    fn texts(&mut self, records: u16) -> Result<Vec<String>, Nonsense> {
        let mut texts = Vec::new();
        for _ in 0..records.min(RECORDS_MAX) {
            self.skip_name()?;
            let (kind, class) = (self.word()?, self.word()?);
            self.take(4)?;
            let len = usize::from(self.word()?);
            let data = self.take(len)?;
            if kind == TYPE_TXT && class == CLASS_IN {
                texts.push(text(data)?);
            }
        }
        Ok(texts)
    }
}

/// The text of a TXT record: its strings, one after the other.
fn text(data: &[u8]) -> Result<String, Nonsense> {
    let (mut strings, mut whole) = (Reader(data), Vec::new());
    while !strings.0.is_empty() {
        let len = usize::from(strings.octet()?);
        whole.extend_from_slice(strings.take(len)?);
    }
    Ok(String::from_utf8_lossy(&whole).into_owned())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a name server of a test says for a name.
    #[derive(Clone, Debug)]
    pub(crate) enum Says {
        /// These texts.
        Texts(Vec<String>),
        /// Another name's texts.
        Alias(&'static str, Vec<String>),
        /// This code, and nothing else.
        Code(u8),
        /// Over UDP that there is more than fits.
        Cut(Vec<String>),
        /// Octets that are no DNS.
        Nonsense,
        /// Nothing.
        Silence,
    }

    /// The name in a question.
    pub(crate) fn asked(question: &[u8]) -> String {
        let (mut labels, mut at) = (Vec::new(), 12);
        while question[at] != 0 {
            let len = usize::from(question[at]);
            labels.push(String::from_utf8(question[at + 1..=at + len].to_vec()).unwrap());
            at += len + 1;
        }
        labels.join(".")
    }

    fn record(owner: &[u8], kind: u16, data: &[u8]) -> Vec<u8> {
        let mut out = owner.to_vec();
        out.extend(kind.to_be_bytes());
        out.extend(CLASS_IN.to_be_bytes());
        out.extend(60_u32.to_be_bytes());
        out.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        out.extend(data);
        out
    }

    fn strings(text: &str) -> Vec<u8> {
        // A text longer than 255 octets is several strings (RFC 1035 §3.3).
        text.as_bytes()
            .chunks(255)
            .flat_map(|part| [[u8::try_from(part.len()).unwrap()].as_slice(), part].concat())
            .collect()
    }

    /// The answer to a question, as a server makes one.
    pub(crate) fn answer(question: &[u8], says: &Says, over_tcp: bool) -> Option<Vec<u8>> {
        let end = 12 + asked(question).len() + 2 + 4;
        let owner = [0xc0, 12];
        let (flags, records) = match says {
            Says::Texts(texts) => {
                (0x8180_u16, texts.iter().map(|text| record(&owner, 16, &strings(text))).collect())
            }
            Says::Alias(other, texts) => {
                let other = Question::new(other, 0).unwrap().name;
                let texts = texts.iter().map(|text| record(&other, 16, &strings(text)));
                (0x8180, [record(&owner, 5, &other)].into_iter().chain(texts).collect())
            }
            Says::Cut(texts) if over_tcp => return answer(question, &Says::Texts(texts.clone()), true),
            Says::Cut(_) => (0x8380, vec![]),
            Says::Code(code) => (0x8180 | u16::from(*code), vec![]),
            Says::Nonsense => return Some(b"this is no DNS at all".to_vec()),
            Says::Silence => return None,
        };
        let mut out = question[..2].to_vec();
        for word in [flags, 1, u16::try_from(records.len()).unwrap(), 0, 0] {
            out.extend(word.to_be_bytes());
        }
        out.extend(&question[12..end]);
        out.extend(records.concat());
        Some(out)
    }

    fn told(says: &Says) -> Result<Answer, Nonsense> {
        let question = Question::new("_a.shop.example", 4711).unwrap();
        question.read(&answer(&question.octets(), says, false).unwrap())
    }

    #[test]
    fn texts_are_read_whole_and_through_an_alias() {
        let (short, long) = ("v=spf1 -all".to_owned(), "x".repeat(300));
        let both = vec![short, long];
        assert_eq!(told(&Says::Texts(both.clone())), Ok(Answer::Texts(both.clone())));
        assert_eq!(told(&Says::Alias("b.other.example", both.clone())), Ok(Answer::Texts(both)));
        assert_eq!(told(&Says::Texts(vec![])), Ok(Answer::Texts(vec![])));
        assert_eq!(told(&Says::Code(3)), Ok(Answer::Texts(vec![])), "no such name");
        assert_eq!(told(&Says::Code(2)), Ok(Answer::Refused(2)));
        assert_eq!(told(&Says::Cut(vec![])), Ok(Answer::Cut));
        assert_eq!(told(&Says::Nonsense), Err(Nonsense));
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let ours = Question::new("_a.shop.example", 4711).unwrap();
        for (name, id) in [("_a.shop.example", 4712), ("_b.shop.example", 4711)] {
            let other = Question::new(name, id).unwrap();
            let answer = answer(&other.octets(), &Says::Texts(vec!["stolen".to_owned()]), false).unwrap();
            assert_eq!(ours.read(&answer), Err(Nonsense), "{name} {id}");
        }
        assert_eq!(ours.read(&ours.octets()), Err(Nonsense), "a question is no answer");
    }

    #[test]
    fn a_name_is_asked_for_only_if_it_fits() {
        assert!(Question::new("x.".repeat(126).trim_end_matches('.'), 1).is_ok());
        for name in [String::new(), "a..b".to_owned(), "x".repeat(64), ["x"; 128].join(".")] {
            assert_eq!(Question::new(&name, 1), Err(NoName(name)));
        }
    }

    proptest! {
        #[test]
        fn r24_whatever_a_server_sends_is_an_answer_or_nonsense(
            octets in prop::collection::vec(any::<u8>(), 0..600),
            cut in 0_usize..200,
        ) {
            let question = Question::new("_a.shop.example", 4711).unwrap();
            drop(question.read(&octets));
            // Beginnings of good answers, and good answers with rubbish behind.
            let says = Says::Texts(vec!["one".to_owned(), "x".repeat(300)]);
            let mut good = answer(&question.octets(), &says, false).unwrap();
            good.truncate(cut);
            good.extend(octets);
            drop(question.read(&good));
        }
    }
}
