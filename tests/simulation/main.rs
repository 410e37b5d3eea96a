//! The specification of consent, as a simulation: random acts of hospitals, committees, recipients and participants
//! against a ledger in memory and a clock that is moved by hand. After every act, these hold:
//!
//! 1. **Nothing by default.** A person of whom no consent is recorded is permitted to nobody.
//! 2. **No use after a withdrawal.** From the entry of a withdrawal on, its person is in no answer about who permits a use,
//!    at any later ledger size, whatever else is recorded of them, until an act names that withdrawal, was recorded after
//!    it and signed after it.
//! 3. **A consent signed at or before a withdrawal never lifts it**, also when it names it: such an entry is refused. So is
//!    a hospital's paper that names a withdrawal made to all hospitals, and whatever is signed in the future.
//! 4. **Expiry by ledger time.** A consent that holds for some days is in force through its last instant, and in no answer
//!    afterwards, as the clock of the ledger goes.
//! 5. **The past does not change.** The answer as of an earlier ledger size is what it was.
//! 6. **The index is the evaluation.** Who is permitted by shapes is who is permitted one by one.
//! 7. **No permit** for a request that a committee has not approved, or revoked, or whose terms are unsigned, or without a
//!    legal basis in force, or after its ethics determination expired; each refusal is in the ledger with its reasons.
//!
//! The model that answers are compared with is written here from scratch and knows nothing of the code under test.

mod people;
mod world;

use std::collections::BTreeSet;

use almoner::consent::{
    Category, CategorySet, Coverage, Directive, Effect, Period, Provision, Purpose, Signed, Source, Status,
    Use, WithdrawalMode,
};
use almoner::events::{
    EthicsDetermination, LegalBasisRecorded, ProjectCreated, RequestDecided, RequestSubmitted, TermsSigned,
};
use almoner::flows::consent::{NewConsent, Whose};
use almoner::flows::permitted::verdict;
use almoner::flows::{AccessError, consent, decide, permitted_subjects, request, withdraw};
use almoner::store::Store;
use almoner_model::{Clock, Date, Digest, Duo, SourcePatientId, Tables, Timestamp};

use world::{World, dataset, north};

const DAY: i64 = 86_400_000;

fn directive(source: Source, signed: Signed, permit: bool, until: Option<Timestamp>) -> Directive {
    let mut rules = Provision::permit([Duo::HealthResearch]);
    rules.period = until.map(|until| Period { from: None, until: Some(until) });
    if !permit {
        rules = Provision::new(Effect::Deny);
    }
    Directive {
        source,
        lineage: "form:broad".into(),
        signed,
        status: Status::Active,
        covers: Coverage::Contributor,
        form: None,
        evidence: None,
        rules,
    }
}

fn health(at: Timestamp) -> Use {
    Use {
        purpose: Purpose::of(Duo::HealthResearch, []),
        recipient: "institute".parse().expect("slug"),
        project: "stroke".parse().expect("slug"),
        required: CategorySet::EMPTY.with(Category::Demographics),
        delivered: CategorySet::EMPTY,
        at,
    }
}

/// When a consent was signed and recorded: the last governs.
type Order = (Date, Timestamp, u64);

/// What the model remembers of a person: the consent that governs (when it was signed and recorded, whether it permits,
/// until when), and withdrawals with whether they stand.
#[derive(Clone, Default)]
struct Said {
    governing: Option<(Order, bool, Option<Timestamp>)>,
    withdrawals: Vec<(u64, Timestamp, bool)>,
    /// Those that were made to all hospitals.
    to_all: BTreeSet<u64>,
}

impl Said {
    /// Of one document the version signed last governs: by day, then an act whose instant is known after a paper of that
    /// day, then by order in the ledger.
    fn hear(&mut self, signed: Signed, seq: u64, permit: bool, until: Option<Timestamp>) {
        let key = (signed.date, signed.at.unwrap_or(Timestamp::from_millis(i64::MIN)), seq);
        if self.governing.is_none_or(|(other, ..)| other < key) {
            self.governing = Some((key, permit, until));
        }
    }

    fn permits(&self, at: Timestamp) -> bool {
        let standing = self.withdrawals.iter().any(|(.., stands)| *stands);
        let in_force =
            self.governing.is_some_and(|(_, permit, until)| permit && until.is_none_or(|u| at <= u));
        !standing && in_force
    }
}

