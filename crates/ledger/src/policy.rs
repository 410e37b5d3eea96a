//! Whom a reader trusts (C2SP tlog-policy): logs, witnesses, and how many of which witnesses must have cosigned a
//! checkpoint.
//!
//! ```text
//! log <vkey> [<url>]
//! witness <name> <vkey> [<url>]
//! group <name> <k>|any|all <name>...
//! quorum <name>|none
//! ```
//!
//! Witnesses of one organisation are put into one group, and the quorum is a group of groups: then it is organisations
//! that count, however many witnesses one of them runs. Groups lie at most 16 deep in one another. Names are compared as bytes
//! and shown as text.

use std::collections::HashMap;
use std::fmt;

use crate::cosignature::{Cosignature, WitnessVerifierKey, split};
use crate::note::{KeyError, VerifierKey};

/// Largest policy that is read, in bytes.
const BYTES_MAX: usize = 1 << 20;

/// How deep groups may lie in groups: organisations, their kinds, and places beyond any use.
const DEPTH_MAX: usize = 16;

/// Why a policy was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line} of the policy: {problem}")]
pub struct PolicyError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
}

/// A log that may have signed.
#[derive(Clone, Debug)]
pub struct PolicyLog {
    /// Its key; the name is the origin.
    pub key: VerifierKey,
    /// Where it is, in a form that the application knows.
    pub url: Option<String>,
}

/// A witness that may have cosigned.
#[derive(Clone, Debug)]
pub struct PolicyWitness {
    /// Its name in this policy.
    pub name: String,
    /// Its key.
    pub key: WitnessVerifierKey,
    /// Its submission prefix (C2SP tlog-witness § HTTP Interface).
    pub url: Option<String>,
}

/// When a checkpoint counts as witnessed.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Rule {
    /// Always.
    Always,
    /// When this witness cosigned it.
    Witness(usize),
    /// When at least `need` of the members count.
    Group { name: String, need: usize, members: Vec<Rule> },
}

/// A policy.
#[derive(Clone, Debug)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    quorum: Rule,
}

/// What a policy says of one checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The cosignature of each witness, in the order of [`Policy::witnesses`].
    pub cosignatures: Vec<Option<Cosignature>>,
    /// Whether the quorum is reached.
    pub reached: bool,
    /// The quorum in words: how much is needed, of whom, and who is there.
    pub words: String,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whether = if self.reached { "reached" } else { "NOT reached" };
        write!(f, "quorum {whether}: {}", self.words)
    }
}

impl Policy {
    /// Reads a policy file.
    ///
    /// # Errors
    /// [`PolicyError`] with the line.
    pub fn parse(text: &[u8]) -> Result<Self, PolicyError> {
        let mut reader = Reader::default();
        let refused = |line: usize, problem: &str| PolicyError { line, problem: problem.to_owned() };
        if text.len() > BYTES_MAX {
            return Err(refused(1, "the file is too large for a policy"));
        }
        let lines = text.split(|byte| *byte == b'\n').count();
        for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
            if at + 1 == lines {
                if !line.is_empty() {
                    return Err(refused(lines, "the line does not end in a newline, so the file may be cut"));
                }
                break;
            }
            reader.line(line).map_err(|problem| PolicyError { line: at + 1, problem })?;
        }
        match reader.quorum {
            Some(quorum) => Ok(Self { logs: reader.logs, witnesses: reader.witnesses, quorum }),
            None => Err(refused(lines, "there is no quorum line; `quorum none` asks for no witness")),
        }
    }

    /// Its logs.
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// Its witnesses.
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// The key of the log that signed `note`; `None` if none of this policy did.
    pub fn log_of(&self, note: &[u8]) -> Option<&VerifierKey> {
        self.logs.iter().map(|log| &log.key).find(|key| key.open(note).is_ok())
    }

    /// Whether the quorum is reached when exactly these witnesses cosigned.
    pub fn reached(&self, cosigned: impl Fn(usize) -> bool) -> bool {
        self.quorum.holds(&cosigned)
    }

    /// What the quorum needs and who of it is there.
    pub fn words(&self, cosigned: impl Fn(usize) -> bool) -> String {
        self.quorum.words(&self.witnesses, &cosigned)
    }

    /// What this policy says of a signed checkpoint. That a log of the policy signed it is another question
    /// ([`Policy::log_of`]).
    ///
    /// # Errors
    /// [`KeyError`] if it is no note, or a line by a witness of this policy does not fit it.
    pub fn standing(&self, note: &[u8]) -> Result<Standing, KeyError> {
        let (text, lines) = split(note)?;
        let found = self.witnesses.iter().map(|witness| witness.key.find(text, lines));
        let cosignatures = found.collect::<Result<Vec<_>, _>>()?;
        let there = |at: usize| cosignatures.get(at).is_some_and(Option::is_some);
        let (reached, words) = (self.reached(there), self.words(there));
        Ok(Standing { cosignatures, reached, words })
    }
}

