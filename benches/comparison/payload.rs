//! What is published: a payload that has its own number, and the time of sending.
//!
//! Three hexadecimal numbers of 16 digits (sequence number within the channel, time of sending,
//! channel), each followed by a space, then `x` up to the wanted size.

const NUMBER: usize = 17;
/// No payload is shorter.
pub(crate) const MIN_BYTES: usize = 3 * NUMBER;

/// The contents of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// 0 for a warm-up, then 1, 2, 3 … on each channel.
    pub(crate) sequence: u64,
    /// See [`crate::clock::now`].
    pub(crate) sent: u64,
    /// The channel's number.
    pub(crate) channel: u64,
}

impl Stamp {
    /// The payload, in `bytes` bytes.
    pub(crate) fn write(self, out: &mut Vec<u8>, bytes: usize) {
        out.clear();
        for number in [self.sequence, self.sent, self.channel] {
            for digit in (0..16).rev() {
                out.push(b"0123456789abcdef"[(number >> (4 * digit)) as usize & 15]);
            }
            out.push(b' ');
        }
        out.resize(bytes.max(MIN_BYTES), b'x');
    }

    /// Reads a payload of `bytes` bytes; `None` for anything else.
    pub(crate) fn read(payload: &[u8], bytes: usize) -> Option<Self> {
        let (numbers, padding) = payload.split_at_checked(MIN_BYTES)?;
        if payload.len() != bytes.max(MIN_BYTES) || !padding.iter().all(|&byte| byte == b'x') {
            return None;
        }
        Some(Self {
            sequence: number(&numbers[..NUMBER])?,
            sent: number(&numbers[NUMBER..2 * NUMBER])?,
            channel: number(&numbers[2 * NUMBER..])?,
        })
    }
}

fn number(text: &[u8]) -> Option<u64> {
    let (space, digits) = text.split_last()?;
    let number = digits.iter().try_fold(0, |number, &digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u64::from(value))
    })?;
    (*space == b' ').then_some(number)
}