const PEOPLE: usize = 8;

#[test]
fn whatever_is_said_in_whatever_order_the_ledger_permits_what_the_specification_does() {
    for seed in 0..24 {
        let world = World::new(seed);
        let mut model: Vec<Said> = vec![Said::default(); PEOPLE];
        let mut past: Vec<(u64, Use, BTreeSet<i64>)> = Vec::new();
        for _ in 0..60 {
            step(&world, &mut model);
            check(&world, &model, &mut past);
        }
        for (as_of, wanted, expected) in past {
            let again =
                permitted_subjects(&world.ctx(), &wanted, &[dataset()], Some(as_of)).expect("answered");
            let ids: BTreeSet<i64> = again.ids().into_iter().collect();
            assert_eq!(ids, expected, "seed {seed}: the answer as of {as_of} changed");
        }
    }
}

fn step(world: &World, model: &mut [Said]) {
    let n = usize::try_from(world.pick(PEOPLE as u64)).expect("small");
    match world.pick(10) {
        0..4 => consents(world, n, &mut model[n]),
        4..6 => withdraws(world, n, &mut model[n]),
        6..8 => names_a_withdrawal(world, n, &mut model[n]),
        _ => world.clock.advance_millis(i64::try_from(world.pick(40)).expect("small") * DAY / 8),
    }
}

fn record(world: &World, n: usize, directive: Directive, lifts: Option<u64>) -> Result<u64, AccessError> {
    let whose = Whose::Record(SourcePatientId::new(format!("MRN-{n}")));
    let new = NewConsent { whose, directive, lifts };
    consent::record(&world.ctx(), &world.act("contributor"), &north(), new)
}

/// A paper of some day, before or after others; sometimes a refusal, sometimes for some days only.
fn consents(world: &World, n: usize, said: &mut Said) {
    let today = world.clock.now().date();
    let signed = today.plus_days(-i32::try_from(world.pick(12)).expect("small"));
    let permit = world.pick(4) > 0;
    let days = i64::try_from(world.pick(20)).expect("small");
    let until =
        (world.pick(2) == 0).then(|| Timestamp::from_millis(world.clock.now().millis() + days * DAY / 2));
    let seq = record(world, n, directive(Source::Form, Signed::on(signed), permit, until), None)
        .expect("a consent that names nothing is always recorded");
    said.hear(Signed::on(signed), seq, permit, until);
}

fn withdraws(world: &World, n: usize, said: &mut Said) {
    let mode = if world.pick(2) == 0 { WithdrawalMode::NoFurtherUse } else { WithdrawalMode::Recall };
    let role = if world.pick(2) == 0 { "participant" } else { "contributor" };
    let hospital = north();
    let only = (role == "contributor").then_some(&hospital);
    let receipt = withdraw::withdraw(&world.ctx(), &world.act(role), world.subject(n), only, mode, None)
        .expect("anyone may withdraw at any time");
    assert_eq!(receipt.hospitals.len(), 1);
    if only.is_none() {
        said.to_all.insert(receipt.seq);
    }
    said.withdrawals.push((receipt.seq, receipt.time, true));
}

/// A consent that names one of the person's withdrawals: on paper of some day, or the participant's own act.
fn names_a_withdrawal(world: &World, n: usize, said: &mut Said) {
    if said.withdrawals.is_empty() {
        return;
    }
    let at = usize::try_from(world.pick(said.withdrawals.len() as u64)).expect("small");
    let (named, time, _) = said.withdrawals[at];
    let now = world.clock.now();
    let own = world.pick(2) == 0;
    let signed = if own {
        Signed::at(now)
    } else {
        Signed::on(now.date().plus_days(3 - i32::try_from(world.pick(12)).expect("small")))
    };
    let source = if own { Source::Participant } else { Source::Form };
    let later = if own {
        now > time
    } else {
        // Later than the whole day of the withdrawal, wherever on earth the paper was signed.
        let after = Timestamp::from_date(signed.date).millis() - 14 * 3_600_000
            > Timestamp::from_date(time.date().plus_days(1)).millis();
        after && !said.to_all.contains(&named) && signed.date <= now.date().plus_days(1)
    };
    let recorded = record(world, n, directive(source, signed, true, None), Some(named));
    assert_eq!(recorded.is_ok(), later, "signed {signed:?}, withdrawn {time}");
    let Ok(seq) = recorded else { return };
    said.withdrawals[at].2 = false;
    said.hear(signed, seq, true, None);
}

