//! The state of collecting: which checkpoint is before the witnesses, who has cosigned it, whom to ask when, and which
//! checkpoint is shown. No thread, no clock: what time it is comes with each call, as the time since the start.
//!
//! All witnesses are given the same checkpoint, a *round*, since cosignatures count together only under one text. The next
//! round begins when the log has grown and the round has its quorum, or nobody is left to be waited for, or it is old.
//!
//! What is shown is the newest checkpoint with its quorum, unless an entry that it lacks is older than `show_within`, or so
//! many witnesses are in trouble that no quorum is to be hoped for; then it is the newest of all, with what cosignatures it
//! has. It never gets smaller.

use std::collections::VecDeque;
use std::time::Duration;

use almoner_ledger::SignedCheckpoint;
use almoner_ledger::cosignature::{Cosignature, attach};
use almoner_ledger::policy::Policy;

use super::exchange::Trouble;

/// The times that collecting goes by.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How often the log is looked at.
    pub look: Duration,
    /// Least time from one round to the next.
    pub round_min: Duration,
    /// A round that is older does not keep the next from beginning.
    pub round_max: Duration,
    /// How long an entry may be in the log and not under the checkpoint that is shown.
    pub show_within: Duration,
    /// How often a log that does not grow is cosigned again.
    pub refresh: Duration,
    /// From when on a witness that does not cosign, or a missing quorum, is an alarm.
    pub alarm_after: Duration,
    /// First and longest wait before a witness is asked again after trouble.
    pub retry: (Duration, Duration),
    /// How long a request may take.
    pub request: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            look: Duration::from_millis(25),
            round_min: Duration::from_millis(200),
            round_max: Duration::from_secs(1),
            show_within: Duration::from_millis(800),
            refresh: Duration::from_secs(300),
            alarm_after: Duration::from_secs(30),
            retry: (Duration::from_secs(1), Duration::from_secs(60)),
            request: Duration::from_secs(4),
        }
    }
}

/// How it stands with a witness.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seat {
    /// Not asked yet.
    Waiting,
    /// It cosigned when asked last.
    Cosigning,
    /// It did not.
    Trouble(Trouble),
    /// The policy gives no URL for it.
    NotAsked,
}

/// What is known of one witness.
#[derive(Clone, Debug)]
pub struct Member {
    /// How it stands.
    pub seat: Seat,
    /// Entries that it cosigned last.
    pub size: Option<u64>,
    /// When, in seconds since the epoch by its clock.
    pub time: Option<u64>,
    /// When it last cosigned or trouble began, by ours.
    since: Duration,
    /// The round that it cosigned last.
    done: u64,
    /// A request is under way.
    busy: bool,
    /// Not to be asked before.
    next: Duration,
    failures_in_a_row: u32,
    /// Cosignatures so far.
    pub cosigned: u64,
    /// Answers that refused the log or could not be used, so far.
    pub refusals: u64,
    /// Requests without an answer, so far.
    pub failures: u64,
}

/// A checkpoint before the witnesses.
#[derive(Clone, Debug)]
struct Round {
    number: u64,
    begun: Duration,
    signed: SignedCheckpoint,
    lines: Vec<Option<Cosignature>>,
}

impl Round {
    fn with_lines(&self) -> SignedCheckpoint {
        let lines = self.lines.iter().flatten().map(|cosignature| cosignature.line.as_str());
        // Both were checked when they came.
        let note = attach(&self.signed.note, lines).unwrap_or_else(|_| self.signed.note.clone());
        SignedCheckpoint { note, ..self.signed.clone() }
    }
}

/// What a worker is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Task {
    /// Get this checkpoint cosigned, for this round.
    Ask(u64, SignedCheckpoint),
    /// Nothing, for so long at most.
    Wait(Duration),
}

/// What is to be kept across restarts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The newest checkpoint with its quorum.
    pub quorum: Option<SignedCheckpoint>,
    /// The checkpoint of the present round, with what it has.
    pub latest: Option<SignedCheckpoint>,
}

/// Something that its operator is told once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum News {
    /// A witness does not cosign any more, or for another reason.
    Trouble(usize, Trouble),
    /// A witness cosigns again.
    Well(usize),
    /// The newest entries have been without their quorum for so long that it is an alarm.
    QuorumLost,
    /// The quorum is there again.
    QuorumBack,
}

/// The state of collecting.
#[derive(Debug)]
pub struct Board {
    policy: Policy,
    timing: Timing,
    /// When the log was first seen with more entries, and how many; the newest last.
    grown: VecDeque<(Duration, u64)>,
    looked: Duration,
    round: Option<Round>,
    /// The newest round that reached its quorum.
    quorum: Option<Round>,
    /// Size of the largest checkpoint that was shown.
    shown: u64,
    members: Vec<Member>,
    /// Since when the log has had entries without a quorum, or since the last quorum that did not cover all.
    late_since: Option<Duration>,
    changed: bool,
    alarmed: bool,
    news: Vec<News>,
}

