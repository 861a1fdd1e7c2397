//! To which versions a name was turned. The list is a property of the name, so that it moves with it, in one commit.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::json;
use crate::error::{Error, Result};
use crate::table::name::TableName;

/// The property of a name that holds its turns.
pub(super) const PROPERTY: &str = "kappa.serving";
/// Of that document.
const FORMAT: u32 = 1;
/// Turns that are kept.
const MOST: usize = 100;

/// What a turn was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// To a version, because somebody wants it shown.
    Promote,
    /// Back to the version before.
    Rollback,
}

/// One turn of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// Its own identifier; names that turn together have one.
    pub id: String,
    /// When, milliseconds since 1970 UTC. For people, and for what is collected a while after.
    pub at_ms: i64,
    /// Forth or back.
    pub action: Action,
    /// The table that is shown from then on.
    pub table: TableName,
    /// Its identity.
    pub uuid: Uuid,
    /// Its version.
    pub version: String,
    /// The job of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// The comparison that spoke for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<String>,
    /// Why it was done without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unverified: Option<String>,
    /// What was accepted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<String>,
    /// The process that did it.
    pub by: String,
}

/// The turns of a name, the last at the end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turns {
    format: u32,
    turns: Vec<Turn>,
}

impl Turns {
    pub(super) fn read(name: &TableName, text: &str) -> Result<Self> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let damaged = |error: serde_json::Error| {
            let message = format!("table {name}: property {PROPERTY} cannot be read: {error}");
            Error::corruption("serving", message)
                .hint("restore an older metadata file of the name, or drop it and promote again")
        };
        let Format { format } = serde_json::from_str(text).map_err(damaged)?;
        if format != FORMAT {
            let message = format!("the name {name} has format {format}, this release reads {FORMAT}");
            return Err(Error::refused("serving_format", message).hint("use the release that wrote it, or a newer one"));
        }
        serde_json::from_str(text).map_err(damaged)
    }

    /// The property of a name that was not turned yet.
    pub(in crate::table) fn none() -> Result<(String, String)> {
        Ok((PROPERTY.to_owned(), json(&Self { format: FORMAT, turns: Vec::new() })?))
    }

    /// The turns with one more.
    #[must_use]
    pub fn with(&self, turn: Turn) -> Self {
        let mut turns = self.turns.clone();
        turns.push(turn);
        turns.drain(..turns.len().saturating_sub(MOST));
        Self { format: FORMAT, turns }
    }

    /// All of them, the last at the end.
    pub fn all(&self) -> &[Turn] {
        &self.turns
    }

    /// Until when a table was shown, milliseconds since 1970 UTC; none if it is shown now, or was not as far as is kept.
    pub fn shown_until(&self, uuid: Uuid) -> Option<i64> {
        let ended = |pair: &[Turn]| pair.first().is_some_and(|turn| turn.uuid == uuid);
        let last = self.turns.windows(2).rfind(|pair| ended(pair))?;
        last.last().map(|next| next.at_ms)
    }

    /// Until when the turns go back that are kept: what was shown before is not known. None: they are all there.
    pub fn kept_from(&self) -> Option<i64> {
        self.turns.first().filter(|_| self.turns.len() >= MOST).map(|turn| turn.at_ms)
    }

    /// What is shown now.
    pub fn current(&self) -> Option<&Turn> {
        self.turns.last()
    }

    /// What a rollback goes back to: a promote that was rolled back is as if it had not been, so that the next rollback goes one
    /// further.
    pub fn before(&self) -> Option<&Turn> {
        let mut standing: Vec<&Turn> = Vec::new();
        for turn in &self.turns {
            if turn.action == Action::Rollback {
                while standing.last().is_some_and(|top| top.uuid != turn.uuid) {
                    standing.pop();
                }
                // The promote that it goes back to may be older than what is kept.
                if !standing.is_empty() {
                    continue;
                }
            }
            standing.push(turn);
        }
        let current = standing.pop()?;
        standing.into_iter().rev().find(|turn| turn.uuid != current.uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(action: Action, table: u128) -> Turn {
        Turn {
            id: String::new(),
            at_ms: 0,
            action,
            table: TableName::parse(&format!("t{table}"), "m").unwrap(),
            uuid: Uuid::from_u128(table),
            version: String::new(),
            job: None,
            proof: None,
            unverified: None,
            accepted: Vec::new(),
            by: String::new(),
        }
    }

    fn before(turns: &[(Action, u128)]) -> Option<u128> {
        let turns = turns.iter().fold(Turns::default(), |turns, (action, table)| turns.with(turn(*action, *table)));
        turns.before().map(|turn| turn.uuid.as_u128())
    }

    use Action::{Promote as P, Rollback as R};

    #[test]
    fn a_rollback_undoes_a_promote_and_the_next_one_the_one_before() {
        assert_eq!(before(&[]), None);
        assert_eq!(before(&[(P, 1)]), None);
        assert_eq!(before(&[(P, 1), (P, 2), (P, 3)]), Some(2));
        assert_eq!(before(&[(P, 1), (P, 2), (P, 3), (R, 2)]), Some(1));
        assert_eq!(before(&[(P, 1), (P, 2), (P, 3), (R, 2), (R, 1)]), None);
        assert_eq!(before(&[(P, 1), (P, 2), (R, 1), (P, 2)]), Some(1));
        assert_eq!(before(&[(P, 1), (P, 1), (P, 2), (P, 2)]), Some(1), "the same again is no other version");
        assert_eq!(before(&[(R, 1), (P, 2)]), Some(1), "the promote of 1 is not kept any more");
    }

    #[test]
    fn as_many_turns_are_kept_as_there_is_room_for() {
        let turns = (0..250).fold(Turns::default(), |turns, table| turns.with(turn(P, table)));
        assert_eq!((turns.all().len(), turns.before().unwrap().uuid.as_u128()), (MOST, 248));
    }

    #[test]
    fn a_table_was_shown_until_the_next_turn() {
        let at = |at_ms, table| Turn { at_ms, ..turn(P, table) };
        let turns = [at(1, 1), at(2, 2), at(3, 1), at(4, 2)].into_iter().fold(Turns::default(), |turns, turn| turns.with(turn));
        let until = |table| turns.shown_until(Uuid::from_u128(table));
        assert_eq!((until(1), until(2), until(3)), (Some(4), Some(3), None));
        assert_eq!(turns.kept_from(), None);
        let many = (0..100).fold(Turns::default(), |turns, number| turns.with(at(number, 1)));
        assert_eq!(many.kept_from(), Some(0));
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        let name = TableName::parse("m.n", "").unwrap();
        let turns = Turns::default().with(turn(P, 1));
        assert_eq!(Turns::read(&name, &serde_json::to_string(&turns).unwrap()).unwrap(), turns);
        assert_eq!(Turns::read(&name, "{\"format\":2}").unwrap_err().code(), "serving_format");
        assert_eq!(Turns::read(&name, "{\"format\":1}").unwrap_err().code(), "serving");
    }
}
