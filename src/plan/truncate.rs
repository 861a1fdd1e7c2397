//! Intervals of time as `dt.truncate` takes them: `15m`, `1h`, `1d`, `1w`, `1mo`.

use crate::error::{Error, Result};

/// The longest interval, in its own unit: far beyond use, and no arithmetic on it can overflow.
const LONGEST: i64 = 100_000;

/// An interval: a number of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Every {
    /// Seconds, minutes and hours, in seconds. Counted from 1970-01-01T00:00 local time.
    Seconds(i64),
    /// Days, counted from 1970-01-01.
    Days(i64),
    /// Weeks, which start on Monday; counted from Monday 1969-12-29.
    Weeks(i64),
    /// Months and years, in months; counted from January of year 0.
    Months(i64),
}

impl Every {
    /// Reads a number and a unit: `s`, `m` (minutes), `h`, `d`, `w`, `mo` (months), `y`.
    ///
    /// # Errors
    /// A `PlanError` for anything else, for zero, and for more than 100,000.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::plan("invalid_interval", format!("{text:?} is not an interval"))
                .hint("write a number and a unit: s, m (minutes), h, d, w, mo (months) or y, for example \"15m\"")
        };
        let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(split);
        let number: i64 = number.parse().ok().filter(|n| (1..=LONGEST).contains(n)).ok_or_else(wrong)?;
        Ok(match unit {
            "s" => Self::Seconds(number),
            "m" => Self::Seconds(number * 60),
            "h" => Self::Seconds(number * 3600),
            "d" => Self::Days(number),
            "w" => Self::Weeks(number),
            "mo" => Self::Months(number),
            "y" => Self::Months(number * 12),
            _ => return Err(wrong()),
        })
    }

    /// Whether it is whole days or longer.
    pub fn is_calendar(self) -> bool {
        !matches!(self, Self::Seconds(_))
    }

    /// The first day after the interval that begins on this day. For intervals of whole days.
    pub fn next_first_day(self, first: i64) -> i64 {
        match self {
            Self::Seconds(_) => first,
            Self::Days(n) => first.saturating_add(n),
            Self::Weeks(n) => first.saturating_add(7 * n),
            Self::Months(n) => {
                let (year, month, _) = civil_from_days(first);
                let months = year * 12 + month - 1 + n;
                days_from_civil(months.div_euclid(12), months.rem_euclid(12) + 1, 1)
            }
        }
    }

    /// The first day of the interval that a day (days since 1970) lies in. For intervals of whole days.
    pub fn first_day(self, day: i64) -> i64 {
        let floor = |value: i64, step: i64| value - value.rem_euclid(step);
        match self {
            Self::Seconds(_) => day,
            Self::Days(n) => floor(day, n),
            Self::Weeks(n) => floor(day + 3, 7 * n) - 3,
            Self::Months(n) => {
                let (year, month, _) = civil_from_days(day);
                let months = floor(year * 12 + month - 1, n);
                days_from_civil(months.div_euclid(12), months.rem_euclid(12) + 1, 1)
            }
        }
    }
}

/// Year, month (1 to 12) and day (1 to 31) of a count of days since 1970, in the proleptic Gregorian calendar.
#[inline]
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    // Years that start in March, so that the leap day is the last one; eras of 400 years.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The count of days since 1970 of a day in the proleptic Gregorian calendar.
#[inline]
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Datelike, TimeDelta};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn intervals_are_a_number_and_a_unit() {
        assert_eq!(Every::parse("15m").unwrap(), Every::Seconds(900));
        assert_eq!(Every::parse("1mo").unwrap(), Every::Months(1));
        assert_eq!(Every::parse("2y").unwrap(), Every::Months(24));
        for wrong in ["", "1", "h", "0h", "-1h", "1.5h", "1h30m", "1M", "99999999999999999999s", "１h"] {
            assert!(Every::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn the_calendar_is_chronos(days in -700_000_i64..2_900_000) {
            let day = DateTime::UNIX_EPOCH.date_naive() + TimeDelta::days(days);
            let civil = (i64::from(day.year()), i64::from(day.month()), i64::from(day.day()));
            prop_assert_eq!(civil_from_days(days), civil);
            prop_assert_eq!(days_from_civil(civil.0, civil.1, civil.2), days);
            let monday = days - i64::from(day.weekday().num_days_from_monday());
            prop_assert_eq!(Every::Weeks(1).first_day(days), monday);
            prop_assert_eq!(Every::Months(1).first_day(days), days - i64::from(day.day0()));
            prop_assert_eq!(Every::Months(12).first_day(days), days - i64::from(day.ordinal0()));
            for every in [Every::Days(3), Every::Weeks(2), Every::Months(1), Every::Months(12), Every::Months(5)] {
                let next = every.next_first_day(every.first_day(days));
                prop_assert!(next > days);
                prop_assert_eq!((every.first_day(next), every.first_day(next - 1)), (next, every.first_day(days)));
            }
        }
    }
}