impl Standing {
    /// What is said of several checkpoints that are all needed: what is said of the first without its quorum, else of the first.
    pub fn of_all(all: Vec<Self>) -> Option<Self> {
        all.into_iter().reduce(|first, next| if first.reached && !next.reached { next } else { first })
    }
}

impl Rule {
    fn holds(&self, cosigned: &dyn Fn(usize) -> bool) -> bool {
        match self {
            Self::Always => true,
            Self::Witness(at) => cosigned(*at),
            Self::Group { need, members, .. } => {
                members.iter().filter(|member| member.holds(cosigned)).count() >= *need
            }
        }
    }

    fn name<'a>(&'a self, witnesses: &'a [PolicyWitness]) -> &'a str {
        match self {
            Self::Always => "none",
            Self::Witness(at) => witnesses.get(*at).map_or("", |witness| &witness.name),
            Self::Group { name, .. } => name,
        }
    }

    fn words(&self, witnesses: &[PolicyWitness], cosigned: &dyn Fn(usize) -> bool) -> String {
        let Self::Group { name, need, members } = self else {
            return match (self, self.holds(cosigned)) {
                (Self::Always, _) => "no witness is asked for".to_owned(),
                (_, true) => format!("{} cosigned", self.name(witnesses)),
                (_, false) => format!("{} is needed and has not cosigned", self.name(witnesses)),
            };
        };
        let names = |holds: bool| -> Vec<&str> {
            members.iter().filter(|m| m.holds(cosigned) == holds).map(|m| m.name(witnesses)).collect()
        };
        let (there, lacking) = (names(true), names(false));
        let mut words = format!("{} of {} of {name}, {need} needed", there.len(), members.len());
        for (what, names) in [("cosigned", there), ("not", lacking)] {
            if !names.is_empty() {
                words += &format!("; {what}: {}", names.join(", "));
            }
        }
        words
    }
}

/// A policy that is being read.
#[derive(Default)]
struct Reader {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    /// What each name stands for, whether it is a member of a group already, since it can be of one only, and how many groups lie
    /// in one another there.
    names: HashMap<Vec<u8>, (Rule, bool, usize)>,
    quorum: Option<Rule>,
}