impl Board {
    /// Nothing collected yet, but for `kept`, a checkpoint that reached its quorum in an earlier run.
    pub fn new(policy: Policy, timing: Timing, kept: Option<SignedCheckpoint>) -> Self {
        let member = |url: bool| Member {
            seat: if url { Seat::Waiting } else { Seat::NotAsked },
            size: None,
            time: None,
            since: Duration::ZERO,
            done: 0,
            busy: false,
            next: Duration::ZERO,
            failures_in_a_row: 0,
            cosigned: 0,
            refusals: 0,
            failures: 0,
        };
        let members = policy.witnesses().iter().map(|witness| member(witness.url.is_some())).collect();
        let mut board = Self {
            policy,
            timing,
            grown: VecDeque::new(),
            looked: Duration::ZERO,
            round: None,
            quorum: None,
            shown: 0,
            members,
            late_since: None,
            changed: false,
            alarmed: false,
            news: Vec::new(),
        };
        board.quorum = kept.and_then(|signed| {
            let standing = board.policy.standing(&signed.note).ok().filter(|standing| standing.reached)?;
            for (member, line) in board.members.iter_mut().zip(&standing.cosignatures) {
                member.size = line.as_ref().map(|_| signed.checkpoint.size);
                member.time = line.as_ref().map(|line| line.time);
            }
            Some(Round { number: 0, begun: Duration::ZERO, signed, lines: standing.cosignatures })
        });
        board
    }

    /// The policy.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The witnesses, in the order of the policy.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Looks at the log, whose newest checkpoint is `newest`; says whether there is something new to ask for.
    pub fn look(&mut self, now: Duration, newest: &SignedCheckpoint) -> bool {
        self.looked = now;
        let size = newest.checkpoint.size;
        if self.grown.back().is_none_or(|(_, before)| *before < size) {
            self.grown.push_back((now, size));
        }
        while self.grown.len() > 1
            && self.grown.get(1).is_some_and(|(when, _)| *when + self.timing.show_within < now)
        {
            self.grown.pop_front();
        }
        self.watch_quorum(now, size);
        let due = match &self.round {
            None => true,
            Some(round) if round.signed.checkpoint.size == size => now >= round.begun + self.timing.refresh,
            Some(round) => {
                let age = now.saturating_sub(round.begun);
                let waited_for = self.members.iter().any(|m| m.busy || Self::due(m, round, now));
                age >= self.timing.round_min
                    && (self.reached(round) || !waited_for || age >= self.timing.round_max)
            }
        };
        if due {
            self.begin(now, newest);
        }
        due
    }

    fn due(member: &Member, round: &Round, now: Duration) -> bool {
        member.seat != Seat::NotAsked && member.done < round.number && member.next <= now
    }

    fn reached(&self, round: &Round) -> bool {
        self.policy.reached(|at| round.lines.get(at).is_some_and(Option::is_some))
    }

    fn begin(&mut self, now: Duration, newest: &SignedCheckpoint) {
        let number = self.round.as_ref().map_or(0, |round| round.number) + 1;
        // The same checkpoint again keeps what it has until newer cosignatures come.
        let is_same = |round: &&Round| round.signed.checkpoint == newest.checkpoint;
        let same = [&self.quorum, &self.round].into_iter().flatten().find(is_same);
        let lines = same.map_or_else(|| vec![None; self.members.len()], |round| round.lines.clone());
        let round = Round { number, begun: now, signed: newest.clone(), lines };
        if self.reached(&round) {
            self.reach(round.clone(), now);
        }
        self.round = Some(round);
    }

    /// What the worker of witness `at` is to do.
    pub fn task(&mut self, at: usize, now: Duration) -> Task {
        let (Some(round), Some(member)) = (&self.round, self.members.get_mut(at)) else {
            return Task::Wait(self.timing.look);
        };
        if !Self::due(member, round, now) {
            let until = if member.done < round.number {
                member.next.saturating_sub(now)
            } else {
                self.timing.refresh
            };
            return Task::Wait(until.max(Duration::from_millis(1)));
        }
        member.busy = true;
        Task::Ask(round.number, round.signed.clone())
    }

    /// Witness `at` cosigned the checkpoint of `round`, `signed`.
    pub fn cosigned(
        &mut self,
        at: usize,
        round: u64,
        signed: &SignedCheckpoint,
        cosignature: Cosignature,
        now: Duration,
    ) {
        let Some(member) = self.members.get_mut(at) else { return };
        if matches!(member.seat, Seat::Trouble(_)) {
            self.news.push(News::Well(at));
        }
        member.seat = Seat::Cosigning;
        member.busy = false;
        (member.done, member.since, member.next, member.failures_in_a_row) = (round, now, now, 0);
        (member.size, member.time) = (Some(signed.checkpoint.size), Some(cosignature.time));
        member.cosigned += 1;
        for place in [&mut self.round, &mut self.quorum].into_iter().flatten() {
            if place.signed == *signed
                && let Some(line) = place.lines.get_mut(at)
            {
                *line = Some(cosignature.clone());
                self.changed = true;
            }
        }
        if let Some(round) = self.round.take() {
            if self.reached(&round) {
                self.reach(round.clone(), now);
            }
            self.round = Some(round);
        }
    }

