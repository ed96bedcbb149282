//! What all requests of a VM share, and what is known of one from its headers on.

use super::Signal;
use std::borrow::Cow;
use std::cell::Cell;

use crate::config::{Config, Mode, OnMissingSession, OnReinitialize, OnSessionLost, without_query};
use crate::digest::{Digest, DigestKey, Salt};
use crate::endpoints::Endpoints;
use crate::flights::Flights;
use crate::headers::Headers;
use crate::initialize::Initialize;
use crate::initializes::Initializes;
use crate::memory::{CallerRecord, Change, Memory, Rewritten, Session};
use crate::platform::{Platform, PlatformError, Store};
use crate::reply::Reply;
use crate::roster::Roster;
use crate::seat::{Gone, Holder, Knock, Ticket};
use crate::seats::{Changed, Knocked, Seats};
use crate::session::{ProtocolVersion, SessionId};
use crate::time::Millis;
use crate::upstream_host::UpstreamHost;

/// What all requests of a VM share.
pub struct Plugin {
    /// What the filter is told to do.
    pub config: Config,
    /// What is remembered.
    pub memory: Memory,
    /// The requests of shared sessions that are under way.
    pub flights: Flights,
    /// The sessions of which there may be one at a time.
    pub seats: Seats,
    /// What it takes to open sessions once more.
    pub initializes: Initializes,
    /// What digests are made with.
    pub key: DigestKey,
    /// The endpoints that it has met.
    pub endpoints: Endpoints,
    /// The salt that the key was made of.
    pub salt: Salt,
    /// What tells this VM from others.
    pub vm: u64,
}

/// Whose request it is, and where it goes.
#[derive(Clone)]
pub struct Request {
    /// Its caller's digest.
    pub caller: Digest,
    /// The digest of where it goes.
    pub endpoint: Digest,
    /// The upstream cluster.
    pub cluster: String,
    /// When it came.
    pub came: Millis,
    pub(super) path: Vec<u8>,
    pub(super) authority: Vec<u8>,
    pub(super) is_delete: bool,
    pub(super) has_own_id: bool,
}

impl Request {
    /// Whether a session for it can be written down at a seat: that has bounds.
    pub(super) fn is_bounded(&self) -> bool {
        Rewritten::parse(&self.path, &self.authority).is_some()
    }
}

impl Plugin {
    /// A plugin with this configuration; `secret` is the operator's, `vm` a number that no other VM has.
    #[must_use]
    pub fn new(config: Config, salt: Salt, secret: &[u8], vm: u64) -> Self {
        Self {
            memory: Memory::new(&config),
            flights: Flights::default(),
            seats: Seats::new(&config),
            initializes: Initializes::new(&config),
            key: DigestKey::new(&salt, secret),
            endpoints: Endpoints::default(),
            config,
            salt,
            vm,
        }
    }

    /// Makes all keys that this configuration needs; see [`crate::table::Table::create`].
    ///
    /// # Errors
    /// If the store fails.
    pub fn create_tables(&self, store: &impl Store) -> Result<(), PlatformError> {
        self.memory.create_slots(store)?;
        if self.config.translate_ids {
            self.flights.create(store)?;
        }
        if self.has_seats() {
            self.seats.create(store)?;
            Roster::create(store)?;
        }
        if self.recovers() || self.opens_missing() {
            self.initializes.create(store)?;
        }
        Ok(())
    }

    /// What is remembered of the session at a seat; `is_shared` if its caller's clients meet in it.
    pub(crate) fn session_of(
        &self,
        holder: &Holder,
        version: Option<ProtocolVersion>,
        is_shared: bool,
        now: Millis,
    ) -> Session {
        Session {
            version,
            host: holder.target.host,
            opened: holder.opened,
            shared: is_shared && self.config.translate_ids,
            owned: is_shared && self.shares(),
            ..Session::new(holder.endpoint, holder.session.clone(), now)
        }
    }