impl Reader {
    fn line(&mut self, line: &[u8]) -> Result<(), String> {
        if let Some(byte) = line.iter().find(|byte| **byte < 0x20 && **byte != b'\t' || **byte == 0x7f) {
            return Err(format!("the byte 0x{byte:02x} cannot stand in a policy"));
        }
        let items: Vec<&[u8]> =
            line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|item| !item.is_empty()).collect();
        match items.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with(b"#") => Ok(()),
            [b"log", vkey] => self.log(vkey, None),
            [b"log", vkey, url] => self.log(vkey, Some(url)),
            [b"witness", name, vkey] => self.witness(name, vkey, None),
            [b"witness", name, vkey, url] => self.witness(name, vkey, Some(url)),
            [b"group", name, need, members @ ..] => self.group(name, need, members),
            [b"quorum", name] => self.set_quorum(name),
            [word, ..] => Err(format!("`{}` has other items: {}", shown(word), FORMS)),
        }
    }

    fn log(&mut self, vkey: &[u8], url: Option<&[u8]>) -> Result<(), String> {
        let key = std::str::from_utf8(vkey).map_err(|_| KeyError::VerifierKey.to_string())?;
        let key = VerifierKey::parse(key).map_err(|e| e.to_string())?;
        if self.logs.iter().any(|log| log.key.bytes() == key.bytes()) {
            return Err("this log's key stands on an earlier line".to_owned());
        }
        self.logs.push(PolicyLog { key, url: url.map(shown) });
        Ok(())
    }

    fn witness(&mut self, name: &[u8], vkey: &[u8], url: Option<&[u8]>) -> Result<(), String> {
        let key = std::str::from_utf8(vkey).map_err(|_| KeyError::WitnessKey.to_string())?;
        let key = WitnessVerifierKey::parse(key).map_err(|e| e.to_string())?;
        if self.witnesses.iter().any(|witness| witness.key.bytes() == key.bytes()) {
            return Err("this witness's key stands on an earlier line".to_owned());
        }
        self.define(name, Rule::Witness(self.witnesses.len()), 0)?;
        self.witnesses.push(PolicyWitness { name: shown(name), key, url: url.map(shown) });
        Ok(())
    }

    fn group(&mut self, name: &[u8], need: &[u8], members: &[&[u8]]) -> Result<(), String> {
        if members.is_empty() {
            return Err("a group has at least one member".to_owned());
        }
        let need = match need {
            b"any" => 1,
            b"all" => members.len(),
            number => {
                let number = std::str::from_utf8(number).unwrap_or_default();
                let read: usize =
                    number.parse().ok().filter(|n: &usize| n.to_string() == number).unwrap_or(0);
                if !(1..=members.len()).contains(&read) {
                    return Err(format!("a group needs any, all, or 1 to {} of its members", members.len()));
                }
                read
            }
        };
        let (mut rules, mut depth) = (Vec::new(), 0);
        for member in members {
            let (rule, taken, of_member) = self
                .names
                .get_mut(*member)
                .ok_or_else(|| format!("{} is not defined above", shown(member)))?;
            if std::mem::replace(taken, true) {
                return Err(format!("{} is a member of a group already", shown(member)));
            }
            // Also since every group that holds it has a copy.
            depth = depth.max(*of_member + 1);
            if depth > DEPTH_MAX {
                return Err(format!("more than {DEPTH_MAX} groups lie in one another"));
            }
            rules.push(rule.clone());
        }
        self.define(name, Rule::Group { name: shown(name), need, members: rules }, depth)
    }

    fn set_quorum(&mut self, name: &[u8]) -> Result<(), String> {
        let rule = match (name, self.names.get(name)) {
            (b"none", _) => Rule::Always,
            (_, Some((rule, ..))) => rule.clone(),
            (_, None) => return Err(format!("{} is not defined above", shown(name))),
        };
        match self.quorum.replace(rule) {
            None => Ok(()),
            Some(_) => Err("there is a quorum line above".to_owned()),
        }
    }

    fn define(&mut self, name: &[u8], rule: Rule, depth: usize) -> Result<(), String> {
        if name == b"none" || self.names.contains_key(name) {
            return Err(format!("the name {} is taken", shown(name)));
        }
        self.names.insert(name.to_vec(), (rule, false, depth));
        Ok(())
    }
}

