//! The shell around the core: one thread, one loop, and workers for what
//! blocks.
//!
//! The loop feeds the core what happened (frames, outcomes, exits, time),
//! carries out what it commands and delivers what it answers. It decides
//! nothing about pods.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use erlang_term_format::Term;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};
use tokio::time::sleep;

use crate::core::action::{Action, Command, Notice, Reply};
use crate::core::event::{
    ActionId, DesiredChange, Event, Incarnation, Observation, Outcome, Request, Ticket,
};
use crate::core::failure::{Code, Failure};
use crate::core::journal::Entry;
use crate::core::reconciler::Reconciler;
use crate::core::spec::Name;
use crate::core::time::Millis;
use crate::port::session::{Session, Work};
use crate::port::stdio::Pipes;
use crate::port::translate::{self, Cast};
use crate::runtime::client::ToClient;
use crate::runtime::container::Found;
use crate::runtime::{Events, Runtime, StartOrder};

pub mod clock;
mod journal;
mod last_runs;
pub mod lock;
mod narrate;
pub mod options;
mod spin;
pub mod start;
mod store_thread;

use journal::Journal;
use narrate::narrate;
use options::OnDisconnect;
use spin::{LOOKS, SPIN, Spin};
use store_thread::{StoreNews, StoreThread};

/// Reads in a row after which everything else is heard: a client that always
/// asks for more must not keep a signal, a deadline or another task waiting.
const READS_MAX: u32 = 32;

/// Bytes to write before looking for input again, which a client that reads as
/// fast as it is written to would put off for as long as there is output.
const TURN_BYTES: usize = 256 << 10;

/// What is taken up of all that the client has asked for before anything else is
/// heard: as many requests as may be in flight can have waited for room for their
/// answers, and find it together.
const TURN_WORKS: usize = 1_024;

/// The loop and all it holds.
pub struct Daemon {
    core: Reconciler,
    runtime: Runtime,
    store: StoreThread,
    journal: Journal,
    events: Events,
    happened: UnboundedReceiver<Event>,
    news: UnboundedReceiver<StoreNews>,
    looks: UnboundedSender<Look>,
    looked: UnboundedReceiver<Look>,
    pipes: Rc<Pipes>,
    session: Session,
    client: Client,
    /// Taken by the loop.
    hangups: Option<Hangups>,
    alarm: clock::Alarm,
    tickets: BTreeMap<Ticket, Waiter>,
    next_ticket: u64,
    starting: BTreeMap<ActionId, (Name, Incarnation)>,
    on_disconnect: OnDisconnect,
    /// Whether the client's last word was that the pods go on.
    keeps_pods: bool,
    /// Said once it is done, whatever becomes of this program then.
    last_answers: Vec<(i64, Reply)>,
    end: Option<End>,
    spin: Spin,
    /// Says what this machine can do; taken by the greeting.
    host: Option<Term<'static>>,
    data_dir: Option<lock::DirLock>,
    run_dir: Option<lock::DirLock>,
}

/// What an observation has seen of the store and of the machine.
struct Look {
    action: ActionId,
    desired: Option<DesiredChange>,
    /// None when it could not be seen what runs.
    found: Option<Found>,
}

/// How long a client that has hung up is waited for: for what it has asked to
/// settle, and for it to read the answers.
const LEAVE_MS: u64 = 5_000;

/// Between two looks at what runs, when the first could not see it.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// How often to look whether a client that has hung up still listens. The end of
/// its other pipe is no event while there is nothing to write.
const LISTENS_MS: u64 = 50;

/// What becomes of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    /// It asks and is answered.
    Here,
    /// It has hung up: it asks no more, and is answered, until this instant.
    Leaving(Millis),
    /// Nobody listens.
    Gone,
}

/// Who waits for a reply of the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiter {
    /// The client, under this id.
    Client(i64),
    /// The client, and then the program ends.
    LastCall(i64),
    /// Nobody: the client is gone and the program ends.
    Gone(End),
}

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// In order.
    Done,
    /// The client speaks another protocol.
    Mismatch,
}

