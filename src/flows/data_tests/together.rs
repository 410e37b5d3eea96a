//! What a recipient has already counts when the next release is measured.

use almoner_model::{ReleaseId, RequestId};

use super::*;

fn built(house: &House, wanted: &RequestId) -> ReleaseId {
    house.with(|ctx| release::release(ctx, &house.act(), wanted)).expect("built").release
}

fn measured_with(house: &House, id: &ReleaseId) -> Vec<ReleaseId> {
    house.with(|ctx| release::manifest_of(ctx, id)).expect("reads").risk.measured_with
}

#[test]
fn a_second_release_of_a_project_is_measured_with_the_first() {
    let house = consented();
    let wanted = house.approved("diabetes", "uni");
    let (first, second) = (built(&house, &wanted), built(&house, &wanted));
    assert_eq!((measured_with(&house, &first), measured_with(&house, &second)), (vec![], vec![first]));
    // Another project has other pseudonyms and other dates of everyone.
    assert_eq!(measured_with(&house, &built(&house, &house.approved("stroke", "uni"))), []);
}

#[test]
fn releases_on_the_same_dates_are_measured_together_in_all_projects_of_a_recipient_and_with_public_ones() {
    let house = consented();
    house.attested();
    let years = |body: &mut RequestSubmitted| body.profile = "safe-harbor".into();
    let first = built(&house, &house.approved_with("diabetes", "uni", years));
    let second = built(&house, &house.approved_with("stroke", "uni", years));
    assert_eq!(measured_with(&house, &second), std::slice::from_ref(&first), "in another project");
    let public =
        |body: &mut RequestSubmitted| (body.profile, body.tier) = ("safe-harbor".into(), "public".into());
    let open = built(&house, &house.approved_with("open", "lab", public));
    assert_eq!(measured_with(&house, &open), [], "of another recipient");
    let last = built(&house, &house.approved_with("heart", "uni", years));
    assert_eq!(measured_with(&house, &last), [first, second, open]);
    let other = built(&house, &house.approved_with("lungs", "institute", years));
    assert_eq!(measured_with(&house, &other).len(), 1, "the public one");
}

#[test]
fn dates_of_two_kinds_do_not_leave_in_one_project() {
    let house = consented();
    house.attested();
    let first = built(&house, &house.approved("diabetes", "uni"));
    let years = |body: &mut RequestSubmitted| {
        body.request = "r-years".parse().expect("slug");
        body.profile = "safe-harbor".into();
    };
    let wanted = house.approved_with("diabetes", "uni", years);
    let refused = house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect_err("two kinds");
    assert!(matches!(&refused, DataError::OtherDates { release } if *release == first), "{refused}");
    let said = house.with(|ctx| release::explain(ctx, &house.act(), &wanted)).expect("explained");
    assert!(!said.permitted && said.reasons.iter().any(|r| r.contains("dates of another kind")), "{said:?}");
    let elsewhere = house.approved_with("stroke", "uni", |body| body.profile = "safe-harbor".into());
    built(&house, &elsewhere);
}

/// Something kept the folder of the first from its place after its entry was in the ledger: it is put there when the next
/// needs it.
#[test]
fn an_earlier_release_that_was_left_unfinished_is_finished_for_the_next() {
    let house = consented();
    let wanted = house.approved("diabetes", "uni");
    let first = built(&house, &wanted);
    let place = house.releases().join(first.as_str());
    let building = house.releases().join(format!(".building-{first}"));
    fs::rename(&place, &building).expect("moved");
    fs::remove_file(building.join("package/ledger/entry.json")).expect("there");
    let second = built(&house, &wanted);
    assert_eq!(measured_with(&house, &second), std::slice::from_ref(&first));
    let report = verify_package(&release::package_folder(&house.releases(), &first), Some(&house.key()));
    assert!(report.intact && !building.exists(), "{:?}", report.findings);
}

/// Of a release whose people are all others only the list of them is read.
#[test]
fn an_earlier_release_of_other_people_does_not_stop_the_next() {
    let house = consented();
    house.attested();
    let of = |hospital: &'static str| {
        move |body: &mut RequestSubmitted| {
            body.request = format!("r-{hospital}").parse().expect("slug");
            body.datasets = vec![hospital.parse().expect("slug")];
        }
    };
    let first = built(&house, &house.approved_with("diabetes", "uni", of("north")));
    let path = release::package_folder(&house.releases(), &first).join("tables/person.parquet");
    fs::write(&path, b"damaged").expect("written");
    let second = built(&house, &house.approved_with("diabetes", "uni", of("south")));
    assert_eq!(measured_with(&house, &second), [first]);
}

#[test]
fn an_earlier_release_that_does_not_read_as_its_manifest_says_stops_the_next() {
    let house = consented();
    let wanted = house.approved("diabetes", "uni");
    let first = built(&house, &wanted);
    let path = release::package_folder(&house.releases(), &first).join("tables/person.parquet");
    let mut bytes = fs::read(&path).expect("there");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&path, bytes).expect("written");
    let refused =
        house.with(|ctx| release::release(ctx, &house.act(), &wanted)).expect_err("cannot be measured");
    assert!(refused.to_string().contains(first.as_str()), "{refused}");
}
