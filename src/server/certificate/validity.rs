//! The validity period of a certificate, and how close its end is. Pure: time is passed in.

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;

use crate::health::date;

const DAY: Duration = Duration::from_secs(86_400);
/// A certificate this close to its end should have been renewed. With a lifetime below six weeks it
/// is the last third: certificates of six days are renewed every three or four.
const SOON: Duration = Duration::from_secs(14 * 86_400);
const SOON_PART: u32 = 3;
/// When renewal is urgent. With a short lifetime it is the last tenth.
const VERY_SOON: Duration = Duration::from_secs(3 * 86_400);
const VERY_SOON_PART: u32 = 10;

/// The validity period of a certificate (RFC 5280, section 4.1.2.5), in whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    not_before: SystemTime,
    not_after: SystemTime,
}

/// Where a point in time lies in a validity period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ValidityStatus {
    /// Valid, and not about to expire.
    Valid,
    /// Expires within two weeks, or in the last third of its lifetime.
    ExpiresSoon,
    /// Expires within three days, or in the last tenth of its lifetime.
    ExpiresVerySoon,
    /// Not valid yet.
    NotYetValid,
    /// Expired.
    Expired,
}

impl Validity {
    /// Reads it from a certificate; `None` if that cannot be parsed.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
        let time = |seconds: i64| match u64::try_from(seconds) {
            Ok(seconds) => SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)),
            Err(_before_1970) => Some(SystemTime::UNIX_EPOCH),
        };
        let validity = parsed.validity();
        Some(Self {
            not_before: time(validity.not_before.timestamp())?,
            not_after: time(validity.not_after.timestamp())?,
        })
    }

    /// The last second in which the certificate is valid.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Returns the certificate's status at `now`.
    pub fn status(&self, now: SystemTime) -> ValidityStatus {
        if now < self.not_before {
            return ValidityStatus::NotYetValid;
        }
        // The second `not_after` is inclusive.
        let Ok(left) = (self.not_after + Duration::from_secs(1)).duration_since(now) else {
            return ValidityStatus::Expired;
        };
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        match left {
            Duration::ZERO => ValidityStatus::Expired,
            left if left <= VERY_SOON.min(life / VERY_SOON_PART) => ValidityStatus::ExpiresVerySoon,
            left if left <= SOON.min(life / SOON_PART) => ValidityStatus::ExpiresSoon,
            _ => ValidityStatus::Valid,
        }
    }

    /// Whether clients accept the certificate at `now`.
    pub(in crate::server) fn is_valid(&self, now: SystemTime) -> bool {
        self.status(now) < ValidityStatus::NotYetValid
    }

    /// Describes why clients reject the certificate at `now`. The text has no relative time, so
    /// that it stays the same at each check.
    pub(super) fn invalid_reason(&self, now: SystemTime) -> Option<String> {
        match self.status(now) {
            ValidityStatus::NotYetValid => {
                Some(format!("it is not valid before {}", date(self.not_before)))
            }
            ValidityStatus::Expired => Some(format!("it expired on {}", date(self.not_after))),
            ValidityStatus::Valid
            | ValidityStatus::ExpiresSoon
            | ValidityStatus::ExpiresVerySoon => None,
        }
    }

    /// Describes what is wrong at `now`, or that it expires soon; `None` if all is well.
    pub fn problem(&self, now: SystemTime) -> Option<String> {
        let end = date(self.not_after);
        match self.status(now) {
            ValidityStatus::Valid => None,
            ValidityStatus::ExpiresSoon | ValidityStatus::ExpiresVerySoon => {
                let left = self.not_after.duration_since(now).unwrap_or_default();
                Some(format!("it expires on {end}, in {}; renew it", format_duration(left)))
            }
            ValidityStatus::NotYetValid => self.invalid_reason(now),
            ValidityStatus::Expired => {
                let ago = now.duration_since(self.not_after).unwrap_or_default();
                Some(format!(
                    "{}, {} ago; clients reject it",
                    self.invalid_reason(now)?,
                    format_duration(ago)
                ))
            }
        }
    }
}

/// Formats a duration in days, or below two days in hours.
fn format_duration(duration: Duration) -> String {
    if duration >= 2 * DAY {
        return format!("{} days", duration.as_secs() / DAY.as_secs());
    }
    match duration.as_secs() / 3600 {
        0 => "less than an hour".to_owned(),
        1 => "1 hour".to_owned(),
        hours => format!("{hours} hours"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{Validity, ValidityStatus};

    /// The status of a certificate with a lifetime of `life` hours, `at` hours after its start.
    fn status(life: i32, at: i32) -> ValidityStatus {
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let hours = |hours: i32| Duration::from_secs(3600 * u64::from(hours.unsigned_abs()));
        let validity = Validity { not_before: begin, not_after: begin + hours(life) };
        validity.status(if at < 0 { begin - hours(at) } else { begin + hours(at) })
    }

    #[test]
    fn a_certificate_expires_soon_two_weeks_and_very_soon_three_days_before_its_end() {
        const DAY: i32 = 24;
        for (life, at, expected) in [
            (90 * DAY, -1, ValidityStatus::NotYetValid),
            (90 * DAY, 0, ValidityStatus::Valid),
            (90 * DAY, 75 * DAY, ValidityStatus::Valid),
            (90 * DAY, 76 * DAY + 1, ValidityStatus::ExpiresSoon),
            (90 * DAY, 87 * DAY + 1, ValidityStatus::ExpiresVerySoon),
            (90 * DAY, 90 * DAY, ValidityStatus::ExpiresVerySoon),
            (90 * DAY, 90 * DAY + 1, ValidityStatus::Expired),
            // A lifetime of six days.
            (144, 90, ValidityStatus::Valid),
            (144, 100, ValidityStatus::ExpiresSoon),
            (144, 131, ValidityStatus::ExpiresVerySoon),
            (144, 145, ValidityStatus::Expired),
        ] {
            assert_eq!(status(life, at), expected, "{life} {at}");
        }
    }

    #[test]
    fn a_problem_is_described_with_its_date() {
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let validity = Validity { not_before: at(1_795_000_000), not_after: at(1_795_894_370) };
        for (now, expected) in [
            (1_795_000_000, None),
            (1_795_800_000, Some("it expires on 2026-11-28T19:32:50Z, in 26 hours; renew it")),
            (
                1_796_400_000,
                Some("it expired on 2026-11-28T19:32:50Z, 5 days ago; clients reject it"),
            ),
            (1_794_999_999, Some("it is not valid before 2026-11-18T11:06:40Z")),
        ] {
            assert_eq!(validity.problem(at(now)).as_deref(), expected);
        }
    }
}