    /// The host that has answered a request of the filter's own, if that is to be known.
    pub(crate) fn host_of(&self, answer: &Headers) -> Option<UpstreamHost> {
        let name = self.config.upstream_host_header.as_deref()?;
        UpstreamHost::named_in(answer, name)
    }

    /// What is to be counted of a new session on this host.
    pub(crate) fn unpinned(&self, host: Option<UpstreamHost>) -> Option<Signal> {
        let is_wanted = self.config.upstream_host_header.is_some();
        (is_wanted && host.is_none()).then_some(Signal::Unpinned)
    }

    /// What a server answered to a request of the filter's own, for a client: which host it was is none of its business.
    pub(crate) fn passed_on(&self, status: u16, headers: &Headers, body: Vec<u8>) -> Reply {
        let reply = Reply::passed_on(status, headers, body);
        match &self.config.upstream_host_header {
            Some(name) => reply.without(name),
            None => reply,
        }
    }

    /// Whether requests may wait for each other.
    #[must_use]
    pub fn has_seats(&self) -> bool {
        self.config.on_reinitialize != OnReinitialize::Forward
            || self.recovers()
            || self.opens_missing()
    }

    /// Whether a lost session is opened once more.
    #[must_use]
    pub fn recovers(&self) -> bool {
        self.config.mode == Mode::Repair && self.config.on_session_lost == OnSessionLost::Recover
    }

    /// Whether a request without a session has one opened.
    pub(super) fn opens_missing(&self) -> bool {
        self.config.mode == Mode::Repair
            && self.config.on_missing_session == OnMissingSession::Initialize
    }

    /// Whether a request is sent again without a version that its server refuses.
    pub(crate) fn repairs_version(&self) -> bool {
        self.config.mode == Mode::Repair && self.config.repair_protocol_version
    }

    /// A digest of a caller's session. Servers may give one id to several callers, one after the other.
    pub(super) fn digest_of(
        &self,
        what: &'static str,
        request: &Request,
        session: &SessionId,
    ) -> Digest {
        let parts = [
            request.endpoint.as_bytes().as_slice(),
            request.caller.as_bytes(),
            session.as_bytes(),
        ];
        self.key.digest(what, parts)
    }

    /// Keeps what opened a session.
    pub(crate) fn keep_initialize(
        &self,
        platform: &impl Platform,
        request: &Request,
        session: &SessionId,
        body: &[u8],
    ) -> Option<Signal> {
        let mut kept: Vec<(Digest, Cow<[u8]>)> = Vec::new();
        if self.recovers() {
            kept.push((self.digest_of("initialize", request, session), body.into()));
        }
        if self.opens_missing() {
            kept.push((self.whose_last_initialize(request), body.into()));
            let anybodys = Initialize::parse(body.to_vec()).and_then(|one| one.for_anybody());
            kept.extend(anybodys.map(|body| (self.last_initialize_at(request), body.into())));
        }
        let keep = |(whose, body): &(Digest, Cow<[u8]>)| {
            let kept = self.initializes.keep(platform, whose, body, platform.now());
            kept.err().map(Signal::Failed)
        };
        kept.iter().find_map(keep)
    }

    /// A session was used: what opened it is remembered for longer.
    pub(super) fn renew_initialize(
        &self,
        platform: &impl Platform,
        request: &Request,
        session: &SessionId,
    ) -> Option<Signal> {
        if !self.recovers() {
            return None;
        }
        let whose = self.digest_of("initialize", request, session);
        let renewed = self.initializes.renew(platform, &whose, request.came);
        renewed.err().map(Signal::Failed)
    }

    /// What a session is opened with for a caller that has none: what it sent itself, or what any client could send there.
    /// Nothing if none is to be opened, or the request can't wait for it.
    pub(super) fn remembered_initialize(
        &self,
        platform: &impl Platform,
        request: &Request,
    ) -> Option<Initialize> {
        if !(self.opens_missing() && request.is_bounded() && platform.may_wait()) {
            return None;
        }
        let find = |whose| self.initializes.find(platform, &whose).ok().flatten();
        let own = find(self.whose_last_initialize(request));
        let found = own.or_else(|| find(self.last_initialize_at(request)));
        found.and_then(Initialize::parse)
    }

