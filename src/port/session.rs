//! One client: its handshake, its unanswered requests, ours to it, and the
//! notices that it still has credit for.
//!
//! A session turns frames into calls and answers into frames. It does no IO and
//! knows nothing of pods.

use std::collections::BTreeMap;

use erlang_term_format::{Term, tuple};

use crate::core::action::Notice;
use crate::core::failure::{Code, Failure, Place};

use super::frame::{FRAME_BYTES_MAX, Frame, FrameReader, FrameWriter};
use super::message::{self, Incoming};
use super::translate::{self, Call, Cast, Refusal};

/// Bytes of output beyond which no more requests are read: a client that does
/// not read its answers waits, and this program does not grow.
const OUTPUT_BYTES_MAX: usize = 8 << 20;

/// What a frame asks of the loop.
#[derive(Debug)]
pub enum Work {
    /// A request of the client.
    Call {
        /// To be answered under this id.
        id: i64,
        /// What is asked.
        call: Call,
        /// How long its frame was.
        bytes: usize,
    },
    /// A word of the client.
    Cast(Cast),
    /// The answer to a request of ours.
    Answer(Purpose, Result<Term<'static>, Term<'static>>),
    /// The client cannot be served, and has been told why: stop after what is
    /// written.
    Hangup(Failure),
}

/// What a request of ours was for; handed back with its answer.
pub type Purpose = crate::runtime::client::Purpose;

/// One client.
#[derive(Debug, Default)]
pub struct Session {
    reader: FrameReader,
    writer: FrameWriter,
    has_greeted: bool,
    next_id: i64,
    asked: BTreeMap<i64, Purpose>,
    notices: Option<Subscription>,
}

#[derive(Debug)]
struct Subscription {
    seq: i64,
    credits: u64,
    has_missed: bool,
}

impl Session {
    /// Greets the client.
    pub fn greet(&mut self, host: Term<'static>) {
        self.send(&message::hello(host));
    }

    /// What the client was asked and has not answered.
    pub fn take_asked(&mut self) -> Vec<Purpose> {
        std::mem::take(&mut self.asked).into_values().collect()
    }

    /// Takes bytes off the wire.
    pub fn push(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
    }

    /// The next thing to do, when a whole frame is there. Frames that are
    /// broken are answered on the spot.
    pub fn next_work(&mut self) -> Option<Work> {
        loop {
            let work = match self.reader.next_frame()? {
                Frame::Whole(frame) => self.take_frame(&frame),
                Frame::TooLarge { claimed } => {
                    let what =
                        format!("a frame claims {claimed} bytes, the limit is {FRAME_BYTES_MAX}");
                    self.refuse(0, Failure::new(Code::FrameTooLarge, what).into());
                    None
                }
            };
            if work.is_some() {
                return work;
            }
        }
    }

    fn take_frame(&mut self, frame: &[u8]) -> Option<Work> {
        match Incoming::parse(frame) {
            Err(failure) => {
                self.refuse(0, failure.into());
                None
            }
            Ok(Incoming::Hello(about)) => self.take_hello(&about),
            Ok(Incoming::Request { id, .. }) if !self.has_greeted => {
                let what = "the first frame must be {hello, #{protocol => 1}}";
                self.refuse(id, Failure::new(Code::HandshakeRequired, what).into());
                None
            }
            Ok(Incoming::Request { id: 0, op, args }) => match translate::cast(&op, &args) {
                Ok(Cast::Credit(count)) => {
                    self.grant(count);
                    None
                }
                Ok(cast) => Some(Work::Cast(cast)),
                Err(failure) => {
                    self.refuse(0, failure.into());
                    None
                }
            },
            Ok(Incoming::Request { id, op, args }) => {
                let call = self.take_request(id, &op, args)?;
                Some(Work::Call { id, call, bytes: frame.len() })
            }
            Ok(Incoming::Reply { id, result }) => self.take_reply(id, result),
        }
    }

    fn take_hello(&mut self, about: &Term<'_>) -> Option<Work> {
        if self.has_greeted {
            let what = "hello: the handshake is over, and what was agreed in it stays";
            self.refuse(0, Failure::new(Code::BadArgs, what).into());
            return None;
        }
        match message::check_hello(about) {
            Ok(()) => self.has_greeted = true,
            Err(failure) if failure.code == Code::ProtocolMismatch => {
                self.send(&message::fatal(&failure));
                return Some(Work::Hangup(failure));
            }
            Err(failure) => self.refuse(0, failure.into()),
        }
        None
    }

    fn take_request(&mut self, id: i64, op: &str, args: Term<'_>) -> Option<Call> {
        match translate::call(op, &args) {
            Ok(Call::Ping) => {
                self.answer(id, Ok(args));
                None
            }
            Ok(Call::Subscribe { credits }) => {
                let seq = self.subscribe(credits);
                self.answer(id, Ok(Term::map([(Term::atom("seq"), Term::Integer(seq))])));
                None
            }
            Ok(call) => Some(call),
            Err(refusal) => {
                self.refuse(id, refusal);
                None
            }
        }
    }

