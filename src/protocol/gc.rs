//! When a version may go: facts in, decision out.
//!
//! A version that nothing needs is condemned first, which everybody sees who would take it up again, and goes at a later look, once
//! the grace is over. Each look judges anew: what is kept is not condemned any more.

/// What is known of a version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Why it cannot be judged here.
    pub unknown: Option<String>,
    /// Names that show it.
    pub serves: Vec<String>,
    /// The process that runs it.
    pub runs: Option<String>,
    /// Processes that read it.
    pub leases: Vec<String>,
    /// Topics that it writes.
    pub topics: Vec<String>,
    /// The newest checkpoint, if its tables do not have it.
    pub undelivered: Option<u64>,
    /// Branches and tags on its snapshots.
    pub tags: Vec<String>,
    /// Tables with snapshots that need its files.
    pub needed_by: Vec<String>,
    /// Until when a name showed it, milliseconds since 1970 UTC, and which.
    pub shown_until: Option<(i64, String)>,
    /// Whether it is a preview, which nothing but a look at it needs.
    pub is_preview: bool,
    /// When it was written last, milliseconds since 1970 UTC.
    pub written_ms: i64,
    /// Whether tables of it are in the catalog. Without them no command leads to it any more.
    pub has_tables: bool,
    /// Since when all of its tables are condemned.
    pub condemned_ms: Option<i64>,
}

/// What was asked for, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Now, milliseconds since 1970 UTC.
    pub now_ms: i64,
    /// How long nobody has needed it.
    pub older_than_ms: i64,
    /// How long it stays condemned.
    pub grace_ms: i64,
}

/// Directories that nothing names are at least so old: whoever makes one names it within seconds.
pub const UNNAMED_MS: i64 = 3_600_000;

/// Previews stay so long at most.
pub const PREVIEW_MS: i64 = 86_400_000;

/// What is to be done with a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It stays.
    Keep(Kept),
    /// Nothing needs it: that is told.
    Condemn,
    /// It is condemned, and stays until then.
    Wait(i64),
    /// It goes.
    Delete,
}

/// Why a version stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// A short stable word for machines.
    pub code: &'static str,
    /// In words.
    pub why: String,
    /// Until when at least, if that is known: milliseconds since 1970 UTC.
    pub until_ms: Option<i64>,
}

impl Kept {
    /// For this reason, whatever the time.
    pub fn because(code: &'static str, why: String) -> Self {
        Self { code, why, until_ms: None }
    }
}

/// Decides about a version.
pub fn decide(facts: &Facts, limits: Limits) -> Decision {
    if let Some(kept) = in_use(facts).or_else(|| too_young(facts, limits)) {
        return Decision::Keep(kept);
    }
    match facts.condemned_ms {
        _ if !facts.has_tables => Decision::Delete,
        None => Decision::Condemn,
        Some(since) if limits.now_ms.saturating_sub(since) < limits.grace_ms => {
            Decision::Wait(since.saturating_add(limits.grace_ms))
        }
        Some(_) => Decision::Delete,
    }
}

/// Who needs it, whatever its age.
fn in_use(facts: &Facts) -> Option<Kept> {
    let some = |code, what: &str, list: &[String]| {
        (!list.is_empty()).then(|| Kept::because(code, format!("{what}{}", list.join(", "))))
    };
    let undelivered = || {
        let number = facts.undelivered.filter(|_| facts.has_tables)?;
        let why =
            format!("checkpoint {number} is durable and not delivered: the job that made it delivers it at its next start");
        Some(Kept::because("undelivered", why))
    };
    some("serves", "shown by ", &facts.serves)
        .or_else(|| facts.runs.as_ref().map(|who| Kept::because("runs", format!("run by {who}"))))
        .or_else(|| some("leased", "read by ", &facts.leases))
        .or_else(|| facts.unknown.as_ref().map(|why| Kept::because("unknown", why.clone())))
        .or_else(|| some("topic", "writes a topic, and nobody knows who reads that: ", &facts.topics))
        .or_else(undelivered)
        .or_else(|| some("tagged", "its snapshots have branches or tags: ", &facts.tags))
        .or_else(|| some("needed", "its files are in snapshots of ", &facts.needed_by))
}