fn check(world: &World, model: &[Said], past: &mut Vec<(u64, Use, BTreeSet<i64>)>) {
    let ctx = world.ctx();
    let wanted = health(ctx.now().expect("ledger time"));
    let answer = permitted_subjects(&ctx, &wanted, &[dataset()], None).expect("answered");
    let ids: BTreeSet<i64> = answer.ids().into_iter().collect();
    for (n, said) in model.iter().enumerate() {
        let subject = world.subject(n);
        let expected = said.permits(wanted.at);
        let one = verdict(&ctx, subject, &north(), &wanted, answer.as_of).expect("evaluated");
        assert_eq!(ids.contains(&subject.get()), expected, "person {n}: {:?}", one.reasons);
        assert_eq!(one.permit, expected, "person {n}: {:?}", one.reasons);
    }
    let spoke = model.iter().filter(|s| s.governing.is_some() || !s.withdrawals.is_empty()).count();
    assert_eq!(
        ids.len() as u64 + answer.refused.values().sum::<u64>(),
        spoke as u64,
        "everyone is accounted for"
    );
    past.push((answer.as_of, wanted, ids));
}

fn date(text: &str) -> Date {
    text.parse().expect("a date")
}

fn submitted() -> RequestSubmitted {
    RequestSubmitted {
        request: "r1".parse().expect("slug"),
        project: "stroke".parse().expect("slug"),
        recipient: "institute".parse().expect("slug"),
        purpose: Duo::HealthResearch,
        modifiers: vec![],
        diseases: vec![],
        methods: false,
        statements: vec![],
        cohort: Digest::of(b""),
        datasets: vec![dataset()],
        tables: vec!["person".into()],
        tier: "controlled".into(),
        profile: "date-shifted".into(),
        lay_summary: "We want to learn how blood sugar changes in the years before a stroke.".into(),
        ethics: EthicsDetermination {
            protocol: "2026-17".into(),
            board: "City".into(),
            expires: date("2026-06-30"),
        },
    }
}

fn decided(word: &str) -> RequestDecided {
    RequestDecided {
        request: "r1".parse().expect("slug"),
        contributor: north(),
        decision: word.into(),
        delegate: None,
        reason: "as discussed".into(),
    }
}

fn terms(recipient: &str) -> TermsSigned {
    TermsSigned {
        request: "r1".parse().expect("slug"),
        recipient: recipient.parse().expect("slug"),
        signatory: "A. Dean".into(),
        document: Digest::of(b""),
    }
}

fn basis() -> LegalBasisRecorded {
    LegalBasisRecorded {
        id: "expert-1".into(),
        contributor: north(),
        kind: "expert_determination".into(),
        profile: "date-shifted".into(),
        recipient: None,
        project: None,
        by: "Dr. Expert".into(),
        method: "k-map over the state".into(),
        scope: "all tables".into(),
        document: Digest::of(b""),
        expires: Some(date("2026-12-31")),
        no_actual_knowledge: false,
    }
}