    fn take_reply(&mut self, id: i64, result: Result<Term<'_>, Term<'_>>) -> Option<Work> {
        let Some(purpose) = self.asked.remove(&id) else {
            let what = format!("a reply to {id}, which is no open request");
            self.refuse(0, Failure::new(Code::BadArgs, what).at(Place::Field, "id").into());
            return None;
        };
        Some(Work::Answer(purpose, result.map(Term::into_owned).map_err(Term::into_owned)))
    }

    /// Answers request `id`.
    pub fn answer(&mut self, id: i64, result: Result<Term<'_>, Term<'_>>) {
        self.send(&message::reply(id, result));
    }

    /// Answers request `id` with an error; with id 0, says it to nobody in
    /// particular.
    pub fn refuse(&mut self, id: i64, refusal: Refusal) {
        self.send(&message::reply(id, Err(translate::refusal(refusal))));
    }

    /// Asks the client for something.
    pub fn ask(&mut self, op: &'static str, args: Term<'static>, purpose: Purpose) {
        self.next_id += 1;
        self.asked.insert(self.next_id, purpose);
        self.send(&message::request(self.next_id, op, args));
    }

    /// Tells the client something that needs no answer.
    pub fn cast(&mut self, op: &'static str, args: Term<'static>) {
        self.send(&message::request(0, op, args));
    }

    fn subscribe(&mut self, credits: u64) -> i64 {
        let seq = self.notices.as_ref().map_or(0, |notices| notices.seq);
        self.notices = Some(Subscription { seq, credits, has_missed: false });
        seq
    }

    fn grant(&mut self, count: u64) {
        let Some(notices) = &mut self.notices else { return };
        notices.credits = notices.credits.saturating_add(count);
        self.own_up();
    }

    /// Tells a subscriber, as far as its credit goes. One that does not read
    /// gets no more than one that has no credit, however much it has.
    pub fn notify(&mut self, notice: &Notice) {
        let is_backlogged = self.is_backlogged();
        match &mut self.notices {
            Some(notices) if notices.credits > 0 && !notices.has_missed && !is_backlogged => {
                self.send_notice(translate::notice(notice));
            }
            Some(notices) => notices.has_missed = true,
            None => {}
        }
    }

    /// Says that notices were dropped, as soon as there is room to say so.
    fn own_up(&mut self) {
        let is_backlogged = self.is_backlogged();
        let Some(notices) = &mut self.notices else { return };
        if notices.has_missed && notices.credits > 0 && !is_backlogged {
            notices.has_missed = false;
            self.send_notice(Term::atom("resync"));
        }
    }

    fn send_notice(&mut self, notice: Term<'_>) {
        let Some(notices) = &mut self.notices else { return };
        notices.seq += 1;
        notices.credits -= 1;
        let seq = notices.seq;
        self.send(&tuple![Term::atom("notice"), Term::Integer(seq), notice]);
    }

    fn send(&mut self, term: &Term<'_>) {
        self.writer.push(|out| erlang_term_format::encode_into(term, out));
    }

    /// What is to be written.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.writer.pending()
    }

    /// `count` bytes have been written.
    pub fn advance(&mut self, count: usize) {
        self.writer.advance(count);
        self.own_up();
    }

    /// Whether the client should read before it asks for more.
    #[must_use]
    pub fn is_backlogged(&self) -> bool {
        self.writer.pending().len() > OUTPUT_BYTES_MAX
    }

    /// Whether the stream stopped inside a frame.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.reader.is_partial()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::spec::Name;

    /// A session whose client has this much credit.
    fn subscribed(credits: u64) -> Session {
        let mut session = Session::default();
        session.subscribe(credits);
        session
    }

    fn gone() -> Notice {
        Notice::PodGone { pod: Name::new("web").unwrap() }
    }

    fn read_all(session: &mut Session) -> Vec<String> {
        let mut reader = FrameReader::default();
        while !session.output().is_empty() {
            reader.push(session.output());
            session.advance(session.output().len());
        }
        let frames = std::iter::from_fn(|| reader.next_frame());
        frames
            .map(|frame| match frame {
                Frame::Whole(frame) => erlang_term_format::decode(&frame).unwrap().to_string(),
                Frame::TooLarge { claimed } => panic!("we claimed {claimed} bytes"),
            })
            .collect()
    }

    #[test]
    fn a_subscriber_that_does_not_read_costs_no_more_than_the_bound() {
        let mut session = subscribed(u64::MAX);
        for _ in 0..OUTPUT_BYTES_MAX / 10 {
            session.notify(&gone());
        }
        assert!(session.output().len() < OUTPUT_BYTES_MAX + 100);
        let read = read_all(&mut session);
        let (last, others) = read.split_last().unwrap();
        assert_eq!(*last, format!("{{notice,{},resync}}", read.len()));
        assert!(others.iter().all(|notice| notice.ends_with("{gone,<<\"web\">>}}")));
        session.notify(&gone());
        assert_eq!(read_all(&mut session).len(), 1);
    }

    #[test]
    fn a_subscriber_without_credit_is_told_once_that_it_missed_something() {
        let mut session = subscribed(1);
        for _ in 0..3 {
            session.notify(&gone());
        }
        assert_eq!(read_all(&mut session), ["{notice,1,{gone,<<\"web\">>}}"]);
        session.grant(2);
        session.notify(&gone());
        let expected = ["{notice,2,resync}", "{notice,3,{gone,<<\"web\">>}}"];
        assert_eq!(read_all(&mut session), expected);
    }
}
