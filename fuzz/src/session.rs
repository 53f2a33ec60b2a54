//! A byte stream into a session: the same work and the same answers however it is cut, and all
//! that it says is a frame of the protocol.

use std::collections::BTreeMap;

use erlang_term_format::{Term, decode, tuple};
use tank::core::action::Notice;
use tank::core::event::{ActionId, Incarnation};
use tank::core::spec::Name;
use tank::port::frame::{Frame, FrameReader};
use tank::port::message::Incoming;
use tank::port::session::{Purpose, Session, Work};
use tank::port::trace::Trace;
use tank::port::translate::Cast;

use crate::atoms;
use crate::stream::Stream;

/// Panics if what a session does with the stream in `input` depends on how it arrives, or breaks
/// the protocol.
pub fn holds(input: &[u8]) {
    let Some(stream) = Stream::of(input) else { return };
    let at_once = Conversation::default().over(&[&stream.bytes]);
    // A trace changes nothing either, and half of the time goes into it: one is enough.
    let in_pieces = Conversation::default().traced().over(&stream.pieces());
    let said = terms_of(&at_once.said);
    notices_are_counted(&said);
    // Mostly the same bytes, which need no second look.
    let said_in_pieces = (in_pieces.said != at_once.said).then(|| terms_of(&in_pieces.said));
    if let Some(said) = &said_in_pieces {
        notices_are_counted(said);
    }
    atoms_are_known(&stream.bytes, &said);
    let asked = requests_in(&stream.bytes);
    if asked.windows(2).any(|ids| ids[0] == ids[1]) {
        // Whether an id is still in use depends on what the client has read by then.
        return;
    }
    assert_eq!(in_pieces.work, at_once.work);
    if let Some(said_in_pieces) = said_in_pieces {
        assert_eq!(said_in_pieces, said);
    }
    if !at_once.is_over {
        assert_eq!(replies_in(&said), asked);
    }
}

/// What came of a stream.
#[derive(Default)]
struct Conversation {
    session: Session,
    /// What was asked of the loop, in words.
    work: Vec<String>,
    /// The bytes that the client was sent.
    said: Vec<u8>,
    is_over: bool,
}

impl Conversation {
    fn traced(mut self) -> Self {
        self.session.trace(Trace::new(|line| assert!(!line.contains('\n'), "{line}")));
        self
    }

    fn over(mut self, pieces: &[&[u8]]) -> Self {
        self.session.greet(Term::nil());
        self.serve();
        for piece in pieces {
            self.session.push(piece);
            self.serve();
        }
        self
    }

    /// What the loop does, with answers that are always the same.
    fn serve(&mut self) {
        while !self.is_over
            && let Some(work) = self.session.next_work()
        {
            self.work.push(format!("{work:?}"));
            self.take(work);
        }
        while !self.session.output().is_empty() {
            self.said.extend_from_slice(self.session.output());
            self.session.advance(self.session.output().len());
        }
    }

    fn take(&mut self, work: Work) {
        match work {
            Work::Request(id, _) | Work::Journal(id, _) => self.session.answer(id, Ok(Term::nil())),
            Work::Cast(Cast::Exited(pod, incarnation, exit)) => {
                let (origin, at) = Default::default();
                self.session.notify(&Notice::RunEnded { pod, incarnation, origin, exit, at });
            }
            Work::Cast(_) => self.start_a_run(),
            Work::Answer(_, Ok(_)) => self.session.notify(&Notice::PodGone { pod: web() }),
            Work::Answer(_, Err(_)) => self.session.cast("kill", tuple!["web", 1]),
            Work::Hangup(_) => self.is_over = true,
        }
    }

    fn start_a_run(&mut self) {
        let (pod, incarnation) = (web(), Incarnation(1));
        let purpose = Purpose::Start(ActionId(1), pod.clone(), incarnation);
        self.session.ask("start", tuple!["web", 1], purpose);
        self.session.notify(&Notice::RunStarted {
            pod,
            incarnation,
            origin: Default::default(),
            host_pid: None,
            is_adopted: false,
        });
    }
}

fn web() -> Name {
    Name::new("web").expect("a name")
}

fn frames_of(bytes: &[u8]) -> impl Iterator<Item = Frame> {
    let mut reader = FrameReader::default();
    reader.push(bytes);
    std::iter::from_fn(move || reader.next_frame())
}

/// All that was said: whole frames of one term each, and replies in chunks as what they are
/// parts of, where they began.
fn terms_of(said: &[u8]) -> Vec<Term<'static>> {
    let mut terms: Vec<Term<'static>> = Vec::new();
    let mut begun: BTreeMap<i64, (usize, Vec<u8>)> = BTreeMap::new();
    for frame in frames_of(said) {
        let Frame::Whole(frame) = frame else { panic!("we sent {frame:?}") };
        let term = decode(&frame).expect("a frame of ours");
        let Some((id, more, bytes)) = chunk_in(&term) else {
            terms.push(term.into_owned());
            continue;
        };
        let (place, reply) = begun.entry(id).or_insert_with(|| {
            terms.push(Term::nil());
            (terms.len() - 1, Vec::new())
        });
        reply.extend_from_slice(bytes);
        if !more {
            terms[*place] = decode(reply).expect("a reply of ours").into_owned();
            begun.remove(&id);
        }
    }
    assert!(begun.is_empty(), "chunks without an end: {begun:?}");
    terms
}

fn chunk_in<'t>(term: &'t Term<'_>) -> Option<(i64, bool, &'t [u8])> {
    match term.as_tuple()? {
        [tag, id, more, bytes] if tag.is_atom("chunk") => {
            Some((id.as_i64()?, more.as_bool()?, bytes.as_bytes()?))
        }
        _ => None,
    }
}

/// From 1 on, without a gap, across subscriptions too.
fn notices_are_counted(said: &[Term<'_>]) {
    let notices = said.iter().filter_map(|term| match term.as_tuple()? {
        [tag, seq, _] if tag.is_atom("notice") => seq.as_i64(),
        _ => None,
    });
    for (seq, expected) in notices.zip(1..) {
        assert_eq!(seq, expected, "{said:?}");
    }
}

fn atoms_are_known(heard: &[u8], said: &[Term<'_>]) {
    let heard: Vec<Frame> = frames_of(heard).collect();
    let heard: Vec<Term<'_>> = heard
        .iter()
        .filter_map(|frame| match frame {
            Frame::Whole(frame) => decode(frame).ok(),
            Frame::TooLarge { .. } => None,
        })
        .collect();
    let heard = heard.iter().flat_map(atoms::of).collect();
    said.iter().for_each(|term| atoms::are_known(term, &heard));
}

/// The ids that want a reply, in order of their value.
fn requests_in(heard: &[u8]) -> Vec<i64> {
    sorted(frames_of(heard).filter_map(|frame| match frame {
        Frame::Whole(frame) => match Incoming::parse(&frame) {
            Ok(Incoming::Request { id: id @ 1.., .. }) => Some(id),
            _ => None,
        },
        Frame::TooLarge { .. } => None,
    }))
}

/// The ids that have one.
fn replies_in(said: &[Term<'_>]) -> Vec<i64> {
    sorted(said.iter().filter_map(|term| match term.as_tuple()? {
        [id, _] => id.as_i64().filter(|id| *id > 0),
        _ => None,
    }))
}

fn sorted(ids: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut ids: Vec<i64> = ids.collect();
    ids.sort_unstable();
    ids
}
