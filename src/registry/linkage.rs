//! Linkage rules (`schemas/linkage/*.toml`) and the traits that they make tokens of.

use almoner_model::{Date, Digest, Sensitive};
use serde::Deserialize;
use zeroize::Zeroize;

const EMBEDDED: &str = include_str!("../../schemas/linkage/exact.toml");

/// What is known of a person for linkage, as the hospital wrote it. Wiped when dropped; never stored.
#[derive(Clone, Default)]
pub struct Traits {
    /// Family name.
    pub family_name: Option<Sensitive<String>>,
    /// First given name.
    pub given_name: Option<Sensitive<String>>,
    /// Full date of birth; leave out a partial one.
    pub birth_date: Option<Date>,
    /// `female` or `male`; anything else links by no rule that asks for it.
    pub sex: Option<Sensitive<String>>,
    /// A national identifier (a US social security number).
    pub national_id: Option<Sensitive<String>>,
    /// Postal code.
    pub postal_code: Option<Sensitive<String>>,
}

impl std::fmt::Debug for Traits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Traits(…)")
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Field {
    FamilyName,
    GivenName,
    BirthDate,
    Sex,
    NationalId,
    PostalCode,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    name: String,
    fields: Vec<Field>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    format: String,
    name: String,
    version: u32,
    rule: Vec<Rule>,
}

/// Why linkage rules do not load.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkageError {
    /// Not the TOML that it must be.
    #[error("linkage rules: {0}")]
    Toml(String),
    /// A rule that would match too many people: it needs the date of birth and one field more.
    #[error("linkage rule {0:?} is too weak: it needs birth_date and at least one field more, each once")]
    Weak(String),
}

/// Checked linkage rules.
#[derive(Clone, Debug)]
pub struct LinkageRules {
    name: String,
    version: u32,
    rules: Vec<Rule>,
    digest: Digest,
}

impl LinkageRules {
    /// The built-in rules, `schemas/linkage/exact.toml`.
    ///
    /// # Errors
    /// [`LinkageError`] if the file is not what it should be; a test keeps that from shipping.
    pub fn exact() -> Result<Self, LinkageError> {
        Self::load(EMBEDDED)
    }

    /// Reads rules.
    ///
    /// # Errors
    /// [`LinkageError`] says what is wrong.
    pub fn load(text: &str) -> Result<Self, LinkageError> {
        let source: Source = toml::from_str(text).map_err(|e| LinkageError::Toml(e.message().to_owned()))?;
        if source.format != "almoner-linkage/1" {
            return Err(LinkageError::Toml("format is not almoner-linkage/1".to_owned()));
        }
        for rule in &source.rule {
            let twice = (1..rule.fields.len()).any(|i| rule.fields[..i].contains(&rule.fields[i]));
            if twice || rule.fields.len() < 2 || !rule.fields.contains(&Field::BirthDate) {
                return Err(LinkageError::Weak(rule.name.clone()));
            }
        }
        Ok(Self { name: source.name, version: source.version, rules: source.rule, digest: Digest::of(text) })
    }

    /// Their name and version.
    pub fn id(&self) -> (&str, u32) {
        (&self.name, self.version)
    }

    /// SHA-256 of their text.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// One result of `keyed(rule, normalised fields)` for each rule whose fields are all known.
    pub(super) fn apply<T>(&self, traits: &Traits, keyed: impl Fn(&str, &[&str]) -> T) -> Vec<T> {
        let mut out = Vec::with_capacity(self.rules.len());
        for rule in &self.rules {
            let fields: Option<Vec<String>> = rule.fields.iter().map(|f| normalised(*f, traits)).collect();
            if let Some(mut fields) = fields {
                let texts: Vec<&str> = fields.iter().map(String::as_str).collect();
                out.push(keyed(&rule.name, &texts));
                fields.iter_mut().for_each(Zeroize::zeroize);
            }
        }
        out
    }
}

fn normalised(field: Field, traits: &Traits) -> Option<String> {
    let text = match field {
        Field::FamilyName => letters(traits.family_name.as_ref()?.expose()),
        Field::GivenName => letters(traits.given_name.as_ref()?.expose().split_whitespace().next()?),
        Field::BirthDate => traits.birth_date?.to_string(),
        Field::Sex => {
            Some(letters(traits.sex.as_ref()?.expose())).filter(|s| s == "female" || s == "male")?
        }
        Field::NationalId => alphanumeric(traits.national_id.as_ref()?.expose()),
        Field::PostalCode => almoner_deid::zip3::zip5(traits.postal_code.as_ref()?.expose())?.to_owned(),
    };
    (!text.is_empty()).then_some(text)
}

