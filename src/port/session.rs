//! One client: its handshake, its unanswered requests, ours to it, and the
//! notices that it still has credit for.
//!
//! A session turns frames into calls and answers into frames. It does no IO and
//! knows nothing of pods.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use erlang_term_format::{Term, tuple};

use crate::core::action::Notice;
use crate::core::event::Request;
use crate::core::failure::{Code, Failure, Place};
use crate::core::spec::Name;

use super::frame::{FRAME_BYTES_MAX, Frame, FrameReader};
use super::in_flight::{InFlight, in_use};
use super::message::{self, Greeting, Incoming};
use super::outbox::{Outbox, TooLarge};
use super::trace::{Trace, Way};
use super::translate::{self, CREDITS_MAX, Call, Cast, Refusal};

/// What a frame asks of the loop.
#[derive(Debug)]
pub enum Work {
    /// A request of the client, to be answered under this id.
    Request(i64, Request),
    /// A request for a pod's journal, to be answered under this id.
    Journal(i64, Name),
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
    outbox: Outbox,
    has_greeted: bool,
    in_flight: InFlight,
    /// Requests whose answers may be large, while there is no room for more of
    /// those. They are in flight, and hold no memory but their own.
    parked: VecDeque<(i64, Bytes)>,
    next_id: i64,
    asked: BTreeMap<i64, Purpose>,
    /// What could not be asked for, to be taken for refused.
    unasked: Vec<(Purpose, Term<'static>)>,
    notices: Option<Subscription>,
    trace: Option<Trace>,
}

#[derive(Debug)]
struct Subscription {
    seq: i64,
    credits: u64,
    has_missed: bool,
}

impl Session {
    /// Shows each frame, either way.
    pub fn trace(&mut self, trace: Trace) {
        self.outbox.trace(trace.clone());
        self.trace = Some(trace);
    }

    /// Greets the client.
    pub fn greet(&mut self, host: Term<'static>) {
        self.send(&message::hello(host));
    }

    /// What the client was to be asked and has not answered.
    pub fn take_asked(&mut self) -> Vec<Purpose> {
        let unasked = self.unasked.drain(..).map(|(purpose, _)| purpose);
        std::mem::take(&mut self.asked).into_values().chain(unasked).collect()
    }

    /// Takes off the wire what `read` appends within the room that it is given.
    pub fn fill<T>(&mut self, read: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        self.reader.fill(read)
    }

    /// Takes bytes off the wire.
    pub fn push(&mut self, bytes: &[u8]) {
        self.reader.push(bytes);
    }

    /// The next thing to do, when a whole frame is there. Frames that are
    /// broken are answered on the spot.
    pub fn next_work(&mut self) -> Option<Work> {
        loop {
            let work = if let Some((purpose, error)) = self.unasked.pop() {
                Some(Work::Answer(purpose, Err(error)))
            } else if let Some(frame) = self.next_parked() {
                self.take_frame(&frame)
            } else {
                let frame = self.reader.next_frame()?;
                self.show(&frame);
                match frame {
                    Frame::Whole(frame) => self.take_frame(&frame),
                    Frame::TooLarge { claimed } => {
                        self.refuse(0, too_large_to_read(claimed).into());
                        None
                    }
                }
            };
            if work.is_some() {
                return work;
            }
        }
    }

    fn show(&self, frame: &Frame) {
        match (&self.trace, frame) {
            (None, _) => {}
            (Some(trace), Frame::Whole(frame)) => trace.frame(Way::In, frame),
            (Some(trace), Frame::TooLarge { claimed }) => trace.refused(Way::In, *claimed),
        }
    }

    fn next_parked(&mut self) -> Option<Bytes> {
        if self.outbox.is_full_of_large() {
            return None;
        }
        let (id, frame) = self.parked.pop_front()?;
        self.in_flight.remove(id);
        Some(frame)
    }

    fn take_frame(&mut self, frame: &Bytes) -> Option<Work> {
        let taken = match Incoming::parse(frame) {
            Ok(Incoming::Hello(about)) => return self.take_hello(&about),
            Ok(Incoming::Request { id, .. }) if !self.has_greeted => {
                let what = "the first frame must be {hello, #{protocol => 1}}";
                self.refuse(id, Failure::new(Code::HandshakeRequired, what).into());
                return None;
            }
            Ok(Incoming::Request { id: 0, op, args }) => self.take_cast(&op, &args),
            Ok(Incoming::Request { id, op, args }) => self.take_request(id, &op, args, frame),
            Ok(Incoming::Reply { id, result }) => self.take_reply(id, result),
            Err(failure) => Err(failure),
        };
        taken.unwrap_or_else(|failure| {
            self.refuse(0, failure.into());
            None
        })
    }

