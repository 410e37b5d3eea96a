//! Pages for people: nothing from elsewhere is loaded, and nothing that opens data is kept.

use crate::house::House;

#[test]
fn the_participants_page_loads_from_here_only_and_is_not_kept() {
    let house = House::open();
    let page = house.get("/me", None).expect(200);
    assert!(page.content_type.starts_with("text/html"));
    let policy = page.headers["content-security-policy"].to_str().expect("text");
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    assert_eq!(page.headers["cache-control"], "no-store");
    assert_eq!(page.headers["referrer-policy"], "no-referrer");
    assert!(
        !page.text.contains("http://") && !page.text.contains("https://"),
        "loads nothing from elsewhere"
    );
    let script = house.get("/me.js", None).expect(200);
    assert!(script.content_type.starts_with("text/javascript") && script.text.contains("/v1/me/withdrawals"));
    assert!(house.get("/", None).expect(200).text.contains("href=\"/me\""));
}