/// What woke the loop.
enum Wake {
    Hangup,
    News(StoreNews),
    Look(Look),
    Event(Event),
    Time,
    /// The last turn has left something to do.
    Unfinished,
    /// There is room for output.
    Writable,
    /// There is input.
    Readable,
}

/// The signals that mean that the client is gone. Caught as soon as the
/// directories are ours, so that one that comes early is not the program's death.
struct Hangups {
    terminate: Signal,
    hangup: Signal,
}

impl Hangups {
    fn new() -> io::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, hangup: signal(SignalKind::hangup())? })
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        for (signal, name) in [(&mut self.terminate, "SIGTERM"), (&mut self.hangup, "SIGHUP")] {
            if signal.poll_recv(cx).is_ready() {
                tracing::info!("{name}: the client is gone");
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

impl Daemon {
    /// Runs until the client is gone or says that it is over, and everything
    /// that then has to be done is done.
    ///
    /// # Errors
    /// When the machinery of the loop itself fails.
    pub async fn run(mut self) -> io::Result<End> {
        let mut hangups = self.hangups.take().expect("a daemon runs once");
        let (mut reads, mut has_just_read) = (0, false);
        self.obey();
        loop {
            let is_unfinished = self.serve();
            // More to do than there was time for: none to look for more.
            has_just_read &= !is_unfinished;
            if self.take_leave() {
                continue;
            }
            self.alarm.set(self.deadline())?;
            if let Some(end) = self.end {
                self.close(&mut hangups).await;
                return Ok(end);
            }
            if reads == READS_MAX {
                reads = 0;
                tokio::task::yield_now().await;
            } else if has_just_read && self.spin() {
                reads += 1;
                continue;
            }
            has_just_read = false;
            match self.sleep(&mut hangups, is_unfinished).await {
                Wake::Hangup => {
                    tracing::info!("the client is gone, or a signal says that it is");
                    self.disconnect(End::Done);
                }
                Wake::News(news) => self.take_news(news),
                Wake::Look(look) => self.take_look(look),
                Wake::Event(event) => self.handle(event),
                Wake::Time => self.handle(Event::Woke),
                // Each turn does and writes what it can. A client that asks for much or reads
                // as fast as that would keep the runtime from looking for what else has
                // happened.
                Wake::Unfinished | Wake::Writable => tokio::task::yield_now().await,
                Wake::Readable => {
                    has_just_read = self.read();
                    reads += u32::from(has_just_read);
                }
            }
        }
    }

    async fn sleep(&mut self, hangups: &mut Hangups, is_unfinished: bool) -> Wake {
        let has_greeted = self.host.is_none();
        let may_read = self.client == Client::Here && has_greeted && !self.session.is_backlogged();
        let may_write = self.client != Client::Gone && !self.session.output().is_empty();
        // What ends the program first, what a client can do without end last.
        poll_fn(|cx| {
            if self.client != Client::Gone && hangups.poll_recv(cx).is_ready() {
                return Poll::Ready(Wake::Hangup);
            }
            if let Poll::Ready(Some(news)) = self.news.poll_recv(cx) {
                return Poll::Ready(Wake::News(news));
            }
            if let Poll::Ready(Some(look)) = self.looked.poll_recv(cx) {
                return Poll::Ready(Wake::Look(look));
            }
            if let Poll::Ready(Some(event)) = self.happened.poll_recv(cx) {
                return Poll::Ready(Wake::Event(event));
            }
            if self.alarm.poll_ring(cx).is_ready() {
                return Poll::Ready(Wake::Time);
            }
            // Before more is read.
            if is_unfinished {
                return Poll::Ready(Wake::Unfinished);
            }
            // Each turn writes: a client that reads a large reply as fast as it
            // comes must not keep its own next request waiting.
            if may_read && self.pipes.poll_readable(cx).is_ready() {
                return Poll::Ready(Wake::Readable);
            }
            if may_write && self.pipes.poll_writable(cx).is_ready() {
                return Poll::Ready(Wake::Writable);
            }
            Poll::Pending
        })
        .await
    }

    /// When to wake up, if nothing happens.
    fn deadline(&self) -> Option<Millis> {
        let look = match self.client {
            Client::Leaving(_) if !self.is_end_settled() => Some(clock::now().after(LISTENS_MS)),
            _ => None,
        };
        self.core.poll_deadline().into_iter().chain(look).min()
    }

    /// Looks for input for a moment: the next request of a client that waits
    /// for each answer arrives within microseconds. Says whether it came.
    fn spin(&mut self) -> bool {
        let waits_for_client = self.client == Client::Here && self.session.output().is_empty();
        if !waits_for_client || !self.spin.pays() {
            return false;
        }
        let began = Instant::now();
        let mut has_read = false;
        while !has_read
            && began.elapsed() < SPIN
            && self.news.is_empty()
            && self.looked.is_empty()
            && self.happened.is_empty()
        {
            has_read = (0..LOOKS).any(|_| self.read());
        }
        self.spin.has_found(has_read);
        has_read
    }

    /// Reads what is there; says whether anything was, be it the end.
    fn read(&mut self) -> bool {
        match self.session.fill(|room| self.pipes.try_read(room)) {
            Ok(None) => return false,
            Ok(Some(0)) => {
                if self.session.is_partial() {
                    tracing::warn!("the client is gone in the middle of a frame");
                }
                self.hang_up();
            }
            Ok(Some(_)) => {}
            Err(error) => {
                tracing::info!(%error, "the client is gone");
                self.disconnect(End::Done);
            }
        }
        true
    }

    /// Does what the client has asked for and delivers what there is to say, as
    /// long as the client reads it: a short request can have a long answer. Says
    /// whether that was too much for one turn.
    fn serve(&mut self) -> bool {
        let (mut works, mut written) = (0, 0);
        while (self.work(&mut works) | self.write(&mut written))
            && works < TURN_WORKS
            && (written < TURN_BYTES || self.session.output().is_empty())
        {}
        works == TURN_WORKS
    }

    /// Does what there is to do, as far as it belongs into this turn; says whether
    /// there was anything.
    fn work(&mut self, works: &mut usize) -> bool {
        let before = *works;
        self.tell();
        while *works < TURN_WORKS
            && self.end.is_none()
            && !self.session.is_backlogged()
            && let Some(work) = self.session.next_work()
        {
            self.take_work(work);
            self.tell();
            *works += 1;
        }
        *works > before
    }

    /// Writes what fits without waiting, as far as it belongs into this turn;
    /// says whether that leads to anything.
    fn write(&mut self, written: &mut usize) -> bool {
        let before = *written;
        match self.try_write(written) {
            Ok(()) => *written > before,
            Err(error) => {
                tracing::info!(%error, "the client is gone");
                self.disconnect(End::Done);
                true
            }
        }
    }

    fn try_write(&mut self, written: &mut usize) -> io::Result<()> {
        while *written < TURN_BYTES
            && self.client != Client::Gone
            && !self.session.output().is_empty()
        {
            match self.pipes.try_write(self.session.output())? {
                0 => break,
                count => {
                    self.session.advance(count);
                    *written += count;
                    self.stay();
                }
            }
        }
        Ok(())
    }

    fn take_work(&mut self, work: Work) {
        match work {
            Work::Request(id, request) => self.take_request(id, request),
            Work::Journal(id, pod) => {
                let ticket = self.new_ticket(Waiter::Client(id));
                self.store.read_journal(ticket, pod);
            }
            Work::Cast(Cast::Credit(_)) => unreachable!("the session keeps its own books"),
            Work::Cast(Cast::Nudge) => self.handle(Event::Nudged),
            Work::Cast(Cast::Exited(pod, incarnation, exit)) => {
                if let Runtime::Client(runtime) = &mut self.runtime {
                    let event = runtime.exited(pod, incarnation, exit);
                    self.handle(event);
                }
            }
            Work::Answer(purpose, result) => {
                if let Runtime::Client(runtime) = &mut self.runtime {
                    let event = runtime.answered(purpose, result);
                    self.handle(event);
                }
            }
            Work::Hangup(failure) => {
                tracing::error!("{failure}");
                // It is gone, whether it has read why or not.
                let _ = self.try_write(&mut 0);
                self.disconnect(End::Mismatch);
            }
        }
    }

    fn take_request(&mut self, id: i64, request: Request) {
        if let Err(failure) = self.check(&request) {
            self.session.refuse(id, failure.into());
            return;
        }
        let waiter = match request {
            Request::Shutdown { stop_pods } => {
                self.keeps_pods |= !stop_pods;
                self.note_ending(stop_pods);
                Waiter::LastCall(id)
            }
            _ => Waiter::Client(id),
        };
        self.request(waiter, request);
    }

    /// Whether the runtime can do what the specs in it ask for.
    fn check(&self, request: &Request) -> Result<(), Failure> {
        match request {
            Request::Apply(spec) | Request::Create(spec) | Request::Seed(spec) => {
                self.runtime.check(spec)
            }
            Request::Plan(specs) => specs.iter().try_for_each(|spec| self.runtime.check(spec)),
            _ => Ok(()),
        }
    }

    fn request(&mut self, waiter: Waiter, request: Request) {
        let ticket = self.new_ticket(waiter);
        if matches!(request, Request::Shutdown { stop_pods: false }) {
            self.runtime.hold();
        }
        self.handle(Event::Requested(ticket, request));
    }

    fn new_ticket(&mut self, waiter: Waiter) -> Ticket {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.tickets.insert(ticket, waiter);
        ticket
    }

    fn take_news(&mut self, news: StoreNews) {
        match news {
            StoreNews::Event(event) => self.handle(event),
            StoreNews::Looked(action, desired) => self.look(action, desired),
            StoreNews::Journal(ticket, pod, entries) => self.show_journal(ticket, &pod, entries),
        }
    }

    /// Sees what the runtime has, too, once the store has been looked at.
    fn look(&mut self, action: ActionId, desired: Option<DesiredChange>) {
        let Runtime::Container(runtime) = &self.runtime else {
            return self.observed(action, desired);
        };
        let (look, looks) = (runtime.look(), self.looks.clone());
        tokio::task::spawn_local(async move {
            // Nobody listens when the loop ends.
            let found = look.await;
            let _ = looks.send(Look { action, desired, found });
        });
    }

    fn look_again(&self, action: ActionId, desired: Option<DesiredChange>) {
        let news = self.looks.clone();
        let Runtime::Container(runtime) = &self.runtime else { return };
        let look = runtime.look();
        tokio::task::spawn_local(async move {
            sleep(LOOK_AGAIN).await;
            let found = look.await;
            let _ = news.send(Look { action, desired, found });
        });
    }

    fn take_look(&mut self, Look { action, desired, found }: Look) {
        let Some(Found { leftovers, logs }) = found else {
            // What begins before it is known what runs could run twice.
            return match self.core.is_ready() {
                true => self.observed(action, desired),
                false => self.look_again(action, desired),
            };
        };
        if let Runtime::Container(runtime) = &mut self.runtime {
            runtime.note(leftovers);
        }
        self.observed(action, desired);
        // What runs is taken over before anybody asks how it is.
        self.handle_what_happened();
        if let Runtime::Container(runtime) = &self.runtime {
            runtime.remove_logs(logs, |pod| self.core.is_known(pod));
        }
    }

    fn observed(&mut self, action: ActionId, desired: Option<DesiredChange>) {
        // Exits that are already on their way are told first, so that no run is taken
        // for lost that has just ended.
        self.handle_what_happened();
        let runs = self.runtime.runs();
        let observation = Outcome::Observed(Observation { desired, runs });
        self.handle(Event::Finished(action, observation));
    }

    fn handle_what_happened(&mut self) {
        while let Ok(event) = self.happened.try_recv() {
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Event) {
        if let Event::Finished(action, Outcome::Started(_)) = &event {
            self.starting.remove(action);
        }
        self.core.handle(clock::now(), event);
        self.obey();
    }

    /// Carries out what the core commands, at once: it must not wait for what
    /// else has happened meanwhile.
    fn obey(&mut self) {
        while let Some(command) = self.core.poll_command() {
            self.carry_out(command);
        }
        if self.client != Client::Here {
            self.answer_for_client();
        }
    }

    /// What a client that is gone has been or would be asked, it never answers:
    /// those actions fail here, or the end would wait for them for ever.
    fn answer_for_client(&mut self) {
        let Runtime::Client(runtime) = &mut self.runtime else { return };
        let unsent = std::iter::from_fn(|| runtime.poll_message()).filter_map(|message| {
            let ToClient::Ask(_, _, purpose) = message else { return None };
            Some(purpose)
        });
        let purposes: Vec<_> = self.session.take_asked().into_iter().chain(unsent).collect();
        for purpose in purposes {
            let gone = Term::binary("the client is gone");
            self.take_work(Work::Answer(purpose, Err(gone)));
        }
    }

    /// Hands what the core has to say to the session.
    fn tell(&mut self) {
        if self.core.is_ready()
            && let Some(host) = self.host.take()
        {
            self.session.greet(host);
        }
        // Notices first: a reply never overtakes what happened before it.
        while let Some(notice) = self.core.poll_notice() {
            narrate(&notice);
            if let Some((pod, entry)) =
                self.journal.entry(&notice, clock::unix_ms(time_of(&notice)))
            {
                self.store.note(pod, entry);
            }
            self.session.notify(&notice);
        }
        while let Some(reply) = self.core.poll_reply() {
            self.deliver(reply);
        }
        self.send_client_orders();
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Act(action, Action::Persist(write)) => self.store.persist(action, write),
            Command::Act(action, Action::Start { pod, incarnation, origin }) => {
                self.starting.insert(action, (pod.clone(), incarnation));
                self.runtime.start(StartOrder { action, pod, incarnation, origin });
            }
            Command::Act(action, Action::Adopt { pod, incarnation }) => {
                self.starting.insert(action, (pod.clone(), incarnation));
                self.runtime.adopt(action, &pod, incarnation);
            }
            Command::Act(action, Action::Stop { pod, incarnation }) => {
                self.runtime.stop(action, &pod, incarnation);
            }
            Command::Act(action, Action::Adjust { pod, incarnation, origin }) => {
                self.runtime.adjust(action, &pod, incarnation, origin);
            }
            Command::Act(action, Action::Remove(pod)) => {
                self.runtime.remove(action, &pod, &self.events);
            }
            Command::Act(action, Action::Observe { since }) => self.store.look(action, since),
            Command::Cancel(action) => {
                if let Some((pod, incarnation)) = self.starting.get(&action) {
                    self.runtime.cancel(pod, *incarnation);
                }
            }
            Command::Kill(pod, incarnation) => self.runtime.kill(&pod, incarnation),
            Command::Forget(pod, incarnation) => self.runtime.forget(&pod, incarnation),
        }
    }

    fn deliver(&mut self, reply: Reply) {
        match self.tickets.remove(&reply.ticket) {
            None => {}
            Some(Waiter::Client(id)) => self.answer(id, reply),
            Some(Waiter::LastCall(id)) => {
                self.last_answers.push((id, reply));
                self.end = Some(End::Done);
            }
            Some(Waiter::Gone(end)) => self.end = Some(end),
        }
    }

    fn answer(&mut self, id: i64, reply: Reply) {
        match reply.result {
            Ok(response) => self.session.answer(id, Ok(translate::response(&response))),
            Err(failure) => self.session.refuse(id, failure.into()),
        }
    }

    /// Answers who has asked for a journal, unless nobody waits any more.
    fn show_journal(
        &mut self,
        ticket: Ticket,
        pod: &Name,
        entries: Result<Option<Vec<Entry>>, Failure>,
    ) {
        let Some(Waiter::Client(id)) = self.tickets.remove(&ticket) else { return };
        match entries {
            Ok(Some(entries)) => self.session.answer(id, Ok(translate::journal(&entries))),
            Ok(None) => self.session.refuse(id, Failure::no_pod(pod).into()),
            Err(failure) => self.session.refuse(id, failure.into()),
        }
    }

    fn send_client_orders(&mut self) {
        let Runtime::Client(runtime) = &mut self.runtime else { return };
        while let Some(message) = runtime.poll_message() {
            match message {
                ToClient::Ask(op, args, purpose) => self.session.ask(op, args, purpose),
                ToClient::Tell(op, args) => self.session.cast(op, args),
            }
        }
    }

    /// Writes everything, for the last time. A client that has hung up, before or
    /// meanwhile, must go on reading.
    async fn flush(&mut self) {
        while self.client != Client::Gone && !self.session.output().is_empty() {
            let lose_patience = async {
                if self.client == Client::Here {
                    poll_fn(|cx| self.pipes.poll_hangup(cx)).await;
                }
                sleep(Duration::from_millis(LEAVE_MS)).await;
            };
            tokio::select! {
                written = self.pipes.write(self.session.output()) => match written {
                    Ok(count) => self.session.advance(count),
                    Err(_) => return,
                },
                () = lose_patience => {
                    let bytes = self.session.output().len();
                    return tracing::warn!("nobody reads the last answers, {bytes} bytes and more");
                }
            }
        }
    }

    /// The client has closed its side. What it has asked is still answered, if
    /// there is anybody to read it: the end of a pipeline is.
    fn hang_up(&mut self) {
        self.client = Client::Leaving(clock::now().after(LEAVE_MS));
        self.answer_for_client();
    }

    /// A client that has hung up and reads is waited for anew while what it has
    /// asked waits for that.
    fn stay(&mut self) {
        if let Client::Leaving(deadline) = &mut self.client
            && self.session.has_unserved()
        {
            *deadline = clock::now().after(LEAVE_MS);
        }
    }

    /// Ends the session of a client that has hung up, once all is answered or
    /// its time is over. Says whether it did.
    fn take_leave(&mut self) -> bool {
        let Client::Leaving(deadline) = self.client else { return false };
        if self.is_end_settled() {
            return false;
        }
        if !self.pipes.has_reader() {
            self.disconnect(End::Done);
            return true;
        }
        let is_answered = self.tickets.is_empty() && !self.session.has_unserved();
        if !is_answered && clock::now() < deadline {
            return false;
        }
        for id in self.session.take_parked() {
            self.session.refuse(id, too_late().into());
        }
        self.abandon_requests();
        self.end_without_client(End::Done);
        true
    }

    /// The client is gone, unless it has said what is to be done as its last
    /// word, or has hung up before.
    fn disconnect(&mut self, end: End) {
        if std::mem::replace(&mut self.client, Client::Gone) == Client::Gone {
            return;
        }
        if self.is_end_settled() {
            return self.answer_for_client();
        }
        self.abandon_requests();
        self.end_without_client(end);
    }

    /// What becomes of the pods was settled beforehand.
    fn end_without_client(&mut self, end: End) {
        // What is to happen later, the shims know.
        let stop_pods = self.on_disconnect == OnDisconnect::Stop && self.runtime.outlives_client();
        self.note_ending(stop_pods);
        self.request(Waiter::Gone(end), Request::Shutdown { stop_pods });
    }

    /// Tells whoever would start on the same directory that it will be free, if not at once.
    fn note_ending(&mut self, stop_pods: bool) {
        if let Some(lock) = self.data_dir.as_mut().filter(|_| stop_pods) {
            lock.note_ending();
        }
    }

    /// These requests are not waited for any more. What was asked for is still
    /// done.
    fn abandon_requests(&mut self) {
        for (ticket, waiter) in std::mem::take(&mut self.tickets) {
            if let Waiter::Client(id) = waiter
                && self.client != Client::Gone
            {
                self.session.refuse(id, too_late().into());
            }
            self.handle(Event::Abandoned(ticket));
        }
    }

    /// Whether it is known what ends the program.
    fn is_end_settled(&self) -> bool {
        let is_last = |waiter: &Waiter| matches!(waiter, Waiter::LastCall(_) | Waiter::Gone(_));
        self.end.is_some() || self.tickets.values().any(is_last)
    }

    async fn close(&mut self, hangups: &mut Hangups) {
        if self.keeps_pods
            && let Runtime::Container(runtime) = &self.runtime
        {
            runtime.keep().await;
        }
        for (id, reply) in std::mem::take(&mut self.last_answers) {
            self.answer(id, reply);
        }
        tokio::select! {
            () = self.flush() => {}
            // It lives and does not read: nothing else would end the wait.
            () = poll_fn(|cx| hangups.poll_recv(cx)) => {}
        }
        if let Runtime::Container(runtime) = &mut self.runtime {
            runtime.close().await;
        }
        if let Some(lock) = self.run_dir.take() {
            last_runs::forget(lock.dir());
            lock.remove();
        }
    }
}

/// When what is told of happened.
fn time_of(notice: &Notice) -> Millis {
    match notice {
        Notice::RunEnded { at, .. } => *at,
        _ => clock::now(),
    }
}

fn too_late() -> Failure {
    Failure::new(Code::ShuttingDown, "the client has hung up before this was done")
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{ErrorKind, Read, Write};
    use std::pin::pin;

    use erlang_term_format::text;
    use rustix::pipe::{PipeFlags, fcntl_getpipe_size, pipe_with};
    use tokio::time::timeout;

    use super::options::{Options, RuntimeKind, StoreKind};
    use super::*;
    use crate::port::frame::{Frame, FrameReader, FrameWriter};
    use crate::port::outbox::{CHUNK_BYTES, OUTPUT_BYTES_MAX};

    /// How long anything may take before a test gives up.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// The client of a loop that is in the same thread: it acts while the runtime
    /// looks for what has happened, and at no other time.
    struct Peer {
        requests: File,
        answers: File,
        reader: FrameReader,
    }

    impl Peer {
        /// A daemon that holds specs in memory and starts nothing, and its client,
        /// who takes chunks.
        async fn of_a_daemon() -> (Self, Daemon) {
            let (input, requests) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            let (answers, output) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
            let pipes = Rc::new(Pipes::new(input, output).unwrap());
            let mut daemon = start::start(&options(), pipes).await.unwrap();
            let hello = "{hello, #{protocol => 1, chunk_bytes => 65536}}".to_owned();
            daemon.session.push(&frames([hello]));
            let reader = FrameReader::default();
            let peer = Self { requests: requests.into(), answers: answers.into(), reader };
            (peer, daemon)
        }

        fn says(&mut self, source: &str) {
            self.requests.write_all(&frames([source.to_owned()])).unwrap();
        }

        /// The terms that have come whole since it last looked.
        fn hears(&mut self) -> Vec<Term<'static>> {
            let mut bytes = Vec::new();
            match self.answers.read_to_end(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                ended => panic!("the loop goes on, and its pipe is {ended:?}"),
            }
            self.reader.push(&bytes);
            let frames = std::iter::from_fn(|| self.reader.next_frame());
            frames
                .map(|frame| match frame {
                    Frame::Whole(frame) => erlang_term_format::decode(&frame).unwrap().into_owned(),
                    Frame::TooLarge { claimed } => panic!("{claimed} bytes"),
                })
                .collect()
        }
    }

    fn options() -> Options {
        Options {
            data_dir: "/nonexistent".into(),
            run_dir: "/nonexistent".into(),
            store: StoreKind::Memory,
            runtime: RuntimeKind::None,
            interval_ms: 3_600_000,
            backoff_base_ms: 10_000,
            backoff_cap_ms: 300_000,
            stable_window_ms: 600_000,
            on_disconnect: OnDisconnect::Keep,
            stop_grace_ms: 10_000,
            lock_wait_ms: 0,
            trace_frames: false,
            shim: "/nonexistent".into(),
            cgroup_parent: "tank".into(),
        }
    }

    fn frames(sources: impl IntoIterator<Item = String>) -> Vec<u8> {
        let mut frames = FrameWriter::default();
        for source in sources {
            let term = text::parse(&source).unwrap();
            frames.push(|out| erlang_term_format::encode_into(&term, out));
        }
        frames.pending().to_vec()
    }

    /// Runs the loop, and `peer` whenever the loop lets the runtime look for what
    /// has happened, until that says that it has seen enough.
    async fn run_beside(daemon: Daemon, mut peer: impl FnMut() -> bool) {
        let mut running = pin!(daemon.run());
        let beside = poll_fn(|cx| match running.as_mut().poll(cx) {
            Poll::Ready(end) => panic!("the loop has ended: {end:?}"),
            Poll::Pending if peer() => Poll::Ready(()),
            Poll::Pending => Poll::Pending,
        });
        timeout(PATIENCE, beside).await.expect("the loop goes on");
    }

    #[tokio::test]
    async fn a_client_is_heard_between_turns_that_each_find_room_for_output() {
        let (mut peer, daemon) = Peer::of_a_daemon().await;
        // Less than the pipe holds: there is room in it all the time.
        let chunks = 15;
        let reply_bytes = chunks * CHUNK_BYTES;
        let pipe_bytes = fcntl_getpipe_size(&peer.answers).unwrap();
        assert!(reply_bytes + TURN_BYTES / 4 <= pipe_bytes, "a pipe holds {pipe_bytes} bytes");
        peer.says(&format!("{{1, ping, <<\"{}\">>}}", "v".repeat(reply_bytes - 100)));
        let (mut heard, mut has_asked) = (Vec::new(), false);
        run_beside(daemon, || {
            heard.extend(peer.hears());
            let is_chunk = |term: &Term<'_>| term.as_tuple().unwrap()[0].is_atom("chunk");
            if !has_asked && heard.iter().any(is_chunk) {
                has_asked = true;
                peer.says("{2, ping, small}");
            }
            heard.len() == 3 + chunks
        })
        .await;
        let at = heard.iter().position(|term| term.to_string() == "{2,{ok,small}}").unwrap();
        assert!(at < heard.len() - 1, "the small call is answered after the large one");
    }

    #[tokio::test]
    async fn what_has_waited_for_room_is_taken_up_over_many_turns() {
        let (mut peer, mut daemon) = Peer::of_a_daemon().await;
        let large = format!("{{1, ping, <<\"{}\">>}}", "v".repeat(OUTPUT_BYTES_MAX + TURN_BYTES));
        let gets = 4 * TURN_WORKS;
        let get = |id| format!("{{{id}, get, <<\"web\">>}}");
        daemon.session.push(&frames([large]));
        daemon.session.push(&frames((2..2 + gets).map(get)));
        assert!(!daemon.serve(), "there is no room for what waits");
        while !daemon.serve() {
            peer.hears();
        }
        assert_eq!(daemon.next_ticket, TURN_WORKS as u64, "each get has a ticket");
    }

    #[tokio::test]
    async fn what_a_turn_leaves_is_taken_up_though_nothing_else_happens() {
        let (mut peer, mut daemon) = Peer::of_a_daemon().await;
        // Words that move nothing here: there are no runs.
        let word = "{0, exited, {<<\"web\">>, 1, {exited, 0}}}".to_owned();
        daemon.session.push(&frames(vec![word; 8 * TURN_WORKS]));
        daemon.session.push(&frames(["{1, ping, nil}".to_owned()]));
        run_beside(daemon, || peer.hears().iter().any(|term| term.to_string() == "{1,{ok,nil}}"))
            .await;
    }
}