    /// Whether the client has sent what waits for room for its answer.
    #[must_use]
    pub fn has_unserved(&self) -> bool {
        !self.parked.is_empty() || self.reader.has_frame()
    }

    /// The ids of requests that wait for room for their answers, and shall not
    /// any more.
    pub fn take_parked(&mut self) -> Vec<i64> {
        self.parked.drain(..).map(|(id, _)| id).collect()
    }

    fn take_hello(&mut self, about: &Term<'_>) -> Option<Work> {
        if self.has_greeted {
            let what = "hello: the handshake is over, and what was agreed in it stays";
            self.refuse(0, Failure::new(Code::BadArgs, what).into());
            return None;
        }
        match Greeting::parse(about) {
            Ok(greeting) => {
                self.has_greeted = true;
                if let Some(bytes_max) = greeting.chunk_bytes {
                    self.outbox.allow_chunks(bytes_max);
                }
            }
            Err(failure) if failure.code == Code::ProtocolMismatch => {
                self.send(&message::fatal(&failure));
                return Some(Work::Hangup(failure));
            }
            Err(failure) => self.refuse(0, failure.into()),
        }
        None
    }

    fn take_cast(&mut self, op: &str, args: &Term<'_>) -> Result<Option<Work>, Failure> {
        match translate::cast(op, args)? {
            Cast::Credit(count) => self.grant(count).map(|()| None),
            cast => Ok(Some(Work::Cast(cast))),
        }
    }

    /// Fails with what cannot be told under the request's own id.
    fn take_request(
        &mut self,
        id: i64,
        op: &str,
        args: Term<'_>,
        frame: &Bytes,
    ) -> Result<Option<Work>, Failure> {
        if self.in_flight.contains(id) || self.outbox.is_sending(id) {
            return Err(in_use(id));
        }
        let taken = translate::call(op, &args).and_then(|call| self.admit(id, call, frame));
        match taken {
            Ok(Some(Call::Core(request))) => return Ok(Some(Work::Request(id, request))),
            Ok(Some(Call::Journal(pod))) => return Ok(Some(Work::Journal(id, pod))),
            Ok(Some(Call::Ping)) => self.reply(id, Ok(args)),
            Ok(Some(Call::Subscribe { credits })) => self.subscribe(id, credits),
            Ok(None) => {}
            Err(refusal) => self.refuse(id, refusal),
        }
        Ok(None)
    }

    /// The call, when it can be taken now; none when it has to wait for room.
    fn admit(&mut self, id: i64, call: Call, frame: &Bytes) -> Result<Option<Call>, Refusal> {
        let is_last = matches!(call, Call::Core(Request::Shutdown { .. }));
        let must_wait = self.outbox.is_full_of_large() && call.is_answered_at_length(frame.len());
        let is_answered_at_once = !matches!(call, Call::Core(_) | Call::Journal(_));
        if is_answered_at_once && !must_wait {
            return Ok(Some(call));
        }
        if !is_last {
            self.in_flight.check(frame.len())?;
        }
        self.in_flight.insert(id, frame.len());
        if must_wait {
            self.parked.push_back((id, Bytes::copy_from_slice(frame)));
            return Ok(None);
        }
        Ok(Some(call))
    }

    fn take_reply(
        &mut self,
        id: i64,
        result: Result<Term<'_>, Term<'_>>,
    ) -> Result<Option<Work>, Failure> {
        let purpose = self.asked.remove(&id).ok_or_else(|| {
            let what = format!("a reply to {id}, which is no open request");
            Failure::new(Code::BadArgs, what).at(Place::Field, "id")
        })?;
        let result = result.map(Term::into_owned).map_err(Term::into_owned);
        Ok(Some(Work::Answer(purpose, result)))
    }

    /// Answers request `id`.
    pub fn answer(&mut self, id: i64, result: Result<Term<'_>, Term<'_>>) {
        self.in_flight.remove(id);
        self.reply(id, result);
    }

    /// Answers request `id` with an error; with id 0, says it to nobody in
    /// particular.
    pub fn refuse(&mut self, id: i64, refusal: Refusal) {
        self.answer(id, Err(translate::refusal(refusal)));
    }

