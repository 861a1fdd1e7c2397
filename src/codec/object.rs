//! Objects: members by name into columns, with a guess which comes next.
//!
//! Records of a topic are written by few programs, so what stands between two values (`, "status": `) is nearly always what
//! stood there in some earlier record. [`Separators`] learns those pieces of text, and which follows which; a hit costs one
//! comparison and stands for the comma, the white space, the name, its look-up and the colon. A miss costs the careful way.

use hashbrown::HashMap;

use super::column::Column;
use super::number::unexpected;
use super::scan::{self, Fault, MAX_DEPTH, Scan, Step, byte, white_space};
use crate::error::{Error, Result};
use crate::plan::schema::Field;

/// Longer separators than this are not learned.
pub(super) const LONGEST: usize = 64;
/// How many separators are learned: objects used as maps have new names for ever.
const MOST: usize = 256;
/// After so many that were not learned for want of room, all are forgotten and learning begins anew.
const PATIENCE: usize = 10_000;
/// The member of names that no column asks for.
const UNUSED: usize = usize::MAX;

/// One column, as a member of an object.
struct Member {
    name: String,
    nullable: bool,
    /// The object it was last seen in, by [`Object::stamp`].
    seen: u64,
    column: Column,
}

/// Decodes objects into the columns of their members.
pub(super) struct Object {
    members: Vec<Member>,
    separators: Separators,
    /// The number of the object being decoded.
    stamp: u64,
    unescaped: Vec<u8>,
}

impl Object {
    /// For members of these names and types. `depth` is that of the object, 1 for the record.
    pub fn new(fields: &[Field], depth: usize) -> Result<Self> {
        if depth > MAX_DEPTH {
            return Err(Error::plan("invalid_type", "a column's type nests deeper than 128"));
        }
        for (i, field) in fields.iter().enumerate() {
            if fields[..i].iter().any(|other| other.name == field.name) {
                return Err(Error::plan("duplicate_column", format!("two columns are named {:?}", field.name)));
            }
        }
        let member = |field: &Field| {
            let column = Column::new(&field.data_type, depth).map_err(|e| e.with("column", &field.name))?;
            Ok(Member { name: field.name.clone(), nullable: field.nullable, seen: 0, column })
        };
        let members = fields.iter().map(member).collect::<Result<_>>()?;
        Ok(Self { members, separators: Separators::new(), stamp: 0, unescaped: Vec::new() })
    }

    /// The columns of the members, in order.
    pub fn columns(&mut self) -> impl Iterator<Item = &mut Column> {
        self.members.iter_mut().map(|member| &mut member.column)
    }

    /// Decodes the object whose brace is at `at` and that lies in `depth` open ones. Every member's column gets one row.
    #[inline]
    pub fn decode(&mut self, text: &[u8], mut at: usize, depth: usize) -> Scan<usize> {
        if depth >= MAX_DEPTH {
            return Fault::syntax(at, "nested deeper than 128");
        }
        self.stamp += 1;
        let (start, mut last) = (at, START);
        let mut missing = self.members.len();
        loop {
            let (separator, value) = match self.separators.follow(text, at, last) {
                Some(hit) => hit,
                None => match self.next_name(text, at, last)? {
                    Next::Value(member, value) => {
                        let separator = self.separators.learn(text, at, value, member, last);
                        (separator, value)
                    }
                    Next::End(end) => {
                        at = end;
                        break;
                    }
                },
            };
            last = separator.state;
            at = match self.members.get_mut(separator.member) {
                None => scan::skip(text, value, depth + 1)?,
                Some(member) => {
                    if member.seen == self.stamp {
                        return Fault::value(value, "the name occurs twice").map_err(|f| member.locate(f));
                    }
                    member.seen = self.stamp;
                    missing -= 1;
                    member.decode(text, value, depth + 1)?
                }
            };
            if byte(text, at) == b'}' {
                at += 1;
                break;
            }
        }
        if missing > 0 {
            self.fill_missing(start)?;
        }
        Ok(at)
    }

    /// The careful way from the end of a value (or from the opening brace) to the next one.
    fn next_name(&mut self, text: &[u8], at: usize, last: usize) -> Scan<Next> {
        let mut at = white_space(text, at);
        let opens = last == START;
        match (byte(text, at), opens) {
            (b'{', true) => {
                at = white_space(text, at + 1);
                if byte(text, at) == b'}' {
                    return Ok(Next::End(at + 1));
                }
            }
            (b',', false) => at = white_space(text, at + 1),
            (b'}', false) => return Ok(Next::End(at + 1)),
            (_, true) => return unexpected(text, at, "an object"),
            (_, false) => return Fault::syntax(at, "expected a comma or }"),
        }
        let (name, escaped, value) = scan::name(text, at)?;
        let name = if escaped {
            self.unescaped.clear();
            scan::unescape(name, &mut self.unescaped);
            self.unescaped.as_slice()
        } else {
            name
        };
        let member = self.members.iter().position(|member| member.name.as_bytes() == name).unwrap_or(UNUSED);
        Ok(Next::Value(member, value))
    }

    #[inline(never)]
    fn fill_missing(&mut self, start: usize) -> Scan<()> {
        for member in &mut self.members {
            if member.seen != self.stamp {
                if !member.nullable {
                    return Fault::value(start, "missing, and the column cannot be null").map_err(|f| member.locate(f));
                }
                member.column.push_null();
            }
        }
        Ok(())
    }