    fn whose_last_initialize(&self, request: &Request) -> Digest {
        self.digest_at("last initialize", &request.endpoint, &request.caller)
    }

    fn last_initialize_at(&self, request: &Request) -> Digest {
        let parts = [request.endpoint.as_bytes().as_slice()];
        self.key.digest("anybody's initialize", parts)
    }

    /// Whether the clients of a caller share a session.
    pub(crate) fn shares(&self) -> bool {
        self.on_reinitialize() == OnReinitialize::Reuse
    }

    /// What becomes of an `initialize` while a session lives.
    pub(crate) fn on_reinitialize(&self) -> OnReinitialize {
        match self.config.mode {
            Mode::Repair => self.config.on_reinitialize,
            Mode::Observe => OnReinitialize::Forward,
        }
    }

    /// What the client can do that sent this.
    pub(super) fn capabilities(&self, initialize: &Initialize) -> Digest {
        let declared = [initialize.capabilities.as_bytes()];
        self.key.digest("capabilities", declared)
    }

    /// The seat that a request's session has: its caller's at this endpoint, or the one that the server has for all.
    pub(super) fn seat(&self, request: &Request) -> Option<Digest> {
        match self.on_reinitialize() {
            OnReinitialize::Forward => None,
            OnReinitialize::Reuse => Some(self.seat_of_clients(&request.endpoint, &request.caller)),
            OnReinitialize::Queue => {
                let parts = [request.cluster.as_bytes(), without_query(&request.path)];
                Some(self.key.digest("server", parts))
            }
        }
    }

    /// The seat of the session that a caller's clients share.
    fn seat_of_clients(&self, endpoint: &Digest, caller: &Digest) -> Digest {
        self.digest_at("seat", endpoint, caller)
    }

    /// A digest of a caller at an endpoint.
    pub(super) fn digest_at(
        &self,
        what: &'static str,
        endpoint: &Digest,
        caller: &Digest,
    ) -> Digest {
        let parts = [endpoint.as_bytes(), caller.as_bytes()];
        self.key.digest(what, parts.map(<[u8; 32]>::as_slice))
    }

    /// What a session is opened with for a POST whose own is just being ended, as sessions take turns. Nothing if that is
    /// not so: then its lease is renewed. Nor if the request can't wait, or it is not known what opened its session.
    pub(super) fn initialize_after_ending(
        &self,
        platform: &impl Platform,
        request: &Request,
        session: &Session,
    ) -> Option<Initialize> {
        if !(self.on_reinitialize() == OnReinitialize::Queue && self.recovers()) {
            return None;
        }
        let seat = self.seat(request)?;
        let (seats, now) = (&self.seats, platform.now());
        if seats.enter(platform, &seat, &session.id, now).ok()? || !platform.may_wait() {
            return None;
        }
        self.kept_initialize(platform, request, &session.id)
    }

    /// What opened a session, if that is remembered.
    pub(super) fn kept_initialize(
        &self,
        platform: &impl Platform,
        request: &Request,
        session: &SessionId,
    ) -> Option<Initialize> {
        let whose = self.digest_of("initialize", request, session);
        let kept = self.initializes.find(platform, &whose).ok().flatten();
        kept.filter(|_| request.is_bounded())
            .and_then(Initialize::parse)
    }

    /// A session that has ended keeps its seat for nobody.
    pub(super) fn release(
        &self,
        platform: &impl Platform,
        request: &Request,
        session: &SessionId,
    ) -> Option<Signal> {
        let seat = self.seat(request)?;
        let gone = Gone {
            caller: &request.caller,
            session,
            opened_by: Millis(u64::MAX),
        };
        woken(seat, self.seats.release(platform, &seat, gone))
    }