/// A request with everything that a permit needs, but for what `leave_out` names.
fn ask(world: &World, leave_out: &str) -> Result<(), Vec<String>> {
    let ctx = world.ctx();
    let project = ProjectCreated {
        project: "stroke".parse().expect("slug"),
        title: "Stroke".into(),
        recipient: "institute".parse().expect("slug"),
    };
    request::create_project(&ctx, &world.act("operator"), project).expect("created");
    let tables = Tables::embedded().expect("consistent");
    let act = world.act("researcher");
    let first = request::submit(&ctx, &act, &tables, submitted(), b"{}").expect("submitted");
    let again = request::submit(&ctx, &act, &tables, submitted(), b"{}").expect("the same act again");
    assert_eq!(first, again);
    if leave_out != "approval" {
        let word = if leave_out == "consent of the committee" { "refused" } else { "approved" };
        decide::decide(&ctx, &world.act("board"), decided(word)).expect("decided");
        decide::decide(&ctx, &world.act("board"), decided("refused")).expect_err("a committee decides once");
    }
    if leave_out == "standing approval" {
        decide::decide(&ctx, &world.act("board"), decided("revoked")).expect("revoked");
    }
    if leave_out != "terms" {
        decide::sign_terms(&ctx, &world.act("researcher"), terms("other"), b"terms")
            .expect_err("not the recipient");
        decide::sign_terms(&ctx, &world.act("researcher"), terms("institute"), b"terms").expect("signed");
    }
    if leave_out != "legal basis" {
        decide::record_legal_basis(&ctx, &world.act("contributor"), basis(), b"pdf").expect("recorded");
    }
    if leave_out == "valid ethics" {
        world.clock.advance_days(200);
    }
    let size = world.store.size();
    let outcome =
        decide::permit(&ctx, &world.act("system"), &"r1".parse().expect("slug"), CategorySet::EMPTY);
    assert_eq!(world.store.size(), size + 1, "permit or refusal, it is in the ledger");
    match outcome {
        Ok(permit) => {
            assert_eq!((permit.entry(), permit.grant().k_min), (size, 5));
            Ok(())
        }
        Err(AccessError::Refused(refusal)) => Err(refusal.reasons),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn a_permit_needs_every_part_and_a_refusal_names_the_missing_one() {
    assert_eq!(ask(&World::new(1), "nothing"), Ok(()));
    for (leave_out, word) in [
        ("approval", "committee"),
        ("consent of the committee", "committee"),
        ("standing approval", "committee"),
        ("terms", "signed the terms"),
        ("legal basis", "legal basis"),
        ("valid ethics", "ethics"),
    ] {
        let reasons = ask(&World::new(2), leave_out).expect_err(leave_out);
        assert!(reasons.iter().any(|r| r.contains(word)), "{leave_out}: {reasons:?}");
    }
}

#[test]
fn a_permit_rests_on_the_basis_that_was_made_for_it_and_falls_with_it() {
    let world = World::new(3);
    let refused = ask(&world, "legal basis").expect_err("there is none");
    assert!(refused.iter().any(|r| r.contains("legal basis")));
    let ctx = world.ctx();
    let permit =
        || decide::permit(&ctx, &world.act("system"), &"r1".parse().expect("slug"), CategorySet::EMPTY);
    let record = |basis: LegalBasisRecorded| {
        decide::record_legal_basis(&ctx, &world.act("contributor"), basis, b"pdf")
    };
    let flawed = |change: fn(&mut LegalBasisRecorded), at: &str| {
        let mut flawed = basis();
        change(&mut flawed);
        let refused = record(flawed).expect_err(at);
        assert!(matches!(&refused, AccessError::Invalid { pointer, .. } if pointer == at), "{refused}");
    };
    flawed(|b| b.profile = "safe-harbor".into(), "/kind");
    flawed(|b| b.kind = "safe_harbor_attestation".into(), "/kind");
    flawed(|b| b.kind = "data_use_agreement".into(), "/recipient");

    let other = Some("elsewhere".parse().expect("slug"));
    let id = |id: &str| LegalBasisRecorded { id: id.into(), ..basis() };
    record(LegalBasisRecorded { recipient: other, expires: Some(date("2040-01-01")), ..id("other") })
        .expect("recorded");
    permit().expect_err("it is another recipient's");
    record(LegalBasisRecorded { expires: Some(date("2039-01-01")), ..id("any") }).expect("recorded");
    let project = Some("stroke".parse().expect("slug"));
    record(LegalBasisRecorded { project, ..id("own") }).expect("recorded");
    let rests_on = || permit().expect("permitted").grant().legal_bases[&north()].clone();
    assert_eq!(rests_on(), "own", "made for this project, though it ends first");
    let request = || almoner::state::read::request(&ctx.state(), &"r1".parse().expect("slug"));
    let stands = || {
        let (request, at) =
            (request().expect("reads").expect("there"), (world.store.size(), world.clock.now()));
        decide::still_permitted(&ctx, &request, at)
    };
    for (ended, left) in [("own", Some("any")), ("any", None)] {
        decide::end_legal_basis(&ctx, &world.act("contributor"), ended, " ").expect_err("without a reason");
        for _ in 0..2 {
            decide::end_legal_basis(&ctx, &world.act("contributor"), ended, "revised").expect("ended");
        }
        match left {
            Some(left) => assert_eq!(rests_on(), left),
            None => assert!(permit().is_err() && stands().is_err(), "also no download"),
        }
    }
}