    /// Witness `at` did not cosign.
    pub fn failed(&mut self, at: usize, trouble: Trouble, now: Duration) {
        let (first, longest) = self.timing.retry;
        let Some(member) = self.members.get_mut(at) else { return };
        match &trouble {
            Trouble::Unreachable(_) => member.failures += 1,
            _ => member.refusals += 1,
        }
        let seat = Seat::Trouble(trouble.clone());
        let kind = |seat: &Seat| match seat {
            Seat::Trouble(trouble) => Some(std::mem::discriminant(trouble)),
            _ => None,
        };
        if kind(&member.seat) != kind(&seat) {
            if !matches!(member.seat, Seat::Trouble(_)) {
                member.since = now;
            }
            self.news.push(News::Trouble(at, trouble));
        }
        member.seat = seat;
        member.busy = false;
        let wait = first.saturating_mul(1 << member.failures_in_a_row.min(20)).min(longest);
        member.failures_in_a_row += 1;
        member.next = now + wait;
    }

    /// When the log first had more than `size` entries, as far as was looked; `None` if it was not seen with more.
    fn grown_beyond(&self, size: u64) -> Option<Duration> {
        self.grown.iter().find(|(_, grown)| *grown > size).map(|(when, _)| *when)
    }

    fn watch_quorum(&mut self, now: Duration, size: u64) {
        let covered = self.quorum.as_ref().is_some_and(|round| round.signed.checkpoint.size >= size);
        if covered {
            self.late_since = None;
            if std::mem::take(&mut self.alarmed) {
                self.news.push(News::QuorumBack);
            }
            return;
        }
        let since = *self.late_since.get_or_insert(now);
        if !self.alarmed && now.saturating_sub(since) >= self.timing.alarm_after {
            self.alarmed = true;
            self.news.push(News::QuorumLost);
        }
    }

    /// `round` reached its quorum.
    fn reach(&mut self, round: Round, now: Duration) {
        self.quorum = Some(round);
        self.late_since = self.late_since.map(|_| now);
    }

    /// The checkpoint to show, where `newest` is the newest of all.
    pub fn shown(&mut self, now: Duration, newest: &SignedCheckpoint) -> SignedCheckpoint {
        // With too many witnesses in trouble nothing is to be waited for.
        let hoped = self.policy.reached(|at| {
            self.members.get(at).is_some_and(|m| matches!(m.seat, Seat::Waiting | Seat::Cosigning))
        });
        let fresh = |round: &&Round| {
            let size = round.signed.checkpoint.size;
            let late = self.grown_beyond(size).is_some_and(|when| when + self.timing.show_within <= now);
            // If nobody looks any more, nothing is known of how late it is.
            let looked = self.looked + self.timing.show_within > now;
            size >= self.shown && (size >= newest.checkpoint.size || (!late && looked && hoped))
        };
        let round = self.quorum.as_ref().filter(fresh);
        let same = |round: &&Round| round.signed == *newest;
        let round = round.or_else(|| self.round.as_ref().filter(same));
        let shown = round.map_or_else(|| newest.clone(), Round::with_lines);
        self.shown = self.shown.max(shown.checkpoint.size);
        shown
    }

    /// The size and the cosignatures under the newest checkpoint that reached its quorum.
    pub fn quorum(&self) -> Option<(u64, u64)> {
        let round = self.quorum.as_ref()?;
        let time = round.lines.iter().flatten().map(|line| line.time).max().unwrap_or(0);
        Some((round.signed.checkpoint.size, time))
    }

    /// The quorum of the present round in words.
    pub fn words(&self) -> String {
        self.policy.words(|at| {
            self.round.as_ref().is_some_and(|round| round.lines.get(at).is_some_and(Option::is_some))
        })
    }

    /// What is wrong, for people: each witness that refuses, or has long been silent, and a quorum that is long missing.
    pub fn alarms(&self, now: Duration) -> Vec<String> {
        let mut alarms = Vec::new();
        if self.alarmed {
            alarms
                .push(format!("the newest entries are without their quorum of witnesses: {}", self.words()));
        }
        for (witness, member) in self.policy.witnesses().iter().zip(&self.members) {
            let Seat::Trouble(trouble) = &member.seat else { continue };
            let silent = matches!(trouble, Trouble::Unreachable(_));
            if !silent || now.saturating_sub(member.since) >= self.timing.alarm_after {
                alarms.push(format!("witness {}: {trouble}", witness.name));
            }
        }
        alarms
    }

    /// What is to be kept, if it changed since it was last taken.
    pub fn take_changed(&mut self) -> Option<Kept> {
        std::mem::take(&mut self.changed).then(|| Kept {
            quorum: self.quorum.as_ref().map(Round::with_lines),
            latest: self.round.as_ref().map(Round::with_lines),
        })
    }

    /// What the operator is to be told since it was last taken.
    pub fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }
}
