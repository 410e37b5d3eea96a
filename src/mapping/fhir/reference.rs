//! References between resources (R4 §2.3): what they point to, as far as an id tells.

use super::datatypes::Reference;

/// What a reference points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target<'a> {
    /// A resource by id; the type where the reference says it (`urn:uuid:` does not).
    Id {
        /// Resource type.
        kind: Option<&'a str>,
        /// Logical id.
        id: &'a str,
    },
    /// A resource contained in the one that refers to it.
    Contained(&'a str),
    /// A conditional reference by identifier, `system|value`.
    Identifier {
        /// Resource type.
        kind: &'a str,
        /// `system|value`.
        token: &'a str,
    },
    /// Nothing that an id could be read from.
    Unresolvable,
}

/// Reads `Type/id`, `Type/id/_history/n`, an absolute URL that ends so, `urn:uuid:id`, `urn:oid:id`, `#id` and
/// `Type?identifier=system|value`.
pub fn parse(text: &str) -> Target<'_> {
    if let Some(id) = text.strip_prefix('#') {
        return Target::Contained(id);
    }
    if let Some(id) = text.strip_prefix("urn:uuid:").or_else(|| text.strip_prefix("urn:oid:")) {
        return if id.is_empty() { Target::Unresolvable } else { Target::Id { kind: None, id } };
    }
    if let Some((kind, query)) = text.split_once('?') {
        let kind = kind.rsplit('/').next().unwrap_or(kind);
        return match query.strip_prefix("identifier=") {
            Some(token) if !token.is_empty() => Target::Identifier { kind, token },
            _ => Target::Unresolvable,
        };
    }
    let text = text.split_once("/_history/").map_or(text, |(resource, _)| resource);
    let mut parts = text.rsplit('/');
    let id = parts.next().unwrap_or_default();
    let kind = parts.next();
    if id.is_empty() || (kind.is_none() && text.contains(':')) {
        return Target::Unresolvable;
    }
    Target::Id { kind, id }
}

impl Reference<'_> {
    /// What it points to; `None` if it says nothing at all.
    pub fn target(&self) -> Option<Target<'_>> {
        self.reference.as_deref().map(parse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read() {
        let id = |kind, id| Target::Id { kind, id };
        for (text, expected) in [
            ("Patient/1", id(Some("Patient"), "1")),
            ("Patient/1/_history/2", id(Some("Patient"), "1")),
            ("https://ehr.example/fhir/Patient/a-1", id(Some("Patient"), "a-1")),
            (
                "urn:uuid:0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0",
                id(None, "0c3151bd-1cbf-4d64-b04d-cd9187a4c6e0"),
            ),
            ("#med", Target::Contained("med")),
            (
                "Practitioner?identifier=http://hl7.org/fhir/sid/us-npi|99",
                Target::Identifier { kind: "Practitioner", token: "http://hl7.org/fhir/sid/us-npi|99" },
            ),
            ("Location?name=x", Target::Unresolvable),
            ("urn:uuid:", Target::Unresolvable),
            ("", Target::Unresolvable),
            ("Patient/", Target::Unresolvable),
            ("12", id(None, "12")),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