    fn reply(&mut self, id: i64, result: Result<Term<'_>, Term<'_>>) {
        if let Err(too_large) = self.outbox.push_reply(id, &message::reply(id, result)) {
            let failure = too_large_to_send("the answer", &too_large);
            self.send(&message::reply(id, Err(translate::failure(&failure))));
        }
    }

    /// Asks the client for something. What does not fit a frame counts as
    /// refused by the client.
    pub fn ask(&mut self, op: &'static str, args: Term<'static>, purpose: Purpose) {
        self.next_id += 1;
        match self.outbox.push(&message::request(self.next_id, op, args)) {
            Ok(()) => {
                self.asked.insert(self.next_id, purpose);
            }
            Err(too_large) => {
                let failure = too_large_to_send(op, &too_large);
                let error = translate::failure(&failure).into_owned();
                self.unasked.push((purpose, error));
            }
        }
    }

    /// Tells the client something that needs no answer.
    pub fn cast(&mut self, op: &'static str, args: Term<'static>) {
        self.send(&message::request(0, op, args));
    }

    /// Sets the credit anew. What was missed before is still owed.
    fn subscribe(&mut self, id: i64, credits: u64) {
        let fresh = Subscription { seq: 0, credits, has_missed: false };
        let notices = self.notices.get_or_insert(fresh);
        notices.credits = credits;
        let seq = Term::Integer(notices.seq);
        self.reply(id, Ok(Term::map([(Term::atom("seq"), seq)])));
        self.own_up();
    }

