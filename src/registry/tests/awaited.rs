//! Several record numbers at once, and many callers at a time.

use super::*;

fn numbers(from: usize) -> Vec<SourcePatientId> {
    (from..from + 10).map(|n| source(&format!("mr-{n}"))).collect()
}

#[test]
fn callers_at_the_same_time_get_one_subject_for_one_number() {
    let r = registry();
    let callers = 16;
    let together = std::sync::Barrier::new(callers);
    let said: Vec<Vec<SubjectId>> = std::thread::scope(|scope| {
        let ask = |n: usize| {
            let (r, together) = (&r, &together);
            scope.spawn(move || {
                together.wait();
                // Half of what each asks for is what the next asks for too.
                let said = r.subjects_of_records(&north(), &numbers(n * 5), &SeededEntropy::new(n as u64));
                said.expect("made").into_iter().map(|one| one.expect("a subject")).collect()
            })
        };
        let threads: Vec<_> = (0..callers).map(ask).collect();
        threads.into_iter().map(|thread| thread.join().expect("asks")).collect()
    });
    let mut all = std::collections::BTreeMap::new();
    for (n, subjects) in said.iter().enumerate() {
        for (at, subject) in subjects.iter().enumerate() {
            assert_eq!(all.entry(n * 5 + at).or_insert(*subject), subject, "one number, one subject");
            let name = source(&format!("mr-{}", n * 5 + at));
            assert_eq!(r.find_record(&north(), &name).expect("read"), Some(*subject), "and it was made");
        }
    }
    let different: std::collections::BTreeSet<_> = all.values().collect();
    assert_eq!((different.len(), r.subjects().expect("counted")), (85, 85));
}

#[test]
fn what_is_said_of_one_number_is_not_the_others_trouble() {
    let r = registry();
    let two = ["a", "b"].map(|id| patient(&r, &north(), id, &["7"], None));
    run(&r, &north(), &two, 10);
    let said =
        r.subjects_of_records(&north(), &[source("8"), source("7"), source("8")], &SeededEntropy::new(1));
    let said = said.expect("made");
    assert!(matches!(said[1], Err(RegistryError::Ambiguous)));
    let (first, last) = (said[0].as_ref().expect("made"), said[2].as_ref().expect("found"));
    assert_eq!(first, last);
}
