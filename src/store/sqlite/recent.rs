//! The newest part of the indexes by event id and by topic, in memory.
//!
//! Both indexes are in random order, so that writing each entry into them at once would touch two pages of the database
//! file an entry: most of what an append writes. Instead an append adds one row at the end of the table `unindexed`, and
//! the writer moves the whole of it into `event` and `topic`, sorted, once it has grown to [`UNINDEXED_MAX`] and when the
//! store is closed. What is in `unindexed` is also here; a start reads it again.
//!
//! Who looks something up asks here first and the tables afterwards: rows that are moved in between are then found
//! twice, never not at all.

use std::collections::HashMap;

use almoner_model::Seq;
use rusqlite::Connection;

use super::schema::trouble;
use crate::store::StoreError;
use crate::store::prepare::EventKey;

/// Entries that are looked up here before they are moved to the tables. Few in tests, so that they move.
pub const UNINDEXED_MAX: usize = if cfg!(test) { 40 } else { 65_536 };

/// Event ids and topics of the newest entries.
#[derive(Default)]
pub struct Recent {
    events: HashMap<EventKey, Seq>,
    topics: HashMap<String, Vec<Seq>>,
}

/// The topics of an entry as one value: each between two line ends, so that one can be found in the whole.
pub fn joined(topics: &[String]) -> String {
    topics.iter().fold(String::from("\n"), |all, topic| all + topic + "\n")
}

impl Recent {
    /// Reads what is stored in `unindexed`.
    pub fn load(db: &Connection) -> Result<Self, StoreError> {
        let mut statement =
            db.prepare("SELECT seq, event_id, topics FROM unindexed ORDER BY seq").map_err(trouble)?;
        let mut rows = statement.query([]).map_err(trouble)?;
        let mut recent = Self::default();
        while let Some(row) = rows.next().map_err(trouble)? {
            let seq: i64 = row.get(0).map_err(trouble)?;
            let topics: String = row.get(2).map_err(trouble)?;
            let topics = topics.split('\n').filter(|topic| !topic.is_empty());
            recent.add(seq as Seq, row.get(1).map_err(trouble)?, topics);
        }
        Ok(recent)
    }

    /// Adds an entry, which comes after all that are here.
    pub fn add<'t>(&mut self, seq: Seq, event: EventKey, topics: impl Iterator<Item = &'t str>) {
        self.events.insert(event, seq);
        for topic in topics {
            match self.topics.get_mut(topic) {
                Some(seqs) => seqs.push(seq),
                None => drop(self.topics.insert(topic.to_owned(), vec![seq])),
            }
        }
    }

    /// How many entries are here.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Position of an act.
    pub fn event_seq(&self, event: &EventKey) -> Option<Seq> {
        self.events.get(event).copied()
    }

    /// Positions of a topic, ascending.
    pub fn of_topic(&self, topic: &str) -> &[Seq] {
        self.topics.get(topic).map_or(&[], Vec::as_slice)
    }

    /// All event ids, sorted.
    pub fn events_sorted(&self) -> Vec<(&EventKey, Seq)> {
        let mut all: Vec<_> = self.events.iter().map(|(event, seq)| (event, *seq)).collect();
        all.sort_unstable();
        all
    }

    /// All topics, sorted.
    pub fn topics_sorted(&self) -> Vec<(&str, Seq)> {
        let mut all: Vec<(&str, Seq)> = Vec::with_capacity(self.topics.len());
        for (topic, seqs) in &self.topics {
            all.extend(seqs.iter().map(|seq| (topic.as_str(), *seq)));
        }
        all.sort_unstable();
        all
    }
}
