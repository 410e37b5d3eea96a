//! Jobs: order of states, repetition, cancellation, and what a restart leaves.

use std::sync::Arc;
use std::sync::mpsc;

use almoner_ledger::LogKey;
use almoner_model::{ManualClock, SeededEntropy, Timestamp};
use serde_json::json;

use super::*;
use crate::store::NoProjections;
use crate::store::memory::MemoryStore;

struct Place {
    store: Arc<MemoryStore>,
    clock: Arc<ManualClock>,
}

impl Place {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_000_000_000_000)));
        let key = LogKey::new("almoner.local/test", &[7; 32]).expect("key");
        let entropy = Arc::new(SeededEntropy::new(1));
        let store = MemoryStore::new(key, clock.clone(), entropy, Arc::new(NoProjections)).expect("store");
        Self { store: Arc::new(store), clock }
    }

    fn jobs(&self, at_once: usize) -> Jobs {
        Jobs::start(self.store.clone(), self.clock.clone(), at_once, 30).expect("started")
    }
}

fn job(id: &str) -> NewJob {
    NewJob { id: id.into(), kind: "test", owner: "o".into(), contributor: None, project: None }
}

fn ended(jobs: &Jobs, id: &str) -> JobRecord {
    for _ in 0..2_000 {
        let record = jobs.get(id).expect("store").expect("known");
        if record.state.is_final() {
            return record;
        }
        thread::sleep(std::time::Duration::from_millis(5));
    }
    panic!("job {id} did not end");
}

#[test]
fn a_job_reports_progress_and_its_result_once() {
    let place = Place::new();
    let jobs = place.jobs(1);
    let (go, wait) = mpsc::channel::<()>();
    let (begun, seen) = mpsc::channel::<()>();
    let work: Work = Box::new(move |progress| {
        progress.stage("reading", Some(10), Unit::Rows);
        progress.advance(4);
        begun.send(()).expect("listener");
        wait.recv().expect("sender");
        Ok(json!({"rows": 10}))
    });
    assert_eq!(jobs.submit(job("a"), work).expect("queued").state, JobState::Queued);
    seen.recv().expect("begun");
    let running = jobs.get("a").expect("store").expect("known");
    let stage = running.progress.expect("progress");
    assert_eq!((running.state, stage.stage.as_str(), stage.done), (JobState::Running, "reading", 4));
    go.send(()).expect("listener");
    let done = ended(&jobs, "a");
    assert_eq!((done.state, done.result), (JobState::Done, Some(json!({"rows": 10}))));
    let again = jobs.submit(job("a"), Box::new(|_| panic!("not done twice"))).expect("found");
    assert_eq!(again.state, JobState::Done);
}

#[test]
fn refusals_are_told_and_faults_are_not() {
    let place = Place::new();
    let jobs = place.jobs(2);
    let refuse: Work = Box::new(|_| Err(Failure::new(ErrorKind::Refused, "k is 3, required 5")));
    let fail: Work = Box::new(|_| Err(Failure::new(ErrorKind::Fault, "disk /srv/x full")));
    jobs.submit(job("r"), refuse).expect("queued");
    jobs.submit(job("f"), fail).expect("queued");
    jobs.submit(job("p"), Box::new(|_| panic!("a bug"))).expect("queued");
    assert_eq!(ended(&jobs, "r").failure.expect("failure").detail, "k is 3, required 5");
    assert!(!ended(&jobs, "f").failure.expect("failure").detail.contains("/srv"));
    assert_eq!(ended(&jobs, "p").state, JobState::Failed);
}

#[test]
fn a_cancelled_job_stops_and_a_waiting_one_never_begins() {
    let place = Place::new();
    let jobs = place.jobs(1);
    let work: Work = Box::new(|progress| {
        while !progress.cancelled() {
            thread::sleep(std::time::Duration::from_millis(1));
        }
        Err(Failure::new(ErrorKind::Conflict, "stopped"))
    });
    jobs.submit(job("a"), work).expect("queued");
    jobs.submit(job("b"), Box::new(|_| panic!("never begun"))).expect("queued");
    jobs.cancel("b").expect("store");
    jobs.cancel("a").expect("store");
    assert_eq!(ended(&jobs, "a").state, JobState::Cancelled);
    assert_eq!(ended(&jobs, "b").state, JobState::Cancelled);
}

#[test]
fn a_restart_marks_what_it_cut_short_and_the_same_id_can_be_asked_again() {
    let place = Place::new();
    let jobs = place.jobs(1);
    jobs.submit(job("done"), Box::new(|_| Ok(json!(1)))).expect("queued");
    ended(&jobs, "done");
    let mut cut = jobs.get("done").expect("store").expect("known");
    cut.id = "cut".into();
    cut.state = JobState::Running;
    jobs.shared.save(&cut).expect("as if killed");
    drop(jobs);

    let jobs = place.jobs(1);
    assert_eq!(jobs.get("cut").expect("store").expect("known").state, JobState::Interrupted);
    assert_eq!(jobs.get("done").expect("store").expect("known").state, JobState::Done);
    jobs.submit(job("cut"), Box::new(|_| Ok(json!(2)))).expect("queued again");
    assert_eq!(ended(&jobs, "cut").result, Some(json!(2)));
    drop(jobs);

    place.clock.advance_days(31);
    let jobs = place.jobs(1);
    assert_eq!(jobs.newest(|_| true, None, 9).expect("store").len(), 0, "forgotten after their time");
}

#[test]
fn jobs_are_listed_newest_first_page_by_page_whatever_their_ids() {
    let place = Place::new();
    let jobs = place.jobs(1);
    let asked = ["c", "a", "d", "b", "hidden", "e"];
    for id in asked {
        jobs.submit(job(id), Box::new(|_| Ok(json!(1)))).expect("queued");
        ended(&jobs, id);
        place.clock.advance_millis(1);
    }
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = jobs.newest(|job| job.id != "hidden", after.as_deref(), 2).expect("store");
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        seen.extend(page.into_iter().map(|(_, job)| job.id));
    }
    assert_eq!(seen, ["e", "b", "d", "a", "c"]);
}