fn too_young(facts: &Facts, limits: Limits) -> Option<Kept> {
    let asked = if facts.is_preview { limits.older_than_ms.min(PREVIEW_MS) } else { limits.older_than_ms };
    let window = if facts.has_tables { asked } else { asked.max(UNNAMED_MS) };
    let young = |since: i64| (limits.now_ms.saturating_sub(since) < window).then(|| Some(since.saturating_add(window)));
    let kept = |code, why: String| move |until_ms| Kept { code, why, until_ms };
    let shown = facts.shown_until.as_ref();
    let shown = shown.and_then(|(until, name)| young(*until).map(kept("shown", format!("shown by {name} until lately"))));
    shown.or_else(|| young(facts.written_ms).map(kept("young", "written lately".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;
    const LIMITS: Limits = Limits { now_ms: 100 * DAY, older_than_ms: 7 * DAY, grace_ms: 3_600_000 };

    fn old() -> Facts {
        Facts { written_ms: 90 * DAY, has_tables: true, ..Facts::default() }
    }

    fn kept(facts: &Facts) -> Kept {
        match decide(facts, LIMITS) {
            Decision::Keep(kept) => kept,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_in_use_stays_whatever_its_age_and_whether_it_is_condemned() {
        let list = || vec!["x".to_owned()];
        let text = || Some("x".to_owned());
        for (facts, code) in [
            (Facts { unknown: text(), ..old() }, "unknown"),
            (Facts { serves: list(), ..old() }, "serves"),
            (Facts { runs: text(), ..old() }, "runs"),
            (Facts { leases: list(), ..old() }, "leased"),
            (Facts { topics: list(), ..old() }, "topic"),
            (Facts { undelivered: Some(7), ..old() }, "undelivered"),
            (Facts { tags: list(), ..old() }, "tagged"),
            (Facts { needed_by: list(), ..old() }, "needed"),
        ] {
            assert_eq!(kept(&facts).code, code);
            assert_eq!(kept(&Facts { condemned_ms: Some(0), ..facts.clone() }).code, code);
            assert_eq!(kept(&Facts { written_ms: 0, ..facts }).code, code);
        }
    }

    #[test]
    fn what_was_written_or_shown_within_the_window_stays_until_it_is_over() {
        let young = kept(&Facts { written_ms: 95 * DAY, ..old() });
        assert_eq!((young.code, young.until_ms), ("young", Some(102 * DAY)));
        let shown = kept(&Facts { shown_until: Some((94 * DAY, "n".into())), condemned_ms: Some(0), ..old() });
        assert_eq!((shown.code, shown.until_ms), ("shown", Some(101 * DAY)));
        let long_ago = Facts { shown_until: Some((93 * DAY, "n".into())), ..old() };
        assert_eq!(decide(&long_ago, LIMITS), Decision::Condemn);
        // A clock that is behind what it has dated before.
        let to_come = Facts { written_ms: 101 * DAY, ..old() };
        assert!(matches!(decide(&to_come, Limits { older_than_ms: 0, ..LIMITS }), Decision::Keep(_)));
        assert_eq!(decide(&old(), Limits { older_than_ms: 0, ..LIMITS }), Decision::Condemn);
    }

    #[test]
    fn a_preview_stays_a_day_at_most() {
        let preview = |ms| Facts { is_preview: true, written_ms: LIMITS.now_ms - ms, ..old() };
        assert_eq!(kept(&preview(DAY - 1)).until_ms, Some(LIMITS.now_ms + 1));
        assert_eq!(decide(&preview(DAY), LIMITS), Decision::Condemn);
        assert_eq!(decide(&preview(5), Limits { older_than_ms: 5, ..LIMITS }), Decision::Condemn);
        assert_eq!(decide(&Facts { has_tables: false, ..preview(DAY) }, LIMITS), Decision::Delete);
        assert_eq!(kept(&Facts { runs: Some("x".into()), ..preview(DAY) }).code, "runs");
    }

    #[test]
    fn it_is_condemned_first_and_goes_after_the_grace() {
        assert_eq!(decide(&old(), LIMITS), Decision::Condemn);
        let condemned = |ms| Facts { condemned_ms: Some(LIMITS.now_ms - ms), ..old() };
        assert_eq!(decide(&condemned(0), LIMITS), Decision::Wait(LIMITS.now_ms + LIMITS.grace_ms));
        assert_eq!(decide(&condemned(LIMITS.grace_ms - 1), LIMITS), Decision::Wait(LIMITS.now_ms + 1));
        assert_eq!(decide(&condemned(LIMITS.grace_ms), LIMITS), Decision::Delete);
        // By a clock that was ahead.
        assert_eq!(decide(&condemned(-5), LIMITS), Decision::Wait(LIMITS.now_ms + 5 + LIMITS.grace_ms));
    }

    #[test]
    fn without_tables_nobody_comes_to_it_and_it_goes_at_once_if_it_is_old() {
        let gone = Facts { has_tables: false, ..old() };
        assert_eq!(decide(&gone, LIMITS), Decision::Delete);
        assert_eq!(decide(&Facts { undelivered: Some(7), ..gone.clone() }, LIMITS), Decision::Delete);
        assert_eq!(kept(&Facts { runs: Some("x".into()), ..gone.clone() }).code, "runs");
        assert_eq!(kept(&Facts { written_ms: 99 * DAY, ..gone.clone() }).code, "young");
        // However short the window is: it may just be made.
        let new = Facts { written_ms: LIMITS.now_ms - UNNAMED_MS + 1, ..gone };
        assert!(matches!(decide(&new, Limits { older_than_ms: 0, ..LIMITS }), Decision::Keep(_)));
    }
}