    fn grant(&mut self, count: u64) -> Result<(), Failure> {
        let Some(notices) = &mut self.notices else {
            let what = "credit: there is no subscription";
            return Err(Failure::new(Code::BadArgs, what).hint("subscribe first"));
        };
        let credits = notices.credits + count;
        if credits > CREDITS_MAX {
            let what = format!("credit: {count} more than {} is beyond 2^53", notices.credits);
            return Err(Failure::new(Code::BadArgs, what).at(Place::Field, "args"));
        }
        notices.credits = credits;
        self.own_up();
        Ok(())
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

    /// One that fits no frame is missed.
    fn send_notice(&mut self, notice: Term<'_>) {
        let Some(notices) = &mut self.notices else { return };
        let seq = notices.seq + 1;
        match self.outbox.push(&tuple![Term::atom("notice"), Term::Integer(seq), notice]) {
            Ok(()) => {
                notices.seq = seq;
                notices.credits -= 1;
            }
            Err(_) => notices.has_missed = true,
        }
    }

    /// Sends what is known to be short.
    fn send(&mut self, term: &Term<'_>) {
        self.outbox.push(term).expect("what carries no spec fits a frame");
    }

    /// What is to be written.
    #[must_use]
    pub fn output(&self) -> &[u8] {
        self.outbox.pending()
    }

    /// `count` bytes have been written.
    pub fn advance(&mut self, count: usize) {
        self.outbox.advance(count);
        self.own_up();
    }

    /// Whether the client should read before it asks for more.
    #[must_use]
    pub fn is_backlogged(&self) -> bool {
        self.outbox.is_full()
    }

    /// Whether the stream stopped inside a frame.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.reader.is_partial()
    }
}

fn too_large_to_read(claimed: usize) -> Failure {
    let what = format!("a frame claims {claimed} bytes, the limit is {FRAME_BYTES_MAX}");
    Failure::new(Code::FrameTooLarge, what)
}

fn too_large_to_send(what: &str, TooLarge { bytes, bytes_max }: &TooLarge) -> Failure {
    let failure = Failure::new(
        Code::FrameTooLarge,
        format!("{what} takes {bytes} bytes, the limit is {bytes_max}"),
    );
    match *bytes_max {
        FRAME_BYTES_MAX => failure.hint("chunk_bytes in the greeting lets larger answers through"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::event::{ActionId, Incarnation};
    use crate::port::frame::FrameWriter;
    use crate::port::in_flight::REQUESTS_MAX;
    use crate::port::outbox::OUTPUT_BYTES_MAX;

    /// A session whose client has this much credit.
    fn subscribed(credits: u64) -> Session {
        let mut session = Session::default();
        session.subscribe(1, credits);
        assert_eq!(read_all(&mut session), ["{1,{ok,#{seq => 0}}}"]);
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
        let mut session = subscribed(CREDITS_MAX);
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

    fn told(session: &mut Session, source: &str) -> Vec<String> {
        let term = erlang_term_format::text::parse(source).unwrap();
        let mut frame = FrameWriter::default();
        frame.push(|out| erlang_term_format::encode_into(&term, out));
        session.push(frame.pending());
        while let Some(work) = session.next_work() {
            if let Work::Request(id, _) = work {
                session.answer(id, Ok(Term::nil()));
            }
        }
        read_all(session)
    }

    fn greeted(about: &str) -> Session {
        let mut session = Session::default();
        assert!(told(&mut session, &format!("{{hello, #{{protocol => 1{about}}}}}")).is_empty());
        session
    }

    #[test]
    fn credit_has_a_limit_and_needs_a_subscription() {
        let mut session = greeted("");
        let refused = told(&mut session, "{0, credit, 1}");
        assert!(refused[0].contains("there is no subscription"), "{refused:?}");
        told(&mut session, "{1, subscribe, #{credits => 9007199254740992}}");
        let refused = told(&mut session, "{0, credit, 1}");
        assert!(refused[0].contains("code => bad_args"), "{refused:?}");
        session.notify(&gone());
        assert_eq!(read_all(&mut session).len(), 1);
        assert!(told(&mut session, "{0, credit, 1}").is_empty());
        for beyond in ["9007199254740993", "-1", "18446744073709551615", "many"] {
            let refused = told(&mut session, &format!("{{0, credit, {beyond}}}"));
            assert!(refused[0].contains("code => bad_args"), "{refused:?}");
            let subscribe = format!("{{2, subscribe, #{{credits => {beyond}}}}}");
            assert!(told(&mut session, &subscribe)[0].contains("code => bad_args"));
        }
    }

    #[test]
    fn a_second_subscription_sets_the_credit_anew_and_owes_what_was_missed() {
        let mut session = greeted("");
        told(&mut session, "{1, subscribe, #{credits => 5}}");
        session.notify(&gone());
        assert_eq!(read_all(&mut session).len(), 1);
        // None for now: this is how to end a subscription.
        let answer = told(&mut session, "{2, subscribe, #{credits => 0}}");
        assert_eq!(answer, ["{2,{ok,#{seq => 1}}}"]);
        session.notify(&gone());
        assert!(read_all(&mut session).is_empty());
        let answer = told(&mut session, "{3, subscribe, #{credits => 9}}");
        assert_eq!(answer, ["{3,{ok,#{seq => 1}}}", "{notice,2,resync}"]);
    }

    #[test]
    fn an_id_can_be_used_again_once_it_is_answered_and_not_before() {
        let mut session = greeted("");
        let sync = erlang_term_format::text::parse("{7, sync, nil}").unwrap();
        let mut frame = FrameWriter::default();
        frame.push(|out| erlang_term_format::encode_into(&sync, out));
        session.push(&frame.pending().repeat(2));
        assert!(matches!(session.next_work(), Some(Work::Request(7, _))));
        assert!(session.next_work().is_none());
        let refused = read_all(&mut session);
        assert!(refused[0].starts_with("{0,{error,#{code => bad_args"), "{refused:?}");
        assert!(refused[0].contains("request 7 has not been answered"), "{refused:?}");
        session.answer(7, Ok(Term::nil()));
        assert_eq!(read_all(&mut session), ["{7,{ok,nil}}"]);
        assert_eq!(told(&mut session, "{7, sync, nil}"), ["{7,{ok,nil}}"]);
    }

    #[test]
    fn requests_are_refused_beyond_a_number_of_them_and_shutdown_is_not() {
        let mut session = greeted("");
        let mut frames = FrameWriter::default();
        let ids = 1..=i64::try_from(REQUESTS_MAX).unwrap() + 1;
        for id in ids.clone() {
            let sync = tuple![Term::Integer(id), Term::atom("sync"), Term::nil()];
            frames.push(|out| erlang_term_format::encode_into(&sync, out));
        }
        session.push(frames.pending());
        let taken = std::iter::from_fn(|| session.next_work()).count();
        assert_eq!(taken, REQUESTS_MAX);
        let refused = read_all(&mut session);
        assert_eq!(refused.len(), 1);
        assert!(refused[0].starts_with(&format!("{{{},{{error,#{{code => busy", ids.end())));
        let answer = told(&mut session, "{99999, shutdown, #{pods => keep}}");
        assert_eq!(answer, ["{99999,{ok,nil}}"]);
        session.answer(1, Ok(Term::nil()));
        read_all(&mut session);
        assert_eq!(told(&mut session, "{99999, sync, nil}"), ["{99999,{ok,nil}}"]);
    }

    #[test]
    fn requests_are_refused_beyond_a_number_of_bytes() {
        let mut session = greeted("");
        // An argument that a reader of names refuses would be refused first.
        let pod = |size: usize| {
            let value = "v".repeat(size);
            format!(
                "#{{name => <<\"web\">>, containers => [#{{name => <<\"c\">>, \
                 image => <<\"{value}\">>}}]}}"
            )
        };
        let mut frames = FrameWriter::default();
        for id in 1..=5 {
            let source = format!("{{{id}, apply, {}}}", pod(15 << 20));
            let term = erlang_term_format::text::parse(&source).unwrap();
            frames.push(|out| erlang_term_format::encode_into(&term, out));
        }
        session.push(frames.pending());
        assert_eq!(std::iter::from_fn(|| session.next_work()).count(), 4);
        let refused = read_all(&mut session);
        assert!(refused[0].starts_with("{5,{error,#{code => busy"), "{refused:?}");
    }

    #[test]
    fn what_is_answered_at_length_waits_for_room_and_what_is_short_does_not() {
        let mut session = greeted(", chunk_bytes => 65536");
        session.in_flight.insert(1, 1);
        let large = Term::binary(vec![b'v'; OUTPUT_BYTES_MAX + (1 << 20)]);
        session.answer(1, Ok(large));
        let mut frames = FrameWriter::default();
        for source in ["{2, list, nil}", "{3, status, <<\"web\">>}", "{1, sync, nil}"] {
            let term = erlang_term_format::text::parse(source).unwrap();
            frames.push(|out| erlang_term_format::encode_into(&term, out));
        }
        session.push(frames.pending());
        // An id is in use until the last chunk is gone.
        assert!(matches!(session.next_work(), Some(Work::Request(3, _))));
        assert!(session.next_work().is_none());
        // Nor does it keep the memory of what came with it.
        assert!(session.parked.iter().all(|(_, frame)| frame.is_unique()));
        while session.outbox.is_full_of_large() {
            session.advance(session.output().len());
        }
        assert!(matches!(session.next_work(), Some(Work::Request(2, Request::List))));
    }

    #[test]
    fn what_fits_no_frame_is_an_error_to_who_asked_and_refused_for_who_would_be_asked() {
        let mut session = greeted("");
        session.in_flight.insert(1, 1);
        session.answer(1, Ok(Term::binary(vec![b'v'; FRAME_BYTES_MAX])));
        let answer = read_all(&mut session);
        assert!(answer[0].starts_with("{1,{error,#{code => frame_too_large"), "{answer:?}");
        let purpose = Purpose::Start(ActionId(1), Name::new("web").unwrap(), Incarnation(1));
        session.ask("start", Term::binary(vec![b'v'; FRAME_BYTES_MAX]), purpose.clone());
        match session.next_work() {
            Some(Work::Answer(whose, Err(error))) => {
                assert_eq!(whose, purpose);
                assert!(error.get("code").unwrap().is_atom("frame_too_large"));
            }
            other => panic!("{other:?}"),
        }
        session.ask("start", Term::binary(vec![b'v'; FRAME_BYTES_MAX]), purpose.clone());
        assert_eq!(session.take_asked(), [purpose], "nor is it forgotten when the client goes");
        assert!(session.next_work().is_none());
        assert!(session.take_asked().is_empty() && read_all(&mut session).is_empty());
    }

    #[test]
    fn an_error_repeats_no_more_of_a_broken_rule_than_a_bound() {
        let mut session = greeted("");
        for (size, has_reason) in [(1_000, true), (100_000, false)] {
            let value = "v".repeat(size);
            let answer =
                told(&mut session, &format!("{{1, apply, #{{name => [<<\"{value}\">>]}}}}"));
            assert!(answer[0].contains("code => invalid_spec"), "{answer:?}");
            assert_eq!(answer[0].contains("{invalid_name,"), has_reason, "{size}");
        }
    }

    #[test]
    fn a_subscriber_without_credit_is_told_once_that_it_missed_something() {
        let mut session = subscribed(1);
        for _ in 0..3 {
            session.notify(&gone());
        }
        assert_eq!(read_all(&mut session), ["{notice,1,{gone,<<\"web\">>}}"]);
        session.grant(2).unwrap();
        session.notify(&gone());
        let expected = ["{notice,2,resync}", "{notice,3,{gone,<<\"web\">>}}"];
        assert_eq!(read_all(&mut session), expected);
    }
}