    /// Adds a row of nulls: the object itself is null, so members that cannot be null do not count.
    pub fn push_null(&mut self) {
        self.columns().for_each(Column::push_null);
    }

    /// Forgets all rows from `rows` on.
    pub fn truncate(&mut self, rows: usize) {
        self.columns().for_each(|column| column.truncate(rows));
    }

    /// Makes room.
    pub fn reserve(&mut self, rows: usize) {
        self.columns().for_each(|column| column.reserve(rows));
    }
}

impl Member {
    #[inline(always)]
    fn decode(&mut self, text: &[u8], at: usize, depth: usize) -> Scan<usize> {
        if byte(text, at) == b'n' {
            return self.decode_null(text, at);
        }
        match self.column.decode(text, at, depth) {
            Ok(end) => Ok(end),
            Err(fault) => Err(self.locate(fault)),
        }
    }

    fn decode_null(&mut self, text: &[u8], at: usize) -> Scan<usize> {
        let end = scan::literal(text, at, b"null")?;
        if !self.nullable {
            return Fault::value(at, "the column cannot be null").map_err(|f| self.locate(f));
        }
        self.column.push_null();
        Ok(end)
    }

    #[cold]
    fn locate(&self, fault: Box<Fault>) -> Box<Fault> {
        fault.inside(Step::Member(self.name.clone()))
    }
}

/// What follows a value.
enum Next {
    /// A name that stands for this member, and where its value starts.
    Value(usize, usize),
    /// The position after the closing brace.
    End(usize),
}

/// The text from the end of one value, or from the opening brace, to the start of the next.
struct Separator {
    /// The text in words, zeros after it.
    words: [u64; LONGEST / 8],
    /// Which bits of the words count.
    masks: [u64; LONGEST / 8],
    len: usize,
    member: usize,
    /// What came after it most recently, and before that.
    next: [usize; 2],
}

/// The state before an object's first member.
const START: usize = 0;
/// The state after a separator that was not learned: nothing is guessed.
const LOST: usize = 1;

/// Where a separator led.
#[derive(Clone, Copy)]
struct Hit {
    state: usize,
    member: usize,
}

/// Learned separators: a small automaton whose states are the separators themselves.
struct Separators {
    states: Vec<Separator>,
    by_text: HashMap<Box<[u8]>, usize>,
    turned_away: usize,
}

impl Separators {
    fn new() -> Self {
        // Neither START nor LOST has a text of its own: a length of 0 matches nothing.
        let none = || Separator { words: [0; LONGEST / 8], masks: [0; LONGEST / 8], len: 0, member: UNUSED, next: [LOST; 2] };
        Self { states: vec![none(), none()], by_text: HashMap::new(), turned_away: 0 }
    }

    /// The guess, if the text agrees: what it is and where the value starts.
    #[inline(always)]
    fn follow(&self, text: &[u8], at: usize, last: usize) -> Option<(Hit, usize)> {
        let next = self.states.get(last)?.next;
        self.try_one(text, at, next[0]).or_else(|| self.try_one(text, at, next[1]))
    }

    #[inline(always)]
    fn try_one(&self, text: &[u8], at: usize, state: usize) -> Option<(Hit, usize)> {
        let separator = self.states.get(state)?;
        let chunk = text.get(at..)?.first_chunk::<LONGEST>()?;
        let word = |i: usize| (load(chunk, i) ^ separator.words[i]) & separator.masks[i];
        let mut differs = word(0) | word(1);
        if separator.len > 16 {
            differs |= word(2) | word(3);
        }
        if separator.len > 32 {
            differs |= word(4) | word(5) | word(6) | word(7);
        }
        let value = at + separator.len;
        // More white space than was learned is another separator.
        let hit = differs == 0 && separator.len > 0 && byte(text, value) > b' ';
        hit.then_some((Hit { state, member: separator.member }, value))
    }

    /// Remembers that the separator `text[at..value]` names `member` and came after the state `last`.
    fn learn(&mut self, text: &[u8], at: usize, value: usize, member: usize, last: usize) -> Hit {
        let state = self.find_or_add(text.get(at..value).unwrap_or_default(), member);
        if let Some(previous) = self.states.get_mut(last).filter(|_| last != LOST && state != LOST)
            && !previous.next.contains(&state)
        {
            previous.next = [state, previous.next[0]];
        }
        Hit { state, member }
    }

    fn find_or_add(&mut self, separator: &[u8], member: usize) -> usize {
        if let Some(state) = self.by_text.get(separator) {
            return *state;
        }
        if separator.len() > LONGEST {
            return LOST;
        }
        if self.states.len() >= MOST {
            self.turned_away += 1;
            if self.turned_away > PATIENCE {
                // The object being decoded goes on from LOST, so no state of the old table is used again.
                *self = Self::new();
            }
            return LOST;
        }
        let (mut bytes, mut mask) = ([0; LONGEST], [0; LONGEST]);
        bytes[..separator.len()].copy_from_slice(separator);
        mask[..separator.len()].fill(0xFF);
        let state = self.states.len();
        self.states.push(Separator {
            words: std::array::from_fn(|i| load(&bytes, i)),
            masks: std::array::from_fn(|i| load(&mask, i)),
            len: separator.len(),
            member,
            next: [LOST; 2],
        });
        self.by_text.insert(separator.into(), state);
        state
    }
}

/// The `i`th word of a chunk.
#[inline(always)]
fn load(chunk: &[u8; LONGEST], i: usize) -> u64 {
    chunk.as_chunks::<8>().0.get(i).map_or(0, |word| u64::from_le_bytes(*word))
}