const FORMS: &str = "log VKEY [URL], witness NAME VKEY [URL], group NAME K|any|all NAME…, quorum NAME|none";

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cosignature::{WitnessKey, attach};
    use crate::{Checkpoint, LogKey};

    fn witness(n: u8) -> WitnessKey {
        WitnessKey::new(&format!("witness.example/{n}"), &[n; 32]).expect("a name")
    }

    /// The example of C2SP tlog-policy: two of X1 to X3 and one of Y1 to Y3.
    fn example() -> String {
        let log = LogKey::new("log.example/a", &[99; 32]).expect("a name").vkey();
        let mut text = format!("# an example\n\n log {log}\n");
        for (group, first) in [('X', 1), ('Y', 4)] {
            for n in 0..3 {
                text += &format!("witness {group}{} {}\n", n + 1, witness(first + n).public().line());
            }
        }
        text + "group X-witnesses 2 X1 X2 X3\ngroup Y-witnesses any\tY1 Y2 Y3\n\
                group X-and-Y all X-witnesses Y-witnesses\nquorum X-and-Y\n"
    }

    #[test]
    fn the_example_of_the_specification_counts_organisations() {
        let policy = Policy::parse(example().as_bytes()).expect("a policy");
        assert_eq!((policy.logs().len(), policy.witnesses().len()), (1, 6));
        for set in 0..64_u32 {
            let has = |at: usize| set >> at & 1 == 1;
            let wanted = (set & 7).count_ones() >= 2 && set >> 3 != 0;
            assert_eq!(policy.reached(has), wanted, "{set:06b}");
        }
        let words = policy.words(|at| at < 2);
        assert_eq!(words, "1 of 2 of X-and-Y, 2 needed; cosigned: X-witnesses; not: Y-witnesses");
    }

    #[test]
    fn a_checkpoint_stands_as_its_cosignatures_say() {
        let policy = Policy::parse(example().as_bytes()).expect("a policy");
        let log = LogKey::new("log.example/a", &[99; 32]).expect("a name");
        let signed =
            Checkpoint { origin: "log.example/a".into(), size: 5, root: [1; 32] }.sign(&log).expect("signs");
        let text = signed.checkpoint.text();
        assert_eq!(policy.log_of(&signed.note).expect("known").line(), log.vkey());
        let stranger = LogKey::new("log.example/a", &[98; 32]).expect("a name");
        assert!(policy.log_of(&signed.checkpoint.clone().sign(&stranger).expect("signs").note).is_none());
        let note = |of: &[u8]| {
            let lines: Vec<String> = of.iter().map(|n| witness(*n).cosign(&text, 7).line).collect();
            attach(&signed.note, lines.iter().map(String::as_str)).expect("a note")
        };
        assert!(!policy.standing(&signed.note).expect("a note").reached);
        assert!(!policy.standing(&note(&[1, 4, 50])).expect("a note").reached);
        let standing = policy.standing(&note(&[1, 3, 5])).expect("a note");
        assert!(standing.reached && standing.to_string().starts_with("quorum reached: 2 of 2"), "{standing}");
        assert_eq!(standing.cosignatures.iter().flatten().count(), 3);
        let foreign = witness(1).cosign("another\n", 7).line;
        let bad = attach(&note(&[3, 5]), [foreign.as_str()]).expect("a note");
        assert_eq!(policy.standing(&bad), Err(KeyError::BadSignature("witness.example/1".into())));
    }

    #[test]
    fn what_the_specification_forbids_is_refused_with_its_line() {
        let good = example();
        let (log, first, second) = (
            LogKey::new("other", &[99; 32]).expect("a name").vkey(),
            WitnessKey::new("renamed", &[1; 32]).expect("a name"),
            witness(40),
        );
        let (first, second) = (first.public().line(), second.public().line());
        for (added, why) in [
            (format!("log {log}\n"), "earlier line"),
            (format!("log {first}\n"), "not a verifier key"),
            (format!("witness Z {first}\n"), "earlier line"),
            (format!("witness Z {log}\n"), "not a witness's"),
            (format!("witness X1 {second}\n"), "is taken"),
            (format!("witness none {second}\n"), "is taken"),
            ("group G any X1\n".into(), "is a member"),
            ("group G any\n".into(), "at least one"),
            ("group G 0 X-and-Y\n".into(), "1 to 1"),
            ("group G 2 X-and-Y\n".into(), "1 to 1"),
            ("group G 01 X-and-Y\n".into(), "1 to 1"),
            ("group G any Later\n".into(), "not defined"),
            ("group G any none\n".into(), "not defined"),
            ("quorum none\n".into(), "quorum line above"),
            ("quorum Later\n".into(), "not defined"),
            ("witness\n".into(), "other items"),
            ("mirror x\n".into(), "other items"),
            ("# \r\n".into(), "0x0d"),
            ("# cut".into(), "newline"),
        ] {
            let error = Policy::parse(format!("{good}{added}").as_bytes()).expect_err(&added);
            assert_eq!(error.line, good.lines().count() + 1, "{added}");
            assert!(error.problem.contains(why), "{added}: {error}");
        }
        assert!(Policy::parse(b"").is_err());
        let none = Policy::parse("# \u{fc}\n quorum\tnone \n".as_bytes()).expect("a policy");
        assert!(none.reached(|_| false) && none.logs().is_empty());
        // Names are bytes: a Kelvin sign is no K, and what is not UTF-8 is a name too.
        let kelvin =
            [b"witness \xff ", second.as_bytes(), b"\ngroup K any \xff\nquorum \xe2\x84\xaa\n"].concat();
        assert!(Policy::parse(&kelvin).expect_err("another name").problem.contains("not defined"));
    }

    #[test]
    fn of_several_checkpoints_the_one_without_its_quorum_is_told() {
        let standing = |words: &str, reached| Standing { cosignatures: vec![], reached, words: words.into() };
        let told = |all: &[(&str, bool)]| {
            Standing::of_all(all.iter().map(|(words, reached)| standing(words, *reached)).collect())
        };
        assert_eq!(told(&[]), None);
        assert_eq!(told(&[("a", true), ("b", true)]), Some(standing("a", true)));
        assert_eq!(told(&[("a", true), ("b", false), ("c", false)]), Some(standing("b", false)));
        assert_eq!(told(&[("a", false), ("b", true)]), Some(standing("a", false)));
    }

    #[test]
    fn groups_do_not_lie_in_one_another_without_end() {
        let nested = |depth: usize| {
            let mut text = format!("witness g0 {}\n", witness(1).public().line());
            for n in 1..=depth {
                text += &format!("group g{n} 1 g{}\n", n - 1);
            }
            Policy::parse((text + &format!("quorum g{depth}\n")).as_bytes())
                .map(|policy| policy.reached(|_| true))
        };
        assert_eq!(nested(DEPTH_MAX), Ok(true));
        for depth in [DEPTH_MAX + 1, 40_000] {
            let refused = nested(depth).expect_err("refused");
            assert_eq!(refused.line, DEPTH_MAX + 2, "{refused}");
        }
    }
}