fn letters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().flat_map(char::to_lowercase) {
        match folded(c) {
            Some(plain) => out.push_str(plain),
            None if c.is_alphabetic() || c.is_ascii_digit() => out.push(c),
            None => {}
        }
    }
    out
}

fn alphanumeric(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

/// Lower-case Latin letters with marks, without them. Combining marks are dropped by [`letters`], since they are not
/// alphabetic, so composed and decomposed spellings agree.
const fn folded(c: char) -> Option<&'static str> {
    Some(match c {
        'à' | 'á' | 'â' | 'ã' | 'ä' | 'å' | 'ā' | 'ă' | 'ą' => "a",
        'ç' | 'ć' | 'ĉ' | 'ċ' | 'č' => "c",
        'ď' | 'đ' | 'ð' => "d",
        'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ĕ' | 'ė' | 'ę' | 'ě' => "e",
        'ĝ' | 'ğ' | 'ġ' | 'ģ' => "g",
        'ĥ' | 'ħ' => "h",
        'ì' | 'í' | 'î' | 'ï' | 'ĩ' | 'ī' | 'ĭ' | 'į' | 'ı' => "i",
        'ĵ' => "j",
        'ķ' => "k",
        'ĺ' | 'ļ' | 'ľ' | 'ŀ' | 'ł' => "l",
        'ñ' | 'ń' | 'ņ' | 'ň' => "n",
        'ò' | 'ó' | 'ô' | 'õ' | 'ö' | 'ø' | 'ō' | 'ŏ' | 'ő' => "o",
        'ŕ' | 'ŗ' | 'ř' => "r",
        'ś' | 'ŝ' | 'ş' | 'š' | 'ș' => "s",
        'ţ' | 'ť' | 'ŧ' | 'ț' => "t",
        'ù' | 'ú' | 'û' | 'ü' | 'ũ' | 'ū' | 'ŭ' | 'ů' | 'ű' | 'ų' => "u",
        'ŵ' => "w",
        'ý' | 'ÿ' | 'ŷ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        'ß' => "ss",
        'æ' => "ae",
        'œ' => "oe",
        'þ' => "th",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(traits: &Traits) -> Vec<String> {
        LinkageRules::exact()
            .expect("loads")
            .apply(traits, |rule, fields| format!("{rule}={}", fields.join("|")))
    }

    fn person(family: &str, given: &str) -> Traits {
        Traits {
            family_name: Some(family.to_owned().into()),
            given_name: Some(given.to_owned().into()),
            birth_date: "1980-02-29".parse().ok(),
            sex: Some("Female".to_owned().into()),
            ..Traits::default()
        }
    }

    #[test]
    fn names_are_normalised() {
        let expected = "name-birth-sex=osullivanmueller|jose|1980-02-29|female";
        for (family, given) in [
            ("O'Sullivan-Mueller", "José María"),
            ("O’SULLIVAN MUELLER", "Jose"),
            ("o sullivan mueller", "Jose\u{301} M."),
        ] {
            assert_eq!(texts(&person(family, given)), [expected], "{family}");
        }
        assert_eq!(texts(&person("Groß", "Zoë")), ["name-birth-sex=gross|zoe|1980-02-29|female"]);
    }

    #[test]
    fn a_rule_needs_all_its_fields() {
        let full = Traits { national_id: Some("999-12-3456".to_owned().into()), ..person("A", "B") };
        assert_eq!(texts(&full).len(), 2);
        assert_eq!(texts(&full)[1], "national-id-birth=999123456|1980-02-29");
        assert!(texts(&Traits { birth_date: None, ..full.clone() }).is_empty());
        assert_eq!(texts(&Traits { sex: Some("unknown".to_owned().into()), ..full.clone() }).len(), 1);
        assert_eq!(texts(&Traits { family_name: Some(" - ".to_owned().into()), ..full }).len(), 1);
    }

    #[test]
    fn weak_and_unknown_rules_are_refused() {
        for (from, to) in [
            ("[\"national_id\", \"birth_date\"]", "[\"birth_date\"]"),
            ("[\"national_id\", \"birth_date\"]", "[\"national_id\", \"family_name\"]"),
            ("[\"national_id\", \"birth_date\"]", "[\"birth_date\", \"birth_date\"]"),
        ] {
            assert!(
                matches!(LinkageRules::load(&EMBEDDED.replace(from, to)), Err(LinkageError::Weak(_))),
                "{to}"
            );
        }
        for (from, to) in [("national_id\"", "soul\""), ("linkage/1", "linkage/2"), ("version = 1", "v = 1")]
        {
            assert!(
                matches!(LinkageRules::load(&EMBEDDED.replace(from, to)), Err(LinkageError::Toml(_))),
                "{to}"
            );
        }
    }
}