    /// Looks into a slot of the seats for a session that clients shared and that has expired; see [`Seats::expire`].
    ///
    /// # Errors
    /// If the store fails.
    pub fn expire(
        &self,
        platform: &impl Platform,
        slot: u32,
        ticket: Ticket,
    ) -> Result<Option<(Digest, Box<Holder>)>, PlatformError> {
        // Others stand where they were recovered: nobody says there for how long they are used.
        let is_shared = |seat: &Digest, holder: &Holder| {
            *seat == self.seat_of_clients(&holder.endpoint, &holder.caller)
        };
        let now = platform.now();
        self.seats.expire(platform, slot, ticket, now, is_shared)
    }

    /// An `initialize` asks for its turn at a seat.
    pub(super) fn knock(
        &self,
        platform: &impl Platform,
        seat: &Digest,
        knock: &Knock,
    ) -> Result<Knocked, PlatformError> {
        self.seats.knock(platform, seat, knock, platform.now())
    }

    /// What is remembered of the request's caller; nothing if that can't be read.
    pub(super) fn recall(
        &self,
        platform: &impl Platform,
        request: &Request,
    ) -> Option<CallerRecord> {
        let record = self
            .memory
            .recall(platform, &request.caller, platform.now());
        record.ok().flatten()
    }

    /// The session at a seat as it is remembered. What can't be read may be shared.
    pub(super) fn session_at(
        &self,
        platform: &impl Platform,
        request: &Request,
        holder: &Holder,
    ) -> Session {
        let known = self.known_session(platform, request, &holder.session);
        known.unwrap_or_else(|| self.session_of(holder, None, true, platform.now()))
    }

    /// What is remembered of a session of the request's caller; nothing if that can't be read.
    pub(super) fn known_session(
        &self,
        platform: &impl Platform,
        request: &Request,
        id: &SessionId,
    ) -> Option<Session> {
        let record = self.recall(platform, request)?;
        record.session(&request.endpoint, id).cloned()
    }

    /// From now on the requests of a session name no version: its server refuses that. Says whether that is written down.
    pub(super) fn drop_version(
        &self,
        platform: &impl Platform,
        request: &Request,
        id: &SessionId,
    ) -> (bool, Vec<Signal>) {
        let is_known = Cell::new(false);
        let drop_version = |record: &mut CallerRecord| {
            let session = record.session_mut(&request.endpoint, id);
            is_known.set(session.is_some());
            if let Some(session) = session {
                session.versionless = true;
            }
        };
        let (is_done, signals) = self.remember(platform, request, drop_version);
        (is_done && is_known.get(), signals)
    }

    /// Changes what is remembered of the request's caller. Says whether that took place, and what there is to count.
    pub(crate) fn remember(
        &self,
        platform: &impl Platform,
        request: &Request,
        change: impl Fn(&mut CallerRecord),
    ) -> (bool, Vec<Signal>) {
        self.change(platform, &request.caller, change)
    }

    /// Changes what is remembered of a caller, like [`Self::remember`].
    pub(crate) fn change(
        &self,
        platform: &impl Platform,
        caller: &Digest,
        change: impl Fn(&mut CallerRecord),
    ) -> (bool, Vec<Signal>) {
        match self.memory.change(platform, caller, platform.now(), change) {
            Ok(Change::Done { evicted: 0 }) => (true, Vec::new()),
            Ok(Change::Done { evicted }) => (true, vec![Signal::Evicted(evicted)]),
            Ok(Change::GivenUp) => (false, vec![Signal::Contended]),
            Err(error) => (false, vec![Signal::Failed(error)]),
        }
    }
}

/// What a change of a seat has to tell others.
pub(super) fn woken(seat: Digest, changed: Result<Changed, PlatformError>) -> Option<Signal> {
    match changed {
        Ok(Changed { wakes: true, .. }) => Some(Signal::Wake(seat)),
        Ok(Changed { wakes: false, .. }) => None,
        Err(error) => Some(Signal::Failed(error)),
    }
}
