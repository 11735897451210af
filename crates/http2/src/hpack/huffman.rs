//! The Huffman code of HPACK (RFC 7541, section 5.2 and appendix B).
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and
//! shorter codes come first. So the lengths alone define it. Decoding only: the encoder writes
//! plain strings.

/// The length of each symbol's code, in bits.
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];
const SYMBOLS: usize = 256;
/// The longest code, in bits. EOS has one of this length, all ones; it must not be sent.
const LONGEST: u32 = 30;
const CODE: HuffmanCode = HuffmanCode::of(&LENGTHS);

struct HuffmanCode {
    // By length: the first code that is longer, left-aligned in 32 bits.
    ends: [u32; LONGEST as usize + 1],
    // By length: what to add to a code of this length, for its position in `symbols`.
    offsets: [u32; LONGEST as usize + 1],
    // In the order of their codes.
    symbols: [u8; SYMBOLS],
}

impl HuffmanCode {
    const fn of(lengths: &[u8; SYMBOLS]) -> Self {
        let mut code = Self {
            ends: [0; LONGEST as usize + 1],
            offsets: [0; LONGEST as usize + 1],
            symbols: [0; SYMBOLS],
        };
        let (mut next, mut place, mut length) = (0_u32, 0_u32, 1);
        while length <= LONGEST {
            next <<= 1;
            code.offsets[length as usize] = place.wrapping_sub(next);
            let mut symbol = 0_u8;
            loop {
                if lengths[symbol as usize] as u32 == length {
                    code.symbols[place as usize] = symbol;
                    place += 1;
                    next += 1;
                }
                if symbol == u8::MAX {
                    break;
                }
                symbol += 1;
            }
            code.ends[length as usize] = next << (32 - length);
            length += 1;
        }
        code
    }
}

/// Decodes a Huffman string, and appends it to `out`.
///
/// # Errors
/// The string contains EOS, or its padding is not a prefix of EOS of at most seven bits.
pub(super) fn decode(mut code: &[u8], out: &mut Vec<u8>) -> Result<(), InvalidHuffman> {
    // The next bits, left-aligned.
    let (mut bits, mut have) = (0_u64, 0);
    loop {
        while have <= 56
            && let Some((&byte, rest)) = code.split_first()
        {
            bits |= u64::from(byte) << (56 - have);
            have += 8;
            code = rest;
        }
        let window = (bits >> 32) as u32;
        let length = (5..=LONGEST).find(|&length| window < CODE.ends[length as usize]);
        match length {
            Some(length) if length <= have => {
                let place = (window >> (32 - length)).wrapping_add(CODE.offsets[length as usize]);
                out.push(CODE.symbols[place as usize]);
                bits <<= length;
                have -= length;
            }
            // The rest is padding. All ones match no code; fewer ones were completed by our own
            // zeros to a code that is longer than what is left.
            _ => {
                let is_padding = have < 8 && bits == !(u64::MAX.checked_shr(have).unwrap_or(0));
                return if is_padding { Ok(()) } else { Err(InvalidHuffman) };
            }
        }
    }
}

/// A Huffman string that cannot be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidHuffman;
