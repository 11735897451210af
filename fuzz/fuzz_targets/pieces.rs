//! An input that is cut: its first octet says where.

/// The rest of the input, and the rest in pieces: of one size, or two of any size.
pub fn cut(input: &[u8]) -> (&[u8], Vec<&[u8]>) {
    let Some((&first, rest)) = input.split_first() else { return (&[], Vec::new()) };
    let pieces = match usize::from(first) {
        size @ 0..16 => rest.chunks(size + 1).collect(),
        place => <[_; 2]>::from(rest.split_at(rest.len() * (place - 16) / 240)).into(),
    };
    (rest, pieces)
}
