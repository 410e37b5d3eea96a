//! Records that their hospital merged, and what stays apart.

use super::*;

/// A merge of `loser` into `winner`, as a hospital declares it.
fn merge(r: &Registry, who: &ContributorId, loser: &str, winner: &str) -> bool {
    let of = |id: &str| r.lookup(who, &source(id)).expect("reads").expect("known");
    let token = |id: &str| r.tokens().id(who, &source(id));
    let merge = Merge { loser: token(loser), from: of(loser), winner: token(winner), into: of(winner) };
    r.merge(who, &[merge]).expect("written")[0]
}

#[test]
fn one_id_of_a_person_stands_for_all_however_merges_are_turned() {
    let r = registry();
    let people = |ids: &[&str]| {
        for id in ids {
            let tokens = PatientTokens { replaced: true, ..patient(&r, &north(), id, &[], None) };
            one(&r, &north(), tokens);
        }
    };
    let stands = |ids: &[&str]| -> Vec<bool> {
        ids.iter()
            .map(|id| !r.is_merged_away(IdSpace::First, &north(), &source(id)).expect("reads"))
            .collect()
    };
    let all = |merges: &[(&str, &str)]| {
        let of = |id: &str| r.lookup(&north(), &source(id)).expect("reads").expect("known");
        let token = |id: &str| r.tokens().id(&north(), &source(id));
        let merges: Vec<Merge> = merges
            .iter()
            .map(|(l, w)| Merge { loser: token(l), from: of(l), winner: token(w), into: of(w) })
            .collect();
        assert!(r.merge(&north(), &merges).expect("written").into_iter().all(|made| made));
    };
    people(&["a", "b", "c"]);
    assert!(merge(&r, &north(), "a", "b"));
    assert_eq!(stands(&["a", "b"]), [false, true]);
    assert!(merge(&r, &north(), "b", "a"), "turned round");
    assert_eq!(stands(&["a", "b"]), [true, false]);
    assert!(merge(&r, &north(), "b", "a"), "and said again");
    assert_eq!(stands(&["a", "b"]), [true, false]);
    for _ in 0..2 {
        all(&[("a", "c"), ("b", "a")]);
        assert_eq!(stands(&["a", "b", "c"]), [false, false, true], "a chain, in this order");
        all(&[("b", "a"), ("a", "c")]);
        assert_eq!(stands(&["a", "b", "c"]), [false, false, true], "and in the other");
    }
    // A record that comes without a link stands for itself again.
    one(&r, &north(), patient(&r, &north(), "a", &[], None));
    assert_eq!(stands(&["a", "b", "c"]), [true, false, true]);
}

#[test]
fn a_merge_joins_a_hospitals_own_records_and_no_patients_of_others() {
    let r = registry();
    let west: ContributorId = "west".parse().expect("slug");
    let of =
        |who: &ContributorId, id: &str, family: Option<&str>| one(&r, who, patient(&r, who, id, &[], family));
    // South holds two people; north has both too, and a third of its own.
    let [a, b] = [("8", "Lovelace"), ("9", "Byron")].map(|(id, family)| of(&south(), id, Some(family)));
    let own = [("1", Some("Lovelace")), ("2", Some("Byron")), ("3", None)].map(|(id, f)| of(&north(), id, f));
    assert_eq!(own[..2], [a, b]);
    assert!(!merge(&r, &north(), "1", "2"), "south holds them apart");
    assert!(!r.is_merged_away(IdSpace::First, &north(), &source("1")).expect("reads"));
    assert!(r.aliases().is_empty());
    assert!(merge(&r, &north(), "3", "2"), "only one of the two is anybody else's");
    assert!(r.is_merged_away(IdSpace::First, &north(), &source("3")).expect("reads"));
    assert_eq!(r.current(own[2]), b);
    assert!(merge(&r, &north(), "3", "2"), "and again");
    // Two others that hold one each hold two people as well.
    let d = of(&west, "5", Some("Hopper"));
    assert_eq!(of(&north(), "4", Some("Hopper")), d);
    assert!(!merge(&r, &north(), "4", "1"));
    // South's own word about its own two, which are north's too, is as little.
    assert!(!merge(&r, &south(), "8", "9"));
}

#[test]
fn linkage_does_not_join_what_a_hospital_holds_apart() {
    let r = registry();
    let rules = LinkageRules::exact().expect("loads");
    let known = Traits { national_id: Some("999-12-3456".to_owned().into()), ..traits("Lovelace") };
    let by_name = traits("Lovelace");
    let by_number = Traits { family_name: None, ..known.clone() };
    let tokens = |who: &ContributorId, id: &str, traits: &Traits| {
        r.tokens().patient(who, &source(id), &[], r.tokens().linkage(&rules, traits))
    };
    let a = one(&r, &south(), tokens(&south(), "9", &known));
    // Each of two patients of north is linked by another trait; only the first may be that person.
    assert_eq!(one(&r, &north(), tokens(&north(), "1", &by_name)), a);
    assert_ne!(one(&r, &north(), tokens(&north(), "2", &by_number)), a);
    // A trait that comes later does not join two whom north held apart before.
    let r = registry();
    let tokens = |who: &ContributorId, id: &str, traits: &Traits| {
        r.tokens().patient(who, &source(id), &[], r.tokens().linkage(&rules, traits))
    };
    let first = one(&r, &north(), tokens(&north(), "1", &by_name));
    let second = one(&r, &north(), tokens(&north(), "2", &by_number));
    assert_eq!(one(&r, &south(), tokens(&south(), "9", &by_name)), first);
    one(&r, &south(), tokens(&south(), "9", &known));
    assert_ne!(r.current(first), r.current(second));
}

#[test]
fn records_that_are_merged_in_one_run_share_their_number() {
    let r = registry();
    let patients = ["old", "new"].map(|id| patient(&r, &north(), id, &["M1"], None));
    let waiting = consent(&r, &north(), "M1").expect("made");
    let out = resolve(&r, &north(), &patients);
    assert!(out.subjects.iter().all(|s| *s != Some(waiting)));
    assert!(merge(&r, &north(), "old", "new"));
    let subjects = out.subjects.iter().map(|s| s.expect("not erased"));
    let claims = Claims::new(subjects.zip(&patients));
    let claimed = r.claim(&north(), claims.batches(100).next().expect("one")).expect("claims");
    assert_eq!((claimed.shared, claimed.awaited), (0, 0));
    assert_eq!(r.lookup(&north(), &source("old")).expect("reads"), Some(waiting));
    assert_eq!(consent(&r, &north(), "M1").expect("found"), waiting);
}
